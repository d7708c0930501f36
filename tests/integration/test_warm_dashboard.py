"""rq-dashboard, as compose starts it, reads a busy warm worker as it reads RQ's own."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
import redis

from tests.warm import Play, until, warm_worker

Page = tuple[int, Any]


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """Its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--bind", "127.0.0.1", "--port", str(port), "--redis-url", url]
    command = [str(Path(sys.executable).with_name("rq-dashboard")), *where, "--json", "--disable-delete"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: answers(address))
            yield address
        finally:
            process.terminate()


def answers(address: str) -> bool:
    """Whether it serves."""
    try:
        return get(f"{address}/0/data/queues.json")[0] == 200
    except URLError:
        return False


def get(url: str) -> Page:
    """Status and document, None for an error's page."""
    try:
        with urlopen(url, timeout=60) as answer:  # noqa: S310 # our own address
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, None


def shape(document: Any) -> Any:
    """The names in it, without their values."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    return [shape(value) for value in document[:1]] if isinstance(document, list) else type(document).__name__


def seen(play: Play, server_url: str, address: str, kind: str) -> dict[str, Page]:
    """Every page of data while a worker of this kind runs a job."""
    play.client.flushall()
    with warm_worker(server_url, {"kind": kind}):
        job_id = play.put("wait")
        play.began(job_id)
        pages = {
            name: get(f"{address}/0/data/{path}")
            for name, path in {
                "queues": "queues.json",
                "started": "jobs/immediate/started/10/asc/1.json",
                "queued": "jobs/immediate/queued/10/asc/1.json",
                "job": f"job/{job_id}.json",
                "workers": "workers.json",
            }.items()
        }
        play.client.set(f"told:{job_id}", 1)
        play.end_of(job_id)
        pages["finished"] = get(f"{address}/0/data/jobs/immediate/finished/10/asc/1.json")
    return pages


@pytest.mark.timeout(300)
def test_a_busy_warm_worker_is_read_as_rqs_own(server_url: str, redis_client: redis.Redis) -> None:
    """Page by page: status, names and how the job stands.

    Its list of workers fails for either kind while a job with JSON arguments runs: it reads workers without the
    serializer it was given.
    """
    play = Play(server_url)
    with dashboard(server_url) as address:
        theirs, ours = (seen(play, server_url, address, kind) for kind in ("fork", "warm"))

    assert {name: (status, shape(document)) for name, (status, document) in ours.items()} == {
        name: (status, shape(document)) for name, (status, document) in theirs.items()
    }
    assert {name for name, (status, _) in ours.items() if status == 200} >= {"queues", "started", "job", "finished"}
    assert ours["job"][1]["status"] == theirs["job"][1]["status"] == "started"
    assert len(ours["started"][1]["jobs"]) == len(ours["finished"][1]["jobs"]) == 1

"""Queue security: jobs of strangers in the real queues before real workers; none runs, each is a dead letter."""

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.delivery import a_runtime, work_off
from tests.hostile import HERE, MARK_VARIABLE, TRADE, Hostile, hostile_jobs, packed
from workers import jobs
from workers.adapters.rq_factory import IMMEDIATE, MAINTENANCE, QUEUES
from workers.adapters.rq_guard import SHAPES
from workers.wiring import Runtime

LIVE_KEYS = {"FLEET_REDIS__KEY_PREFIX": "fleet"}  # then RQ's keys begin with `rq:` in every process


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server."""
    return a_runtime(server_url, tmp_path, **LIVE_KEYS)


@contextmanager
def a_worker_process(url: str, queue: str, folder: Path, mark: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`fleet work QUEUE` as it runs in production. Its log is in the folder."""
    environ = {
        **os.environ,
        **LIVE_KEYS,
        "FLEET_PROFILE": "demo",
        "FLEET_REDIS_URL": url,
        "FLEET_DATA_DIR": str(folder),
        "FLEET_LOG__FORMAT": "json",
        MARK_VARIABLE: str(mark),
    }
    with (folder / f"{queue}.log").open("wb") as log:
        command = [sys.executable, "-m", "workers.cli", "work", queue]
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
        try:
            yield process
        finally:
            process.terminate()
            process.wait(120)


def write(client: Any, queue: str, number: int, job: Hostile) -> None:
    """The job as a hand with access to Redis writes it."""
    job_id = job.job_id if job.job_id is not None else b"foreign-%d" % number
    key = b"rq:job:" + job_id
    fields = {"created_at": "2025-09-17T16:00:00.000000Z", "origin": queue, "status": "queued", "timeout": "60"}
    wanted = {name: value for name, value in {**fields, **job.fields}.items() if value is not None}
    makers: dict[str, Callable[[], Any]] = {
        "string": lambda: client.set(key, "x"),
        "list": lambda: client.rpush(key, "x"),
        "set": lambda: client.sadd(key, "x"),
        "zset": lambda: client.zadd(key, {"x": 1}),
        "stream": lambda: client.xadd(key, {"data": "x"}),
    }
    if job.instead is None:
        client.hset(key, mapping=wanted)
    else:
        makers[job.instead]()
    client.rpush(f"rq:queue:{queue}", job_id)


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def empty(fleet: Runtime) -> bool:
    """Nothing waits, nothing is taken, nothing runs."""
    return fleet.queues.busy() == 0


def letters(fleet: Runtime) -> list[dict[str, str]]:
    """Dead letters, newest first."""
    found: list[dict[str, str]] = fleet.inbox.dead_letters(10_000)
    return found


def is_finished(fleet: Runtime, queue: str) -> bool:
    """Whether the queue's janitor came to its end."""
    job = fleet.queues.queues[queue].fetch_job(f"janitor-{queue}")
    return job is not None and bool(job.is_finished)


def test_hostile_jobs_before_real_workers_never_run_and_all_are_dead_letters(
    fleet: Runtime, server_url: str, tmp_path: Path
) -> None:
    """Rule: >= 100 payloads, 0 executed, each with a reason; workers live on and their logs are plain lines."""
    mark = tmp_path / "it-ran"
    hostile = hostile_jobs(mark)
    for number, job in enumerate(hostile):
        write(fleet.rq_client, QUEUES[number % 3], number, job)
    with (
        a_worker_process(server_url, QUEUES[0], tmp_path, mark) as one,
        a_worker_process(server_url, QUEUES[1], tmp_path, mark) as two,
        a_worker_process(server_url, QUEUES[2], tmp_path, mark) as three,
    ):
        until(lambda: empty(fleet) and len(letters(fleet)) >= len(hostile))
        for queue in QUEUES:
            assert fleet.queues.enqueue(queue, "janitor", f"janitor-{queue}", (), "janitor at 16:00:00")
        until(lambda: all(is_finished(fleet, queue) for queue in QUEUES))

        assert [process.poll() for process in (one, two, three)] == [None, None, None]
    found = letters(fleet)
    lines = b"".join((tmp_path / f"{queue}.log").read_bytes() for queue in QUEUES).splitlines()

    assert len(hostile) >= 100
    assert len(found) == len(hostile) == int(fleet.journal.tally()["dead:forbidden_job"])
    assert {(letter["stage"], letter["reason"]) for letter in found} == {("worker", "forbidden_job")}
    assert all(letter["detail"].isascii() and letter["detail"].isprintable() for letter in found)
    assert not mark.exists()
    client: Any = fleet.rq_client
    left = {key for key in client.scan_iter() if key.startswith((b"rq:job:", b"rq:failed", b"rq:scheduled"))}
    assert left == {f"rq:job:janitor-{queue}".encode() for queue in QUEUES}
    assert all(json.loads(line)["event"] for line in lines)
    assert sum(json.loads(line)["event"] == "job.refused" for line in lines) == len(hostile)


def test_each_hostile_job_is_refused_by_itself(fleet: Runtime) -> None:
    """Rule: the same one by one in this process, so that a failure names its payload."""
    through: list[str] = []
    for number, job in enumerate(hostile_jobs(Path("/nowhere/it-ran"))):
        write(fleet.rq_client, IMMEDIATE, number, job)
        work_off(fleet, IMMEDIATE)
        if len(letters(fleet)) != number + 1 - len(through) or not empty(fleet):
            through.append(job.name)

    assert through == []
    assert {letter["reason"] for letter in letters(fleet)} == {"forbidden_job"}


def test_every_job_function_has_a_shape_that_its_signature_fits() -> None:
    """Rule: a job that is written but not listed would be refused; one with other arguments too."""
    written = {
        f"workers.jobs.{name}": inspect.signature(function).parameters
        for name, function in inspect.getmembers(jobs, inspect.isfunction)
        if function.__module__ == "workers.jobs" and not name.startswith("_")
    }

    assert written.keys() <= SHAPES.keys()
    for name, parameters in written.items():
        needed = [p for p in parameters.values() if p.default is p.empty]
        assert (len(SHAPES[name].needed), len(SHAPES[name].more)) == (len(needed), len(parameters) - len(needed))


@pytest.mark.parametrize(
    ("job", "args", "description"),
    [
        ("trade", ("m1",), "urgent"),
        ("trade", ("m1", "zelk"), "urgent"),
        ("rob", (), "rob"),
        ("janitor", (), "<img src=x>"),
        ("janitor", (), "\x1b[2J"),
    ],
)
def test_a_job_that_a_worker_would_refuse_is_not_queued(
    fleet: Runtime, job: str, args: tuple[str, ...], description: str
) -> None:
    """Rule: a mistake of ours is seen where it is made, not as a lost leg."""
    with pytest.raises(ValueError, match="would be refused"):
        fleet.queues.enqueue(IMMEDIATE, job, "x-1", args, description)

    assert empty(fleet)


def test_jobs_of_ours_pass_with_all_their_arguments(fleet: Runtime) -> None:
    """Rule: the near misses: every form in which our own processes queue a job."""
    moment = "2025-09-17T16:00:00.000001+00:00"
    ours = [
        ("trade", ("twitter-h0123456789abcdef01234567", "BRK.B")),
        ("trade", ("m1", "ZELK", moment)),
        ("consensus", (["ZELK-1", "BRK.B-2"], moment, True)),
        ("consensus", (["ZELK-1"],)),
        ("drain", (0, moment)),
        ("settle", (moment,)),
    ]
    for number, (job, args) in enumerate(ours):
        assert fleet.queues.enqueue(IMMEDIATE, job, f"x-{number}", args, "urgent m1:BRK.B, again at 16:00:00")

    assert len(fleet.queues.queues[IMMEDIATE].get_jobs()) == len(ours)
    assert letters(fleet) == []


def test_a_planted_dependent_of_a_job_of_ours_is_not_started(fleet: Runtime, tmp_path: Path) -> None:
    """Rule: RQ starts whatever stands in a finished job's set of dependents; ours have none."""
    mark = tmp_path / "it-ran"
    client: Any = fleet.rq_client
    planted = Hostile("planted", {"data": packed(["os.system", None, [f"touch {mark}"], {}]), "status": "deferred"})
    write(client, MAINTENANCE, 7, planted)
    client.delete(f"rq:queue:{MAINTENANCE}")
    client.sadd("rq:job:janitor-1:dependents", "foreign-7")
    fleet.queues.enqueue(MAINTENANCE, "janitor", "janitor-1", (), "janitor at 16:00:00")
    work_off(fleet, MAINTENANCE)

    assert not mark.exists()
    assert empty(fleet)


def test_an_abandoned_job_of_strangers_gets_no_callback(fleet: Runtime) -> None:
    """Rule: RQ's clean-up runs the failure callback of what a dead worker left; the janitor meets none."""
    client: Any = fleet.rq_client
    fields = {"data": packed(TRADE), "status": "started", "failure_callback_name": HERE}
    write(client, IMMEDIATE, 1, Hostile("abandoned", fields))
    client.delete(f"rq:queue:{IMMEDIATE}")
    client.zadd(f"rq:wip:{IMMEDIATE}", {"foreign-1:0123456789abcdef": 1})
    fleet.queues.cleanup()

    assert not Path("must-not-run").exists()
    assert [letter["reason"] for letter in letters(fleet)] == ["forbidden_job"]
    assert client.zcard(f"rq:wip:{IMMEDIATE}") == 0

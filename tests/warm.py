"""Warm workers as processes, their queue, and what the tests ask of both."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from rq.executions import Execution
from rq.job import JobStatus

from tests.warm_play import a_client
from workers.adapters.rq_factory import IMMEDIATE, JobQueues
from workers.adapters.rq_scripts import JobBooks

LIFE_S, RESULT_S, WORKER_S = 65, 500, 90
ENDED = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED}
ROOT = Path(__file__).parents[1]


class Play:
    """The queue of a warm worker, and the jobs put there."""

    def __init__(self, url: str, *, retry_max: int = 1, timeout_s: int = 280) -> None:
        self.client: Any = a_client(url)
        self.queues = JobQueues(self.client, job_timeout_s=timeout_s, retry_max=retry_max)
        self.queue = self.queues.queues[IMMEDIATE]

    def put(self, act: str, symbol: str = "AAA") -> str:
        """Queue a job that does so; its id."""
        job_id = f"{act}-{uuid4().hex}"
        assert self.queues.enqueue(IMMEDIATE, "trade", job_id, (act, symbol), act)
        return job_id

    def job(self, job_id: str) -> Any:
        """The job as it stands."""
        return self.queue.fetch_job(job_id)

    def run(self, act: str) -> Any:
        """Queue it and wait for its end; the job."""
        return self.end_of(self.put(act))

    def end_of(self, job_id: str) -> Any:
        """The job, once it has ended."""
        until(lambda: self.job(job_id).get_status() in ENDED)
        return self.job(job_id)

    def value(self, act: str) -> Any:
        """What the job returns."""
        job = self.run(act)
        assert job.is_finished, job.latest_result().exc_string
        return job.return_value()

    def starts(self, job_id: str) -> list[tuple[int, int]]:
        """Process and moment (ns) of each start."""
        lines = [line.split() for line in self.client.lrange(f"played:{job_id}", 0, -1)]
        return [(int(process), int(moment)) for process, moment in lines]

    def tell(self, job_id: str) -> None:
        """A job that waits to be told ends now."""
        self.client.set(f"told:{job_id}", 1)

    def kill(self, process: int) -> None:
        """End the process a job runs in."""
        os.kill(process, signal.SIGKILL)

    def is_asked_to_end(self, job_id: str) -> bool:
        """Whether the job's worker has heard the wish."""
        return bool(self.client.hget(f"rq:worker:{self.job(job_id).worker_name}", "shutdown_requested_date"))

    def is_suspended(self) -> bool:
        """Whether the only worker says that it is."""
        return bool(self.client.hget(f"rq:worker:{self.queues.worker_names()[0]}", "state") == b"suspended")

    def began(self, job_id: str) -> int:
        """Wait until the job runs; the process it runs in."""
        until(lambda: self.starts(job_id))
        return self.starts(job_id)[-1][0]


class Hand:
    """A worker's hand on its books, step by step; nothing renews its leases."""

    def __init__(self, play: Play, name: str = "work-immediate-host-7") -> None:
        self.play = play
        self.name = name
        self.books = JobBooks(play.client, play.queue, f"rq:worker:{name}", name, play.queues.leases)
        self.execution: Any = None
        self.job: Any = None

    def takes(self) -> str:
        """Take the next job as RQ does; its id."""
        found: Any = type(self.play.queue).dequeue_any(
            [self.play.queue], None, connection=self.play.client, job_class=self.play.queue.job_class, serializer="json"
        )
        self.job = found[0]
        self.execution = Execution(uuid4().hex, self.job.id, self.play.client, self.name)
        return str(self.job.id)

    def begins(self) -> bool:
        """Write that it begins."""
        return self.books.start(self.job, self.execution, LIFE_S)

    def renews(self) -> bool:
        """Say that it goes on."""
        return self.books.renew(self.job, self.execution, LIFE_S)

    def ends(self, *, take: bool = True) -> Any:
        """Write that it returned 7."""
        return self.books.finish(self.job, self.execution, b"7", RESULT_S, WORKER_S, take=take)


@contextmanager
def warm_worker(
    url: str, options: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """The worker's process, which ends with the block."""
    words = [url, json.dumps(options or {}), json.dumps(how or {})]
    command = [sys.executable, "-m", "tests.warm_play", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Wait until it holds; how long a busy machine takes is no part of any rule."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """Processes that this one started and that still run."""
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [one for one in pids if parent(one) == pid and is_alive(one)]


def parent(pid: int) -> int:
    """Who started it; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def horses(pid: int) -> list[int]:
    """The work-horses of a warm worker."""
    return [horse for groom in children(pid) for horse in children(groom)]


def connections(pid: int) -> dict[str, int]:
    """TCP connections of a process: inode to local port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {row[9]: int(row[1].split(":")[1], 16) for row in rows}
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
    inodes = {link[8:-1] for link in links if link.startswith("socket:")}
    return {inode: ports[inode] for inode in inodes & ports.keys()}


def spoken(client: Any, worker: int, what: Callable[[], object]) -> list[str]:
    """The commands that the worker of this process id sent while `what` was done, scripts as one word."""
    ports = {str(port) for port in connections(worker).values()}
    with client.monitor() as monitor:
        what()
        client.echo("the end")
        heard: list[dict[str, Any]] = []
        while not heard or "the end" not in heard[-1]["command"]:
            heard.append(monitor.next_command())
    return [entry["command"].split()[0] for entry in heard if entry["client_port"] in ports]

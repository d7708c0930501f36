"""A worker in a process of its own whose job `trade` does what its message id says: `ACT` or `ACT-ARGUMENT`.

Each start is appended to the list `played:JOB` in Redis, with process and moment, unless the symbol is QUIET.
"""

import ctypes
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry as Patience
from rq import Retry, SimpleWorker, Worker, get_current_job

from workers import jobs
from workers.adapters.horse import MIB, Plan
from workers.adapters.rq_factory import IMMEDIATE, JobQueues, worker_options
from workers.adapters.stable import Stable
from workers.process import process_name
from workers.warm import WarmWorker

NOTE: ContextVar[str] = ContextVar("note", default="none")
KEPT: list[Any] = []
MEMORY_MB = 256


def play(message_id: str, symbol: str, at: str | None = None) -> Any:
    """Do it, and answer."""
    act, argument = (message_id, "") if message_id in ACTS else message_id.split("-")
    if symbol != "QUIET":
        job = get_current_job()
        assert job is not None
        job.connection.rpush(f"played:{job.id}", f"{os.getpid()} {time.time_ns()}")
    return ACTS[act](argument)


def _note(_: str) -> str:
    before = NOTE.get()
    NOTE.set("written")
    return before


def _hang(_: str) -> None:
    """Deaf to the alarm, as C code is that never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)


def _eat(_: str) -> None:
    KEPT.append(bytearray(4 * MEMORY_MB * MIB))


def _grow(megabytes: str) -> int:
    KEPT.append(b"x" * (MIB * int(megabytes)))
    return os.getpid()


def _thread(_: str) -> int:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return os.getpid()


def _ending_thread(_: str) -> int:
    threading.Thread(target=time.sleep, args=(0.002,), daemon=True).start()
    return os.getpid()


def _child(_: str) -> int:
    return subprocess.Popen(["/bin/sleep", "600"]).pid


def _limit(_: str) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    return os.getpid()


def _pid_after(what: Callable[[], object]) -> Callable[[str], int]:
    """An act that leaves something behind and answers its process."""

    def act(_: str) -> int:
        KEPT.append(what())
        return os.getpid()

    return act


def _slowly(tenths: str) -> int:
    time.sleep(int(tenths) / 10)
    return os.getpid()


def _wait(_: str) -> int:
    """Until the job is told to end."""
    job = get_current_job()
    assert job is not None
    while not job.connection.exists(f"told:{job.id}"):
        time.sleep(0.02)
    return os.getpid()


def _raise(word: str) -> None:
    raise RuntimeError(f"a job raised {word}")


ACTS: dict[str, Callable[[str], Any]] = {
    "noop": lambda _: None,
    "at": lambda _: time.time_ns(),  # one clock for all processes of a machine
    "pid": lambda _: os.getpid(),
    "slowly": _slowly,
    "wait": _wait,
    "raise": _raise,
    "again": lambda _: Retry(max=2),
    "unwritable": lambda _: object(),
    "leave": lambda _: sys.exit(3),
    "exit": lambda code: os._exit(int(code)),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda _: ctypes.string_at(0),
    "eat": _eat,
    "grow": _grow,
    "sleep": lambda _: time.sleep(600),
    "hang": _hang,
    "note": _note,
    "seed": lambda _: (random.seed(1), np.random.seed(1)),  # noqa: NPY002 - the generator that everybody shares
    "drawn": lambda _: np.random.random(),  # noqa: NPY002 - same
    "random": lambda _: random.random(),
    "environment": _pid_after(lambda: os.environ.update(LEFT="behind")),
    "directory": _pid_after(lambda: os.chdir("/")),
    "umask": _pid_after(lambda: os.umask(0)),
    "handler": _pid_after(lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN)),
    "mask": _pid_after(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})),
    "timer": _pid_after(lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 600)),
    "alarm": _pid_after(lambda: signal.alarm(1)),
    "limit": _limit,
    "thread": _thread,
    "ending": _ending_thread,
    "descriptor": _pid_after(lambda: os.open("/dev/null", os.O_RDONLY)),
    "time-zone": _pid_after(lambda: os.environ.update(TZ="Asia/Tokyo")),
    "path": _pid_after(lambda: sys.path.append("/nowhere")),
    "child": _child,
}


def a_client(url: str) -> redis.Redis:
    """Bytes, with patience."""
    return redis.Redis.from_url(url, retry=Patience(ConstantBackoff(0.05), 100), health_check_interval=0)


def a_worker(url: str, *, kind: str = "warm", max_jobs: int = 10_000, lease_s: float = 6, **options: Any) -> Any:
    """A worker on the immediate queue, for comparison also RQ's own. Call it in a process without threads."""
    jobs.trade = play
    client = a_client(url)
    queues = JobQueues(client, lease_s=lease_s)
    queue = queues.queues[IMMEDIATE]
    stable = None
    if kind == "warm":
        stable = Stable(Plan(queue.job_class, client, client.ping, MEMORY_MB * MIB, max_jobs))
    options = worker_options(queue, process_name("work-immediate")) | options
    if stable is not None:
        return WarmWorker(queue, stable=stable, leases=queues.leases, **options)
    return {"fork": Worker, "simple": SimpleWorker}[kind]([queue], **options)


def main() -> None:
    """URL and two JSON objects: options of the worker, options of its work."""
    url, options, how = sys.argv[1:]
    a_worker(url, **json.loads(options)).work(logging_level="WARNING", **json.loads(how))


if __name__ == "__main__":
    main()

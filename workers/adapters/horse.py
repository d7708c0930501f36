"""The work-horse: a process that is kept from job to job, runs what it is told, and says when it should go.

It never touches RQ's books: its worker judges each job, writes that it began and how it ended. So whatever kills a
horse leaves nothing half written, and whatever a job does to its process ends with the process.
"""

import contextvars
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson
import redis
import structlog
from rq import Queue, Retry
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.job import Job
from rq.job_lifecycle import format_exc_info
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException

from workers.adapters.channel import Channel
from workers.adapters.deadline import FirmTimeout, OutOfTimeError
from workers.adapters.residue import Residue, reseed
from workers.measures import notes

#: What is said: the worker says JOB (id, then field, value, ...); the horse READY, what it measured, how a job ended,
#: SPENT (why).
JOB, READY, DONE, FAILED, AGAIN, SPENT, MEASURED = range(7)
ANSWERS: Final = (DONE, FAILED, AGAIN)

MAX_JOBS: Final = 10_000
MIB: Final = 1_048_576
#: ru_maxrss is in KiB, on macOS in bytes.
PEAK_UNIT: Final = 1 if sys.platform == "darwin" else 1024
ON_LINUX: Final = sys.platform == "linux"

log = structlog.get_logger()

Answer = tuple[int, tuple[bytes, ...]]


@dataclass(frozen=True)
class Plan:
    """How horses live.

    `connection`: for the job's own questions to Redis, not connected yet. `warm_up`: what each horse does before its
    first job. `memory_bytes`: a job may not take more than that beyond what the horse had at birth, and a horse that
    grew by half of it is replaced. `max_jobs`: after so many it is replaced in any case.
    """

    job_class: type[Job]
    connection: redis.Redis
    warm_up: Callable[[], object]
    memory_bytes: int
    max_jobs: int = MAX_JOBS


def live(end: socket.socket, plan: Plan) -> NoReturn:
    """The life of a horse, in a process of its own; ends with it."""
    code = 1
    try:
        _settle(plan)
        _Horse(Channel(end), plan).work()
        code = 0
    except BaseException:
        log.exception("horse.failed", pid=os.getpid())
    finally:
        os._exit(code)


def _settle(plan: Plan) -> None:
    """A process group of its own, signals as RQ's horses have them, no more memory than planned, fresh randomness."""
    os.setpgrp()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if ON_LINUX:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        bound = pages * resource.getpagesize() + plan.memory_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (bound if hard < 0 else min(bound, hard), hard))
    reseed()
    plan.warm_up()


class _Horse:
    """One horse between its birth and its end."""

    def __init__(self, channel: Channel, plan: Plan) -> None:
        self._channel = channel
        self._plan = plan
        self._jobs = 0
        self._context = contextvars.copy_context()
        self._peak = _peak_bytes()
        self._residue = Residue()

    def work(self) -> None:
        """Job after job until the worker hangs up, or a job left something behind."""
        self._channel.say(READY)
        while (message := self._channel.listen()) is not None:
            job_id, *flat = message[1]
            kind, parts, broken = self._perform(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))
            if measured := notes():
                self._channel.say(MEASURED, measured)
            self._channel.say(kind, *parts)
            self._jobs += 1
            reasons = [*broken, *self._unfit()]
            if reasons:
                sys.stdout.flush()
                sys.stderr.flush()
                self._channel.say(SPENT, ", ".join(reasons).encode())
                return
            reseed()
            self._channel.say(READY)

    def _perform(self, job_id: bytes, fields: dict[bytes, bytes]) -> tuple[int, tuple[bytes, ...], list[str]]:
        """The answer of one job, and why this process should not run another."""
        try:
            kind, parts = self._context.copy().run(self._run, job_id.decode(), fields)
        except BaseException as error:  # noqa: BLE001 - RQ too fails a job for whatever it raises
            broken = [type(error).__name__] if isinstance(error, OutOfTimeError | MemoryError) else []
            return FAILED, (format_exc_info(sys.exc_info()).encode("utf-8", "backslashreplace"),), broken
        return kind, parts, []

    def _run(self, job_id: str, fields: dict[bytes, bytes]) -> Answer:
        job: Any = self._plan.job_class(job_id, connection=self._plan.connection, serializer=JSONSerializer)
        job.restore(fields)
        timeout = job.timeout or Queue.DEFAULT_TIMEOUT
        with FirmTimeout(timeout, JobTimeoutException, job_id=job_id):  # type: ignore[no-untyped-call]
            value = job.perform()
        return _answer(value)

    def _unfit(self) -> list[str]:
        """What the job left behind that the next one would meet."""
        found = self._residue.found()
        if self._jobs >= self._plan.max_jobs:
            found.append(f"{self._jobs} jobs")
        if _peak_bytes() - self._peak > self._plan.memory_bytes // 2:
            found.append("memory")
        return found


def _answer(value: object) -> Answer:
    """What a job returned, as RQ keeps it."""
    if isinstance(value, Retry):
        return AGAIN, (orjson.dumps([value.max, value.intervals, value.enqueue_at_front]),)
    if value is None:
        return DONE, ()
    dumps: Callable[[object], bytes] = JSONSerializer.dumps
    try:
        return DONE, (dumps(value),)
    except Exception:  # noqa: BLE001 - whatever cannot be written is said to be so, as RQ does
        return DONE, (dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD),)


def _peak_bytes() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT

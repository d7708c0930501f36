"""A job on its way through a work-horse, and what is said of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from typing import Any, Final

import redis
import structlog
from rq import Queue
from rq.executions import Execution
from rq.job import Job

from workers.adapters.horse import AGAIN, DONE, FAILED
from workers.adapters.leases import RENEW_EVERY_S
from workers.adapters.redis_edge import is_away
from workers.adapters.stable import Horse

OVERTIME_S: Final = 1.0  # for the alarm inside the horse, before its worker kills it
ENDS: Final[dict[int | None, str]] = {DONE: "done", FAILED: "failed", AGAIN: "again"}

log = structlog.get_logger()


@dataclass(eq=False)
class Run:
    """A job in a horse's hands: until when it may take, when its lease is renewed next, whether it was killed.

    `aside`: its worker has gone on to other jobs meanwhile.
    """

    job: Job
    queue: Queue
    execution: Execution
    horse: Horse
    timeout_s: InitVar[float]
    overdue: bool = False
    aside: bool = False

    def __post_init__(self, timeout_s: float) -> None:
        self.began = time.monotonic()
        self.deadline = self.began + timeout_s + OVERTIME_S
        self.renewal = self.began + RENEW_EVERY_S

    @property
    def next_look(self) -> float:
        """When something is to be done about it."""
        return min(self.deadline, self.renewal)

    @property
    def function(self) -> str:
        """Our function's name."""
        return str(self.job.func_name).rpartition(".")[2]

    @property
    def end(self) -> str:
        """The way it ended: done, failed, again, died."""
        return ENDS.get(self.horse.answer[0] if self.horse.answer else None, "died")


@contextmanager
def outlived(what: str) -> Iterator[None]:
    """An outage of Redis that lasts longer than the client's patience ends what was begun, not the worker."""
    try:
        yield
    except redis.RedisError as error:
        if not is_away(error):
            raise
        log.warning("outage.outlived", during=what, error=type(error).__name__)


def facts(job: Any) -> list[bytes]:
    """The job's hash as it was judged, with what its beginning changed."""
    begun = {b"status": b"started", b"worker_name": job.worker_name.encode()}
    return [part for pair in {**job.stored, **begun}.items() for part in pair]

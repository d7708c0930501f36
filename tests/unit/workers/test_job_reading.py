"""A guarded job is read as RQ reads it."""

import zlib
from typing import Any, Self

import pytest
from rq import Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now

from workers.adapters.rq_guard import ForbiddenJobError, GuardedJob

NOT_COMPARED = {"_data", "_func_name", "_instance", "_args", "_kwargs", "stored", "log"}


class Server:
    """Takes what is written and forgets it."""

    def __getattr__(self, name: str) -> Any:
        return self._take

    def _take(self, *args: object, **options: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def a_hash(**fields: bytes) -> dict[bytes, bytes]:
    """A job of ours as it lies in Redis, with some fields changed."""
    job: Any = Job.create(
        "workers.jobs.trade",
        args=("m1", "AAA"),
        connection=Server(),  # type: ignore[arg-type]
        serializer=JSONSerializer,
        id="urgent-m1-AAA",
        timeout=60,
        result_ttl=500,
        failure_ttl=600,
        description="urgent m1:AAA",
        origin="immediate",
        status=JobStatus.QUEUED,
        retry=Retry(3),
    )
    job.enqueued_at = now()
    found = {
        key.encode(): v if isinstance(v, bytes) else str(getattr(v, "value", v)).encode()
        for key, v in job.to_dict().items()
    }
    return found | {name.encode(): value for name, value in fields.items()}


MOMENT = b"2025-09-17T16:00:00.123456Z"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": b"started", "started_at": MOMENT, "last_heartbeat": MOMENT, "worker_name": b"work-immediate-host-7"},
        {"status": b"finished", "ended_at": b"2025-09-17T16:00:00.000000Z", "number_of_retries": b"2"},
        {"status": b"failed", "exc_info": zlib.compress(b"it broke"), "retries_left": b"0", "enqueue_at_front": b"1"},
        {"description": b"", "result_ttl": b"", "retry_intervals": b"", "enqueue_at_front": b"0", "meta": b"{}"},
    ],
)
def test_every_attribute_is_what_rq_would_have_read(fields: dict[str, bytes]) -> None:
    """Rule: our reading is RQ's, of the fields that jobs of ours may have."""
    raw, server = a_hash(**fields), Server()
    theirs: Any = Job("urgent-m1-AAA", connection=server, serializer=JSONSerializer)  # type: ignore[arg-type]
    theirs.restore(raw)
    ours: Any = GuardedJob("urgent-m1-AAA", connection=server, serializer=JSONSerializer)  # type: ignore[arg-type]
    ours.restore(raw)
    compared = vars(theirs).keys() - NOT_COMPARED

    assert {name: vars(ours)[name] for name in compared} == {name: vars(theirs)[name] for name in compared}
    assert (ours.data, ours.func_name, list(ours.args), ours.kwargs) == (
        theirs.data,
        theirs.func_name,
        list(theirs.args),
        theirs.kwargs,
    )
    assert vars(ours).keys() - vars(theirs).keys() == {"stored"}


def test_what_a_second_reading_no_longer_finds_is_gone() -> None:
    """Rule: a job that is read again is as Redis has it now, not a mixture."""
    job: Any = GuardedJob("urgent-m1-AAA", connection=Server(), serializer=JSONSerializer)  # type: ignore[arg-type]
    job.restore(a_hash(started_at=MOMENT, worker_name=b"work-immediate-host-7", number_of_retries=b"1"))
    job.restore(a_hash())

    assert (job.started_at, job.worker_name, job.number_of_retries) == (None, None, None)


@pytest.mark.parametrize("name", ["created_at", "enqueued_at", "ended_at"])
def test_a_moment_that_is_none_makes_it_no_job_of_ours(name: str) -> None:
    """Rule: whatever cannot be read is a dead letter, never a worker's end."""
    job: Any = GuardedJob("urgent-m1-AAA", connection=Server(), serializer=JSONSerializer)  # type: ignore[arg-type]

    with pytest.raises(ForbiddenJobError, match="it cannot be read: ValueError"):
        job.restore(a_hash(**{name: b"yesterday"}))

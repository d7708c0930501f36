"""The one place that builds RQ queues, workers and registries: JSON only, our own jobs only, one queue a worker."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError
from rq import Queue, Retry
from rq.job import JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker_registration import WORKERS_BY_QUEUE_KEY, clean_worker_registry

from pipeline.errors import FleetError
from workers.adapters.keys import Keys
from workers.adapters.leases import Leases, Recovered
from workers.adapters.packed_jobs import JobScript, Line, PackedJob
from workers.adapters.rq_guard import (
    ALLOWED,
    CONSENSUS,
    IMMEDIATE,
    MAINTENANCE,
    QUEUES,
    ForbiddenJobError,
    GuardedJob,
    GuardedQueue,
    guarded,
    require_ours,
)

__all__ = [
    "ALLOWED",
    "CONSENSUS",
    "IMMEDIATE",
    "MAINTENANCE",
    "QUEUES",
    "ForbiddenJobError",
    "GuardedJob",
    "JobQueues",
    "require_blmove",
    "started",
    "worker_options",
]

FEW_WAIT = 1000
ORPHAN_STEPS = 5


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that RQ gave up: its id, our job function's name and the arguments."""

    job_id: str
    job: str
    args: tuple[Any, ...]


class JobQueues:
    """Enqueues our jobs by deterministic id and tells how the queues stand."""

    def __init__(
        self,
        connection: redis.Redis,
        *,
        job_timeout_s: int = 180,
        result_ttl_s: int = 500,
        failure_ttl_s: int = 604_800,
        retry_max: int = 3,
        lease_s: float = 6.0,
        keys: Keys | None = None,
    ) -> None:
        self._connection: Any = connection  # speaks bytes, which the stubs cannot say
        self._timeout_s = job_timeout_s
        self._result_ttl_s = result_ttl_s
        self._failure_ttl_s = failure_ttl_s
        self._retry_max = retry_max
        self._queue_class, self._job_class = guarded(keys or Keys())
        self.queues = {name: self._queue(name) for name in QUEUES}
        self.leases = Leases(connection, keys or Keys(), self.queues, lease_s)
        self._script = JobScript(connection)

    def enqueue(self, queue: str, job: str, job_id: str, args: Sequence[Any], description: str) -> bool:
        """Queue one of our jobs, once per id; False when that id is known already. Arguments are ids only.

        Raises ValueError for a job that a worker would refuse.
        """
        return bool(self.enqueue_many(queue, [self.pack(queue, job, job_id, args, description)]))

    def enqueue_many(self, queue: str, jobs: Sequence[PackedJob]) -> int:
        """Queue packed jobs in their order, each once per id; how many were new. One round trip for 500."""
        return self._script.queue(self.line(queue), jobs)

    def line(self, queue: str) -> Line:
        """Where the queue's jobs wait."""
        return Line(self.queues[queue].key, self.queues[queue].redis_queues_keys)

    def pack(self, queue: str, job: str, job_id: str, args: Sequence[Any], description: str) -> PackedJob:
        """One of our jobs as its hash will be, made by RQ; nothing is written. Arguments are ids only.

        Raises ValueError for a job that a worker would refuse.
        """
        name = f"workers.jobs.{job}"
        require_ours(name, args, description)
        target = self.queues[queue]
        made = target.create_job(
            name,
            args=tuple(args),
            job_id=job_id,
            timeout=self._timeout_s,
            result_ttl=self._result_ttl_s,
            failure_ttl=self._failure_ttl_s,
            retry=Retry(max=self._retry_max) if self._retry_max else None,
            description=description,
            status=JobStatus.QUEUED,
        )
        made.origin, made.enqueued_at = target.name, made.created_at
        fields = {name: value for name, value in made.to_dict().items() if value is not None}
        data = fields.pop("data")
        return PackedJob(made.key, made.id, data, tuple(word for pair in fields.items() for word in pair))

    def busy(self) -> int:
        """Jobs queued, just taken, or running. One round trip; runs no clean-up."""
        pipe = self._connection.pipeline(transaction=True)
        for queue in self.queues.values():
            pipe.llen(queue.key)
            pipe.llen(queue.intermediate_queue_key)
            pipe.zcard(started(queue).key)
        return sum(pipe.execute())

    def depths(self) -> dict[str, int]:
        """Jobs waiting per queue."""
        pipe = self._connection.pipeline(transaction=False)
        for queue in self.queues.values():
            pipe.llen(queue.key)
        return dict(zip(self.queues, map(int, pipe.execute()), strict=True))

    def running(self) -> dict[str, int]:
        """Jobs being worked on per queue, without clean-up."""
        return {name: started(queue).get_job_count(cleanup=False) for name, queue in self.queues.items()}

    def worker_names(self) -> list[str]:
        """Workers that are registered, dead ones included until their key expires."""
        found: set[str] = set()
        for queue in self.queues.values():
            members = self._connection.smembers(WORKERS_BY_QUEUE_KEY % queue.name)
            found.update(name.decode().rsplit(":", 1)[-1] for name in members)
        return sorted(found)

    def recover_worker(self, pid: int) -> list[str]:
        """Queue again what a worker of this host that is known to be dead had begun; answers the job ids."""
        found = self.leases.take_over(dead=f"-{socket.gethostname()}-{pid}")
        return [one.job_id for one in found if one.what == "again"]

    def taken(self, queue_name: str) -> list[str]:
        """Jobs that a worker has taken and not started yet."""
        queue = self.queues[queue_name]
        return [
            job_id.decode(errors="replace") for job_id in self._connection.lrange(queue.intermediate_queue_key, 0, -1)
        ]

    def recover_taken(self, suspects: Sequence[str]) -> list[str]:
        """Queue again those of these jobs that are still taken and not started; doing it twice is harmless."""
        return [one.job_id for one in self.leases.take_over(suspects=suspects) if one.what == "again"]

    def recover(self) -> list[Recovered]:
        """Put back what nobody holds any more. Jobs that are in no list at all are looked for while few jobs wait."""
        few = sum(self.depths().values()) < FEW_WAIT
        return self.leases.take_over(orphans=self.leases.jobs_here(ORPHAN_STEPS) if few else ())

    def failed_ids(self, queue_name: str, at_most: int = 500) -> list[str]:
        """The newest jobs that RQ will not start again."""
        ids = self._connection.zrevrange(self.queues[queue_name].failed_job_registry.key, 0, at_most - 1)
        return [job_id.decode(errors="replace") for job_id in ids]

    def failed(self, queue_name: str, at_most: int = 500) -> list[FailedJob]:
        """The same with what they were to do; those that cannot be read any more are left out."""
        names = self.failed_ids(queue_name, at_most)
        found = self._job_class.fetch_many(names, connection=self._connection, serializer=JSONSerializer)
        return [FailedJob(job.id, str(job.func_name).rpartition(".")[2], tuple(job.args)) for job in found if job]

    def cleanup(self) -> None:
        """RQ's own clean-up, by the server's clock; the janitor alone calls this, workers never do it themselves."""
        at = self._connection.time()[0]
        for queue in self.queues.values():
            for registry in (
                queue.started_job_registry,
                queue.finished_job_registry,
                queue.failed_job_registry,
            ):
                registry.cleanup(timestamp=at)
            clean_worker_registry(queue)

    def _queue(self, name: str) -> GuardedQueue:
        return self._queue_class(
            name, connection=self._connection, serializer=JSONSerializer, job_class=self._job_class
        )


def started(queue: Queue) -> StartedJobRegistry:
    """The queue's registry of running jobs, JSON and guarded."""
    return StartedJobRegistry(queue=queue, serializer=JSONSerializer, job_class=queue.job_class)


def worker_options(queue: Queue, name: str) -> dict[str, Any]:
    """What every worker on this ONE queue is built with. Raises FleetError for a server that denies BLMOVE."""
    require_blmove(queue.connection)
    return {
        "name": name,
        "connection": queue.connection,
        "job_class": queue.job_class,
        "queue_class": type(queue),
        "serializer": JSONSerializer,
        "worker_ttl": 30,
        "maintenance_interval": 30,
        "job_monitoring_interval": 5,
        "log_job_description": False,
    }


def require_blmove(connection: "redis.Redis") -> None:
    """Refuse a server that would make RQ fall back to BLPOP, which loses jobs: INFO denied or older than 6.2."""
    try:
        version = str(connection.info("server").get("redis_version", "0"))
    except RedisError as error:
        raise FleetError(f"INFO is denied ({error}); valid: an ACL with +info, else RQ takes jobs unsafely") from error
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        raise FleetError(f"the server is version {version}; valid: >= 6.2 (BLMOVE)")

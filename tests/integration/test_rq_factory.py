"""Queues by our factory on a real server: one job an id, and nothing a dead worker had taken is lost."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError
from rq.job import JobStatus

from pipeline.errors import FleetError
from tests.delivery import an_inline_worker
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE, QUEUES, JobQueues, require_blmove, started
from workers.work import worker_name

DEAD_PID = 4_194_303


@pytest.fixture
def rq_client(server_url: str, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that speaks bytes, on an empty server."""
    with redis.Redis.from_url(server_url) as client:
        yield client


@pytest.fixture
def queues(rq_client: redis.Redis) -> JobQueues:
    """Our queues."""
    return JobQueues(rq_client)


def a_worker(queues: JobQueues, pid: int = DEAD_PID, host: str | None = None) -> Any:
    """A worker named like one of our processes, that a test lets go only part of the way."""
    name = f"work-immediate-{host or socket.gethostname()}-{pid}"
    return an_inline_worker(queues.queues[IMMEDIATE], name)


def begin(queues: JobQueues, how_far: str, host: str | None = None, pid: int = DEAD_PID) -> str:
    """Queue `trade`, let a worker take it and die: `taken`, `prepared` or `started`; the job's id."""
    queues.enqueue(IMMEDIATE, "trade", "urgent-m1-AAA", ("m1", "AAA"), "urgent m1:AAA")
    worker = a_worker(queues, pid, host)
    worker.register_birth()
    taken = worker.dequeue_job_and_maintain_ttl(None)
    assert taken is not None
    if how_far in {"prepared", "started"}:
        worker.prepare_execution(taken[0])
    if how_far == "started":
        worker.prepare_job_execution(taken[0], remove_from_intermediate_queue=True)
    assert queues.depths()[IMMEDIATE] == 0
    return str(taken[0].id)


def test_a_worker_that_is_started_again_in_its_old_container_is_registered_at_once(queues: JobQueues) -> None:
    """Same host name, same process id, and the registration of the one that was killed still lives."""
    names = [worker_name(IMMEDIATE) for _ in range(2)]
    for name in names:
        an_inline_worker(queues.queues[IMMEDIATE], name).register_birth()

    assert len(set(names)) == 2
    assert all(name.endswith(f"-{socket.gethostname()}-{os.getpid()}") for name in names)
    assert queues.worker_names() == sorted(names)


def test_a_job_is_queued_once_per_id(queues: JobQueues) -> None:
    """Rule: deterministic ids, enqueued uniquely: asking again changes nothing."""
    first = queues.enqueue(CONSENSUS, "drain", "drain-1", (1,), "drain of 12:00:00")
    again = queues.enqueue(CONSENSUS, "drain", "drain-1", (2,), "another")
    (job,) = queues.queues[CONSENSUS].jobs

    assert (first, again) == (True, False)
    assert (list(job.args), job.description) == ([1], "drain of 12:00:00")
    assert queues.depths() == {"immediate": 0, "consensus": 1, "maintenance": 0}


def test_a_job_carries_ids_a_description_and_three_retries_without_a_pause(queues: JobQueues) -> None:
    """Rule: DESIGN 6; an interval would leave it in a registry that nobody reads."""
    queues.enqueue(IMMEDIATE, "trade", "urgent-m1-AAA", ("m1", "AAA"), "urgent m1:AAA")
    (job,) = queues.queues[IMMEDIATE].jobs

    assert (job.func_name, list(job.args), job.retries_left) == ("workers.jobs.trade", ["m1", "AAA"], 3)
    assert job.retry_intervals == [0]


def test_what_is_taken_counts_as_busy(queues: JobQueues) -> None:
    """Rule: a replay goes on only when nothing is queued, taken or running."""
    assert queues.busy() == 0
    begin(queues, "taken")

    assert queues.busy() == 1


@pytest.mark.parametrize("how_far", ["prepared", "started"])
def test_what_a_dead_worker_had_begun_is_queued_again(queues: JobQueues, how_far: str) -> None:
    """Rule: kill -9 loses no job, at whatever instruction between taking and starting it."""
    job_id = begin(queues, how_far)

    assert queues.recover_worker(DEAD_PID) == [job_id]
    assert queues.depths()[IMMEDIATE] == queues.busy() == 1
    assert queues.recover_worker(DEAD_PID) == []


def test_what_a_dead_worker_had_only_taken_is_queued_again(queues: JobQueues) -> None:
    """Rule: a living worker starts what it takes within milliseconds; what is still there later is lost."""
    job_id = begin(queues, "taken")
    suspects = queues.taken(IMMEDIATE)

    assert suspects == [job_id]
    assert queues.recover_taken(suspects) == [job_id]
    assert queues.depths()[IMMEDIATE] == queues.busy() == 1
    assert queues.recover_taken(suspects) == []


def test_what_was_started_meanwhile_is_not_queued_again(queues: JobQueues) -> None:
    """Rule: the near miss: the suspect turned out to be alive."""
    job_id = begin(queues, "prepared")

    assert queues.recover_taken([job_id]) == []
    assert queues.depths()[IMMEDIATE] == 0


def test_a_living_workers_job_is_left_alone(queues: JobQueues) -> None:
    """Rule: only what the dead process had."""
    begin(queues, "started", pid=17)

    assert queues.recover_worker(7) == []
    assert queues.recover_worker(DEAD_PID) == []


def test_a_worker_of_another_host_with_the_same_process_id_is_left_alone(queues: JobQueues) -> None:
    """Rule: containers have small process ids; the host's name tells them apart."""
    begin(queues, "started", host="elsewhere")

    assert queues.recover_worker(DEAD_PID) == []


def test_a_recovered_job_runs_to_its_end(queues: JobQueues, rq_client: redis.Redis) -> None:
    """Rule: it is a job like any other, with one retry fewer when it had been started."""
    job_id = begin(queues, "started")
    queues.recover_worker(DEAD_PID)
    (job,) = queues.queues[IMMEDIATE].jobs

    assert (job.id, job.retries_left, job.get_status()) == (job_id, 2, JobStatus.QUEUED)
    assert started(queues.queues[IMMEDIATE]).get_job_count(cleanup=False) == 0
    assert not list(rq_client.scan_iter("rq:execution:*"))


def test_a_job_without_retries_left_is_not_started_a_fifth_time(queues: JobQueues) -> None:
    """Rule: our own strikes end it before; this is the last fence."""
    begin(queues, "started")
    (job,) = [queues.queues[IMMEDIATE].fetch_job("urgent-m1-AAA")]
    assert job is not None
    job.retries_left = 0
    job.save()

    assert queues.recover_worker(DEAD_PID) == []


def test_a_worker_listens_to_one_queue_only(queues: JobQueues) -> None:
    """Rule: two queues make RQ use BLPOP, which loses jobs."""
    assert a_worker(queues).queue_names() == [IMMEDIATE]


class Server:
    """A server that says this of itself."""

    def __init__(self, version: str | None) -> None:
        self._version = version

    def info(self, _section: str) -> dict[str, str]:
        if self._version is None:
            raise NoPermissionError("no permissions to run the 'info' command")
        return {"redis_version": self._version}


@pytest.mark.parametrize("version", ["6.2.0", "7.2.4", "10.0.1"])
def test_a_server_with_blmove_is_accepted(version: str) -> None:
    """Rule: BLMOVE came with 6.2; 10 is more than 6."""
    server: Any = Server(version)

    require_blmove(server)


@pytest.mark.parametrize(("version", "words"), [("6.0.16", "version 6.0.16; valid: >= 6.2"), (None, "INFO is denied")])
def test_a_server_without_blmove_is_refused(version: str | None, words: str) -> None:
    """Rule: a denied INFO makes RQ believe in 5.0.9 and silently lose jobs."""
    server: Any = Server(version)

    with pytest.raises(FleetError, match=words):
        require_blmove(server)


def test_there_are_three_queues(queues: JobQueues) -> None:
    """Rule: DESIGN 3."""
    assert tuple(queues.queues) == QUEUES == ("immediate", "consensus", "maintenance")

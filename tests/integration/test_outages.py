"""Redis away under a job, in each of the ways it can be: an outage is no strike, no end, and no loss."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.errors import TransientError
from pipeline.models import Outcome
from tests.delivery import a_message, a_runtime, routed, work_off
from tests.warm import Play, until, warm_worker
from workers import jobs
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.redis_edge import RedisAwayError, is_away
from workers.adapters.rq_factory import IMMEDIATE
from workers.wiring import Runtime

LEG = "m1:ZELK"


# ---- what is an outage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "Command # 1 (HSET a b) of pipeline caused error: BUSY Redis is busy running a script.",
        "Error running script (call to f_1): @user_script:3: -READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
)
def test_a_server_that_cannot_serve_now_is_away(said: str) -> None:
    """Rule: these replies pass; the library knows few of them as classes."""
    assert is_away(redis.ResponseError(said))


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        redis.ResponseError("ERR unknown command 'BUSYBODY'"),
        redis.exceptions.NoScriptError("No matching script."),
        redis.exceptions.NoPermissionError("this user has no permissions"),
        redis.AuthenticationError("invalid username-password pair"),
        ValueError("BUSY "),
    ],
)
def test_what_stays_wrong_is_no_outage(error: Exception) -> None:
    """Rule: the near misses: asked again, they would be answered the same."""
    assert not is_away(error)


def test_an_outage_is_a_lost_connection_for_the_library_and_transient_for_us() -> None:
    """Rule: RQ goes on after the one, the orchestrator repeats the other."""
    assert issubclass(RedisAwayError, RedisConnectionError)
    assert issubclass(RedisAwayError, TransientError)


# ---- a server that refuses to write ----------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of its own, with its append-only file."""
    with EmbeddedServer(tmp_path / "redis") as embedded:
        yield embedded


@pytest.fixture
def fleet(server: EmbeddedServer, tmp_path: Path) -> Runtime:
    """A runtime with little patience, so that a test need not wait."""
    return a_runtime(server.url, tmp_path, FLEET_REDIS__RETRY_ATTEMPTS="0", FLEET_WORKERS__JOB_TIMEOUT_S="20")


def away(fleet: Runtime, how: str) -> None:
    """Make the server refuse every write."""
    client: Any = fleet.client
    if how == "memory":
        client.config_set("maxmemory", "1")
    else:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")


def back(fleet: Runtime, how: str) -> None:
    """Let it write again."""
    client: Any = fleet.client
    if how == "memory":
        client.config_set("maxmemory", "0")
    else:
        client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("how", ["memory", "read only"])
def test_an_outage_under_a_job_is_no_strike(fleet: Runtime, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: the job waits for Redis, its start is given back, it is begun again, and the leg ends as it should."""
    message = a_message("m1", symbols=("ZELK",), confidence=0.95)
    fleet.inbox.append([message])
    fleet.backlog.accept([routed(message)])
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-m1-ZELK", ("m1", "ZELK"), f"urgent {LEG}")
    real, starts = fleet.decider.journal.record, []

    def in_an_outage(results: Any) -> None:
        starts.append(1)
        if len(starts) < 5:  # more outages than a job has strikes
            away(fleet, how)
            try:
                real(results)
            finally:
                back(fleet, how)
        real(results)

    monkeypatch.setattr(fleet.decider.journal, "record", in_an_outage)
    work_off(fleet, IMMEDIATE)

    assert len(starts) >= 5
    assert fleet.journal.outcome(LEG) is Outcome.SUBMITTED
    assert fleet.journal.tally()["orders"] == 1
    assert fleet.inbox.dead_letters(10) == []
    assert not list(fleet.client.scan_iter("demo:strikes:*"))


def test_a_failure_that_is_no_outage_stays_a_strike(fleet: Runtime) -> None:
    """Rule: the near miss."""
    assert jobs.MAX_STRIKES == 3
    assert fleet.strikes.begin("job") == 1
    assert fleet.strikes.begin("job") == 2
    fleet.strikes.take_back("job")
    assert fleet.strikes.look("job") == 1
    fleet.strikes.take_back("job")
    fleet.strikes.take_back("job")

    assert fleet.strikes.look("job") == 0
    assert not list(fleet.client.scan_iter("demo:strikes:*"))


def test_a_warm_worker_lives_through_a_killed_server_with_a_job_in_its_hands(server: EmbeddedServer) -> None:
    """Rule: it waits, writes the end down once the server is back with its file, and takes the next job."""
    play = Play(server.url)
    with warm_worker(server.url) as process:
        job_id = play.put("slowly-10")
        play.began(job_id)
        os.kill(server.pid or 0, signal.SIGKILL)
        until(server.revive)

        assert play.end_of(job_id).is_finished
        assert play.value("noop") is None
        assert process.poll() is None

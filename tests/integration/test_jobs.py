"""Jobs on a real server with a real worker: strikes, splitting, and jobs that are not ours and never run."""

import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import Outcome
from pipeline.router import Fate
from tests.delivery import a_message, a_runtime, assert_bounded, routed, work_off
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.jobs import MAX_STRIKES
from workers.schedule import claims_job_id
from workers.wiring import Runtime


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server."""
    return a_runtime(server_url, tmp_path)


def queue_urgent(fleet: Runtime, name: str = "m1") -> None:
    """An accepted, routed urgent post with its job in the queue."""
    message = a_message(name, confidence=0.95, symbols=("ZELK",))
    fleet.inbox.append([message])
    ((leg,),) = fleet.backlog.accept([routed(message)])
    assert leg.fate is Fate.URGENT
    fleet.queues.enqueue(IMMEDIATE, "trade", f"urgent-{name}-ZELK", (name, "ZELK"), f"urgent {leg.leg_id}")


def dead_letters(fleet: Runtime) -> list[tuple[str, str, str]]:
    """Stage, reason and raw of every dead letter."""
    return [(letter["stage"], letter["reason"], letter["raw"]) for letter in fleet.inbox.dead_letters(100)]


# ---- a job's life ----------------------------------------------------------------------------------------


def test_an_urgent_job_ends_its_leg(fleet: Runtime) -> None:
    """Rule: one job, one outcome; nothing of the job's strikes is left."""
    queue_urgent(fleet)
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") not in (None, Outcome.BUFFERED, Outcome.ERROR)
    assert not list(fleet.client.scan_iter("demo:strikes:*"))
    assert_bounded(fleet.client, "demo")


def test_a_job_that_runs_twice_changes_nothing(fleet: Runtime) -> None:
    """Rule: at least once, effect once."""
    queue_urgent(fleet)
    work_off(fleet, IMMEDIATE)
    before = fleet.journal.tally()
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-again", ("m1", "ZELK"), "the same again")
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.tally() == before


def test_a_message_that_is_gone_ends_its_leg_as_an_error(fleet: Runtime) -> None:
    """Rule: a permanent error is an outcome at once, no strike."""
    queue_urgent(fleet)
    fleet.client.delete("demo:message:m1")
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert fleet.client.hget("demo:outcome:m1:ZELK", "observed") == "m1"


# ---- strikes ---------------------------------------------------------------------------------------------


def test_the_third_failure_is_a_dead_letter_and_an_error(fleet: Runtime) -> None:
    """Rule: DESIGN 6, strikes are ours; the leg ends, the job is done, the letter says which job and why."""
    queue_urgent(fleet)
    fleet.client.set("demo:message:m1", "{}")
    work_off(fleet, IMMEDIATE, at_most=MAX_STRIKES - 1)
    assert fleet.journal.outcome("m1:ZELK") is Outcome.BUFFERED
    assert dead_letters(fleet) == []

    work_off(fleet, IMMEDIATE)
    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert fleet.client.hget("demo:outcome:m1:ZELK", "rule") == "three_strikes"
    assert dead_letters(fleet) == [("worker", "three_strikes", "urgent-m1-ZELK")]
    assert fleet.queues.busy() == 0
    assert not list(fleet.client.scan_iter("demo:strikes:*"))


def test_a_job_that_was_killed_three_times_is_not_begun_again(fleet: Runtime) -> None:
    """Rule: starts are counted before the work, so a start that kills its worker counts too."""
    queue_urgent(fleet)
    for _ in range(MAX_STRIKES):
        fleet.strikes.begin("urgent-m1-ZELK")
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert dead_letters(fleet) == [("worker", "three_strikes", "urgent-m1-ZELK")]


def test_a_job_that_was_killed_twice_gets_its_third_start(fleet: Runtime) -> None:
    """Rule: the near miss."""
    queue_urgent(fleet)
    for _ in range(MAX_STRIKES - 1):
        fleet.strikes.begin("urgent-m1-ZELK")
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is not Outcome.ERROR
    assert dead_letters(fleet) == []


# ---- claims ----------------------------------------------------------------------------------------------


def queue_claims(fleet: Runtime, *symbols: str) -> tuple[str, ...]:
    """One vote and one claim each, all in one consensus job; the claim ids."""
    fleet.backlog.accept([routed(a_message(f"m-{symbol}", symbols=(symbol,))) for symbol in symbols])
    claim_ids = fleet.backlog.claim()
    assert fleet.scheduler.enqueue_claims(claim_ids) == len(symbols)
    return claim_ids


def only_job(fleet: Runtime) -> str:
    """The id of the one consensus job that waits."""
    (job_id,) = fleet.queues.queues[CONSENSUS].job_ids
    return str(job_id)


def test_many_claims_are_one_job_and_one_decision_each(fleet: Runtime) -> None:
    """Rule: DESIGN 6; decided claims are gone."""
    queue_claims(fleet, "ZELK", "OLVN")
    only_job(fleet)
    work_off(fleet, CONSENSUS)

    assert fleet.journal.outcome("m-ZELK:ZELK") is Outcome.NO_CONSENSUS
    assert fleet.journal.outcome("m-OLVN:OLVN") is Outcome.NO_CONSENSUS
    assert fleet.backlog.unfinished() == []


@pytest.mark.parametrize(("clock", "deaths", "jobs"), [("live", 1, 2), ("event", 1, 0), ("event", 2, 2)])
def test_after_its_death_a_chunk_is_split_into_single_claims(
    server_url: str, redis_client: Any, tmp_path: Path, clock: str, deaths: int, jobs: int
) -> None:
    """Rule: a poison symbol harms only itself; in event time only after the second death, to keep the order."""
    fleet = a_runtime(server_url, tmp_path, FLEET_CLOCK=clock)
    queue_claims(fleet, "ZELK", "OLVN")
    for _ in range(deaths):
        fleet.strikes.begin(only_job(fleet))
    work_off(fleet, CONSENSUS, at_most=1)

    assert len(fleet.queues.queues[CONSENSUS].job_ids) == jobs
    assert len(fleet.backlog.unfinished()) == jobs
    work_off(fleet, CONSENSUS)
    assert fleet.backlog.unfinished() == []


def test_a_poison_claim_ends_as_an_error_and_its_neighbour_is_decided(fleet: Runtime) -> None:
    """Rule: after three strikes every leg of the claim ends; the other symbol never notices."""
    fleet.backlog.accept([routed(a_message("m1", symbols=("ZELK",))), routed(a_message("m2", symbols=("OLVN",)))])
    fleet.client.rpush("demo:batch:ZELK", '{"v":1,"id":"m1","at":"broken"}')
    fleet.scheduler.enqueue_claims(fleet.backlog.claim())
    work_off(fleet, CONSENSUS)

    assert fleet.journal.outcome("m2:OLVN") is Outcome.NO_CONSENSUS
    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert fleet.backlog.unfinished() == []
    assert [reason for _, reason, _ in dead_letters(fleet)] == ["damaged_votes", "three_strikes"]  # newest first


def test_a_drain_that_died_after_claiming_queues_its_claims_when_it_is_begun_again(fleet: Runtime) -> None:
    """Rule: claims are never forgotten, not even between the claim and its job."""
    fleet.backlog.accept([routed(a_message("m1", symbols=("ZELK",)))])
    fleet.queues.enqueue(CONSENSUS, "drain", "drain-1", (1,), "drain")
    fleet.strikes.begin("drain-1")
    fleet.backlog.claim()
    work_off(fleet, CONSENSUS)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.NO_CONSENSUS
    assert fleet.backlog.unfinished() == []


# ---- jobs that are not ours ------------------------------------------------------------------------------


def a_foreign_job(fleet: Runtime, data: bytes, **fields: str) -> None:
    """A job hash as somebody with access to Redis could write it, waiting in the queue."""
    client: Any = fleet.rq_client
    written = {
        "created_at": "2025-09-17T16:00:00.000000Z",
        "origin": IMMEDIATE,
        "status": "queued",
        "timeout": "60",
        "data": zlib.compress(data),
        "description": "",
    }
    client.hset("rq:job:foreign", mapping={**written, **fields})
    client.rpush("rq:queue:immediate", "foreign")


def touching(path: Path) -> bytes:
    """JSON that would run a shell."""
    return json.dumps(["os.system", None, [f"touch {path}"], {}]).encode()


def pickled(path: Path) -> bytes:
    """A pickle that would run a shell when it is loaded."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
            return Path.write_text, (path, "x")  # type: ignore[return-value]

    return pickle.dumps(("workers.jobs.janitor", None, (Evil(),), {}))


def was_refused(fleet: Runtime) -> bool:
    """Whether the foreign job is one dead letter with a reason, and nothing of it is left."""
    client: Any = fleet.rq_client
    (letter,) = fleet.inbox.dead_letters(100)
    told = (letter["stage"], letter["reason"], letter["raw"].split()[0]) == ("worker", "forbidden_job", "foreign")
    return told and fleet.queues.busy() == 0 and not client.exists("rq:job:foreign")


OURS = json.dumps(["workers.jobs.trade", None, ["m1", "ZELK"], {}]).encode()


@pytest.mark.parametrize("make", [touching, pickled])
def test_a_function_of_others_never_runs(fleet: Runtime, tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    """Rule: DESIGN 6; JSON alone would still run os.system, a pickle would run by being read."""
    mark = tmp_path / "ran"
    a_foreign_job(fleet, make(mark), retries_left="5")
    work_off(fleet, IMMEDIATE)

    assert not mark.exists()
    assert was_refused(fleet)


@pytest.mark.parametrize("name", ["workers.jobs._run", "workers.jobs.runtime", "workers.jobs.trade ", "", "trade"])
def test_only_the_listed_names_run(fleet: Runtime, name: str) -> None:
    """Rule: an allow-list of whole names, near misses included."""
    a_foreign_job(fleet, json.dumps([name, None, [], {}]).encode())
    work_off(fleet, IMMEDIATE)

    assert was_refused(fleet)


@pytest.mark.parametrize(
    "fields",
    [
        {"success_callback_name": "tests.integration.test_jobs.must_not_run"},
        {"failure_callback_name": "tests.integration.test_jobs.must_not_run"},
        {"stopped_callback_name": "tests.integration.test_jobs.must_not_run"},
        {"webhooks": json.dumps([{"url": "http://127.0.0.1:9/", "job_status": "failed", "method": "POST"}])},
        {"timeout": "-1"},
        {"timeout": "0"},
        {"timeout": "3601"},
        {"repeats_left": "3", "repeat_intervals": "[0]"},
        {"dependency_ids": '["other"]', "dependency_id": "other"},
    ],
    ids=lambda fields: "+".join(f"{name}" for name in fields),
)
def test_a_job_with_anything_ours_never_have_is_refused(fleet: Runtime, fields: dict[str, str]) -> None:
    """Rule: no callbacks, webhooks, dependents, repeats or odd time-outs, though the function is on the list."""
    queue_urgent(fleet)
    fleet.rq_client.delete("rq:queue:immediate")
    a_foreign_job(fleet, OURS, **fields)
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.BUFFERED
    assert RAN == []
    assert was_refused(fleet)


@pytest.mark.parametrize("data", [touching(Path("/dev/null")), OURS], ids=["refused", "ours"])
def test_a_callback_never_runs_also_when_the_job_is_refused(fleet: Runtime, data: bytes) -> None:
    """Rule: RQ calls the failure callback of whatever failed; here there is none to call."""
    a_foreign_job(fleet, data, failure_callback_name="tests.integration.test_jobs.must_not_run")
    work_off(fleet, IMMEDIATE)

    assert RAN == []
    assert was_refused(fleet)


@pytest.mark.parametrize("field", ["timeout", "created_at", "result_ttl", "retries_left"])
def test_a_hash_that_is_no_job_does_not_end_the_worker(fleet: Runtime, field: str) -> None:
    """Rule: the next job is done as if it had not been there."""
    a_foreign_job(fleet, OURS, **{field: "garbage"})
    queue_urgent(fleet)
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is not Outcome.BUFFERED


RAN: list[object] = []


def must_not_run(*args: object) -> None:
    """What a foreign callback names."""
    RAN.append(args)


def test_a_part_of_a_chunk_has_the_strikes_of_the_chunk(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: three strikes for a claim in all: one with its neighbours, two alone; a known job keeps its own count."""
    live = a_runtime(server_url, tmp_path, FLEET_CLOCK="live")
    claim_ids = queue_claims(live, "ZELK", "OLVN")
    live.strikes.begin(only_job(live))
    work_off(live, CONSENSUS, at_most=1)
    single = [claims_job_id([claim_id]) for claim_id in claim_ids]

    assert sorted(live.queues.queues[CONSENSUS].job_ids) == sorted(single)
    assert [live.strikes.look(job_id) for job_id in single] == [1, 1]
    live.strikes.carry(single, 2)
    assert [live.strikes.look(job_id) for job_id in single] == [1, 1]
    work_off(live, CONSENSUS)
    assert not list(live.client.scan_iter("demo:strikes:*"))

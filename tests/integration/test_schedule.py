"""The scheduler on a real server: everything that is due becomes a job, once, however many schedulers there are."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rq.job import JobStatus

from pipeline.models import OrchestratorState, Outcome
from tests.delivery import NOON, a_message, a_runtime, assert_bounded, later, routed, work_off
from workers import jobs as jobs_module
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.followups_redis import FollowUp, RedisFollowUps
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE, MAINTENANCE
from workers.schedule import MOST_WAITING, claims_job_id
from workers.wiring import Runtime, use


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server, RUNNING."""
    return a_runtime(server_url, tmp_path)


def jobs(fleet: Runtime, queue: str, word: str = "") -> list[str]:
    """Ids of the waiting jobs that begin so."""
    return [name for name in fleet.queues.queues[queue].job_ids if name.startswith(word)]


def vote(fleet: Runtime, name: str = "m1") -> None:
    """One vote that waits."""
    fleet.backlog.accept([routed(a_message(name))])


def a_living_collector(fleet: Runtime) -> None:
    """A collector's sign of life; without one the scheduler stops the fleet after a while."""
    fleet.client.zadd(fleet.keys.heartbeats(), {"collect-test": later(60).timestamp() * 1000})


# ---- drains ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("night", ["2026-03-08", "2025-11-02"])
def test_in_a_night_when_the_clocks_change_every_minute_has_its_drain_once(
    fleet: Runtime, monkeypatch: pytest.MonkeyPatch, night: str
) -> None:
    """Rule: buckets count the seconds of the world: no hour is left out in spring, none comes twice in autumn."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    start = datetime.fromisoformat(f"{night}T05:30:00+00:00")  # half an hour before 02:00 in New York, or 01:00 again
    for minute in range(120):
        for second in (0, 59):
            fleet.scheduler.queue_drain(start + timedelta(minutes=minute, seconds=second))
    monkeypatch.undo()
    time.tzset()

    first = int(start.timestamp()) // 60
    assert jobs(fleet, CONSENSUS) == [f"drain-{first + minute}" for minute in range(120)]


def test_five_schedulers_queue_one_drain_a_bucket(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: DESIGN 3, `drain-<bucket>`, unique: any number of schedulers is safe."""
    fleets = [a_runtime(server_url, tmp_path) for _ in range(5)]
    a_living_collector(fleets[0])

    def turn(fleet: Runtime) -> None:
        for seconds in (0, 1, 59.9, 60):
            fleet.scheduler.turn(later(seconds))

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(turn, fleets))

    bucket = int(NOON.timestamp()) // 60
    assert sorted(jobs(fleets[0], CONSENSUS)) == [f"drain-{bucket}", f"drain-{bucket + 1}"]
    assert len(jobs(fleets[0], MAINTENANCE, "settle-")) == 3  # of 12:00:00 to :05, :55 to :60, and 12:01:00 on
    assert_bounded(redis_client, "demo")


def test_housekeeping_that_is_not_done_is_not_asked_for_without_end(fleet: Runtime) -> None:
    """A dead maintenance worker finds some 20 jobs when it comes back, not one for each second it was away."""
    for minute in range(60):
        fleet.client.zadd(fleet.keys.heartbeats(), {"collect-test": later(60 * minute).timestamp() * 1000})
        fleet.scheduler.turn(later(60 * minute))

    waiting = jobs(fleet, MAINTENANCE)
    assert MOST_WAITING <= len(waiting) <= MOST_WAITING + 3
    assert {name.split("-")[0] for name in waiting} == {"settle", "janitor", "reconcile"}
    assert len(jobs(fleet, CONSENSUS, "drain-")) == 60


def test_a_drain_claims_every_list_and_queues_many_claims_a_job(fleet: Runtime) -> None:
    """Rule: 16 claims a job, each list whole."""
    names = [f"{chr(65 + n // 26)}{chr(65 + n % 26)}A" for n in range(17)]
    fleet.backlog.accept([routed(a_message(f"m{name}", symbols=(name,))) for name in names])

    assert fleet.scheduler.drain() == 17
    assert len(jobs(fleet, CONSENSUS, "consensus-")) == 2
    assert fleet.backlog.sizes() == {}


def test_queueing_the_same_claims_again_changes_nothing(fleet: Runtime) -> None:
    """Rule: a job's id is a function of its claims."""
    vote(fleet)
    claim_ids = fleet.backlog.claim()
    fleet.scheduler.enqueue_claims(claim_ids)
    fleet.scheduler.enqueue_claims(claim_ids)

    assert len(jobs(fleet, CONSENSUS)) == 1


# ---- the janitor -----------------------------------------------------------------------------------------


def test_an_overdue_claim_is_queued_again_under_its_own_id(fleet: Runtime) -> None:
    """Rule: DESIGN 6, reclaim re-enqueues the SAME claim; it never merges back into the list."""
    vote(fleet)
    RedisBacklog(fleet.client, fleet.keys, lease_s=-1).claim()
    vote(fleet, "m2")

    assert fleet.scheduler.clean() == 1
    (job,) = fleet.queues.queues[CONSENSUS].jobs
    assert list(job.args) == [["AAA-1"]]
    assert job.id.startswith("reclaim-")
    assert fleet.backlog.sizes() == {"AAA": 1}


def test_two_janitors_queue_it_once(fleet: Runtime) -> None:
    """Rule: the deadline moves in the step that answers it."""
    vote(fleet)
    RedisBacklog(fleet.client, fleet.keys, lease_s=-1).claim()

    assert [fleet.scheduler.clean(), fleet.scheduler.clean()] == [1, 0]


def test_a_reclaimed_claim_is_decided_and_gone(fleet: Runtime) -> None:
    """Rule: nothing of a dead worker's claim is left behind."""
    fleet.backlog.accept([routed(a_message("m1", symbols=("ZELK",)))])
    RedisBacklog(fleet.client, fleet.keys, lease_s=-1).claim()
    fleet.scheduler.clean()
    work_off(fleet, CONSENSUS)

    assert fleet.backlog.unfinished() == []
    assert str(fleet.journal.outcome("m1:ZELK")) == "no_consensus"


def test_a_claim_is_not_queued_again_while_its_job_may_still_run(fleet: Runtime) -> None:
    """Rule: its deadline is a job's time-out (60 s) and the lease (60 s) away, or one that hangs would run twice."""
    vote(fleet)
    seconds, _ = fleet.client.time()
    fleet.backlog.claim()

    assert (fleet.client.zscore(fleet.keys.claims(), "AAA-1") or 0) >= (seconds + 120) * 1000


def test_a_claim_has_three_strikes_whatever_the_jobs_it_comes_back_in_are_called(fleet: Runtime) -> None:
    """Rule: two deaths in its own job and one in a reclaim's: the next start is its end, in either."""
    fleet.backlog.accept([routed(a_message("m1", symbols=("ZELK",)))])
    RedisBacklog(fleet.client, fleet.keys, lease_s=-1).claim()
    for _ in range(3):
        fleet.strikes.begin(claims_job_id(["ZELK-1"]))
    fleet.scheduler.clean()
    work_off(fleet, CONSENSUS)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert fleet.strikes.look(claims_job_id(["ZELK-1"])) == 0


def given_up(fleet: Runtime) -> None:
    """An urgent leg whose job RQ moved to its failed ones: every horse died before it could count a strike."""
    post = a_message("m1", symbols=("ZELK",), confidence=0.95)
    ((leg,),) = fleet.backlog.accept([routed(post)])
    fleet.inbox.append([post])
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-m1-ZELK", ("m1", "ZELK"), f"urgent {leg.leg_id}")
    (job,) = fleet.queues.queues[IMMEDIATE].jobs
    fleet.strikes.begin(job.id)
    fleet.client.delete("rq:queue:immediate")
    job.set_status(JobStatus.FAILED)
    fleet.queues.queues[IMMEDIATE].failed_job_registry.add(job, ttl=100)


def test_an_urgent_leg_whose_job_rq_gave_up_still_ends(fleet: Runtime) -> None:
    """Rule: one terminal outcome a leg; as a dead letter with its reason, and once."""
    given_up(fleet)
    use(fleet)
    answers = [jobs_module.janitor(NOON.isoformat()) for _ in range(2)]

    assert answers == ["0 reclaimed, 0 freed, 1 ended", "0 reclaimed, 0 freed, 0 ended"]
    assert fleet.journal.outcome("m1:ZELK") is Outcome.ERROR
    assert [letter["reason"] for letter in fleet.inbox.dead_letters(10)] == ["three_strikes"]
    assert not list(fleet.client.scan_iter("demo:strikes:*"))


def test_a_leg_that_waits_to_be_asked_again_is_not_ended(fleet: Runtime) -> None:
    """Its job failed after it had asked for another one."""
    given_up(fleet)
    use(fleet)
    fleet.followups.add(IMMEDIATE, "trade", ("m1", "ZELK"), later(5))

    assert jobs_module.janitor(NOON.isoformat()) == "0 reclaimed, 0 freed, 0 ended"
    assert fleet.journal.outcome("m1:ZELK") is Outcome.BUFFERED


# ---- follow-ups ------------------------------------------------------------------------------------------


def test_a_follow_up_waits_for_its_time_then_is_queued_and_forgotten(fleet: Runtime) -> None:
    """Rule: due inclusive; queued first, forgotten after; the job knows the moment it was due."""
    fleet.followups.add(IMMEDIATE, "trade", ("m1", "ZELK"), later(5))

    assert fleet.scheduler.queue_followups(later(4.999)) == 0
    assert fleet.scheduler.queue_followups(later(5)) == 1
    (job,) = fleet.queues.queues[IMMEDIATE].jobs
    assert list(job.args) == ["m1", "ZELK", later(5).isoformat()]
    assert fleet.followups.next_due_ms() is None


def test_a_scheduler_that_died_before_forgetting_queues_nothing_twice(fleet: Runtime) -> None:
    """Rule: the job's id is a function of the follow-up and its time."""
    fleet.followups.add(IMMEDIATE, "trade", ("m1", "ZELK"), later(5))
    replace(fleet.scheduler, followups=Forgetless(fleet.client, fleet.keys)).queue_followups(later(5))
    fleet.scheduler.queue_followups(later(5))

    assert len(jobs(fleet, IMMEDIATE)) == 1


class Forgetless(RedisFollowUps):
    """Follow-ups whose reader dies before `done`."""

    def done(self, follow_up: FollowUp) -> None:
        """Never happened."""


def test_asking_again_moves_a_follow_up_later_and_never_back(fleet: Runtime) -> None:
    """Rule: one signal, one follow-up; a run that stood still asks for a moment whose job has run, in vain."""
    for seconds in (5, 10, 5):
        fleet.followups.add(IMMEDIATE, "trade", ("m1", "ZELK"), later(seconds))

    assert fleet.followups.next_due_ms() == int(later(10).timestamp() * 1000)
    assert fleet.scheduler.queue_followups(later(5)) == 0


# ---- stop ------------------------------------------------------------------------------------------------


def finish(fleet: Runtime, now: datetime) -> None:
    """Let all jobs run."""
    for queue in (MAINTENANCE, CONSENSUS, CONSENSUS, IMMEDIATE):
        work_off(fleet, queue)


def turns(fleet: Runtime, *seconds: float) -> OrchestratorState:
    """Turns of the scheduler at these seconds; the state after them."""
    for one in seconds:
        fleet.scheduler.turn(later(one))
        finish(fleet, NOON)
    return fleet.state.read()


def test_a_fleet_without_a_collector_stops_itself(fleet: Runtime) -> None:
    """Seed: the collector is critical. It is missed for 30 s in a row, from a minute after the start on."""
    fleet.state.write(OrchestratorState.RUNNING, "ann", NOON)

    assert turns(fleet, *range(50, 90, 10)) is OrchestratorState.RUNNING
    assert turns(fleet, 90) is OrchestratorState.STOPPING
    assert fleet.state.by() == "scheduler: no fresh collector"


def test_a_collector_that_comes_back_in_time_is_not_missed(fleet: Runtime) -> None:
    """Its container was killed and started again."""
    fleet.state.write(OrchestratorState.RUNNING, "ann", NOON)
    turns(fleet, 60, 70, 80)
    fleet.client.zadd(fleet.keys.heartbeats(), {"collect-test": later(85).timestamp() * 1000})

    assert turns(fleet, 85, 95, 105, 114) is OrchestratorState.RUNNING


def test_an_outage_of_redis_is_no_missing_collector(fleet: Runtime) -> None:
    """Nobody's sign of life could arrive for two minutes: the first turn after it must not stop the fleet."""
    fleet.state.write(OrchestratorState.RUNNING, "ann", NOON)
    fleet.client.zadd(fleet.keys.heartbeats(), {"collect-test": later(60).timestamp() * 1000})
    turns(fleet, 60, 88)

    assert turns(fleet, 210) is OrchestratorState.RUNNING
    fleet.client.zadd(fleet.keys.heartbeats(), {"collect-test": later(214).timestamp() * 1000})
    assert turns(fleet, 215, 225, 235) is OrchestratorState.RUNNING


def test_stopping_drains_what_waits_then_stops(fleet: Runtime) -> None:
    """Rule: stop = intake ends, buffers come to a terminal outcome, then STOPPED."""
    fleet.backlog.accept([routed(a_message("m1", symbols=("ZELK",)))])
    fleet.state.write(OrchestratorState.STOPPING, "ann", NOON)
    fleet.scheduler.turn(NOON)
    assert fleet.state.read() is OrchestratorState.STOPPING

    finish(fleet, NOON)
    fleet.scheduler.turn(later(1))
    finish(fleet, NOON)
    fleet.scheduler.turn(later(1.5))
    assert fleet.state.read() is OrchestratorState.STOPPED
    assert str(fleet.journal.outcome("m1:ZELK")) == "no_consensus"


def test_a_stopped_fleet_queues_nothing(fleet: Runtime) -> None:
    """Rule: what is there stays safely in Redis."""
    vote(fleet)
    fleet.state.write(OrchestratorState.STOPPED, "ann", NOON)

    assert fleet.scheduler.turn(later(60)) == 0
    assert fleet.queues.busy() == 0
    assert fleet.backlog.sizes() == {"AAA": 1}


def test_a_follow_up_that_asks_again_before_it_is_forgotten_is_not_lost(fleet: Runtime) -> None:
    """Its job may run, meet the busy symbol and ask for a later time between the enqueue and the forgetting."""
    due, later_still = NOON, later(5)
    fleet.followups.add(IMMEDIATE, "trade", ("m1", "AAA"), due)
    (one,) = fleet.followups.due(due)
    fleet.followups.add(IMMEDIATE, "trade", ("m1", "AAA"), later_still)
    fleet.followups.done(one)

    assert fleet.followups.next_due_ms() == int(later_still.timestamp() * 1000)
    (again,) = fleet.followups.due(later_still)
    fleet.followups.done(again)
    assert fleet.followups.next_due_ms() is None

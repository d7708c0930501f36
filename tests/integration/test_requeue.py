"""Work that three strikes ended: a dead letter, an alarm, one way back that never sends a second order."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.errors import RefusedError
from pipeline.models import Label, Outcome
from tests.delivery import NOON, a_message, a_runtime, assert_bounded, later, routed, work_off
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.decide import Decider
from workers.jobs import MAX_STRIKES
from workers.requeue import forget_ended, forget_old, requeue
from workers.verbs import control, reading
from workers.wiring import Runtime, use

LEG = "m1:ZELK"


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server."""
    return a_runtime(server_url, tmp_path)


def a_dead_leg(fleet: Runtime) -> None:
    """One urgent post on ZELK whose body could not be read three times; it can be read again now."""
    message = a_message("m1", symbols=("ZELK",), confidence=0.95)
    fleet.inbox.append([message])
    fleet.backlog.accept([routed(message)])
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-m1-ZELK", ("m1", "ZELK"), f"urgent {LEG}")
    body = fleet.client.get("demo:message:m1")
    fleet.client.set("demo:message:m1", "{}")
    work_off(fleet, IMMEDIATE)
    fleet.client.set("demo:message:m1", str(body), ex=1000)
    assert fleet.journal.outcome(LEG) is Outcome.ERROR


def a_dead_claim(fleet: Runtime) -> str:
    """Two votes on ZELK whose job was killed three times; the claim's id."""
    fleet.backlog.accept([routed(a_message(name, symbols=("ZELK",), label=Label.NEUTRAL)) for name in ("m1", "m2")])
    (claim_id,) = fleet.backlog.claim()
    fleet.scheduler.enqueue_claims([claim_id])
    (job_id,) = fleet.queues.queues[CONSENSUS].job_ids
    for _ in range(MAX_STRIKES):
        fleet.strikes.begin(job_id)
    work_off(fleet, CONSENSUS)
    assert fleet.journal.outcome("m2:ZELK") is Outcome.ERROR
    return str(claim_id)


def test_the_third_strike_is_an_alarm(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: the watcher tells that work was given up, and why."""
    fleet = a_runtime(server_url, tmp_path, FLEET_MARKET__CALENDAR_END="2035-12-31")
    a_dead_leg(fleet)
    fleet.watcher().step()

    assert ("dead_letter", "three_strikes") in [(alarm.code, alarm.subject) for alarm in fleet.alarms.open()]
    assert_bounded(fleet.client, "demo")


def test_a_requeued_leg_is_decided_once_more_and_counted_once(fleet: Runtime) -> None:
    """Rule: attempt 2 under a job id of its own; the sum of outcomes is still the number of legs."""
    a_dead_leg(fleet)
    work = requeue(fleet, LEG, "ann", "the body is whole again", NOON)
    assert (work.attempt, work.open) == (2, False)
    assert fleet.journal.outcome(LEG) is Outcome.BUFFERED
    work_off(fleet, IMMEDIATE)

    tally = {name: count for name, count in fleet.journal.tally().items() if count}
    assert fleet.journal.outcome(LEG) is Outcome.SUBMITTED
    assert (tally["legs"], tally["orders"], tally.get("leg:error")) == (1, 1, None)
    assert "rule:error:three_strikes" not in tally
    assert fleet.control.history(1)[0].what == f"requeue {LEG}"
    assert_bounded(fleet.client, "demo")


def test_a_requeued_claim_is_decided_with_the_votes_it_had(fleet: Runtime) -> None:
    """Rule: the same claim under the same id, so the same decision and at most the same order."""
    claim_id = a_dead_claim(fleet)
    assert fleet.backlog.unfinished() == []
    requeue(fleet, claim_id, "ann", "a worker was killed by hand", NOON)
    assert fleet.backlog.unfinished() == [claim_id]
    work_off(fleet, CONSENSUS)

    assert [fleet.journal.outcome(name) for name in ("m1:ZELK", "m2:ZELK")] == [Outcome.NO_CONSENSUS] * 2
    tally = fleet.journal.tally()
    assert (tally["legs"], tally["leg:no_consensus"], tally["leg:error"]) == (2, 2, 0)
    assert fleet.backlog.unfinished() == []


def test_what_dies_again_can_be_requeued_again(fleet: Runtime) -> None:
    """Rule: attempt n + 1, each with three strikes of its own."""
    a_dead_leg(fleet)
    requeue(fleet, LEG, "ann", "try", NOON)
    fleet.client.set("demo:message:m1", "{}")
    work_off(fleet, IMMEDIATE)
    assert fleet.journal.outcome(LEG) is Outcome.ERROR

    assert requeue(fleet, LEG, "ann", "try", NOON).attempt == 3


def test_a_decision_that_sent_an_order_is_never_requeued(fleet: Runtime) -> None:
    """Rule: its order is looked up, not sent again; nothing changes."""
    a_dead_leg(fleet)
    fleet.client.hset(fleet.keys.execution(LEG), "sent", "some-order")
    before = fleet.journal.tally()

    with pytest.raises(RefusedError, match="an order of it was sent"):
        requeue(fleet, LEG, "ann", "try", NOON)
    assert fleet.journal.outcome(LEG) is Outcome.ERROR
    assert fleet.journal.tally() == before
    assert fleet.queues.depths()[IMMEDIATE] == 0


@pytest.mark.parametrize("name", ["m2:ZELK", "ZELK-7", ""])
def test_what_is_not_dead_is_not_requeued(fleet: Runtime, name: str) -> None:
    """Rule: only what three strikes ended, and that once."""
    a_dead_leg(fleet)
    requeue(fleet, LEG, "ann", "try", NOON)

    for wanted in (name, LEG):
        with pytest.raises(RefusedError, match="is not dead"):
            requeue(fleet, wanted, "ann", "try", NOON)


def test_a_leg_that_ended_otherwise_meanwhile_is_no_dead_work(fleet: Runtime) -> None:
    """Rule: the order it sent ends it; there is nothing to be tried again."""
    a_dead_leg(fleet)
    fleet.client.hset("demo:outcome:m1:ZELK", "state", "executed")
    forget_ended(fleet, LEG)

    assert fleet.dead_work.all() == []


def test_a_recovered_signal_past_its_age_expires_and_is_no_order(
    server_url: str, redis_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: live, a post of 2025 that is decided today ends `expired`, however it came back."""
    fleet = a_runtime(server_url, tmp_path, FLEET_CLOCK="live")
    a_dead_leg(fleet)
    requeue(fleet, LEG, "ann", "try", fleet.clock.now())
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome(LEG) is Outcome.EXPIRED
    assert fleet.journal.tally().get("orders", 0) == 0


def test_what_died_a_day_ago_is_history(fleet: Runtime) -> None:
    """Rule: failed jobs are kept for a day (`workers.failure_ttl_s`), and so is the way back."""
    a_dead_leg(fleet)
    day = fleet.settings.workers.failure_ttl_s
    died = fleet.dead_work.all()[0].at
    forget_old(fleet, later(day, died))
    assert len(fleet.dead_work.all()) == 1
    forget_old(fleet, later(day + 1, died))

    assert fleet.dead_work.all() == []


def test_the_command_line_shows_what_is_dead_and_requeues_it(
    fleet: Runtime, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: `fleet dead` names the command; `fleet requeue` needs a reason; a second time it is refused (exit 3)."""
    a_dead_leg(fleet)
    (row,) = [row for row in fleet.inbox.dead_letters(10) if row["reason"] == "three_strikes"]
    assert row["raw"] == fleet.dead_work.all()[0].job_id
    monkeypatch.setattr(control, "runtime", lambda: fleet)
    monkeypatch.setattr(reading, "reading", lambda: _entered(fleet))
    said = CliRunner().invoke(reading.app, ["dead"], catch_exceptions=False)
    assert f"| fleet requeue {LEG}" in said.output
    done = CliRunner().invoke(control.app, ["requeue", LEG, "--why", "whole again"], catch_exceptions=False)

    assert f"{LEG}: attempt 2 is queued" in done.output
    assert fleet.queues.depths()[IMMEDIATE] == 1


class _entered:  # noqa: N801 - a context manager used like a function
    def __init__(self, fleet: Runtime) -> None:
        self._fleet = fleet

    def __enter__(self) -> Runtime:
        return use(self._fleet)

    def __exit__(self, *_: object) -> None: ...


def test_a_crash_between_the_memory_and_the_end_leaves_both(fleet: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: what is dead is remembered before its leg ends, so whatever ended can be requeued."""
    message = a_message("m1", symbols=("ZELK",), confidence=0.95)
    fleet.inbox.append([message])
    fleet.backlog.accept([routed(message)])

    def dies(*_: object) -> str:
        raise RuntimeError("killed here")

    monkeypatch.setattr(Decider, "_fail", dies)
    with pytest.raises(RuntimeError):
        fleet.decider.abandon_urgent("m1", "ZELK", "three times", NOON, "urgent-m1-ZELK")

    assert fleet.dead_work.find(LEG) is not None
    assert fleet.journal.outcome(LEG) is Outcome.BUFFERED

"""The decider on a real server with the real stages on the recorded day's prices: gather, decide, record, forget."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import Direction, Label, Outcome
from tests.delivery import NOON, a_message, a_runtime, assert_bounded, later, routed, types_of, whole_keyspace
from tests.money import a_request
from workers.wiring import Runtime

DEMO = Path(__file__).parents[2] / "config" / "demo"


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server."""
    return a_runtime(server_url, tmp_path)


def accept(fleet: Runtime, *messages: Any) -> None:
    """Accepted and routed when they were known."""
    fleet.inbox.append(messages)
    fleet.backlog.accept([routed(message) for message in messages])


def urgent(name: str = "m1", at: datetime = NOON, symbol: str = "ZELK", **facts: Any) -> Any:
    """An urgent bullish post on ZELK, which climbs all day."""
    return a_message(name, at=at, confidence=0.95, symbols=(symbol,), **facts)


def agreeing(count: int, at: datetime = NOON, symbol: str = "ZELK") -> list[Any]:
    """Bullish votes of different authors, a second apart."""
    return [a_message(f"v{n}", at=later(n, at), confidence=0.8, symbols=(symbol,)) for n in range(count)]


def legs(fleet: Runtime) -> dict[str, int]:
    """Legs per outcome."""
    return {name[4:]: n for name, n in fleet.journal.tally().items() if name.startswith("leg:")}


# ---- urgent legs -----------------------------------------------------------------------------------------


def test_an_urgent_leg_becomes_a_bracket_and_then_a_position(fleet: Runtime) -> None:
    """Rule: submitted with stop below and target above, executed once its fill is known; nothing stays reserved."""
    accept(fleet, urgent())

    assert fleet.decider.urgent("m1", "ZELK", NOON) == "submitted"
    (intent,) = fleet.intents.open()
    assert intent.order.levels.stop < intent.order.levels.reference < intent.order.levels.target
    assert fleet.decider.settle(later(120)) == 1
    assert fleet.journal.outcome("m1:ZELK") is Outcome.EXECUTED
    assert fleet.broker.positions()["ZELK"].quantity == intent.order.quantity
    assert fleet.client.hlen("demo:reservations") == 0
    assert_bounded(fleet.client, "demo")


def test_deciding_it_again_sends_nothing_again(fleet: Runtime) -> None:
    """Rule: effect once, before and after the fill."""
    accept(fleet, urgent())
    for moment in (NOON, NOON, later(1)):
        fleet.decider.urgent("m1", "ZELK", moment)
    fleet.decider.settle(later(120))
    fleet.decider.urgent("m1", "ZELK", later(120))

    assert fleet.journal.tally()["orders"] == 1
    assert legs(fleet) == {"executed": 1}


def test_a_worker_that_died_after_the_order_and_before_the_record_finds_its_order(fleet: Runtime) -> None:
    """Rule: the order's id is a function of the decision; the second life records the first one's order."""
    accept(fleet, urgent())
    message = fleet.inbox.message("m1")
    assert message is not None
    fleet.orchestrator.process_immediate(message, NOON)
    assert fleet.journal.outcome("m1:ZELK") is Outcome.BUFFERED

    assert fleet.decider.urgent("m1", "ZELK", later(1)) in {"submitted", "executed"}
    assert fleet.journal.tally()["orders"] == 1


@pytest.mark.parametrize(("seconds", "word"), [(30, "submitted"), (30.001, "expired")])
def test_an_urgent_leg_is_decided_until_it_is_30_seconds_old(fleet: Runtime, seconds: float, word: str) -> None:
    """Rule: the limit itself still trades."""
    accept(fleet, urgent())

    assert fleet.decider.urgent("m1", "ZELK", later(seconds)) == word


def test_a_busy_symbol_puts_the_signal_off_and_loses_nothing(fleet: Runtime) -> None:
    """Rule: DESIGN 6, the reservation is the per-symbol single flight; the second one comes again 5 s later."""
    accept(fleet, urgent("m1"), urgent("m2", label=Label.BEARISH))
    fleet.decider.urgent("m1", "ZELK", NOON)

    assert fleet.decider.urgent("m2", "ZELK", NOON) == "busy"
    assert fleet.journal.outcome("m2:ZELK") is Outcome.BUFFERED
    (waiting,) = fleet.followups.due(later(5))
    assert (waiting.queue, waiting.job, list(waiting.args)) == ("immediate", "trade", ["m2", "ZELK"])


# ---- claims ----------------------------------------------------------------------------------------------


def test_two_agreeing_votes_are_one_order_and_share_its_end(fleet: Runtime) -> None:
    """Rule: STAGES 3, one synthetic signal through the same stages; both legs end with the batch."""
    accept(fleet, *agreeing(2))
    claims = fleet.backlog.claim()

    assert fleet.decider.claims(claims, NOON) == {"decided": 1}
    (intent,) = fleet.intents.open()
    assert intent.order.side.sign == Direction.LONG.sign
    fleet.decider.settle(later(300))
    assert legs(fleet) == {"executed": 2}
    assert fleet.backlog.unfinished() == []
    assert fleet.backlog.used("ZELK", ["v0", "v1"]) == {"v0", "v1"}


def test_one_vote_alone_is_no_consensus(fleet: Runtime) -> None:
    """Rule: `min_votes` 2, the near miss."""
    accept(fleet, *agreeing(1))
    fleet.decider.claims(fleet.backlog.claim(), NOON)

    assert legs(fleet) == {"no_consensus": 1}
    assert fleet.intents.open() == ()


def test_a_claim_decided_again_changes_nothing(fleet: Runtime) -> None:
    """Rule: a reclaim may meet a claim that is being decided elsewhere."""
    accept(fleet, *agreeing(2))
    claims = fleet.backlog.claim()
    raw = fleet.backlog.raw(claims[0])
    fleet.decider.claims(claims, NOON)
    fleet.client.rpush(fleet.keys.claim(claims[0]), *raw)
    fleet.decider.claims(claims, NOON)

    assert fleet.journal.tally()["orders"] == 1
    assert fleet.journal.tally()["decision-state:submitted"] == 1


def test_event_time_cuts_a_claim_into_its_minutes(fleet: Runtime) -> None:
    """Rule: batch windows are buckets of the votes' own time; the third vote is of the next minute."""
    accept(fleet, *agreeing(2), a_message("late", at=later(61), symbols=("ZELK",), label=Label.NEUTRAL))
    (claim,) = fleet.backlog.claim()
    window = int(NOON.timestamp()) // 60

    assert fleet.decider.claims([claim], NOON) == {"decided": 2}
    assert fleet.journal.outcome(f"{claim}-w{window}") is Outcome.SUBMITTED
    assert fleet.journal.outcome(f"{claim}-w{window + 1}") is Outcome.NO_CONSENSUS


@pytest.mark.parametrize(
    ("votes", "agrees"),
    [
        (("bullish", "bullish"), True),
        (("bullish", "bearish"), False),
        (("bullish", "bullish", "neutral", "neutral"), False),
    ],
)
def test_whether_a_window_agrees_is_known_before_it_is_drained(
    fleet: Runtime, votes: tuple[str, ...], *, agrees: bool
) -> None:
    """A replay waits for a drain only then: the drain finds the same, and asking writes nothing."""
    accept(fleet, *(a_message(f"m{n}", symbols=("ZELK",), label=Label(word)) for n, word in enumerate(votes)))
    before = types_of(whole_keyspace(fleet.client))

    assert fleet.decider.agree({"ZELK", "TVRN"}, later(60)) == (frozenset({"ZELK"}) if agrees else frozenset())
    assert not fleet.decider.agree({"ZELK"}, later(120))  # the next window has no vote of its own
    assert types_of(whole_keyspace(fleet.client)) == before
    (claim,) = fleet.backlog.claim()
    fleet.decider.claims([claim], later(60))
    found = fleet.journal.outcome(f"{claim}-w{int(NOON.timestamp()) // 60}")
    assert (found is not Outcome.NO_CONSENSUS) is agrees
    assert not fleet.decider.agree({"ZELK"}, later(60))  # what a decision counted counts no more


def test_a_vote_of_the_last_quarter_hour_counts_along_once(fleet: Runtime) -> None:
    """Rule: look-back 900 s; used votes count in no later decision."""
    moments = (NOON, later(600), later(700))
    outcomes = []
    for number, at in enumerate(moments):
        accept(fleet, a_message(f"v{number}", at=at, confidence=0.8, symbols=("ZELK",)))
        fleet.decider.claims(fleet.backlog.claim(), at)
        outcomes.append(fleet.journal.outcome(f"v{number}:ZELK"))

    assert outcomes == [Outcome.NO_CONSENSUS, Outcome.SUBMITTED, Outcome.NO_CONSENSUS]
    assert fleet.backlog.used("ZELK", ["v0", "v1", "v2"]) == {"v0", "v1"}


def test_a_busy_claim_is_kept_and_comes_again_under_its_own_id(fleet: Runtime) -> None:
    """Rule: another decision holds ZELK; OLVN of the same job is decided; the claim waits for its follow-up."""
    accept(fleet, *agreeing(2), a_message("o1", symbols=("OLVN",)))
    fleet.ledger.reserve(a_request("ZELK", decision_id="other", as_of=NOON))
    claims = fleet.backlog.claim()

    assert fleet.decider.claims(claims, NOON) == {"busy": 1, "decided": 1}
    assert fleet.backlog.unfinished() == ["ZELK-1"]
    assert fleet.followups.claim_ids() == {"ZELK-1"}
    fleet.ledger.release("other", unused=True)
    (waiting,) = fleet.followups.due(later(120))
    fleet.decider.claims(["ZELK-1"], later(waiting.due_ms / 1000 - NOON.timestamp()))
    assert fleet.journal.outcome("v0:ZELK") is Outcome.SUBMITTED
    assert fleet.backlog.unfinished() == []


# ---- held for the open -----------------------------------------------------------------------------------


def test_what_is_held_for_the_open_is_decided_again_there(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: STAGES 7, closed by the session alone and `gate_queue`: held, then decided as of the open."""
    bars = {"FLEET_MARKET__BARS_DIR": str(DEMO / "bars"), "FLEET_MARKET__DAILY_BARS_DIR": str(DEMO / "daily")}
    fleet = a_runtime(server_url, tmp_path, "replay", FLEET_GATE__GATE_QUEUE="true", **bars)
    before, opening = datetime(2025, 9, 17, 13, 0, tzinfo=UTC), datetime(2025, 9, 17, 13, 30, tzinfo=UTC)
    accept(fleet, urgent(at=before))
    fleet.decider.urgent("m1", "ZELK", before)
    assert fleet.journal.outcome("m1:ZELK") is Outcome.HELD
    assert fleet.scheduler.held.next_open_ms() == int(opening.timestamp() * 1000)

    assert fleet.decider.release(opening) == 1
    assert fleet.journal.outcome("m1:ZELK") is not Outcome.HELD
    assert fleet.scheduler.held.next_open_ms() is None
    assert not fleet.client.exists("replay:held-signals")

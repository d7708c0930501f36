"""The executor among several runs of one decision, and every word of its answers when something fails."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from pipeline.errors import BrokerError, TransientError
from pipeline.executor import ExecutorSettings, TradeExecutor, client_order_id
from pipeline.models import (
    BracketOrder,
    ExecutionResult,
    GateVerdict,
    OrderReport,
    Position,
    Refusal,
    Reservation,
    Side,
    Stage,
    TradingState,
)
from pipeline.ports import Execution
from tests.desks import ExecutorDesk as Desk
from tests.desks import FakeBroker
from tests.money import NOW, D, FakeControl, WeekdaySessions, a_request, an_open_gate, an_order
from workers.adapters.intents_memory import MemoryIntents

NAME = client_order_id("paper", "d-AAA", "AAA", Side.BUY, "entry")
VIX = Refusal(Stage.GATE, "vix", "31", "30")
SHUT = GateVerdict(open=False, factor=D(1), checks=(), refusal=VIX)


def answer(**facts: Any) -> ExecutionResult:
    """A result of the ten shares of AAA that were never reported by the broker."""
    return replace(ExecutionResult(NAME, "AAA", Side.BUY, 10, None), **facts)


def two_runs(desk: Desk) -> tuple[int, int]:
    """An old and a new run of the desk's decision."""
    return desk.intents.begin("d-AAA").id, desk.intents.begin("d-AAA").id


def write_new(desk: Desk, execution: int | None = None) -> BracketOrder:
    """NEW of the desk's decision, as a run leaves it that died before SENT."""
    return desk.intents.create(an_order(client_order_id=NAME), execution).order


def may_enter_again(desk: Desk) -> bool:
    """Whether the same side of the symbol may be entered at the same moment: the rates forgot the order."""
    return isinstance(desk.ledger.reserve(a_request(decision_id="next")), Reservation)


# ---- the last look -----------------------------------------------------------------------------------


def test_a_gate_that_closed_at_the_last_look_refuses_in_its_own_words_and_leaves_nothing() -> None:
    """Asked once, after NEW was written: intent, risk and rate are all given back."""
    desk, seen = Desk(), []

    def ask() -> GateVerdict:
        seen.append(desk.intents.get(NAME))
        return SHUT

    result = desk.execute(execution=desk.intents.begin("d-AAA").id, ask_again=ask)

    assert result == answer(refusal=VIX)
    assert [intent is not None and intent.state for intent in seen] == ["NEW"]
    assert (desk.broker.submitted, desk.reserved, desk.intents.get(NAME)) == ([], {}, None)
    assert may_enter_again(desk)


def test_a_gate_that_lets_less_through_at_the_last_look_names_both_factors() -> None:
    """The order was made for all of it: half is another order."""
    result = Desk().execute(ask_again=lambda: an_open_gate("0.5"))

    assert result == answer(refusal=Refusal(Stage.GATE, "gate_narrowed", "factor 0.5", "factor 1"))


@pytest.mark.parametrize("now", ["0.5", "1"])
def test_a_gate_that_lets_as_much_or_more_through_sends_what_was_reserved(now: str) -> None:
    """Made for half, asked again at half and at the whole: five shares either way."""
    desk = Desk()
    desk.execute(an_open_gate("0.5"), ask_again=lambda: an_open_gate(now))

    assert [order.quantity for order in desk.broker.submitted] == [5]


# ---- an old run --------------------------------------------------------------------------------------


def test_an_old_run_is_refused_in_words_and_touches_nothing_of_the_new_one() -> None:
    """`taken_over` is no end of the decision: the risk belongs to the newest run."""
    desk = Desk()
    old, _ = two_runs(desk)
    words = "a newer execution runs decision d-AAA; this one may not act for it any more"

    assert desk.execute(execution=old) == answer(refusal=Refusal(Stage.EXECUTOR, "taken_over", words, ""))
    assert (desk.broker.submitted, desk.reserved) == ([], {"AAA": D(1000)})


def test_a_run_taken_over_at_its_last_look_sends_nothing() -> None:
    """NEW was written in time, SENT is not: a newer run began while the gate was asked."""
    desk = Desk()
    mine = desk.intents.begin("d-AAA").id

    def ask() -> GateVerdict:
        desk.intents.begin("d-AAA")
        return an_open_gate()

    refusal = Refusal(Stage.EXECUTOR, "taken_over", "an older execution", "the decision's newest execution")
    assert desk.execute(execution=mine, ask_again=ask) == answer(refusal=refusal)
    assert (desk.broker.submitted, desk.reserved) == ([], {"AAA": D(1000)})


def test_a_run_whose_order_another_sent_meanwhile_answers_what_became_of_it() -> None:
    """Both wrote the same NEW; one wrote SENT."""
    desk, answers = Desk(), []

    def ask() -> GateVerdict:
        answers.append(desk.execute())
        return an_open_gate()

    assert [desk.execute(ask_again=ask)] == answers
    assert len(desk.broker.submitted) == 1


def test_a_run_whose_order_the_venue_told_of_meanwhile_sends_none() -> None:
    """Sent by us, forgotten here, and taken up by reconciliation after this run began: looked up, no gate asked."""
    desk = Desk()
    asked: list[int] = []

    def ask() -> GateVerdict:
        asked.append(1)
        return an_open_gate()

    mine = desk.intents.begin("d-AAA").id
    order = write_new(desk, mine)
    report = desk.broker.submit(order)
    desk.intents.adopt(order, report, ours=True)

    assert desk.execute(execution=mine, ask_again=ask) == answer(report=report)
    assert (len(desk.broker.submitted), asked) == (1, [])


def test_an_old_run_that_its_gate_refuses_gives_nothing_back() -> None:
    """Intent and risk are the new run's, which may be about to send."""
    desk = Desk()
    old, new = two_runs(desk)
    write_new(desk, new)

    assert desk.execute(SHUT, execution=old).refusal == VIX
    assert desk.reserved == {"AAA": D(1000)}
    assert desk.intents.get(NAME) is not None


def test_an_old_run_that_fails_gives_nothing_back() -> None:
    """Its calendar is broken; the new run's may not be."""

    class Broken(WeekdaySessions):
        def session_of(self, at: datetime) -> Any:
            raise ValueError("out of bounds")

    desk = Desk()
    old, _ = two_runs(desk)
    desk.executor = TradeExecutor(desk.broker, desk.intents, desk.ledger, Broken(), ExecutorSettings(), "paper")

    assert desk.execute(execution=old).error == "ValueError: out of bounds"
    assert desk.reserved == {"AAA": D(1000)}


# ---- giving up ---------------------------------------------------------------------------------------


def test_giving_a_decision_up_takes_it_over_and_forgets_its_intent_and_risk() -> None:
    """Whoever ran it may not send any more."""
    desk = Desk()
    mine = desk.intents.begin("d-AAA").id
    write_new(desk, mine)

    assert desk.executor.abandon("d-AAA")
    assert (desk.intents.get(NAME), desk.reserved) == (None, {})
    refusal = desk.execute(execution=mine).refusal
    assert refusal is not None
    assert refusal.rule == "taken_over"


def test_a_decision_whose_order_was_sent_cannot_be_given_up() -> None:
    """The order's fate ends it."""
    desk = Desk()
    desk.execute()

    assert not desk.executor.abandon("d-AAA")
    assert desk.reserved == {"AAA": D(1000)}
    assert desk.intents.get(NAME) is not None


def test_who_gives_up_and_is_taken_over_meanwhile_gives_nothing_back() -> None:
    """A job started again between the two steps: intent and risk are its own."""

    class Rival(MemoryIntents):
        def begin(self, decision_id: str) -> Execution:
            mine = super().begin(decision_id)
            write_new(desk, super().begin(decision_id).id)
            return mine

    desk = Desk()
    rival = Rival(desk.control, desk.intents._executions)
    desk.intents = rival
    desk.executor = TradeExecutor(desk.broker, rival, desk.ledger, WeekdaySessions(), ExecutorSettings(), "paper")

    assert not desk.executor.abandon("d-AAA")
    assert desk.reserved == {"AAA": D(1000)}
    assert desk.intents.get(NAME) is not None


def test_what_cannot_be_given_back_now_does_not_change_the_answer() -> None:
    """The ledger is gone: the janitor gives the risk back later, the refusal stays the refusal."""
    desk = Desk()
    patched: Any = desk.ledger

    def gone(*_: object, **__: object) -> bool:
        raise TransientError("redis is gone")

    patched.release = gone

    assert desk.execute(SHUT) == answer(refusal=VIX)


# ---- refusals and failures in full -------------------------------------------------------------------


@pytest.mark.parametrize("error", [BrokerError("time-out"), TransientError("reset")])
def test_an_unknown_answer_carries_the_order_and_the_error(error: Exception) -> None:
    """What was sent, and why nobody knows."""
    result = Desk(broker=FakeBroker(fails=error)).execute()

    assert result == answer(unknown=True, error=f"{type(error).__name__}: {error}")


def test_an_order_that_cannot_be_looked_up_stays_unknown() -> None:
    """Sent before, and now the broker is deaf: no second order, no end."""

    class Deaf(FakeBroker):
        def order(self, client_order_id: str) -> OrderReport | None:
            raise BrokerError("no answer")

    desk = Desk(broker=Deaf())
    desk.execute()

    assert desk.execute() == answer(unknown=True, error="BrokerError: no answer")
    assert len(desk.broker.submitted) == 1


def test_a_halt_is_refused_with_the_order_it_refused() -> None:
    """Name, symbol, side and shares of what was not sent."""
    result = Desk(control=FakeControl(TradingState.HALTED)).execute()

    assert result == answer(refusal=Refusal(Stage.EXECUTOR, "trading_state", "HALTED", "ACTIVE"))


def test_an_orders_name_keeps_letters_of_both_cases() -> None:
    """The digest by sha256sum over the facts joined by 0x1f."""
    assert client_order_id("paper", "d-1", "BTCusd", Side.BUY, "entry") == "entry-BTCusd-db8b61bdee180a5288c2dc14"


# ---- flattening in full ------------------------------------------------------------------------------


def test_an_order_that_cannot_be_withdrawn_is_an_error_that_names_it() -> None:
    """The broker is asked as of the moment of flattening; the positions are closed all the same."""

    class Stubborn(FakeBroker):
        def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:
            raise BrokerError(f"no answer at {as_of:%H:%M}")

    desk = Desk(broker=Stubborn())
    desk.execute()
    desk.broker.held = {"BBB": Position("BBB", 7, D(700), NOW)}
    failed, closed = desk.executor.flatten(NOW, "drill")

    assert failed == answer(quantity=0, error="BrokerError: no answer at 15:00")
    assert (closed.symbol, closed.error) == ("BBB", None)


def test_an_order_that_may_be_on_its_way_is_unknown_in_full() -> None:
    """SENT is written, the broker has not heard of it."""
    desk = Desk(broker=FakeBroker(fails=BrokerError("time-out"), arrives=False))
    desk.execute()

    assert desk.executor.flatten(NOW, "drill") == [answer(unknown=True)]


def test_a_broker_that_cannot_be_asked_is_an_error_for_every_symbol() -> None:
    """`*`: nobody knows what is held."""

    class Deaf(FakeBroker):
        def positions(self) -> dict[str, Position]:
            raise BrokerError("no answer")

    everything = ExecutionResult("", "*", Side.SELL, 0, None, error="BrokerError: no answer")
    assert Desk(broker=Deaf()).executor.flatten(NOW, "drill") == [everything]


@pytest.mark.parametrize(("quantity", "side"), [(7, Side.SELL), (-7, Side.BUY)])
def test_a_position_whose_close_cannot_be_written_down_is_an_error_of_its_own(quantity: int, side: Side) -> None:
    """Nothing is sent that was not written; the next symbol is tried all the same."""
    desk = Desk()
    patched: Any = desk.intents
    create, desk.broker.held = desk.intents.create, {name: Position(name, quantity, D(700), NOW) for name in "AB"}

    def deaf(order: BracketOrder, execution: int | None = None) -> Any:
        if order.symbol == "A":
            raise TransientError("redis is gone")
        return create(order, execution)

    patched.create = deaf
    failed, closed = desk.executor.flatten(NOW, "drill")

    assert failed == ExecutionResult("", "A", side, 0, None, error="TransientError: redis is gone")
    assert (closed.symbol, closed.side, closed.error) == ("B", side, None)


def test_a_position_without_a_share_does_not_stop_the_others_from_being_flattened() -> None:
    """A broker should not list it; it has no price, so it is an error of its own."""
    desk = Desk()
    desk.broker.held = {"AAA": Position("AAA", 0, D(0), NOW), "BBB": Position("BBB", 7, D(700), NOW)}
    failed, closed = desk.executor.flatten(NOW, "drill")

    assert (failed.client_order_id, failed.symbol, failed.side, failed.quantity) == ("", "AAA", Side.BUY, 0)
    assert "InvalidOperation" in (failed.error or "")
    assert (closed.symbol, closed.quantity, closed.error) == ("BBB", 7, None)

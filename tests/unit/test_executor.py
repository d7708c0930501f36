"""The executor: at most one order per decision, whatever fails, and never an exception."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import BrokerError, TransientError
from pipeline.executor import ExecutorSettings, TradeExecutor, client_order_id, is_own
from pipeline.models import (
    Direction,
    ExecutionResult,
    GateVerdict,
    Levels,
    OrderStatus,
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
from tests.money import (
    CLOSE,
    NOW,
    D,
    FakeControl,
    WeekdaySessions,
    a_request,
    a_signal,
    an_open_gate,
    an_order,
    at,
)


def state(desk: Desk, result: ExecutionResult) -> str | None:
    """The state of the intent behind a result."""
    intent = desk.intents.get(result.client_order_id)
    return intent.state if intent is not None else None


@contextmanager
def unasked(desk: Desk) -> Iterator[None]:
    """Control cannot be asked within the block, which the run inside meets."""
    desk.control.fails = True
    with pytest.raises(TransientError):
        yield
    desk.control.fails = False


# ---- the order ---------------------------------------------------------------------------------------


def test_an_execution_sends_one_bracket_with_stop_and_target() -> None:
    """Everything the venue needs travels in the order; it lives until the session's close."""
    desk = Desk()
    result = desk.execute()

    assert [(o.symbol, o.side, o.quantity, o.levels.stop, o.levels.target) for o in desk.broker.submitted] == [
        ("AAA", Side.BUY, 10, D(98), D(104))
    ]
    order = desk.broker.submitted[0]
    assert (order.good_until, order.submitted_at, order.max_gap, order.max_hold_sessions) == (CLOSE, NOW, D("0.05"), 10)
    assert (result.report is not None, result.unknown, result.error, result.refusal) == (True, False, None, None)
    assert state(desk, result) == "SENT"


@pytest.mark.parametrize(("factor", "quantity"), [("1", 10), ("0.5", 5), ("0.59", 5), ("0.1", 1)])
def test_the_gates_factor_is_floored_and_shrinks_the_reservation(factor: str, quantity: int) -> None:
    """10 x 0.59 = 5.9 -> 5 shares, 500 dollars reserved."""
    desk = Desk()

    assert desk.execute(an_open_gate(factor)).quantity == quantity
    assert desk.reserved == {"AAA": D(quantity * 100)}


def test_no_share_left_is_refused_and_the_risk_given_back() -> None:
    """10 x 0.09 = 0.9 -> 0 shares."""
    desk = Desk()
    result = desk.execute(an_open_gate("0.09"))

    assert result.refusal == Refusal(Stage.EXECUTOR, "gate_factor", "0 shares", ">= 1 share")
    assert (desk.broker.submitted, desk.reserved) == ([], {})


def test_a_closing_order_is_not_shrunk_and_outlives_the_session() -> None:
    """A position is closed whole; ten sessions from Monday the 2nd end on Friday the 13th."""
    desk = Desk(reduce_only=True)
    desk.execute(an_open_gate("0.5"))

    assert [(o.quantity, o.reduce_only, o.good_until) for o in desk.broker.submitted] == [(10, True, at("20:00", 13))]


def test_a_closed_gate_sends_nothing() -> None:
    """Whoever calls, the executor looks itself."""
    desk = Desk()
    refusal = Refusal(Stage.GATE, "vix", "31", "30")
    result = desk.execute(GateVerdict(open=False, factor=D(0), checks=(), refusal=refusal))

    assert (result.refusal, desk.broker.submitted, desk.reserved) == (refusal, [], {})


# ---- the last moment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("halted", [TradingState.HALTED, TradingState.REDUCING])
def test_a_halt_between_decision_and_order_sends_nothing(halted: TradingState) -> None:
    """The trading state is asked again in the step that writes SENT."""
    desk = Desk(control=FakeControl(halted))
    result = desk.execute()

    assert result.refusal == Refusal(Stage.EXECUTOR, "trading_state", halted, "ACTIVE")
    assert (desk.broker.submitted, desk.reserved) == ([], {})


def test_reducing_lets_a_closing_order_through() -> None:
    """It shrinks exposure."""
    desk = Desk(control=FakeControl(TradingState.REDUCING), reduce_only=True)

    assert desk.execute().refusal is None


@pytest.mark.parametrize(("late", "sent"), [(0, 1), (1, 0)])
def test_a_signal_may_be_sent_until_it_expires(late: int, sent: int) -> None:
    """The moment itself is still good, a second later it is `max_age`."""
    desk = Desk()
    result = desk.execute(signal=a_signal(expires_at=NOW), as_of=NOW + timedelta(seconds=late))

    assert len(desk.broker.submitted) == sent
    assert (result.refusal.rule if result.refusal else None) == ("max_age" if late else None)


def test_an_order_that_waited_for_its_worker_is_as_old_as_the_worker_says() -> None:
    """NEW was written in time; who resumes it later asks the age of the later moment."""
    desk = Desk()
    with unasked(desk):
        desk.execute(signal=a_signal(expires_at=NOW))
    result = desk.execute(signal=a_signal(expires_at=NOW), as_of=NOW + timedelta(seconds=1))

    assert result.refusal is not None
    assert (result.refusal.rule, desk.broker.submitted) == ("max_age", [])


# ---- once --------------------------------------------------------------------------------------------


def test_a_repeated_execution_sends_nothing_twice() -> None:
    """The second looks the first's order up."""
    desk = Desk()
    first, second = desk.execute(), desk.execute()

    assert len(desk.broker.submitted) == 1
    assert second == first


def test_a_gate_that_closed_since_does_not_take_a_sent_order_back() -> None:
    """The order is at the broker: its risk stays set aside."""
    desk = Desk()
    first = desk.execute()
    second = desk.execute(GateVerdict(open=False, factor=D(0), checks=()))

    assert second == first
    assert desk.reserved == {"AAA": D(1000)}


def test_a_crash_before_sent_is_resumed_with_the_order_that_was_written() -> None:
    """NEW was written with 5 shares; the gate is wider now, the order stays."""
    desk = Desk()
    with unasked(desk):
        desk.execute(an_open_gate("0.5"))
    result = desk.execute(an_open_gate("1"))

    assert [o.quantity for o in desk.broker.submitted] == [5]
    assert result.quantity == 5


@pytest.mark.parametrize("error", [BrokerError("time-out"), TransientError("reset"), RuntimeError("bug")])
@pytest.mark.parametrize("arrives", [True, False])
def test_no_definite_answer_is_unknown_and_never_sent_again(error: Exception, arrives: bool) -> None:  # noqa: FBT001
    """The order may or may not have arrived: only looking the name up tells."""
    desk = Desk(broker=FakeBroker(fails=error, arrives=arrives))
    first = desk.execute()
    desk.broker.fails = None
    second = desk.execute()

    assert (first.unknown, first.report, first.refusal) == (True, None, None)
    assert state(desk, first) == "UNKNOWN"
    assert len(desk.broker.submitted) == int(arrives)
    assert second.unknown is not arrives
    assert desk.reserved == {"AAA": D(1000)}  # the risk stays set aside until it is known


def test_a_rejection_is_reported() -> None:
    """The broker's no is an answer."""
    desk = Desk(broker=FakeBroker(answer=OrderStatus.REJECTED))
    result = desk.execute()

    assert result.report is not None
    assert (result.report.status, result.unknown, result.refusal) == (OrderStatus.REJECTED, False, None)


def test_a_failure_before_the_request_is_an_error_and_gives_the_risk_back() -> None:
    """Nothing left the house."""
    desk = Desk()

    def broken() -> GateVerdict:
        raise ValueError("out of bounds")

    result = desk.execute(ask_again=broken)

    assert (result.error, result.unknown) == ("ValueError: out of bounds", False)
    assert (desk.broker.submitted, desk.reserved) == ([], {})


def test_what_cannot_be_asked_before_the_request_is_asked_again_by_a_later_run() -> None:
    """An outage is no end: nothing was sent, the risk stays set aside, and the repetition sends the order once."""
    desk = Desk()
    with unasked(desk):
        desk.execute()
    assert (desk.broker.submitted, desk.reserved) == ([], {"AAA": D(1000)})
    desk.execute()
    desk.execute()

    assert [order.decision_id for order in desk.broker.submitted] == ["d-AAA"]


def test_a_calendar_that_fails_is_an_error_not_an_exception() -> None:
    """The stage returns an error result, it never raises through."""

    class Broken(WeekdaySessions):
        def session_of(self, at: datetime) -> Any:
            raise ValueError(f"{at} is out of bounds")

    desk = Desk()
    desk.executor = TradeExecutor(desk.broker, desk.intents, desk.ledger, Broken(), ExecutorSettings(), "paper")
    result = desk.execute()

    assert (result.error or "").startswith("ValueError: ")


def test_what_was_sent_before_is_known_before_anything_is_decided_again() -> None:
    """A repeated job asks first; a decision that sent nothing has no prior."""
    desk = Desk()
    assert desk.executor.begin(a_signal()) == Execution("d-AAA", 1)
    result = desk.execute()

    assert desk.executor.begin(a_signal()) == result
    assert desk.executor.begin(a_signal(direction=Direction.SHORT)) == result
    assert desk.executor.begin(a_signal(decision_id="other")) == Execution("other", 1)


def test_a_closing_order_is_a_prior_too() -> None:
    """Entry and close have different names."""
    desk = Desk(reduce_only=True)

    result = desk.execute()

    assert desk.executor.begin(a_signal()) == result


# ---- names -------------------------------------------------------------------------------------------


def test_an_orders_name_is_a_function_of_its_facts() -> None:
    """The same facts, the same name; any other fact, another one."""
    facts: tuple[str, str, str, Side, str] = ("paper", "d-1", "BRK.B", Side.BUY, "entry")
    others: list[tuple[str, str, str, Side, str]] = [
        ("live", *facts[1:]),
        ("paper", "d-2", *facts[2:]),
        ("paper", "d-1", "BRK.A", *facts[3:]),
        ("paper", "d-1", "BRK.B", Side.SELL, "entry"),
        ("paper", "d-1", "BRK.B", Side.BUY, "close"),
    ]
    names = {client_order_id(*other) for other in others}

    assert client_order_id(*facts) == client_order_id(*facts)
    assert len(names | {client_order_id(*facts)}) == 6


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (("paper", "d-1", "BRK.B", Side.BUY, "entry"), "entry-BRKB-0bb45efe1d88b66852de12e2"),
        (("paper", "d-1", "VERYLONGSYMBOL.X", Side.SELL, "closing"), "closi-VERYLONG-e17620f4078821ba98caa1b4"),
    ],
)
def test_an_orders_name_never_changes_between_releases(facts: tuple[str, str, str, Side, str], name: str) -> None:
    """Else an upgrade would send what is at the broker again. Digests by sha256sum over the facts joined by 0x1f."""
    assert client_order_id(*facts) == name


@pytest.mark.parametrize(("reduce_only", "role"), [(False, "entry"), (True, "close")])
def test_an_order_is_named_by_environment_decision_symbol_side_and_role(reduce_only: bool, role: str) -> None:  # noqa: FBT001
    """The name that will be looked up is the one that was sent."""
    desk = Desk(reduce_only=reduce_only)

    assert desk.execute().client_order_id == client_order_id("paper", "d-AAA", "AAA", Side.BUY, role)


def test_an_abandoned_decision_leaves_the_rates() -> None:
    """No order came of it: the same side may enter again within the minute."""
    desk = Desk()

    assert desk.executor.abandon("d-AAA")
    assert isinstance(desk.ledger.reserve(a_request(decision_id="next")), Reservation)


def test_a_flattening_order_is_known_by_its_decision() -> None:
    """Settlement tells no outcome for it."""
    desk = Desk()
    desk.broker.held = {"BBB": holding("BBB", 7)}
    desk.executor.flatten(NOW, "drill")

    assert [order.decision_id.split("-")[0] for order in desk.broker.submitted] == ["flatten"]


@pytest.mark.parametrize("symbol", ["A", "BRK.B", "BTC/USD", "VERYLONGSYMBOL.X"])
def test_an_orders_name_fits_every_broker(symbol: str) -> None:
    """At most 40 characters of A-Za-z0-9_-."""
    name = client_order_id("a-long-environment", "d" * 200, symbol, Side.SELL, "entry")

    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name)


# ---- flatten -----------------------------------------------------------------------------------------


def holding(symbol: str, quantity: int) -> Position:
    """A position at 100 dollars a share."""
    return Position(symbol, quantity, D(quantity * 100), NOW)


def test_flatten_withdraws_everything_and_closes_every_position_under_a_halt() -> None:
    """Long is sold, short is bought back; HALTED does not stop it."""
    desk = Desk()
    sent = desk.execute()
    desk.control.state = TradingState.HALTED
    desk.broker.held = {"BBB": holding("BBB", -7), "AAA": holding("AAA", 10)}
    results = desk.executor.flatten(NOW, "drill")

    assert desk.broker.cancelled == [sent.client_order_id]
    assert [(r.symbol, r.side, r.quantity, r.refusal) for r in results] == [
        ("AAA", Side.SELL, 10, None),
        ("BBB", Side.BUY, 7, None),
    ]
    assert all(order.reduce_only for order in desk.broker.submitted[1:])


def test_a_repeated_flatten_sends_nothing_twice() -> None:
    """The act is named by its moment and reason; a later act is another one."""
    desk = Desk()
    desk.broker.held = {"AAA": holding("AAA", 10)}
    for as_of in (NOW, NOW, NOW + timedelta(seconds=1)):
        desk.executor.flatten(as_of, "drill")

    assert len({order.client_order_id for order in desk.broker.submitted}) == len(desk.broker.submitted) == 2


def test_flatten_says_which_order_may_still_be_on_its_way() -> None:
    """SENT is written, the broker has not heard of it: it may arrive after the flattening."""
    desk = Desk(broker=FakeBroker(fails=BrokerError("time-out"), arrives=False))
    lost = desk.execute()
    results = desk.executor.flatten(NOW, "drill")

    assert [(r.client_order_id, r.unknown) for r in results] == [(lost.client_order_id, True)]


def test_one_symbols_failure_does_not_stop_the_others_from_being_flattened() -> None:
    """Each failure is a result of its own."""
    desk = Desk()
    desk.broker.held = {"AAA": holding("AAA", 10), "BBB": holding("BBB", 5)}
    desk.broker.fails = BrokerError("time-out")
    results = desk.executor.flatten(NOW, "drill")

    assert [(r.symbol, r.unknown) for r in results] == [("AAA", True), ("BBB", True)]


@pytest.mark.parametrize(("quantity", "side"), [(1, Side.SELL), (-1, Side.BUY)])
def test_a_position_whose_closing_order_cannot_be_written_is_told_with_its_side(quantity: int, side: Side) -> None:
    """One share, long or short: nothing was sent, and whoever flattens must know what is left to do."""
    desk = Desk()
    desk.broker.held = {"BBB": holding("BBB", quantity)}
    desk.control.fails = True

    (result,) = desk.executor.flatten(NOW, "drill")
    assert (result.symbol, result.side, result.quantity, desk.broker.submitted) == ("BBB", side, 0, [])
    assert result.error is not None


def test_flatten_says_when_the_broker_cannot_be_asked() -> None:
    """What cannot be asked cannot be closed: the caller must know."""

    class Deaf(FakeBroker):
        def positions(self) -> dict[str, Position]:
            raise BrokerError("no answer")

    results = Desk(broker=Deaf()).executor.flatten(NOW, "drill")

    assert [r.error for r in results] == ["BrokerError: no answer"]
    assert replace(results[0], error=None).symbol == "*"


@pytest.mark.parametrize(("quantity", "side"), [(1, Side.SELL), (-1, Side.BUY)])
def test_a_flattening_order_carries_the_whole_position_at_what_was_paid(quantity: int, side: Side) -> None:
    """One share, long or short: no stop, no target, its reference is the average price."""
    desk = Desk()
    desk.broker.held = {"BBB": holding("BBB", quantity)}
    desk.executor.flatten(NOW, "drill")
    order = desk.broker.submitted[0]

    assert (order.side, order.quantity, order.reduce_only) == (side, 1, True)
    assert order.levels == Levels(D(100), D(0), D(0), D(100), D(100), D("0.0001"))


def test_a_closing_order_that_was_written_and_not_sent_goes_as_it_was_written() -> None:
    """NEW from 15:00, sent at 15:01 by who comes after: the venue and our intent know the same facts."""
    desk = Desk()
    first, again = (desk.executor.closing(holding("BBB", 7), at, "act") for at in (NOW, NOW + timedelta(minutes=1)))
    desk.intents.create(first)
    desk.executor.close(again, NOW + timedelta(minutes=1))

    assert again != first
    assert desk.broker.submitted == [first]


@pytest.mark.parametrize(("told", "sent"), [({}, 0), ({"under_halt": False}, 0), ({"under_halt": True}, 1)])
def test_a_closing_order_is_sent_under_a_halt_only_when_told_so(told: dict[str, bool], sent: int) -> None:
    """Flatten tells so; whatever else closes does not."""
    desk = Desk(control=FakeControl(TradingState.HALTED))
    order = desk.executor.closing(holding("BBB", 7), NOW, "act")
    result = desk.executor.close(order, NOW, **told)

    assert len(desk.broker.submitted) == sent
    assert (result.refusal is None) is bool(sent)


@pytest.mark.parametrize(("reduce_only", "role"), [(False, "entry"), (True, "close")])
def test_an_order_is_ours_when_its_name_is_made_of_its_own_facts(reduce_only: bool, role: str) -> None:  # noqa: FBT001
    """Another fleet's order, and one whose facts are not those that it was named by, is a stranger's."""
    name = client_order_id("paper", "d-AAA", "AAA", Side.BUY, role)
    ours = an_order(client_order_id=name, reduce_only=reduce_only)
    strange: list[dict[str, Any]]
    strange = [{"reduce_only": not reduce_only}, {"side": Side.SELL}, {"symbol": "BBB"}, {"decision_id": "d-BBB"}]

    assert is_own("paper", ours)
    assert not is_own("live", ours)
    assert [facts for facts in strange if is_own("paper", replace(ours, **facts))] == []


def test_the_act_of_flattening_names_its_order() -> None:
    """By moment, reason and symbol; the digest by sha256sum over the three joined by 0x1f."""
    desk = Desk()
    desk.broker.held = {"BBB": holding("BBB", 7)}
    desk.executor.flatten(NOW, "drill")

    assert desk.broker.submitted[0].decision_id == "flatten-b05052dca10b938e1af0b891"


def test_a_closed_gate_without_a_reason_is_refused_as_closed() -> None:
    """Whoever made the verdict."""
    result = Desk().execute(GateVerdict(open=False, factor=D(0), checks=()))

    assert result.refusal == Refusal(Stage.GATE, "gate", "closed", "open")


def test_a_failure_before_the_request_names_no_order_and_no_shares() -> None:
    """Nothing left the house."""

    def broken() -> GateVerdict:
        raise ValueError("out of bounds")

    expected = ExecutionResult("", "AAA", Side.BUY, 0, None, error="ValueError: out of bounds")
    assert Desk().execute(ask_again=broken) == expected


def test_an_answer_that_cannot_be_kept_says_so() -> None:
    """The broker failed and the memory too: SENT is as open a question as UNKNOWN."""
    desk = Desk(broker=FakeBroker(fails=BrokerError("time-out")))
    patched: Any = desk.intents

    def deaf(*_: object) -> None:
        raise TransientError("redis is gone")

    patched.record = deaf
    result = desk.execute()

    assert (result.unknown, result.error) == (True, "TransientError: redis is gone")


@pytest.mark.parametrize(("direction", "side"), [(Direction.LONG, Side.BUY), (Direction.SHORT, Side.SELL)])
def test_an_order_that_is_no_longer_kept_is_an_error_of_its_side(direction: Direction, side: Side) -> None:
    """A job of a month ago: nothing is decided again."""
    desk = Desk()
    name = desk.execute().client_order_id
    patched: Any = desk.intents
    patched.get = lambda _name: None

    assert desk.executor.begin(a_signal(direction=direction)) == ExecutionResult(
        name, "AAA", side, 0, None, error="FleetError: its order is no longer kept"
    )


@dataclass
class Tripped:
    """A breaker that holds entries back."""

    asked: int = 0

    def permit(self) -> Refusal | None:
        self.asked += 1
        return Refusal(Stage.EXECUTOR, "breaker", "5 failures", "4 in 60 s")


@pytest.mark.parametrize("reduce_only", [False, True])
def test_a_tripped_breaker_holds_entries_back_and_lets_exits_go(reduce_only: bool) -> None:  # noqa: FBT001
    """Getting out is always tried."""
    desk = Desk(reduce_only=reduce_only)
    breaker: Any = Tripped()
    desk.executor = TradeExecutor(
        desk.broker, desk.intents, desk.ledger, WeekdaySessions(), ExecutorSettings(), "paper", breaker=breaker
    )
    result = desk.execute()

    assert (result.refusal is None, len(desk.broker.submitted)) == (reduce_only, int(reduce_only))
    assert bool(desk.reserved) is reduce_only

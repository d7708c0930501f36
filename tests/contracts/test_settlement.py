"""Settlement over the paper venue: fills become our book, definite entries become outcomes, whatever is repeated."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from config.paper import PaperSettings
from pipeline.errors import TransientError
from pipeline.executor import ExecutorSettings, TradeExecutor
from pipeline.models import Bars, Direction, ExecutionResult, Outcome, Reservation, TradingState
from pipeline.risk import RiskManager, RiskSettings
from tests.contracts.conftest import Vault
from tests.contracts.test_paper import QUIET, UP, half_hours
from tests.money import (
    CLOSE,
    NOW,
    SESSION,
    D,
    FakeMarket,
    WeekdaySessions,
    a_recommendation,
    a_signal,
    an_open_gate,
    at,
    some_bars,
)
from workers.adapters.paper import PaperBroker
from workers.settlement import Settled, Settlement

CRASH = (100.0, 100.5, 70.0, 70.0)


@dataclass
class Floor:
    """The whole money side over one vault: check, execute, settle."""

    vault: Vault
    market: FakeMarket
    settings: PaperSettings

    def __post_init__(self) -> None:
        vault, sessions = self.vault, WeekdaySessions()
        vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
        self.broker: Any = PaperBroker(vault.paper, self.market, self.market, sessions, self.settings)
        self.risk = RiskManager(vault.ledger, sessions, self.market, vault.control, RiskSettings())
        self.executor = TradeExecutor(self.broker, vault.intents, vault.ledger, sessions, ExecutorSettings(), "paper")
        self.settlement = Settlement(
            self.broker, vault.intents, vault.ledger, sessions, self.market, self.risk, vault.alarms
        )

    def trade(
        self, symbol: str = "AAA", direction: Direction = Direction.LONG, as_of: datetime = NOW
    ) -> ExecutionResult:
        signal = a_signal(symbol, direction, decision_id=f"d-{symbol}-{direction}", decided_at=as_of, expires_at=as_of)
        recommendation = a_recommendation(signal)
        reservation = self.risk.check(recommendation, as_of)
        assert isinstance(reservation, Reservation), reservation
        return self.executor.execute(recommendation, reservation, an_open_gate(), as_of)

    def settle(self, clock: str, day: int = 2) -> list[tuple[str, Outcome, str | None]]:
        return [
            (one.decision_id, one.outcome, one.refusal.rule if one.refusal else None)
            for one in self.settlement.settle(at(clock, day))
        ]


def a_floor(vault: Vault, *bars: Any, settings: PaperSettings | None = None, **more: Bars) -> Floor:
    """AAA has these half-hour bars, other symbols what is given; every quote is 100 dollars."""
    history = {"AAA": half_hours("AAA", *bars), **more}
    return Floor(vault, FakeMarket(dict.fromkeys(history, D(100)), history), settings or PaperSettings())


LONG = ("d-AAA-long", Outcome.EXECUTED, None)


def test_nothing_open_is_nothing_to_do(vault: Vault) -> None:
    """One look and back."""
    assert a_floor(vault).settle("15:30") == []
    vault.holds(control=...)


def test_a_working_entry_is_not_definite(vault: Vault) -> None:
    """No bar is complete yet: the reservation stays."""
    floor = a_floor(vault, QUIET)
    floor.trade()

    assert floor.settle("15:29") == []
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(10_000)}


def test_a_filled_entry_is_executed_and_our_book_is_the_venues(vault: Vault) -> None:
    """100 shares at 100.05: cash, position and equity agree; the reservation became a position."""
    floor = a_floor(vault, QUIET)
    floor.trade()

    assert floor.settle("15:30") == [LONG]
    book = vault.ledger.snapshot(SESSION)
    assert (book.cash, book.equity, book.reserved) == (D(89_995), D(99_995), {})
    assert book.positions == floor.broker.positions()
    assert floor.broker.account().cash == book.cash


def test_a_decision_is_told_again_until_it_is_acknowledged(vault: Vault) -> None:
    """The caller writes the outcome first; a crash between the two loses nothing."""
    floor = a_floor(vault, QUIET)
    floor.trade()

    assert [floor.settle("15:30") for _ in range(2)] == [[LONG], [LONG]]
    floor.settlement.acknowledge(["d-AAA-long", "somebody-else"])
    floor.settlement.acknowledge(["d-AAA-long"])
    assert floor.settle("15:30") == []


def test_a_finished_trade_leaves_only_its_records(vault: Vault) -> None:
    """Target at 104.05: 100 x 4 = 400 gained; nothing is open any more."""
    floor = a_floor(vault, QUIET, UP)
    sent = floor.trade()
    floor.settle("16:00")
    floor.settlement.acknowledge(["d-AAA-long"])

    assert vault.intents.open() == ()
    assert vault.ledger.snapshot(SESSION).realised_session == D(400)
    micro = {"start_equity_micro": "100000000000", "realised_micro": "400000000", "worst_micro": "0"}
    vault.holds(
        **{
            "control": ...,
            "tally": {"orders": "1"},
            "account": {"cash_micro": "100400000000"},
            "risk:2014-06-02": micro,
            "risk:2014-W23": micro,
            "entries": ...,
            "entries:AAA": ...,
            f"fills:{sent.client_order_id}": ...,
            "filled": ...,
            f"intent:{sent.client_order_id}": ...,
            "execution:d-AAA-long": {"sent": sent.client_order_id},
            f"paper:order:{sent.client_order_id}": ...,
            "paper:account": {"cash_micro": "100400000000"},
        }
    )


def test_settling_often_books_each_fill_once(vault: Vault) -> None:
    """Acknowledged or not, early or late."""
    floor = a_floor(vault, QUIET, QUIET, UP)
    floor.trade()
    for clock in ("15:30", "15:30", "16:00"):
        floor.settle(clock)
    floor.settlement.acknowledge(["d-AAA-long"])
    for clock in ("16:30", "16:30"):
        floor.settle(clock)

    assert vault.ledger.snapshot(SESSION).cash == D(100_400)


def test_a_booked_fill_is_not_offered_to_the_ledger_again(vault: Vault) -> None:
    """What is remembered as booked costs no round trip."""
    floor = a_floor(vault, QUIET, QUIET)
    floor.trade()
    floor.settle("15:30")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.ledger, "apply", _crash)

        assert floor.settle("16:00") == [LONG]


def test_a_crash_after_booking_and_before_remembering_books_nothing_twice(vault: Vault) -> None:
    """The fill's name is in the ledger; the second run finds it."""
    floor = a_floor(vault, QUIET)
    floor.trade()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.intents, "booked", _crash)
        with pytest.raises(TransientError):
            floor.settle("15:30")

    assert floor.settle("15:30") == [LONG]
    assert vault.ledger.snapshot(SESSION).cash == D(89_995)


def _crash(*_: object) -> None:
    raise TransientError("killed")


@pytest.mark.parametrize(
    ("bars", "settings", "clock", "end"),
    [
        ((), PaperSettings(), "20:00", (Outcome.UNFILLED, "no_price_by_close")),
        (((106.0, 106.0, 106.0, 106.0),), PaperSettings(), "15:30", (Outcome.BROKER_REJECTED, "max_gap")),
        ((), PaperSettings(hard_to_borrow=frozenset({"AAA"})), "15:00", (Outcome.BROKER_REJECTED, "hard_to_borrow")),
    ],
)
def test_an_entry_without_a_position_ends_with_its_reason(
    vault: Vault, bars: tuple[Any, ...], settings: PaperSettings, clock: str, end: tuple[Outcome, str]
) -> None:
    """The risk is free again and no money moved."""
    floor = a_floor(vault, *bars, settings=settings)
    direction = Direction.SHORT if settings.hard_to_borrow else Direction.LONG
    floor.trade(direction=direction)

    assert floor.settle(clock) == [(f"d-AAA-{direction}", *end)]
    book = vault.ledger.snapshot(SESSION)
    assert (book.reserved, book.cash, book.positions) == ({}, D(100_000), {})


def test_an_order_that_never_arrived_is_unfilled_when_its_session_is_over(vault: Vault) -> None:
    """SENT was written, the worker died before the request: sent again never, ended at the close."""
    floor = a_floor(vault, QUIET)
    submit, floor.broker.submit = floor.broker.submit, _crash
    result = floor.trade()
    floor.broker.submit = submit

    assert result.unknown
    assert floor.settle("19:59") == []
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(10_000)}
    assert floor.settle("20:00") == [("d-AAA-long", Outcome.UNFILLED, "never_arrived")]
    assert vault.ledger.snapshot(SESSION).reserved == {}


def test_an_unknown_order_that_did_arrive_is_found(vault: Vault) -> None:
    """The request came through, the answer was lost."""
    floor = a_floor(vault, QUIET)
    submit = floor.broker.submit

    def lost(order: Any) -> None:
        submit(order)
        raise TransientError("answer lost")

    floor.broker.submit = lost
    floor.trade()

    assert floor.settle("15:30") == [LONG]


def test_the_opposite_signal_closes_the_position(vault: Vault) -> None:
    """Bought at 100.05, closed at the next open 99.95: 100 x -0.10 = -10."""
    floor = a_floor(vault, QUIET, QUIET)
    floor.trade()
    floor.settle("15:30")
    floor.settlement.acknowledge(["d-AAA-long"])
    floor.trade(direction=Direction.SHORT, as_of=at("15:30"))

    assert floor.settle("16:00") == [("d-AAA-short", Outcome.EXECUTED, None)]
    book = vault.ledger.snapshot(SESSION)
    assert (book.positions, book.realised_session, book.reserved) == ({}, D(-10), {})
    assert floor.broker.positions() == {}


def test_fills_of_all_symbols_are_booked_in_order_of_time(vault: Vault) -> None:
    """BBB loses at 15:30, AAA wins at 16:00: the last trade that closed did not lose."""
    fall = some_bars("BBB", (at("15:00"), at("15:30"), 100.0, 100.0, 97.0, 98.0))
    floor = a_floor(vault, QUIET, UP, BBB=fall)
    floor.trade("BBB")
    floor.trade("AAA")
    floor.settle("16:00")

    assert vault.ledger.snapshot(SESSION).last_losing_trade is None


def test_each_fill_counts_in_the_session_of_its_own_time(vault: Vault) -> None:
    """The close of Monday belongs to Monday, however late it is settled: in at 100.05, out at 99.95 -> -10."""
    day = some_bars("AAA", (at("13:30"), CLOSE, *QUIET))
    floor = a_floor(vault)
    floor.market.history["AAA"] = day
    floor.executor = TradeExecutor(
        floor.broker, vault.intents, vault.ledger, WeekdaySessions(), ExecutorSettings(max_hold_sessions=1), "paper"
    )
    floor.trade(as_of=at("13:30"))
    floor.settle("15:00", day=4)

    assert vault.ledger.snapshot(SESSION).realised_session == D(-10)
    assert vault.ledger.snapshot(WeekdaySessions().session_of(at("15:00", 3))).realised_session == D(0)


def test_a_lost_week_stops_entries_until_somebody_resumes(vault: Vault) -> None:
    """A gap through the stop to 70: 100 x (70 x 0.9995 - 100.05) = -3,008.50 is more than 3 %."""
    floor = a_floor(vault, QUIET, (70.0, 70.0, 70.0, 70.0))
    floor.trade()
    floor.settle("16:00")

    assert vault.ledger.snapshot(SESSION).realised_week == D("-3008.5")
    assert vault.control.trading_state() is TradingState.REDUCING


def test_positions_are_marked_at_the_last_quotes(vault: Vault) -> None:
    """100 shares bought for 10,005, marked at 101: 89,995 + 10,100."""
    floor = a_floor(vault, QUIET)
    floor.trade()
    floor.market.prices["AAA"] = D(101)
    floor.settle("15:30")

    assert vault.ledger.snapshot(SESSION).equity == D(100_095)


@pytest.mark.parametrize("price", [D("NaN"), D(0)])
def test_a_quote_that_is_no_price_is_no_mark(vault: Vault, price: Any) -> None:
    """The fill's price stays."""
    floor = a_floor(vault, QUIET)
    floor.trade()
    floor.market.prices["AAA"] = price
    floor.settle("15:30")

    assert vault.ledger.snapshot(SESSION).marks == {"AAA": D("100.05")}


def test_flatten_closes_everything_under_a_halt_and_tells_no_decision(vault: Vault) -> None:
    """A working entry is cancelled, a position sold at the next open; only the cancelled entry is an outcome."""
    floor = a_floor(vault, QUIET, QUIET, BBB=some_bars("BBB"))
    floor.trade("AAA")
    floor.settle("15:30")
    floor.settlement.acknowledge(["d-AAA-long"])
    floor.trade("BBB", as_of=at("15:30"))
    vault.control.set(TradingState.HALTED, "ann", "drill", NOW)
    results = floor.executor.flatten(at("15:30"), "drill")

    assert [(r.symbol, r.error, r.refusal) for r in results] == [("AAA", None, None)]
    assert floor.settle("16:00") == [("d-BBB-long", Outcome.UNFILLED, "cancelled")]
    floor.settlement.acknowledge(["d-BBB-long"])
    book = vault.ledger.snapshot(SESSION)
    assert (book.positions, book.reserved, floor.broker.positions()) == ({}, {}, {})
    assert vault.intents.open() == ()


@pytest.mark.parametrize("clock", ["15:30", "16:00", "20:00"])
def test_a_settled_decision_says_when_it_was_filled_whenever_we_look(vault: Vault, clock: str) -> None:
    """Filled at the open of the bar from 15:00; the outcome does not depend on when settlement ran."""
    floor = a_floor(vault, QUIET, UP)
    floor.trade()

    assert floor.settlement.settle(at(clock)) == (Settled("d-AAA-long", "AAA", Outcome.EXECUTED, None, at("15:00")),)


@pytest.mark.parametrize("day", [2, 4])
def test_an_unfilled_entry_ended_at_its_close_whenever_we_look(vault: Vault, day: int) -> None:
    """It lived until Monday's close."""
    floor = a_floor(vault)
    floor.trade()

    assert [one.as_of for one in floor.settlement.settle(at("20:30", day))] == [CLOSE]


def test_a_refused_entry_ended_when_it_was_seen(vault: Vault) -> None:
    """The venue does not say when."""
    floor = a_floor(vault, (106.0, 106.0, 106.0, 106.0))
    floor.trade()

    assert [one.as_of for one in floor.settlement.settle(at("16:00"))] == [at("16:00")]


def test_nothing_is_said_to_have_never_arrived_unless_the_venue_says_so_of_this_name(vault: Vault) -> None:
    """A list without the order is no answer about it: the name is looked up, and it was there."""
    floor = a_floor(vault, QUIET)
    floor.trade()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor.broker, "updates", lambda *_: ())
        assert floor.settle("15:30") == []
    updates, floor.broker.updates = floor.broker.updates, lambda *_: ()

    assert floor.settle("20:00") == []
    floor.broker.updates = updates
    assert floor.settle("20:00") == [LONG]


def test_a_venue_that_cannot_be_asked_ends_nothing(vault: Vault) -> None:
    """Only a definite "not found" after the order's time does."""
    floor = a_floor(vault, QUIET)
    submit, floor.broker.submit = floor.broker.submit, _crash
    floor.trade()
    floor.broker.submit = submit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor.broker, "order", _crash)
        with pytest.raises(TransientError):
            floor.settle("20:00")

    assert floor.settle("20:00") == [("d-AAA-long", Outcome.UNFILLED, "never_arrived")]


def test_a_lost_week_and_a_drawdown_are_alarms(vault: Vault) -> None:
    """A gap through the stop to 70 loses 3,008.50: the week's limit is 3 % of 100,000."""
    floor = a_floor(vault, QUIET, (70.0, 70.0, 70.0, 70.0))
    floor.trade()
    floor.settle("16:00")

    assert [(a.code, a.detail) for a in vault.alarms.open()] == [("week_loss", "3008.50 USD, limit 3000.00 USD")]

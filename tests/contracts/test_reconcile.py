"""Reconciliation: drift sets REDUCING and an alarm within one cycle; strangers' orders are never touched."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import redis
import structlog

from pipeline.errors import BrokerError, TransientError
from pipeline.models import Account, Direction, OrderStatus, Position, Quote, TradingState
from pipeline.ports import Statement
from tests.contracts.conftest import KEYS, Vault
from tests.contracts.test_paper import QUIET, half_hours
from tests.deciding import Worker, active
from tests.money import NOW, SESSION, D, FakeMarket, WeekdaySessions, a_fill, an_order, at
from workers.adapters.alarms import Alarm, MemoryAlarms, RedisAlarms
from workers.adapters.truth import MemoryTruth
from workers.drift import Drift
from workers.reconcile import Reconciler

HALF_PAST = at("15:30")


class Desk:
    """A worker with its reconciler; AAA is bought at 15:00 for 100.05 once `bought` was called."""

    def __init__(self, vault: Vault, tolerance: str = "1") -> None:
        self.vault = vault
        active(vault)
        history = {"AAA": half_hours("AAA", QUIET, QUIET), "BBB": half_hours("BBB", QUIET, QUIET)}
        self.worker = Worker(vault, FakeMarket(dict.fromkeys(history, D(100)), history))
        self.broker = self.worker.broker
        self.truth = MemoryTruth(lambda: HALF_PAST)
        self.reconciler = Reconciler(
            self.broker,
            vault.intents,
            vault.ledger,
            WeekdaySessions(),
            vault.control,
            vault.alarms,
            self.worker.settlement.settle,
            D(tolerance),
            "paper",
            self.truth,
        )

    def bought(self) -> "Desk":
        self.worker.decide()
        self.worker.settlement.settle(HALF_PAST)
        return self

    def alarms(self) -> list[tuple[str, str]]:
        return [(alarm.code, alarm.subject) for alarm in self.vault.alarms.open()]

    @property
    def state(self) -> TradingState:
        return self.vault.control.trading_state()


def test_books_that_agree_change_nothing(vault: Vault) -> None:
    """Positions, cash and orders are the same."""
    desk = Desk(vault).bought()

    assert desk.reconciler.cycle(HALF_PAST) == ()
    assert (desk.alarms(), desk.state) == ([], TradingState.ACTIVE)


def test_fills_that_are_not_booked_yet_are_no_drift(vault: Vault) -> None:
    """The venue filled, settlement comes first."""
    desk = Desk(vault)
    desk.worker.decide()
    desk.broker.updates(HALF_PAST, desk.worker.orders)

    assert desk.reconciler.cycle(HALF_PAST) == ()
    assert vault.ledger.snapshot(SESSION).positions == desk.broker.positions()


def test_a_fill_between_two_readings_is_no_drift(vault: Vault) -> None:
    """Only what every look finds is drift."""
    desk = Desk(vault).bought()
    positions, answers = desk.broker.positions, [{}, desk.broker.positions()]
    desk.broker.positions = lambda: answers.pop(0) if answers else positions()

    assert desk.reconciler.cycle(HALF_PAST) == ()
    assert desk.state is TradingState.ACTIVE


def test_entries_of_one_size_that_fill_during_every_look_are_no_drift(vault: Vault) -> None:
    """Four entries of 100 shares at 100 each take the same dollars, each between the readings of another look."""
    desk = Desk(vault)
    symbols = ["AAA", "BBB", "CCC", "DDD"]
    history = {symbol: half_hours(symbol, QUIET, QUIET) for symbol in symbols}
    desk.worker.market.prices |= dict.fromkeys(symbols, D(100))
    desk.worker.market.history |= history
    account = desk.broker.account
    seen: list[Decimal] = []

    def one_fills_first() -> Account:
        if symbols:
            result = desk.worker.decide(symbols.pop(0)).execution_result
            assert result is not None
            desk.broker.updates(HALF_PAST, [result.client_order_id])
        found: Account = account()
        seen.append(found.cash)
        return found

    desk.broker.account = one_fills_first
    assert desk.reconciler.cycle(HALF_PAST) == ()
    assert len({before - after for before, after in pairwise(seen[:4])}) == 1
    assert (desk.alarms(), desk.state) == ([], TradingState.ACTIVE)


def elsewhere(symbol: str, quantity: int) -> dict[str, Position]:
    """A position that somebody else made."""
    return {symbol: Position(symbol, quantity, D(quantity * 100), NOW)}


@pytest.mark.parametrize(
    ("theirs", "drift"),
    [
        ({}, Drift("AAA", "99 shares", "0 shares")),
        (elsewhere("AAA", 98), Drift("AAA", "99 shares", "98 shares")),
        (elsewhere("AAA", -99), Drift("AAA", "99 shares", "-99 shares")),
    ],
)
def test_another_position_reduces_and_alarms_within_one_cycle(
    vault: Vault, theirs: dict[str, Position], drift: Drift
) -> None:
    """Sold or bought elsewhere. Who and why is the reconciler and the difference."""
    desk = Desk(vault)
    vault.ledger.apply("d", a_fill(quantity=99, fill_id="f"), SESSION)
    desk.broker.positions = lambda: theirs
    desk.broker.account = lambda: Account(D(90_100), D(100_000))

    assert desk.reconciler.cycle(HALF_PAST) == (drift,)
    assert (desk.alarms(), desk.state) == ([("book_drift", "AAA")], TradingState.REDUCING)
    why = vault.control.why()
    assert why is not None
    assert (why.by, why.reason) == ("reconcile", f"drift: {drift}")


def test_an_unknown_position_is_drift(vault: Vault) -> None:
    """We do not have it, the broker does."""
    desk = Desk(vault)
    desk.broker.positions = lambda: elsewhere("ZZZ", 5)

    assert desk.reconciler.cycle(HALF_PAST) == (Drift("ZZZ", "0 shares", "5 shares"),)


@pytest.mark.parametrize(("cash", "drifts"), [("100001", 0), ("99999", 0), ("100001.01", 1), ("99998.99", 1)])
def test_cash_may_differ_by_the_tolerance_and_no_more(vault: Vault, cash: str, drifts: int) -> None:
    """One dollar, either way."""
    desk = Desk(vault)
    desk.broker.account = lambda: Account(Decimal(cash), Decimal(cash))
    found = desk.reconciler.cycle(HALF_PAST)

    assert len(found) == drifts
    assert desk.state is (TradingState.REDUCING if drifts else TradingState.ACTIVE)


def test_a_working_order_that_the_broker_forgot_is_drift(vault: Vault) -> None:
    """It was confirmed once; one that was never confirmed is settlement's affair."""
    desk = Desk(vault)
    name = desk.worker.decide().execution_result
    assert name is not None
    desk.broker.orders = lambda _since: ()
    assert desk.reconciler.cycle(NOW) == ()
    desk.broker.order = lambda _name: None
    desk.broker.updates = lambda *_: ()

    assert desk.reconciler.cycle(NOW) == (Drift(name.client_order_id, "a working order", "no such order"),)


def test_a_strangers_order_is_drift_and_is_never_touched(vault: Vault) -> None:
    """Its name is none of ours: it works on, is no intent, and `flatten` does not withdraw it."""
    desk = Desk(vault)
    desk.broker.submit(an_order("BBB", client_order_id="hand-made"))
    drift = Drift("hand-made", "no such order", "a working order in BBB")

    assert desk.reconciler.cycle(NOW) == (drift,)
    assert (desk.alarms(), desk.state) == ([("book_drift", "hand-made")], TradingState.REDUCING)
    assert vault.intents.get("hand-made") is None
    assert desk.worker.executor.flatten(NOW, "drill") == []
    assert desk.broker.order("hand-made").status is OrderStatus.ACCEPTED


def test_a_strangers_order_that_is_accepted_is_ours_with_its_fills(vault: Vault) -> None:
    """A person's act: no drift any more, its fill at 15:00 is booked by settlement, and no decision waits for it."""
    desk = Desk(vault)
    desk.broker.submit(an_order("BBB", client_order_id="hand-made"))
    assert desk.reconciler.accept(NOW) == 0
    assert desk.reconciler.look(NOW) == ()

    assert desk.worker.settlement.settle(HALF_PAST) == ()
    assert vault.ledger.snapshot(SESSION).positions["BBB"].quantity == 10
    assert desk.reconciler.cycle(HALF_PAST) == ()


def test_a_halt_is_never_softened_by_drift(vault: Vault) -> None:
    """HALTED stays."""
    desk = Desk(vault)
    vault.control.set(TradingState.HALTED, "ann", "drill", NOW)
    desk.broker.positions = lambda: elsewhere("ZZZ", 5)
    desk.reconciler.cycle(HALF_PAST)

    assert desk.state is TradingState.HALTED


def test_an_alarm_ends_with_its_cause_but_reducing_is_ended_by_a_person_only(vault: Vault) -> None:
    """The next cycle finds the books equal."""
    desk = Desk(vault)
    positions = desk.broker.positions
    desk.broker.positions = lambda: elsewhere("ZZZ", 5)
    desk.reconciler.cycle(HALF_PAST)
    desk.broker.positions = positions
    desk.reconciler.cycle(HALF_PAST)

    assert (desk.alarms(), desk.state) == ([], TradingState.REDUCING)


@pytest.mark.parametrize("error", [TransientError("reset"), BrokerError("time-out")])
def test_a_broker_that_cannot_be_asked_is_an_alarm_and_the_cycle_fails(vault: Vault, error: Exception) -> None:
    """The job is repeated; no answer is no agreement."""
    desk = Desk(vault)
    positions = desk.broker.positions

    def deaf() -> dict[str, Position]:
        raise error

    desk.broker.positions = deaf
    with pytest.raises(type(error)):
        desk.reconciler.cycle(HALF_PAST)
    assert desk.alarms() == [("venue_silent", "")]
    desk.broker.positions = positions
    desk.reconciler.cycle(HALF_PAST)
    assert desk.alarms() == []


@pytest.mark.parametrize(("quote", "mark"), [(D(110), D(110)), (None, D(100)), (D("NaN"), D(100)), (D(0), D(100))])
def test_accepting_takes_the_brokers_book_as_ours(vault: Vault, quote: Decimal | None, mark: Decimal) -> None:
    """5 ZZZ for 500 dollars, valued at the quote, else at what was paid; results of the session stay."""
    desk = Desk(vault)
    vault.ledger.apply("d", a_fill(quantity=7, fill_id="f", fee=D(2)), SESSION)
    desk.broker.positions = lambda: elsewhere("ZZZ", 5)
    desk.broker.account = lambda: Account(D("99500.25"), D(100_000))
    desk.broker.quote = lambda symbol, as_of: Quote(symbol, quote, as_of, "test") if quote is not None else None
    assert len(desk.reconciler.cycle(HALF_PAST)) == 3  # AAA, ZZZ, cash
    assert desk.reconciler.accept(HALF_PAST) == D("2.25")  # cash 99,298 + 700 at cost before, 99,500.25 + 500 after
    book = vault.ledger.snapshot(SESSION)

    assert (book.positions, book.cash, book.marks) == (elsewhere("ZZZ", 5), D("99500.25"), {"ZZZ": mark})
    assert (book.realised_session, book.equity) == (D(-2), D("99500.25") + 5 * mark)
    assert desk.reconciler.look(HALF_PAST) == ()
    assert desk.alarms() == []


def test_a_position_that_was_adopted_can_be_closed(vault: Vault) -> None:
    """Its fills find the row they were computed from."""
    active(vault).ledger.adopt(Statement(D(99_000), elsewhere("AAA", 10), {"AAA": D(100)}), SESSION)
    vault.ledger.apply("d", a_fill(quantity=10, fill_id="f"), SESSION)
    book = vault.ledger.snapshot(SESSION)

    assert (book.positions["AAA"].quantity, book.cash) == (20, D(98_000))


# ---- alarms ------------------------------------------------------------------------------------------

ALARM = Alarm("book_drift", "AAA", "we have 1, they have 2", NOW)


def test_an_alarm_is_told_once_while_it_is_open(vault: Vault) -> None:
    """One stream entry; a repetition renews the words; another subject is another alarm."""
    for detail in ("first", "second"):
        vault.alarms.sound(replace(ALARM, detail=detail))
    vault.alarms.sound(replace(ALARM, subject=""))

    assert [(a.name, a.detail) for a in vault.alarms.open()] == [
        ("book_drift", ALARM.detail),
        ("book_drift:AAA", "second"),
    ]
    assert told(vault) == [("book_drift", "AAA", "first"), ("book_drift", "", ALARM.detail)]
    vault.holds(**{"open-alarms": ..., "alarms": ...})


def test_an_alarm_that_came_back_is_told_again(vault: Vault) -> None:
    """Closed only for the subjects that are quiet."""
    for subject in ("AAA", "BBB"):
        vault.alarms.sound(replace(ALARM, subject=subject))
    vault.alarms.quiet("other", NOW)
    vault.alarms.quiet("book_drift", NOW, still=["BBB"])
    assert [alarm.subject for alarm in vault.alarms.open()] == ["BBB"]
    vault.alarms.sound(ALARM)

    assert [subject for _, subject, _ in told(vault)] == ["AAA", "BBB", "AAA"]


def told(vault: Vault) -> Sequence[tuple[str, str, str]]:
    """Every alarm that was raised, oldest first."""
    if isinstance(vault.alarms, MemoryAlarms):
        return [(alarm.code, alarm.subject, alarm.detail) for alarm in vault.alarms.told]
    rows = [row for row in reversed(vault.alarms.history(100)) if row["event"] == "raised"]
    return [(row["code"], row["subject"], row["detail"]) for row in rows]


def test_an_alarm_is_one_log_line_with_a_stable_code(redis_client: redis.Redis) -> None:
    """By whoever raised it first; the others stay silent."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            RedisAlarms(redis_client, KEYS).sound(ALARM)

    found: list[Any] = [(line["event"], line["log_level"], line["code"], line["subject"]) for line in lines]
    assert found == [("alarm.raised", "error", "book_drift", "AAA")]


def test_a_short_position_drifts_like_a_long_one(vault: Vault) -> None:
    """Mirror image."""
    desk = Desk(vault)
    desk.worker.decide(direction=Direction.SHORT)
    desk.worker.settlement.settle(HALF_PAST)
    assert desk.reconciler.cycle(HALF_PAST) == ()
    desk.broker.positions = dict

    drifts = desk.reconciler.cycle(HALF_PAST)
    assert [(drift.subject, drift.ours, drift.theirs) for drift in drifts] == [("AAA", "-100 shares", "0 shares")]


# ---- closing orders ----------------------------------------------------------------------------------


def test_a_closing_order_that_outlives_its_session_is_an_alarm_until_it_is_done(vault: Vault) -> None:
    """The symbol does not trade any more: a position without exits must be seen on the first evening, at 20:00."""
    desk = Desk(vault).bought()
    (closed,) = desk.worker.executor.flatten(at("16:00"), "drill")  # after the last bar
    assert closed.report is not None
    assert closed.report.status is OrderStatus.ACCEPTED
    desk.reconciler.cycle(at("19:59"))
    assert desk.alarms() == []
    desk.reconciler.cycle(at("20:00"))
    assert desk.alarms() == [("close_waiting", closed.client_order_id)]
    desk.reconciler.cycle(at("15:00", 4))

    (alarm,) = vault.alarms.open()
    assert (alarm.code, alarm.subject) == ("close_waiting", closed.client_order_id)
    assert alarm.detail == "100 AAA are not closed since 2014-06-02"
    desk.broker.cancel(closed.client_order_id, at("15:00", 4))
    desk.reconciler.cycle(at("15:00", 4))
    assert desk.alarms() == []


def test_an_entry_that_waits_is_no_such_alarm(vault: Vault) -> None:
    """It ends with its session by itself."""
    desk = Desk(vault)
    desk.worker.decide()
    desk.broker.updates = lambda *_: ()
    desk.reconciler.cycle(at("20:00"))

    assert [code for code, _ in desk.alarms() if code == "close_waiting"] == []

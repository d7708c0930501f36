"""Executor and settlement against a venue that lies, over memory and the real server: one order per id, ever."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from config.venue import BreakerSettings
from pipeline.errors import BrokerError, TransientError
from pipeline.executor import ExecutorSettings, TradeExecutor
from pipeline.models import Direction, ExecutionResult, Outcome, Reservation, TradingState
from pipeline.risk import RiskManager, RiskSettings
from tests.contracts.conftest import KEYS, Vault
from tests.money import NOW, SESSION, D, FakeMarket, WeekdaySessions, a_recommendation, a_signal, an_open_gate, at
from tests.venue import FOR_EVER_S, KINDS, SILENT, LyingVenue, RandomToxics, Toxic, VenueBook
from tests.warm import until
from workers.adapters.breaker_memory import MemoryBreaker
from workers.adapters.breaker_redis import RedisBreaker
from workers.adapters.broker_guarded import GuardedBroker
from workers.adapters.broker_http import HttpBroker
from workers.adapters.http_bounded import BoundedHttp
from workers.protection import Protection
from workers.settlement import Settlement

#: What the decision's end is after each toxic met its POST and the venue then told the truth.
ENDS = {
    "none": Outcome.EXECUTED,
    "delay": Outcome.EXECUTED,
    "late": Outcome.EXECUTED,
    "accept_hang": Outcome.EXECUTED,
    "accept_504": Outcome.EXECUTED,
    "accept_429": Outcome.EXECUTED,
    "accept_422": Outcome.EXECUTED,
    "half_closed": Outcome.EXECUTED,
    "reset": Outcome.EXECUTED,
    "garbage": Outcome.EXECUTED,
    "wrong_shape": Outcome.EXECUTED,
    "other_order": Outcome.EXECUTED,
    "float_money": Outcome.EXECUTED,
    "drip": Outcome.EXECUTED,
    "drip_head": Outcome.EXECUTED,
    "huge": Outcome.EXECUTED,
    "same_page": Outcome.EXECUTED,
    "lost_page": Outcome.EXECUTED,
    "no_stop": Outcome.EXECUTED,
    "refuse": Outcome.BROKER_REJECTED,
    "hang": Outcome.UNFILLED,
    "refuse_504": Outcome.UNFILLED,
    "rate_limit": Outcome.UNFILLED,
    "deny_422": Outcome.UNFILLED,
    "close": Outcome.UNFILLED,
    "redirect": Outcome.UNFILLED,
    "plain_404": Outcome.UNFILLED,
    "partial": None,
    "rest": None,
}
DEFINITE = {"none", "delay", "accept_422", "refuse", "partial", "rest", "no_stop", "same_page", "lost_page"}


class Desk:
    """The whole money side before a venue that would take an id twice: no double order is our merit."""

    def __init__(self, vault: Vault, breaker: BreakerSettings, limits: RiskSettings, *, hasty: bool = False) -> None:
        self.vault = vault
        self.direction = Direction.LONG
        self.venue = LyingVenue(book=VenueBook(remembers_ids=False))
        vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
        sessions, market = WeekdaySessions(), FakeMarket({f"S{n}": D(100) for n in range(30)} | {"AAA": D(100)})
        self.breaker = (
            MemoryBreaker(breaker, lambda: 0.0) if vault.client is None else RedisBreaker(vault.client, KEYS, breaker)
        )
        http = BoundedHttp(self.venue.settings(hasty=hasty))
        self.broker = GuardedBroker(HttpBroker(http), self.breaker)
        self.risk = RiskManager(vault.ledger, sessions, market, vault.control, limits)
        self.executor = TradeExecutor(
            self.broker, vault.intents, vault.ledger, sessions, ExecutorSettings(), "paper", breaker=self.breaker
        )
        self.settlement = Settlement(
            self.broker, vault.intents, vault.ledger, sessions, market, self.risk, vault.alarms
        )
        self.protection = Protection(vault.intents, self.executor, vault.alarms, timedelta(seconds=15))

    def trade(self, symbol: str = "AAA", times: int = 1) -> ExecutionResult:
        """Decide and execute; `times` as often, as a job that is delivered again does."""
        recommendation = a_recommendation(a_signal(symbol, self.direction))
        reservation = self.risk.check(recommendation, NOW)
        assert isinstance(reservation, Reservation), reservation
        results = [self.executor.execute(recommendation, reservation, an_open_gate(), NOW) for _ in range(times)]
        return results[-1]

    def close(self, decision_id: str) -> ExecutionResult:
        """Decide against what is held of AAA."""
        recommendation = a_recommendation(a_signal("AAA", Direction.SHORT, decision_id=decision_id))
        reservation = self.risk.check(recommendation, NOW)
        assert isinstance(reservation, Reservation), reservation
        assert reservation.reduce_only
        return self.executor.execute(recommendation, reservation, an_open_gate(), NOW)

    def settle(self, clock: str = "15:05") -> dict[str, Outcome]:
        """What became definite, acknowledged; a venue that fails meanwhile is asked again."""
        for _ in range(60):
            try:
                settled = self.settlement.settle(at(clock))
            except (BrokerError, TransientError):
                continue
            self.settlement.acknowledge([one.decision_id for one in settled])
            return {one.decision_id: one.outcome for one in settled}
        raise AssertionError("the venue never answered")

    def ours(self) -> dict[str, int]:
        """Our own positions."""
        return {symbol: p.quantity for symbol, p in self.vault.ledger.snapshot(SESSION).positions.items()}


@pytest.fixture
def desk(vault: Vault) -> Iterator[Desk]:
    """A desk and its running venue."""
    made = Desk(vault, BreakerSettings(), RiskSettings())
    with made.venue:
        yield made


def test_every_toxic_has_an_expected_end() -> None:
    """A new lie of the venue must not go untested."""
    assert ENDS.keys() == KINDS.keys()


@pytest.mark.parametrize(("kind", "end"), ENDS.items())
def test_each_lie_ends_in_the_truth_and_in_one_order(vault: Vault, kind: str, end: Outcome | None) -> None:
    """Delivered three times, sent once; unknown until a look-up tells; in the evening the end is what the book says."""
    desk = Desk(vault, BreakerSettings(), RiskSettings(), hasty=kind in SILENT)
    with desk.venue:
        told(desk, kind, end)


def told(desk: Desk, kind: str, end: Outcome | None) -> None:
    """What the desk makes of the lie."""
    seconds = {"drip": 0.1, "drip_head": 0.1, "delay": 0.05, "late": 3}
    desk.venue.poison(Toxic(kind, seconds=seconds.get(kind, FOR_EVER_S), quantity=4))
    first = desk.trade(times=1)
    desk.trade(times=2)
    until(lambda: kind != "late" or desk.venue.book().made)
    soon = desk.settle()
    late = desk.settle("20:00")
    book, name = desk.venue.book(), first.client_order_id

    assert first.unknown is (kind not in DEFINITE)
    assert book.asked == {name: 1}
    assert book.doubled == {}
    assert (soon | late).get("d-AAA") is end
    if end is Outcome.UNFILLED:  # known only when the order's time is over: it might still have arrived
        assert soon == {}
    assert desk.ours() == book.positions


def test_a_closing_order_that_got_lost_frees_its_symbol_after_three_minutes(desk: Desk) -> None:
    """It could live for ten sessions, but it can only reduce: lost at 15:03, not at 15:02; the next one closes."""
    desk.trade()
    desk.settle("15:00")
    held = desk.ours()
    desk.venue.poison(Toxic("close"))
    assert desk.close("d-1").unknown

    assert (desk.settle("15:02"), desk.ours()) == ({}, held)
    assert (desk.settle("15:03"), desk.ours()) == ({"d-1": Outcome.UNFILLED}, held)
    desk.close("d-2")
    assert (desk.settle("15:04"), desk.ours(), desk.venue.book().positions) == ({"d-2": Outcome.EXECUTED}, {}, {})


def test_a_partial_fill_is_ours_to_the_share(desk: Desk) -> None:
    """4 shares at once, the rest later, the stop after that: the books agree at each step."""
    desk.venue.poison(Toxic("partial", quantity=4))
    result = desk.trade()
    desk.settle()
    assert desk.ours() == desk.venue.book().positions == {"AAA": 4}
    desk.venue.venue.fill(result.client_order_id, 1_000, at=at("15:10").isoformat())
    assert desk.settle("15:15") == {"d-AAA": Outcome.EXECUTED}
    assert desk.ours() == desk.venue.book().positions
    desk.venue.venue.move("AAA", "97.9", at("15:20").isoformat())
    desk.settle("15:30")

    assert desk.ours() == desk.venue.book().positions == {}


def test_the_fifth_failure_holds_entries_back_and_exits_still_go(desk: Desk) -> None:
    """Four 504s and a position: still sent; after the fifth an entry is refused before anything is written."""
    desk.trade("S0")
    desk.settle()
    desk.venue.poison(*[Toxic("refuse_504")] * 5)
    for n in range(1, 6):
        assert desk.trade(f"S{n}").unknown
    asked = sum(desk.venue.book().asked.values())
    refused = desk.trade("S6")

    assert asked == 6
    assert refused.refusal is not None
    assert (refused.refusal.rule, refused.report, refused.unknown) == ("breaker_open", None, False)
    assert desk.vault.intents.get(refused.client_order_id) is None
    assert sum(desk.venue.book().asked.values()) == 6
    closed = [result for result in desk.executor.flatten(NOW, "the venue is sick") if result.report is not None]
    assert [(r.symbol, r.report.status.value) for r in closed if r.report] == [("S0", "filled")]
    assert desk.venue.book().positions == {}


def test_a_refused_entry_gives_its_risk_back(desk: Desk) -> None:
    """Held back is no order: neither exposure nor rates remember it."""
    for _ in range(5):
        desk.breaker.failed()
    desk.trade()

    assert desk.vault.ledger.snapshot(SESSION).reserved == {}
    assert desk.venue.requests == []


def test_a_venue_whose_breaker_cannot_be_asked_gets_no_entry(desk: Desk) -> None:
    """Fail closed: nothing sent, and decided again when it can be asked."""

    def lost() -> Any:
        raise TransientError("no answer")

    desk.executor._breaker = type("Lost", (), {"permit": staticmethod(lost)})()
    with pytest.raises(TransientError):
        desk.trade()

    assert desk.venue.requests == []


@pytest.mark.parametrize("seed", range(3))
def test_under_a_storm_of_lies_both_books_end_equal(vault: Vault, seed: int) -> None:
    """30 entries, each delivered twice, half of all requests poisoned: no double order, no lost one."""
    desk = Desk(vault, BreakerSettings(failures=1000), RiskSettings(max_order_usd=D(1_000), max_open_positions=40))
    kinds = tuple(kind for kind in KINDS if kind not in ("late", "drip", "drip_head", "huge"))
    desk.venue.set_random(RandomToxics(seed, share=0.5, kinds=kinds, max_seconds=0.3))
    ends: dict[str, Outcome] = {}
    with desk.venue:
        for n in range(30):
            desk.trade(f"S{n}", times=2)
            if n % 5 == 4:
                ends |= desk.settle()
        desk.venue.heal()
        ends |= desk.settle() | desk.settle("20:00")
        book = desk.venue.book()
    filled = [order for order in book.orders.values() if order["status"] == "filled"]

    assert book.doubled == {}
    assert set(book.asked.values()) == {1}
    assert desk.ours() == book.positions
    assert sum(end is Outcome.EXECUTED for end in ends.values()) == len(filled) > 5

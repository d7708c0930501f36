"""A server that came back with an older file: what the venue has is found again by its names, each once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.errors import BrokerError, SymbolBusyError, TransientError
from pipeline.executor import ExecutorSettings, TradeExecutor, client_order_id
from pipeline.models import BracketOrder, ExecutionResult, Outcome, Reservation, Side, TradingState
from pipeline.ports import Execution
from pipeline.risk import RiskManager, RiskSettings
from tests.contracts.conftest import CASH, KEYS, Vault
from tests.money import NOW, SESSION, D, FakeMarket, WeekdaySessions, a_recommendation, a_signal, an_open_gate, at
from tests.money import an_order as a_plain_order
from tests.venue import KINDS, LyingVenue, RandomToxics, Toxic, VenueBook
from workers.adapters.alarms import RedisAlarms
from workers.adapters.broker_http import HttpBroker
from workers.adapters.control_redis import RedisControl
from workers.adapters.http_bounded import BoundedHttp
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.paper_redis import RedisPaperStore
from workers.adapters.truth import MemoryTruth
from workers.drift import PROOFS, Drift
from workers.endings import settle_orders
from workers.reconcile import Reconciler
from workers.settlement import Settlement

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")


class House:
    """The money side of a fleet at a venue with two orders a page; `file` is what its server would come back with."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.raw: Any = redis.Redis.from_url(url)
        self.vault = Vault(
            RedisControl(client, KEYS),
            RedisLedger(client, KEYS, None),
            RedisIntents(client, KEYS, "event"),
            RedisPaperStore(client, KEYS, CASH),
            RedisJournal(client, KEYS),
            RedisAlarms(client, KEYS),
            client,
        )
        self.venue = LyingVenue(book=VenueBook(remembers_ids=False), page_size=2)
        self.truth = MemoryTruth(lambda: NOW, timedelta(seconds=90))
        self.vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
        self.market = market = FakeMarket(dict.fromkeys(SYMBOLS, D(100)))
        sessions = WeekdaySessions()
        self.broker = HttpBroker(BoundedHttp(self.venue.settings()))
        ledger, intents = self.vault.ledger, self.vault.intents
        limits = RiskSettings(max_order_usd=D(1_000))
        risk = RiskManager(ledger, sessions, market, self.vault.control, limits)
        self.risk, self.executor = (
            risk,
            TradeExecutor(self.broker, intents, ledger, sessions, ExecutorSettings(), "paper"),
        )
        self.settlement = Settlement(self.broker, intents, ledger, sessions, market, risk, self.vault.alarms)
        self.reconciler = Reconciler(
            self.broker,
            intents,
            ledger,
            sessions,
            self.vault.control,
            self.vault.alarms,
            self.settle,
            D(1),
            "paper",
            self.truth,
        )

    def settle(self, as_of: datetime) -> int:
        """What the settle job does."""
        return settle_orders(self.settlement, self.vault.journal, as_of)

    def trade(self, symbol: str = "AAA") -> ExecutionResult:
        """Decide an urgent leg and send its order."""
        recommendation = a_recommendation(a_signal(symbol, decision_id=f"d-{symbol}:{symbol}"))
        reservation = self.risk.check(recommendation, NOW)
        assert isinstance(reservation, Reservation), reservation
        return self.executor.execute(recommendation, reservation, an_open_gate(), NOW)

    def file(self) -> dict[bytes, tuple[bytes, int]]:
        """Every key as it stands."""
        return {key: (self.raw.dump(key), max(self.raw.pttl(key), 0)) for key in self.raw.scan_iter()}

    def comes_back_with(self, file: dict[bytes, tuple[bytes, int]]) -> None:
        """The server was started anew with an older file."""
        self.raw.flushall()
        for key, (value, ttl) in file.items():
            self.raw.restore(key, ttl, value)

    def ours(self) -> dict[str, int]:
        """Our own positions."""
        return {symbol: p.quantity for symbol, p in self.vault.ledger.snapshot(SESSION).positions.items()}

    def cash_agrees(self) -> bool:
        """To the cent."""
        return self.vault.ledger.snapshot(SESSION).cash == D(self.venue.book().cash)

    def alarms(self) -> list[tuple[str, str]]:
        """Code and subject of those that are open."""
        return [(alarm.code, alarm.subject) for alarm in self.vault.alarms.open()]

    @property
    def state(self) -> TradingState:
        """The trading state."""
        return self.vault.control.trading_state()


@pytest.fixture
def house(redis_client: redis.Redis, server_url: str) -> Iterator[House]:
    """A house whose books agree."""
    made = House(redis_client, server_url)
    with made.venue, made.raw:
        assert made.reconciler.cycle(NOW) == ()
        yield made


def test_an_order_that_was_forgotten_is_ours_again_with_its_decision(house: House) -> None:
    """Ten shares bought after the file was written: intent, position, cash and outcome are back; nothing was sent."""
    file = house.file()
    sent = house.trade()
    house.comes_back_with(file)

    assert house.reconciler.cycle(NOW) == ()
    assert (house.ours(), house.cash_agrees()) == ({"AAA": 10}, True)
    assert (house.alarms(), house.state) == ([("order_restored", sent.client_order_id)], TradingState.ACTIVE)
    assert house.vault.journal.outcome("d-AAA:AAA") is Outcome.EXECUTED
    assert house.vault.ledger.snapshot(SESSION).reserved == {}
    assert house.venue.book().asked == {sent.client_order_id: 1}
    tally = house.vault.journal.tally()  # type: ignore[union-attr]
    assert (tally["orders"], tally["legs"], tally["leg:executed"]) == (1, 1, 1)


def test_its_decision_delivered_again_looks_the_order_up(house: House) -> None:
    """The source is read again from its older mark: no second order."""
    file = house.file()
    sent = house.trade()
    house.comes_back_with(file)
    house.reconciler.cycle(NOW)
    again = house.executor.begin(a_signal(decision_id="d-AAA:AAA"))

    assert isinstance(again, ExecutionResult)
    assert (again.client_order_id, again.report is not None) == (sent.client_order_id, True)
    assert house.venue.book().asked == {sent.client_order_id: 1}


def test_an_order_that_still_waits_for_its_fill_has_its_reservation_again(house: House) -> None:
    """10 shares at 100 count as 1,000 dollars and hold the symbol, until they fill."""
    file = house.file()
    house.venue.poison(Toxic("rest"))
    sent = house.trade()
    house.comes_back_with(file)
    assert house.reconciler.cycle(NOW) == ()

    assert house.vault.ledger.snapshot(SESSION).reserved == {"AAA": D(1_000)}
    assert house.vault.journal.outcome("d-AAA:AAA") is Outcome.SUBMITTED
    with pytest.raises(SymbolBusyError):
        house.risk.check(a_recommendation(a_signal(decision_id="other:AAA")), NOW)
    house.venue.venue.fill(sent.client_order_id, 10)
    assert house.reconciler.cycle(at("15:30")) == ()
    assert house.vault.ledger.snapshot(SESSION).reserved == {}
    assert (house.ours(), house.vault.journal.outcome("d-AAA:AAA")) == ({"AAA": 10}, Outcome.EXECUTED)


def test_a_trade_that_began_and_ended_meanwhile_is_a_result_of_ours(house: House) -> None:
    """Bought at 100, stopped out at 97.9 since the last comparison: a loss of 21 dollars, and no drift."""
    file = house.file()
    house.trade()
    house.venue.venue.move("AAA", "97.9", at("15:20").isoformat())
    house.comes_back_with(file)

    assert house.reconciler.cycle(at("15:30")) == ()
    assert (house.ours(), house.cash_agrees()) == ({}, True)
    assert house.vault.ledger.snapshot(SESSION).realised_session == D(-21)
    assert house.vault.intents.open() == ()


def test_what_is_only_meant_to_be_sent_here_but_is_there_was_sent(house: House) -> None:
    """The file ends between NEW and SENT: the order is taken up, a run that comes later sends nothing."""
    recommendation = a_recommendation(a_signal(decision_id="d-AAA:AAA"))
    reservation = house.risk.check(recommendation, NOW)
    assert isinstance(reservation, Reservation)
    order = house.executor._bracket(recommendation, reservation, an_open_gate(), NOW)
    run = house.executor.begin(recommendation.signal)
    assert isinstance(run, Execution)
    house.vault.intents.create(order, run.id)
    file = house.file()
    house.executor.execute(recommendation, reservation, an_open_gate(), NOW, run.id)
    house.comes_back_with(file)
    assert house.reconciler.cycle(NOW) == ()
    late = house.executor.execute(recommendation, reservation, an_open_gate(), NOW, run.id)

    assert late.report is not None
    assert house.venue.book().asked == {order.client_order_id: 1}
    assert house.ours() == {"AAA": 10}


def test_every_page_is_taken_up(house: House) -> None:
    """Five orders, two a page."""
    file = house.file()
    for symbol in SYMBOLS:
        house.trade(symbol)
    house.comes_back_with(file)

    assert house.reconciler.cycle(NOW) == ()
    assert house.ours() == dict.fromkeys(SYMBOLS, 10)


def test_an_order_on_a_page_that_was_kept_back_is_taken_up_in_the_next_cycle(house: House) -> None:
    """A venue that leaves out half its orders makes positions nobody can explain: drift, until it tells them."""
    file = house.file()
    for symbol in SYMBOLS:
        house.trade(symbol)
    house.comes_back_with(file)
    lost, none = Toxic("lost_page", method="GET"), Toxic("none", method="GET")
    for _ in range(PROOFS):
        house.venue.poison(lost, none, none, none, lost, none)  # orders, positions, settlement, cash; orders, positions
    drifts = house.reconciler.cycle(NOW)
    assert [drift.subject for drift in drifts] == ["CCC", "DDD", "EEE", "cash"]
    assert house.state is TradingState.REDUCING

    assert house.reconciler.cycle(NOW) == ()
    assert house.ours() == dict.fromkeys(SYMBOLS, 10)


def test_a_page_that_was_kept_back_once_is_no_drift(house: House) -> None:
    """The second listing of the look tells another story, so the look proves nothing; the next one finds them all."""
    file = house.file()
    for symbol in SYMBOLS:
        house.trade(symbol)
    house.comes_back_with(file)
    house.venue.poison(Toxic("lost_page", method="GET"))

    assert house.reconciler.cycle(NOW) == ()
    assert house.ours() == dict.fromkeys(SYMBOLS, 10)
    assert house.state is TradingState.ACTIVE


@pytest.mark.parametrize("seed", range(3))
def test_under_a_storm_of_lies_all_of_it_is_found_and_nothing_doubled(house: House, seed: int) -> None:
    """Half of all questions are answered wrongly; what is answered in the end is the truth, booked once."""
    file = house.file()
    for symbol in SYMBOLS:
        house.trade(symbol)
    house.comes_back_with(file)
    kinds = tuple(kind for kind in KINDS if kind not in ("late", "drip", "drip_head", "huge", "hang", "accept_hang"))
    house.venue.set_random(RandomToxics(seed, share=0.5, kinds=kinds, max_seconds=0.1))
    for _ in range(20):
        try:
            house.reconciler.cycle(NOW)
        except (BrokerError, TransientError):
            continue
    house.venue.heal()

    assert house.reconciler.cycle(NOW) == ()
    assert (house.ours(), house.cash_agrees()) == (dict.fromkeys(SYMBOLS, 10), True)
    assert set(house.venue.book().asked.values()) == {1}


@pytest.mark.parametrize("kind", ["accept_504", "garbage", "same_page", "reset"])
def test_a_listing_that_is_no_answer_ends_the_cycle_and_trusts_nothing(house: House, kind: str) -> None:
    """Silence is an alarm; the comparison does not count."""
    house.trade()
    house.truth.distrust()
    house.venue.poison(*[Toxic(kind, method="GET")] * 9)
    with pytest.raises(BrokerError):
        house.reconciler.cycle(NOW)
    assert house.alarms() == [("venue_silent", "")]
    assert house.truth.untrusted() == "not since the start"

    house.venue.heal()
    house.reconciler.cycle(NOW)
    assert (house.alarms(), house.truth.untrusted()) == ([], None)


def test_a_closing_order_that_seemed_lost_and_arrives_late_is_followed_again(house: House) -> None:
    """Given up after minutes, it reaches the venue: its fill is ours, whatever its decision was told before."""
    house.trade()
    house.settle(NOW)
    house.venue.poison(Toxic("close"))
    (lost,) = house.executor.flatten(NOW, "drill")
    assert lost.unknown
    house.settle(at("15:30"))
    intent = house.vault.intents.get(lost.client_order_id)
    assert intent is not None
    assert (intent.state, intent.report and intent.report.reason) == ("DONE", "never_arrived")
    assert house.reconciler.cycle(at("15:30")) == ()
    house.broker.submit(intent.order)

    assert house.reconciler.cycle(at("15:31")) == ()
    assert (house.ours(), house.cash_agrees()) == ({}, True)
    assert ("order_restored", lost.client_order_id) in house.alarms()


def test_an_order_that_ended_between_two_readings_stays_ended(house: House) -> None:
    """The listing is older than the end: asked by its name, the venue says so too, and nothing is taken up."""
    house.venue.poison(Toxic("rest"))
    house.trade()
    old = house.broker.orders(None)
    house.executor.flatten(NOW, "drill")
    house.settle(NOW)
    house.broker.orders = lambda _since: old  # type: ignore[assignment, method-assign]

    assert house.reconciler.cycle(NOW) == ()
    assert (house.vault.intents.open(), house.alarms()) == ((), [])


# ---- strangers -----------------------------------------------------------------------------------------


def of_another_fleet() -> BracketOrder:
    """A bracket in our manner, named by the environment `other`."""
    name = client_order_id("other", "d-ZZZ:AAA", "AAA", Side.BUY, "entry")
    return a_plain_order("AAA", decision_id="d-ZZZ:AAA", client_order_id=name)


@pytest.mark.parametrize("order", [of_another_fleet(), a_plain_order("AAA", client_order_id="hand-made")])
def test_a_name_that_is_not_ours_is_a_strangers_and_stays_untouched(house: House, order: BracketOrder) -> None:
    """Looking like ours is not enough: drift, REDUCING, an alarm, no intent, and no withdrawal even by `flatten`."""
    house.venue.poison(Toxic("rest"))
    house.broker.submit(order)

    drift = Drift(order.client_order_id, "no such order", "a working order in AAA")
    assert house.reconciler.cycle(NOW) == (drift,)
    assert (house.alarms(), house.state) == ([("book_drift", order.client_order_id)], TradingState.REDUCING)
    assert house.executor.flatten(NOW, "drill") == []
    assert house.venue.book().orders[order.client_order_id]["status"] == "accepted"
    assert "DELETE" not in {method for method, _, _ in house.venue.requests}


def test_facts_that_were_changed_under_our_name_are_a_strangers(house: House) -> None:
    """The name is made of decision, symbol and side: another side has another name."""
    file = house.file()
    sent = house.trade()
    house.comes_back_with(file)
    order = house.venue.venue._by_id[sent.client_order_id]
    order.body = order.body | {"decision_id": "d-BBB:AAA"}

    assert [drift.subject for drift in house.reconciler.cycle(NOW)] == ["AAA", "cash", sent.client_order_id]
    assert house.vault.intents.get(sent.client_order_id) is None


def test_an_order_that_is_no_bracket_cannot_be_accepted(house: House) -> None:
    """Nobody knows its facts: it stays drift until it ends or is withdrawn at the venue."""
    house.venue.poison(Toxic("rest"))
    house.broker.submit(replace(a_plain_order("AAA"), client_order_id="by-hand"))
    house.venue.venue._by_id["by-hand"].body.pop("tick")
    house.reconciler.accept(NOW)

    assert [drift.subject for drift in house.reconciler.look(NOW)] == ["by-hand"]


# ---- the first look ------------------------------------------------------------------------------------


def test_on_an_empty_server_the_book_begins_with_what_the_venue_has(house: House) -> None:
    """Ten shares bought at 100, now 103, and 99,000 dollars: 100,030 of equity, not the simulation's 100,000."""
    sent = house.trade()
    house.venue.venue.move("AAA", "103", NOW.isoformat())
    house.market.prices["AAA"] = D(103)
    house.raw.flushall()
    house.vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)

    assert house.reconciler.cycle(NOW) == ()
    book = house.vault.ledger.snapshot(SESSION)
    assert (book.cash, book.equity, book.start_equity_session) == (D(99_000), D(100_030), D(100_030))
    assert (book.positions["AAA"].quantity, book.positions["AAA"].cost) == (10, D(1_000))
    assert (book.realised_session, book.worst_session) == (D(0), D(0))
    house.settle(at("15:30"))
    assert (house.ours(), house.cash_agrees()) == ({"AAA": 10}, True)
    house.venue.venue.move("AAA", "104", at("15:40").isoformat())
    house.settle(at("15:45"))
    assert (house.ours(), house.cash_agrees()) == ({}, True)
    assert house.vault.ledger.snapshot(SESSION).realised_session == D(40)
    intent = house.vault.intents.get(sent.client_order_id)
    assert intent is not None
    assert intent.state == "DONE"


def test_until_then_entries_are_refused_by_name(house: House) -> None:
    """No equity, no size; nothing is written."""
    house.raw.flushall()
    house.vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
    refusal = house.risk.check(a_recommendation(), NOW)

    assert not isinstance(refusal, Reservation)
    assert (refusal.rule, refusal.observed) == ("account_unknown", "no account")
    assert house.raw.exists("test:account") == 0


def test_a_venue_that_moves_in_every_reading_opens_no_book(house: House) -> None:
    """Positions and orders of different moments would count a fill twice or never."""
    house.raw.flushall()
    listing = house.broker.orders
    reports = iter(range(10**6))

    def restless(since: datetime | None) -> Any:
        house.venue.poison(Toxic("none"))
        house.broker.submit(a_plain_order("AAA", client_order_id=f"by-hand-{next(reports)}"))
        return listing(since)

    house.broker.orders = restless  # type: ignore[assignment, method-assign]
    with pytest.raises(BrokerError, match="changed in each of 3 readings"):
        house.reconciler.cycle(NOW)

    assert house.raw.exists("test:account") == 0

"""The paper venue: many processes, one account; the same in memory and on the real server."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from config.paper import PaperSettings
from pipeline.models import Bars, BracketOrder, FillRole, OrderStatus, Position, Side
from tests.contracts.conftest import CASH, KEYS, Vault
from tests.money import NOW, D, FakeMarket, WeekdaySessions, an_order, at, some_bars
from workers.adapters.paper import PaperBroker
from workers.adapters.paper_redis import RedisPaperStore

QUIET = (100.0, 100.5, 99.5, 100.0)
UP = (100.0, 105.0, 99.5, 104.5)
Prices = tuple[float, float, float, float]


def half_hours(symbol: str, *bars: Prices) -> Bars:
    """Bars of 15:00-15:30, 15:30-16:00 and so on."""
    clocks = ("15:00", "15:30", "16:00", "16:30", "17:00")
    spans = zip(clocks, clocks[1:], bars, strict=False)
    return some_bars(symbol, *((at(start), at(end), *prices) for start, end, prices in spans))


def a_broker(vault: Vault, *bars: Prices, settings: PaperSettings | None = None) -> PaperBroker:
    """The venue over this vault; AAA has these half-hour bars."""
    market = FakeMarket({"AAA": D(100)}, {"AAA": half_hours("AAA", *bars)})
    return PaperBroker(vault.paper, market, market, WeekdaySessions(), settings or PaperSettings())


def a_close(quantity: int = 10, **facts: Any) -> BracketOrder:
    """Sells what was bought, at 15:30."""
    order = an_order(side=Side.SELL, quantity=quantity, reduce_only=True, submitted_at=at("15:30"))
    return replace(order, client_order_id="close", **facts)


def test_a_submitted_order_works_until_there_is_a_price(vault: Vault) -> None:
    """Nothing else is written."""
    report = a_broker(vault).submit(an_order())

    assert (report.status, report.fills, report.closed) == (OrderStatus.ACCEPTED, (), False)
    vault.holds(**{"paper:order:o-AAA": ..., "paper:open": {"o-AAA"}, "paper:account": {"cash_micro": "100000000000"}})
    assert set(vault.lives("paper:order:o-AAA").values()) <= {-1}


def test_a_repeated_name_answers_the_order_that_is_there(vault: Vault) -> None:
    """Whatever the second order says."""
    broker = a_broker(vault, QUIET)
    broker.submit(an_order())
    broker.updates(at("15:30"), ["o-AAA"])

    assert broker.submit(an_order(quantity=99)).filled_quantity == 10


def test_an_unknown_name_is_none(vault: Vault) -> None:
    """It never heard of it."""
    broker = a_broker(vault)

    assert (broker.order("nobody"), broker.cancel("nobody", NOW), broker.updates(NOW, ["nobody"])) == (None, None, ())
    vault.holds()


def test_an_entry_moves_cash_and_position_together(vault: Vault) -> None:
    """10 at 100 x 1.0005 = 1,000.50; equity at the bar's close of 100: 98,999.50 + 1,000."""
    broker = a_broker(vault, QUIET)
    broker.submit(an_order())
    (report,) = broker.updates(at("15:30"), ["o-AAA"])

    assert (report.status, report.filled_quantity, report.stop, report.target) == (
        OrderStatus.FILLED,
        10,
        D("98.05"),
        D("104.05"),
    )
    assert broker.positions() == {"AAA": Position("AAA", 10, D("1000.5"), at("15:00"))}
    assert (broker.account().cash, broker.account().equity) == (D("98999.5"), D("99999.5"))
    vault.holds(
        **{
            "paper:order:o-AAA": ...,
            "paper:open": {"o-AAA"},
            "paper:account": {"cash_micro": "98999500000"},
            "paper:positions": {
                "AAA": '{"v":1,"symbol":"AAA","quantity":10,"cost":"1000.500000",'
                '"opened_at":"2014-06-02T15:00:00+00:00"}'
            },
            "paper:marks": {"AAA": "100000000"},
        }
    )


def test_an_exit_leaves_only_cash_and_the_closed_order(vault: Vault) -> None:
    """Bought at 100.05, target 104.05: 40 dollars gained, all in one look."""
    broker = a_broker(vault, QUIET, UP)
    broker.submit(an_order())
    (report,) = broker.updates(at("16:00"), ["o-AAA"])

    assert [fill.role for fill in report.fills] == [FillRole.ENTRY, FillRole.TARGET]
    assert (report.closed, broker.positions(), broker.account().equity) == (True, {}, D(100_040))
    vault.holds(**{"paper:order:o-AAA": ..., "paper:account": {"cash_micro": "100040000000"}})
    assert all(0 < left <= 7 * 86_400 for left in vault.lives("paper:order:o-AAA").values())


def test_looking_often_or_once_is_the_same_life(vault: Vault) -> None:
    """Every bar is lived through once."""
    broker = a_broker(vault, QUIET, QUIET, UP)
    broker.submit(an_order())
    for clock in ("15:10", "15:30", "15:30", "15:45", "16:00", "16:30", "16:30"):
        broker.updates(at(clock), ["o-AAA"])

    assert broker.account().cash == D(100_040)


def test_an_earlier_moment_changes_nothing(vault: Vault) -> None:
    """Time does not run backwards."""
    broker = a_broker(vault, QUIET)
    broker.submit(an_order())
    (later,) = broker.updates(at("15:30"), ["o-AAA"])

    assert broker.updates(at("14:00"), ["o-AAA"]) == (later,)


def test_a_cancelled_entry_never_fills(vault: Vault) -> None:
    """Cancelled before its bar was complete."""
    broker = a_broker(vault, QUIET)
    broker.submit(an_order())
    report = broker.cancel("o-AAA", at("15:10"))

    assert report is not None
    assert (report.status, report.closed) == (OrderStatus.CANCELLED, True)
    assert broker.updates(at("16:00"), ["o-AAA"]) == (report,)
    vault.holds(**{"paper:order:o-AAA": ..., "paper:account": {"cash_micro": "100000000000"}})


def test_a_cancel_lives_through_the_time_before_it(vault: Vault) -> None:
    """The entry had filled by then: it keeps its position and loses its exits."""
    broker = a_broker(vault, QUIET, UP)
    broker.submit(an_order())
    report = broker.cancel("o-AAA", at("15:30"))
    broker.updates(at("16:00"), ["o-AAA"])

    assert report is not None
    assert (report.status, report.closed, len(report.fills)) == (OrderStatus.FILLED, True, 1)
    assert broker.positions()["AAA"].quantity == 10


def test_a_closing_order_withdraws_the_old_exits_first(vault: Vault) -> None:
    """The bar of 15:30 holds the old target; only the close at its open, 100 x 0.9995, fills."""
    broker = a_broker(vault, QUIET, UP)
    broker.submit(an_order())
    broker.submit(a_close())
    old, new = broker.updates(at("16:00"), ["o-AAA", "close"])

    assert (len(old.fills), old.closed) == (1, True)
    assert [(fill.role, fill.price, fill.at) for fill in new.fills] == [(FillRole.CLOSE, D("99.95"), at("15:30"))]
    assert (broker.positions(), broker.account().cash) == ({}, D(99_999))  # -1,000.50 + 999.50
    vault.holds(**{"paper:order:o-AAA": ..., "paper:order:close": ..., "paper:account": {"cash_micro": "99999000000"}})


@pytest.mark.parametrize("quantity", [10, 11])
def test_a_closing_order_may_never_open_anything(vault: Vault, quantity: int) -> None:
    """More than is held, or the other side of nothing: rejected."""
    broker = a_broker(vault, QUIET)
    if quantity == 11:
        broker.submit(an_order())
    report = broker.submit(a_close(quantity))

    assert (report.status, report.reason) == (OrderStatus.REJECTED, "reduce_only")


def test_a_short_that_cannot_be_borrowed_is_rejected(vault: Vault) -> None:
    """A definite no, kept for whoever asks again."""
    broker = a_broker(vault, settings=PaperSettings(hard_to_borrow=frozenset({"AAA"})))
    report = broker.submit(an_order(side=Side.SELL))

    assert (report.status, report.reason, broker.order("o-AAA")) == (OrderStatus.REJECTED, "hard_to_borrow", report)
    vault.holds(**{"paper:order:o-AAA": ..., "paper:account": {"cash_micro": "100000000000"}})


def test_the_venue_knows_its_prices_and_hours(vault: Vault) -> None:
    """Quote and clock are the market's."""
    broker = a_broker(vault)
    quote = broker.quote("AAA", NOW)

    assert quote is not None
    assert quote.price == D(100)
    assert (broker.clock(NOW), broker.clock(at("20:00"))) == (True, False)


def test_eight_workers_living_through_the_same_orders_fill_each_once(
    redis_client: redis.Redis, server_url: str
) -> None:
    """20 brackets of 10 shares on one symbol: entry 1,000.50, target 1,040.50 each; 20 x 40 = 800 gained."""
    names = [f"o-{n}" for n in range(20)]
    market = FakeMarket({}, {"AAA": half_hours("AAA", QUIET, UP)})

    def work(worker: int) -> None:
        mine = random.Random(worker).sample(names, k=len(names))
        with redis.Redis.from_url(server_url, decode_responses=True) as client:
            store = RedisPaperStore(client, KEYS, CASH)
            broker = PaperBroker(store, market, market, WeekdaySessions(), PaperSettings())
            for name in mine:
                broker.submit(an_order(client_order_id=name))
            broker.updates(at("15:30"), mine)
            broker.updates(at("16:00"), mine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    store = RedisPaperStore(redis_client, KEYS, CASH)

    assert (store.cash(), store.holdings(), store.working()) == (D(100_800), {}, ())

"""The ledger: one atomic step per act, the same in memory and on the real server."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from pipeline.errors import SymbolBusyError
from pipeline.models import Refusal, Reservation, Session, Side
from tests.contracts.conftest import CASH, KEYS, Vault
from tests.money import NOW, SESSION, D, WeekdaySessions, a_fill, a_request, a_signal, at
from workers.adapters.keys import to_ms
from workers.adapters.ledger_redis import RedisLedger

DAY, WEEK = "risk:2014-06-02", "risk:2014-W23"
MS = to_ms(NOW)


def results(start: int = 100_000, realised: int = 0, worst: int = 0) -> dict[str, str]:
    """A session's or week's hash, from dollars."""
    amounts = {"start_equity_micro": start, "realised_micro": realised, "worst_micro": worst}
    return {name: str(dollars * 1_000_000) for name, dollars in amounts.items()}


def account(dollars: int = 100_000, **extra: str) -> dict[str, str]:
    """The account's hash, from dollars."""
    return {"cash_micro": str(dollars * 1_000_000), **extra}


def refused(answer: Reservation | Refusal) -> tuple[str, str, str] | None:
    """Rule, observed value and limit of a refusal."""
    return (answer.rule, answer.observed, answer.limit) if isinstance(answer, Refusal) else None


def buy(vault: Vault, symbol: str = "AAA", quantity: int = 10, price: str = "100", **facts: Any) -> bool:
    """Book a purchase; ten shares of AAA at 100."""
    return trade(vault, Side.BUY, symbol, quantity, price, **facts)


def sell(vault: Vault, symbol: str = "AAA", quantity: int = 10, price: str = "100", **facts: Any) -> bool:
    """Book a sale; ten shares of AAA at 100."""
    return trade(vault, Side.SELL, symbol, quantity, price, **facts)


def trade(vault: Vault, side: Side, symbol: str, quantity: int, price: str, **facts: Any) -> bool:
    """Book a fill into its session."""
    session: Session = facts.pop("session", SESSION)
    name = facts.pop("fill_id", f"{symbol}-{side}-{price}")
    return vault.ledger.apply("d-1", a_fill(side, quantity, price, symbol=symbol, fill_id=name, **facts), session)


# ---- snapshot ----------------------------------------------------------------------------------------


def test_the_first_look_opens_account_session_and_week(vault: Vault) -> None:
    """Start equity is what is there when the session is first seen."""
    book = vault.ledger.snapshot(SESSION)

    assert (book.cash, book.equity, book.start_equity_session, book.start_equity_week) == (CASH,) * 4
    assert (book.positions, book.reserved, book.held, book.last_losing_trade) == ({}, {}, frozenset(), None)
    vault.holds(**{"account": account(), DAY: results(), WEEK: results()})
    assert all(389 * 86_400 < left <= 400 * 86_400 for left in vault.lives(DAY, WEEK).values())


def test_the_next_session_starts_with_what_the_last_one_left(vault: Vault) -> None:
    """Tuesday starts with the gain, the week still with Monday's equity."""
    buy(vault)
    sell(vault, price="110")
    book = vault.ledger.snapshot(WeekdaySessions().session_of(at("15:00", 3)))

    assert (book.start_equity_session, book.start_equity_week) == (D(100_100), D(100_000))
    assert (book.realised_session, book.realised_week) == (D(0), D(100))


# ---- reserve -----------------------------------------------------------------------------------------


def test_a_reservation_takes_symbol_slot_exposure_and_rates(vault: Vault) -> None:
    """One hash field and one entry in each zset."""
    answer = vault.ledger.reserve(a_request(sizing={"factor": "1"}))

    assert answer == Reservation("d-AAA", "AAA", Side.BUY, 10, D(100), D(1000), sizing={"factor": "1"})
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(1000)}
    entry = {"buy:d-AAA": float(MS)}
    vault.holds(
        **{
            "account": account(),
            DAY: results(),
            WEEK: results(),
            "reservations": {
                "d-AAA": '{"v":1,"decision_id":"d-AAA","symbol":"AAA","side":"buy","quantity":10,"price":"100",'
                '"notional":"1000","reduce_only":false,"sizing":{"factor":"1"},"at":"2014-06-02T15:00:00+00:00",'
                '"counted_micro":1000000000,"counted_quantity":10}'
            },
            "entries": entry,
            "entries:AAA": entry,
        }
    )
    assert all(0 < left <= 2 * 86_400 for left in vault.lives("entries", "entries:AAA").values())


def test_a_repeated_reservation_is_answered_as_it_was(vault: Vault) -> None:
    """Idempotent by decision id, whatever is asked the second time."""
    first = vault.ledger.reserve(a_request())
    second = vault.ledger.reserve(a_request(quantity=99, notional=D(9900), max_open_positions=1))

    assert second == first


def test_another_decision_on_the_symbol_is_told_that_it_is_busy(vault: Vault) -> None:
    """Busy comes before every rule: even what would be refused is tried again."""
    vault.ledger.reserve(a_request())
    with pytest.raises(SymbolBusyError, match="AAA is held by decision d-AAA"):
        vault.ledger.reserve(a_request(decision_id="other", max_open_positions=0, expected_position=7))


def test_a_book_that_changed_since_the_sizing_refuses(vault: Vault) -> None:
    """The position the sizing assumed must still be there, for closing orders too."""
    buy(vault)

    assert refused(vault.ledger.reserve(a_request())) == ("position_changed", "10", "0")
    closing = a_request(side=Side.SELL, expected_position=9, reduce_only=True)
    assert refused(vault.ledger.reserve(closing)) == ("position_changed", "10", "9")


def test_a_closing_order_skips_every_limit_and_leaves_the_rates_alone(vault: Vault) -> None:
    """Getting out is always allowed."""
    buy(vault)
    closing = a_request(
        side=Side.SELL,
        expected_position=10,
        reduce_only=True,
        max_open_positions=0,
        max_gross_exposure=D(0),
        max_session_loss=D(0),
        max_week_loss=D(0),
        max_per_minute=0,
    )

    assert isinstance(vault.ledger.reserve(closing), Reservation)
    vault.holds(
        **{
            "account": account(99_000),
            DAY: results(),
            WEEK: results(),
            "positions": ...,
            "marks": {"AAA": "100000000"},
            "fills:o-1": ...,
            "filled": ...,
            "reservations": ...,
        }
    )


def test_symbols_are_counted_once_however_they_are_taken(vault: Vault) -> None:
    """BBB held and queued, EEE queued, CCC reserved, AAA asked for: four symbols."""
    buy(vault, "BBB")
    for symbol in ("BBB", "EEE"):
        vault.ledger.hold(a_signal(symbol), at("13:30", 3))
    vault.ledger.reserve(a_request("CCC"))

    assert refused(vault.ledger.reserve(a_request(max_open_positions=3))) == ("open_positions", "4", "3")
    assert refused(vault.ledger.reserve(a_request(max_open_positions=4))) is None


def test_gross_exposure_is_long_and_short_at_the_mark_with_reservations_and_this_order(vault: Vault) -> None:
    """10 long at 110 + 10 short at 90 + 1,000 reserved + 1,000 = 4,000."""
    buy(vault, "BBB")
    sell(vault, "CCC")
    vault.ledger.mark({"BBB": D(110), "CCC": D(90)})
    vault.ledger.reserve(a_request("DDD"))

    low = vault.ledger.reserve(a_request(max_gross_exposure=D("3999.99")))
    assert refused(low) == ("gross_exposure", "4000.00 USD", "3999.99 USD")
    assert refused(vault.ledger.reserve(a_request(max_gross_exposure=D(4000)))) is None


LIMITS: dict[str, dict[str, Any]] = {
    "session_loss": {"max_session_loss": D(100)},
    "week_loss": {"max_week_loss": D(100)},
    "open_positions": {"max_open_positions": 1},
    "gross_exposure": {"max_gross_exposure": D(1)},
    "same_side_window": {"same_side_window_s": 60},
    "symbol_rate": {"max_per_symbol_per_minute": 1},
    "fleet_rate": {"max_per_minute": 1},
    "entries_after_loss": {"max_entries_per_hour_after_loss": 1},
}
WIDE: dict[str, Any] = {
    "max_session_loss": D(10_000),
    "max_week_loss": D(10_000),
    "max_open_positions": 100,
    "same_side_window_s": 1,
    "max_per_symbol_per_minute": 100,
    "max_per_minute": 100,
    "max_entries_per_hour_after_loss": 100,
}


@pytest.mark.parametrize("first", range(len(LIMITS)))
def test_the_first_rule_that_refuses_is_named(vault: Vault, first: int) -> None:
    """With every rule from the n-th on broken, the n-th speaks: both books ask in the same order."""
    buy(vault, "LOS", at=NOW - timedelta(hours=1))
    sell(vault, "LOS", price="90", at=NOW - timedelta(hours=1))
    before = a_request(decision_id="before", as_of=NOW - timedelta(seconds=30), **WIDE)
    vault.ledger.reserve(before)
    vault.ledger.release("before")
    vault.ledger.reserve(a_request("BBB", as_of=NOW - timedelta(hours=3), **WIDE))
    names = list(LIMITS)
    broken = {fact: value for name in names[first:] for fact, value in LIMITS[name].items()}
    answer = vault.ledger.reserve(a_request(**(WIDE | broken)))

    assert isinstance(answer, Refusal)
    assert answer.rule == names[first]


@pytest.mark.parametrize(
    ("rule", "limit", "window", "lost"),
    [
        ("same_side_window", {"same_side_window_s": 90}, 90, False),
        ("symbol_rate", {"max_per_symbol_per_minute": 1}, 60, False),
        ("fleet_rate", {"max_per_minute": 1}, 60, False),
        ("entries_after_loss", {"max_entries_per_hour_after_loss": 1}, 3600, True),
    ],
)
@pytest.mark.parametrize("short_of_window_ms", [0, 1, None])
def test_a_rates_window_slides_and_its_far_end_is_out(
    vault: Vault, rule: str, limit: dict[str, int], window: int, short_of_window_ms: int | None, *, lost: bool
) -> None:
    """Later than as_of - window: a millisecond inside counts, the edge does not; a later entry (None) counts."""
    if lost:
        buy(vault, at=NOW - timedelta(hours=2))
        sell(vault, price="90", at=NOW - timedelta(hours=2))
    age = -1 if short_of_window_ms is None else window * 1000 - short_of_window_ms
    side = Side.BUY if rule == "same_side_window" else Side.SELL
    moment = NOW - timedelta(milliseconds=age)
    vault.ledger.reserve(a_request(decision_id="before", side=side, as_of=moment, **WIDE))
    vault.ledger.release("before")
    answer = vault.ledger.reserve(a_request(**(WIDE | limit)))

    assert (answer.rule if isinstance(answer, Refusal) else None) == (None if short_of_window_ms == 0 else rule)


@pytest.mark.parametrize(("late_by_ms", "rule"), [(7_200_000, "fleet_rate"), (7_200_001, None)])
def test_an_entry_two_hours_later_counts_and_one_after_that_does_not(
    vault: Vault, late_by_ms: int, rule: str | None
) -> None:
    """A clock may be set back by an hour; a recording that runs on several workers is no such step."""
    moment = NOW + timedelta(milliseconds=late_by_ms)
    vault.ledger.reserve(a_request(decision_id="before", side=Side.SELL, as_of=moment, **WIDE))
    vault.ledger.release("before")
    answer = vault.ledger.reserve(a_request(**(WIDE | {"max_per_minute": 1})))

    assert (answer.rule if isinstance(answer, Refusal) else None) == rule


def test_a_decision_does_not_count_against_itself(vault: Vault) -> None:
    """Reserved, released and reserved again: one entry."""
    for _ in range(2):
        assert refused(vault.ledger.reserve(a_request(max_per_minute=1))) is None
        vault.ledger.release("d-AAA")


def test_a_later_run_of_a_decision_counts_from_its_own_moment(vault: Vault) -> None:
    """Reserved at 0 s, its worker died, run again at 50 s and gone: at 61 s the same side waits, at 110 s it enters."""
    first = vault.ledger.reserve(a_request())
    again = vault.ledger.reserve(a_request(as_of=NOW + timedelta(seconds=50)))
    vault.ledger.release("d-AAA")
    too_soon = vault.ledger.reserve(a_request(decision_id="e", as_of=NOW + timedelta(seconds=61)))
    entered = vault.ledger.reserve(a_request(decision_id="f", as_of=NOW + timedelta(seconds=110)))

    assert again == first
    assert refused(too_soon) == ("same_side_window", "2", "1")
    assert isinstance(entered, Reservation)


def test_a_later_run_is_refused_where_others_entered_meanwhile(vault: Vault) -> None:
    """Two a minute: entered at 0 s, two others at 65 and 66 s; run again at 70 s it would be the third."""
    vault.ledger.reserve(a_request())
    for second, symbol in ((65, "BBB"), (66, "CCC")):
        vault.ledger.reserve(a_request(symbol, as_of=NOW + timedelta(seconds=second)))
    again = a_request(as_of=NOW + timedelta(seconds=70), max_per_minute=2)

    assert refused(vault.ledger.reserve(again)) == ("fleet_rate", "3", "2")
    assert isinstance(vault.ledger.reserve(a_request(max_per_minute=2)), Reservation)


def test_a_refused_request_changes_nothing(vault: Vault) -> None:
    """No key appears."""
    vault.ledger.reserve(a_request(max_open_positions=0))
    vault.holds()


def test_shrinking_lowers_what_counts_and_repeats_safely(vault: Vault) -> None:
    """The first amounts are still answered; growing and unknown decisions are errors."""
    granted = vault.ledger.reserve(a_request())
    vault.ledger.shrink("d-AAA", 4, D(400))
    vault.ledger.shrink("d-AAA", 4, D(400))

    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(400)}
    assert vault.ledger.reserve(a_request()) == granted
    for decision, quantity, notional in (
        ("d-AAA", 5, D(400)),
        ("d-AAA", 4, D(401)),
        ("d-AAA", 0, D(0)),
        ("x", 1, D(1)),
    ):
        with pytest.raises(ValueError, match=decision):
            vault.ledger.shrink(decision, quantity, notional)


def test_released_risk_is_free_but_the_rates_remember_the_order(vault: Vault) -> None:
    """Twice is once."""
    vault.ledger.reserve(a_request())
    vault.ledger.release("d-AAA")
    vault.ledger.release("d-AAA")
    entry = {"buy:d-AAA": float(MS)}

    vault.holds(**{"entries": entry, "entries:AAA": entry})


def test_unused_risk_leaves_nothing(vault: Vault) -> None:
    """No order came of it."""
    vault.ledger.reserve(a_request())
    vault.ledger.release("d-AAA", unused=True)

    vault.holds()


# ---- held --------------------------------------------------------------------------------------------


def test_a_held_signal_waits_for_its_open(vault: Vault) -> None:
    """Its reservation becomes a slot; holding twice is once."""
    vault.ledger.reserve(a_request())
    for _ in range(2):
        vault.ledger.hold(a_signal(), at("13:30", 3))

    assert vault.ledger.held(at("13:29", 3)) == ()
    assert vault.ledger.held(at("13:30", 3)) == (a_signal(),)
    vault.holds(**{"held": {"d-AAA": float(to_ms(at("13:30", 3)))}, "held-signals": ...})


def test_held_signals_come_by_due_time_symbol_and_decision(vault: Vault) -> None:
    """The same order in every run."""
    for symbol, decision, day in (("BBB", "d3", 3), ("AAA", "d2", 3), ("AAA", "d1", 3), ("ZZZ", "d0", 2)):
        vault.ledger.hold(a_signal(symbol, decision_id=decision), at("13:30", day))

    assert [s.decision_id for s in vault.ledger.held(at("20:00", 3))] == ["d0", "d1", "d2", "d3"]


def test_an_unheld_signal_is_forgotten(vault: Vault) -> None:
    """Twice is once."""
    vault.ledger.hold(a_signal(), at("13:30", 3))
    vault.ledger.unhold(["d-AAA"])
    vault.ledger.unhold(["d-AAA"])

    vault.holds()


# ---- fills -------------------------------------------------------------------------------------------


def test_a_fill_moves_cash_position_and_mark_once(vault: Vault) -> None:
    """10 at 100 with a fee of 1: 98,999 of cash, one dollar realised as a loss."""
    assert buy(vault, fee=D(1))
    assert not buy(vault, fee=D(1))
    book = vault.ledger.snapshot(SESSION)

    assert (book.cash, book.equity, book.realised_session, book.worst_week) == (D(98_999), D(99_999), D(-1), D(-1))
    assert book.positions["AAA"].cost == D(1000)
    vault.holds(
        **{
            "account": account(98_999),
            DAY: results(realised=-1, worst=-1),
            WEEK: results(realised=-1, worst=-1),
            "positions": {
                "AAA": '{"v":1,"symbol":"AAA","quantity":10,"cost":"1000.000000",'
                '"opened_at":"2014-06-02T15:00:00+00:00","running":"-1"}'
            },
            "marks": {"AAA": "100000000"},
            "fills:o-1": ...,
            "filled": ...,
        }
    )


def test_fills_are_kept_90_days_after_the_orders_last_and_no_longer(redis_client: redis.Redis) -> None:
    """What is older is forgotten by itself, and its order with it."""
    ledger = RedisLedger(redis_client, KEYS, CASH)
    server: Any = redis_client
    seconds, _ = server.time()
    server.zadd("test:filled", {"o-0": (seconds - 90 * 86_400 - 2) * 1000})
    server.zadd("test:filled", {"o-kept": (seconds - 89 * 86_400) * 1000})
    ledger.apply("d-1", a_fill(fill_id="f1"), SESSION)

    assert server.zrange("test:filled", 0, -1) == ["o-kept", "o-1"]
    assert 90 * 86_400 - 600 < server.ttl("test:fills:o-1") <= 90 * 86_400
    assert [fill.fill_id for fill in ledger.fills()] == ["f1"]


def test_a_fill_that_is_told_again_with_another_time_is_the_same_fill(vault: Vault) -> None:
    """Its order and id name it, whatever else the venue corrects; the same id of another order is another fill."""
    first = a_fill(fill_id="f1")
    tuesday = WeekdaySessions().session_of(at("15:00", 3))

    assert vault.ledger.apply("d-1", first, SESSION) is True
    assert vault.ledger.apply("d-1", replace(first, at=at("15:00", 3)), tuesday) is False
    assert vault.ledger.apply("d-2", replace(first, client_order_id="o-2"), SESSION) is True
    assert vault.ledger.snapshot(SESSION).positions["AAA"].quantity == 20


@pytest.mark.parametrize(("price", "worst", "lost"), [("90", -100, True), ("110", 0, False), ("100", 0, False)])
def test_a_closed_trade_is_remembered_only_when_it_lost(vault: Vault, price: str, worst: int, lost: bool) -> None:  # noqa: FBT001
    """A trade of exactly nothing did not lose."""
    buy(vault)
    sell(vault, price=price, fill_id="out")
    gain = (int(price) - 100) * 10
    book = vault.ledger.snapshot(SESSION)

    assert book.last_losing_trade == (NOW if lost else None)
    vault.holds(
        **{
            "account": account(100_000 + gain, **({"last_loss_ms": str(MS)} if lost else {})),
            DAY: results(realised=gain, worst=worst),
            WEEK: results(realised=gain, worst=worst),
            "fills:o-1": ...,
            "filled": ...,
        }
    )


def test_a_win_forgets_the_loss_before_it(vault: Vault) -> None:
    """The last trade that closed speaks."""
    buy(vault)
    sell(vault, price="90")
    buy(vault, "BBB")
    sell(vault, "BBB", price="110")

    assert vault.ledger.snapshot(SESSION).last_losing_trade is None


def test_a_fill_opens_its_own_session_with_the_equity_before_it(vault: Vault) -> None:
    """A loss of Friday that is booked on Monday counts against Friday and its week."""
    friday = WeekdaySessions().session_of(at("15:00", 6))
    buy(vault)
    sell(vault, price="90", session=friday)
    monday = vault.ledger.snapshot(WeekdaySessions().session_of(at("15:00", 9)))
    book = vault.ledger.snapshot(friday)

    assert (book.start_equity_session, book.realised_session, book.realised_week) == (D(100_000), D(-100), D(-100))
    assert (monday.realised_session, monday.realised_week, monday.start_equity_week) == (D(0), D(0), D(99_900))


def test_a_mark_values_only_what_is_held(vault: Vault) -> None:
    """A price for another symbol is no mark."""
    buy(vault)
    vault.ledger.mark({"AAA": D("101.5"), "BBB": D(5)})
    vault.ledger.mark({})
    book = vault.ledger.snapshot(SESSION)

    assert (book.marks, book.equity) == ({"AAA": D("101.5")}, D(100_015))


# ---- many processes ----------------------------------------------------------------------------------


def test_eight_workers_at_once_pass_no_limit(redis_client: redis.Redis, server_url: str) -> None:
    """400 requests for 40 symbols: ten slots, 5,500 dollars of exposure at 1,000 each, one decision per symbol."""

    def hammer(worker: int) -> list[tuple[str, str]]:
        granted = []
        with redis.Redis.from_url(server_url, decode_responses=True) as client:
            ledger = RedisLedger(client, KEYS, CASH)
            for n in range(50):
                symbol = f"S{(worker * 7 + n) % 40}"
                request = a_request(symbol, decision_id=f"w{worker}-{n}", max_gross_exposure=D(5_500))
                try:
                    answer = ledger.reserve(request)
                except SymbolBusyError:
                    continue
                if isinstance(answer, Reservation):
                    granted.append((symbol, answer.decision_id))
        return granted

    with ThreadPoolExecutor(8) as pool:
        granted = [one for part in pool.map(hammer, range(8)) for one in part]
    book = RedisLedger(redis_client, KEYS, CASH).snapshot(SESSION)

    assert len(granted) == len({symbol for symbol, _ in granted}) == len(book.reserved) == 5
    assert sum(book.reserved.values()) == D(5_000)


def test_eight_workers_booking_the_same_fills_book_each_once(redis_client: redis.Redis, server_url: str) -> None:
    """40 fills of one share, each offered eight times: 40 shares, 4,000 dollars."""

    def book(_: int) -> int:
        with redis.Redis.from_url(server_url, decode_responses=True) as client:
            ledger = RedisLedger(client, KEYS, CASH)
            fills = [a_fill(quantity=1, fill_id=f"f{n}") for n in range(40)]
            return sum(ledger.apply("d", fill, SESSION) for fill in fills)

    with ThreadPoolExecutor(8) as pool:
        booked = sum(pool.map(book, range(8)))
    after = RedisLedger(redis_client, KEYS, CASH).snapshot(SESSION)

    assert booked == 40
    assert (after.positions["AAA"].quantity, after.cash) == (40, D(96_000))
    assert replace(after, equity=Decimal(0)).marks == {"AAA": D(100)}


def test_eight_workers_booking_different_fills_of_one_symbol_lose_none(
    redis_client: redis.Redis, server_url: str
) -> None:
    """8 x 25 fills of one share at 100: 200 shares for 20,000 dollars, whoever was faster."""

    def book(worker: int) -> None:
        with redis.Redis.from_url(server_url, decode_responses=True) as client:
            ledger = RedisLedger(client, KEYS, CASH)
            for n in range(25):
                ledger.apply("d", a_fill(quantity=1, fill_id=f"w{worker}-{n}"), SESSION)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(book, range(8)))
    position = RedisLedger(redis_client, KEYS, CASH).snapshot(SESSION).positions["AAA"]

    assert (position.quantity, position.cost) == (200, D(20_000))


def test_a_forgiven_week_counts_its_loss_from_then_on(vault: Vault) -> None:
    """A fee of 3 lost, forgiven, a fee of 1 lost more: 1 counts against the week's limit, 4 against the session's."""
    buy(vault, fee=D(3))
    vault.ledger.forgive_week(SESSION)
    vault.ledger.forgive_week(SESSION)
    before = vault.ledger.snapshot(SESSION)
    buy(vault, fee=D(1), fill_id="second")
    after = vault.ledger.snapshot(SESSION)

    assert (before.worst_week, before.realised_week) == (D(0), D(-3))
    assert (after.worst_week, after.worst_session, after.realised_week) == (D(-1), D(-4), D(-4))

"""The risk manager with default settings: each limit of STAGES 6 alone refuses, beside the last value that passes.

The account holds 100,000 dollars. At 100 dollars with the stop 2 away the sizes are: risk budget
100,000 x 0.25 % / 2 = 125 shares, max order 10,000 / 100 = 100, max position 10 % / 100 = 100: so 100 shares.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError, SymbolBusyError, TransientError
from pipeline.models import (
    Direction,
    Refusal,
    Reservation,
    Side,
    Stage,
    TradingState,
    Validation,
    ValidationStatus,
)
from pipeline.risk import RiskManager, RiskSettings
from tests.desks import RiskDesk as Desk
from tests.desks import rule, shares
from tests.money import (
    NOW,
    SESSION,
    D,
    FakeControl,
    FakeMarket,
    WeekdaySessions,
    a_levels,
    a_recommendation,
    a_request,
    a_signal,
    at,
)
from workers.adapters.ledger_memory import MemoryLedger

# ---- size --------------------------------------------------------------------------------------------


def test_the_smallest_limit_sizes_the_order() -> None:
    """100 shares of 100 dollars: the order limit binds, and every number is kept for the trace."""
    answer = Desk().check()

    assert isinstance(answer, Reservation)
    assert (answer.quantity, answer.side, answer.price, answer.notional) == (100, Side.BUY, D(100), D(10_000))
    assert not answer.reduce_only
    assert answer.sizing["shares_risk_budget"] == "125.0000"
    assert answer.sizing["binding"] == "max_order"


def test_a_wide_stop_makes_the_risk_budget_bind() -> None:
    """250 / 4 = 62.5 -> 62 shares; the mirror image sells the same number."""
    levels = a_levels(stop="4", target="8")

    assert shares(Desk().check(levels=levels)) == 62
    assert shares(Desk().check(levels=levels, signal=a_signal(direction=Direction.SHORT))) == 62


@pytest.mark.parametrize(
    ("factor", "status", "expected"),
    [
        (1.0, ValidationStatus.WARN, 100),
        (0.5, ValidationStatus.PASS, 50),
        (0.25, ValidationStatus.PASS, 25),
        (0.25, ValidationStatus.UNVALIDATED, 12),  # 100 x 0.25 x 0.5 = 12.5
    ],
)
def test_tier_and_a_failed_validator_shrink_the_size(factor: float, status: ValidationStatus, expected: int) -> None:
    """Floored once, after all factors."""
    assert shares(Desk().check(size_factor=factor, validation=Validation(status))) == expected


def test_the_position_limit_binds_for_a_small_account() -> None:
    """10 % of 50,000 is 5,000: 50 shares; the risk budget would allow 62."""
    assert shares(Desk(cash=D(50_000)).check()) == 50


def test_what_is_left_of_the_exposure_binds() -> None:
    """99,000 of 100,000 are in BBB: 1,000 / 100 = 10 shares."""
    desk = Desk()
    desk.hold_position("BBB", 990)

    assert shares(desk.check()) == 10


@pytest.mark.parametrize(
    ("name", "cash", "price", "levels"),
    [
        ("max_order", 1_000_000, "10001", a_levels("10001", "100", "200")),
        ("max_position", 100, "11", a_levels("11", "0.1", "0.2")),  # 10 % of 100 = 10 dollars
        ("risk_budget", 1000, "60", a_levels("60", "3", "6")),  # 1000 x 0.25 % = 2.50 dollars
    ],
)
def test_less_than_one_share_is_refused_by_the_limit_that_binds(name: str, cash: int, price: str, levels: Any) -> None:
    """No order of zero shares, and the trader learns which number was too small."""
    desk = Desk(cash=D(cash), market=FakeMarket({"AAA": D(price)}))

    assert rule(desk.check(levels=levels)) == name


def test_full_exposure_is_refused_by_name() -> None:
    """100 % of equity is in BBB already; with 100 dollars left one share passes."""
    full, nearly = Desk(), Desk()
    full.hold_position("BBB", 1000)
    nearly.hold_position("BBB", 999)

    assert rule(full.check()) == "gross_exposure"
    assert shares(nearly.check()) == 1


def test_an_account_without_equity_is_refused() -> None:
    """All the money and more was lost."""
    desk = Desk(settings=RiskSettings(max_session_loss=D(1), max_week_loss=D(1)))
    desk.lose("100000")

    assert rule(desk.check()) == "equity"


def test_a_book_without_an_account_sizes_nothing() -> None:
    """Before the first statement of the venue nobody knows what there is to risk."""
    desk = Desk()
    unopened = MemoryLedger(None, desk.executions)
    desk.risk = RiskManager(unopened, WeekdaySessions(), desk.market, desk.control, desk.settings)

    refusal = Refusal(Stage.RISK, "account_unknown", "no account", "a first reconciliation with the venue")
    assert desk.check() == refusal


# ---- permission --------------------------------------------------------------------------------------


def test_permission_that_cannot_be_asked_is_none_and_decides_nothing() -> None:
    """Fail closed: nothing is set aside; the check is repeated when the control keys answer again."""
    desk = Desk(control=FakeControl(fails=True))
    with pytest.raises(TransientError):
        desk.check()
    assert not desk.ledger.reservations()
    desk.control.fails = False

    assert isinstance(desk.check(), Reservation)


@pytest.mark.parametrize(
    ("control", "name"),
    [
        (FakeControl(TradingState.HALTED), "trading_state"),
        (FakeControl(TradingState.REDUCING), "trading_state"),
        (FakeControl(deny="symbol:AAA"), "denied"),
    ],
)
def test_nobody_trades_without_permission(control: FakeControl, name: str) -> None:
    """Halted, reducing, denied: each alone refuses."""
    answer = Desk(control=control).check()

    assert rule(answer) == name
    assert isinstance(answer, Refusal)
    assert answer.stage is Stage.RISK


def test_reducing_still_closes_a_position() -> None:
    """REDUCING = only what shrinks exposure."""
    desk = Desk(control=FakeControl(TradingState.REDUCING))
    desk.hold_position("AAA", 10)
    answer = desk.check(signal=a_signal(direction=Direction.SHORT))

    assert isinstance(answer, Reservation)
    assert answer.reduce_only


# ---- prices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "name"),
    [
        (FakeMarket({"AAA": D("NaN")}), "bad_quote"),
        (FakeMarket({"AAA": D("Infinity")}), "bad_quote"),
        (FakeMarket({"AAA": D(0)}), "bad_quote"),
        (FakeMarket({"AAA": D(-1)}), "bad_quote"),
        (FakeMarket(fails=MarketDataError("torn file")), "no_quote"),
        (FakeMarket(fails=TransientError("no answer")), "no_quote"),
        (FakeMarket({"AAA": D(100)}, quoted_at=NOW - timedelta(seconds=5.001)), "quote_age"),
        (FakeMarket({"AAA": D(100)}, quoted_at=NOW + timedelta(seconds=1)), "quote_age"),
        (FakeMarket({"AAA": D("103.01")}), "price_collar"),
        (FakeMarket({"AAA": D("96.99")}), "price_collar"),
    ],
)
def test_a_price_that_cannot_be_trusted_is_refused(market: FakeMarket, name: str) -> None:
    """Missing, impossible, old, from the future, or too far from the reference."""
    assert rule(Desk(market=market).check()) == name


def test_a_symbol_without_a_quote_is_refused() -> None:
    """No price, no order."""
    desk = Desk(market=FakeMarket())

    assert rule(desk.risk.check(a_recommendation(), NOW)) == "no_quote"


@pytest.mark.parametrize(
    "market",
    [
        FakeMarket({"AAA": D(100)}, quoted_at=NOW - timedelta(seconds=5)),
        FakeMarket({"AAA": D(103)}),
        FakeMarket({"AAA": D(97)}),
    ],
)
def test_a_price_exactly_at_its_limit_passes(market: FakeMarket) -> None:
    """Five seconds, three per cent."""
    assert rule(Desk(market=market).check()) is None


@pytest.mark.parametrize(
    ("quoted_at", "expected"),
    [
        (at("20:00", 2), None),  # Monday's close on Tuesday: no close was missed
        (at("20:00", 2) - timedelta(seconds=1), None),  # one close missed, which is allowed
        (at("19:59", 2) - timedelta(days=3), "quote_age"),  # Friday: Friday's and Monday's close were missed
    ],
)
def test_on_daily_data_a_quotes_age_is_counted_in_sessions(quoted_at: datetime, expected: str | None) -> None:
    """At most one session's close may have been missed."""
    settings = RiskSettings(max_quote_age_s=None, max_quote_sessions=1)
    market = FakeMarket({"AAA": D(100)}, quoted_at=quoted_at)

    assert rule(Desk(market=market, settings=settings).check(as_of=at("15:00", 3))) == expected


@pytest.mark.parametrize("unit", [{"max_quote_age_s": None}, {"max_quote_sessions": 1}])
def test_an_age_limit_in_no_unit_or_in_two_is_no_setting(unit: dict[str, Any]) -> None:
    """A limit that is off by accident would be no limit."""
    with pytest.raises(ValidationError, match="exactly one"):
        RiskSettings(**unit)


@pytest.mark.parametrize(
    "facts",
    [
        {"levels": a_levels(stop_distance=D("NaN"))},
        {"levels": a_levels(stop_distance=D(0))},
        {"levels": a_levels(reference=D("NaN"))},
        {"levels": a_levels(target_distance=D(-1))},
        {"size_factor": float("nan")},
        {"size_factor": 0.0},
    ],
)
def test_a_number_that_is_missing_is_refused(facts: dict[str, Any]) -> None:
    """NaN never becomes a size."""
    assert rule(Desk().check(**facts)) == "missing_input"


# ---- positions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quantity", "way"), [(10, Direction.LONG), (-10, Direction.SHORT)])
def test_a_held_position_is_not_added_to(quantity: int, way: Direction) -> None:
    """Same direction: refused, both sides."""
    desk = Desk()
    desk.hold_position("AAA", quantity)

    assert rule(desk.check(signal=a_signal(direction=way))) == "position_held"


@pytest.mark.parametrize(
    ("quantity", "way", "side"), [(10, Direction.SHORT, Side.SELL), (-10, Direction.LONG, Side.BUY)]
)
def test_the_opposite_direction_closes_the_whole_position(quantity: int, way: Direction, side: Side) -> None:
    """Never half, never a flip, whatever the tier says."""
    desk = Desk()
    desk.hold_position("AAA", quantity)
    answer = desk.check(signal=a_signal(direction=way), size_factor=0.25)

    assert isinstance(answer, Reservation)
    assert (answer.quantity, answer.side, answer.reduce_only) == (10, side, True)


def hold_symbols(desk: Desk, count: int) -> None:
    """That many positions."""
    for n in range(count):
        desk.hold_position(f"S{n}", 1)


def reserve_symbols(desk: Desk, count: int) -> None:
    """That many reservations, too old for the rates."""
    for n in range(count):
        desk.ledger.reserve(a_request(f"S{n}", as_of=NOW - timedelta(hours=2)))


def queue_symbols(desk: Desk, count: int) -> None:
    """That many signals held for the open."""
    for n in range(count):
        desk.ledger.hold(a_signal(f"S{n}"), NOW + timedelta(days=1))


@pytest.mark.parametrize("take", [hold_symbols, reserve_symbols, queue_symbols])
def test_ten_symbols_are_the_most(take: Callable[[Desk, int], None]) -> None:
    """Positions, reservations and held orders count alike; nine leave room for the tenth."""
    nine, ten = Desk(), Desk()
    take(nine, 9)
    take(ten, 10)

    assert rule(nine.check()) is None
    assert rule(ten.check()) == "open_positions"


# ---- losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "expected"), [("999.99", None), ("1000", "session_loss"), ("1000.01", "session_loss")]
)
def test_a_day_that_lost_one_per_cent_is_over(loss: str, expected: str | None) -> None:
    """1 % of the session's 100,000, inclusive."""
    desk = Desk()
    desk.lose(loss)

    assert rule(desk.check()) == expected


def test_a_later_win_does_not_unlock_the_day() -> None:
    """Locked to the next session means locked."""
    desk = Desk()
    desk.lose("1000")
    desk.hold_position("WIN", 100)
    desk.hold_position("WIN", -100, "110")

    assert rule(desk.check()) == "session_loss"
    assert rule(desk.check(as_of=at("15:00", 3))) is None


@pytest.mark.parametrize(("loss", "expected"), [("2999", None), ("3000", "week_loss")])
def test_a_week_that_lost_three_per_cent_is_over(loss: str, expected: str | None) -> None:
    """Lost on Monday, asked on Friday; the next Monday is a new week."""
    desk = Desk()
    desk.lose(loss)

    assert rule(desk.check(as_of=at("15:00", 6))) == expected
    assert rule(desk.check(as_of=at("15:00", 9))) is None


@pytest.mark.parametrize(("loss", "state"), [("2999", TradingState.ACTIVE), ("3000", TradingState.REDUCING)])
def test_a_lost_week_sets_reducing(loss: str, state: TradingState) -> None:
    """Until `resume`: the state outlives the week."""
    desk = Desk()
    desk.lose(loss)
    said = desk.risk.review(SESSION, NOW)

    assert desk.control.state is state
    assert [one.rule for one in said] == (["week_loss"] if state is TradingState.REDUCING else [])


@pytest.mark.parametrize(("mark", "expected"), [("97.01", []), ("97", ["unrealised_drawdown"])])
def test_an_unrealised_loss_of_three_per_cent_warns(mark: str, expected: list[str]) -> None:
    """1,000 shares bought at 100 marked at 97: 3,000 of 97,000 lost, the limit is 2,910; at 97.01: 2,990 of 97,010."""
    desk = Desk(settings=RiskSettings(warn_drawdown=D("0.03085")))  # 97,000 x 0.03085 = 2,992.45
    desk.hold_position("BBB", 1000)
    desk.ledger.mark({"BBB": D(mark)})

    assert [one.rule for one in desk.risk.review(SESSION, NOW)] == expected
    assert desk.control.state is TradingState.ACTIVE


# ---- rates -------------------------------------------------------------------------------------------


def enter(desk: Desk, symbol: str, as_of: datetime, side: Side = Side.BUY) -> str | None:
    """One entry that is definite at once: reserved and released."""
    name = f"{symbol}-{side}-{as_of.isoformat()}"
    answer = desk.ledger.reserve(a_request(symbol, decision_id=name, side=side, as_of=as_of))
    desk.ledger.release(name)
    return rule(answer)


@pytest.mark.parametrize(("age", "expected"), [(59.999, "same_side_window"), (60, None)])
def test_a_symbol_and_side_is_entered_once_a_minute(age: float, expected: str | None) -> None:
    """The window slides and its far end is out."""
    desk = Desk()
    enter(desk, "AAA", NOW - timedelta(seconds=age))

    assert rule(desk.check()) == expected


def test_the_other_side_of_a_symbol_is_another_entry() -> None:
    """Bought a second ago, sold now: the same-side window does not speak."""
    desk = Desk()
    enter(desk, "AAA", NOW - timedelta(seconds=1))

    assert rule(desk.check(signal=a_signal(direction=Direction.SHORT))) is None


@pytest.mark.parametrize(("oldest", "expected"), [(59.999, "symbol_rate"), (60, None)])
def test_a_symbol_has_three_entries_a_minute(oldest: float, expected: str | None) -> None:
    """Three in the last minute refuse the fourth; the same-side window is made short to let this rule speak."""
    desk = Desk(settings=RiskSettings(same_side_window_s=1))
    for age in (oldest, 30.0, 20.0):
        answer = desk.ledger.reserve(
            a_request(decision_id=f"e{age}", as_of=NOW - timedelta(seconds=age), same_side_window_s=1)
        )
        assert rule(answer) is None
        desk.ledger.release(f"e{age}")

    assert rule(desk.check()) == expected


@pytest.mark.parametrize(("count", "expected"), [(59, None), (60, "fleet_rate")])
def test_the_fleet_has_sixty_entries_a_minute(count: int, expected: str | None) -> None:
    """Of whatever symbols."""
    desk = Desk()
    for n in range(count):
        enter(desk, f"S{n}", NOW - timedelta(seconds=1))

    assert rule(desk.check()) == expected


@pytest.mark.parametrize(("count", "expected"), [(2, None), (3, "entries_after_loss")])
def test_after_a_losing_trade_three_entries_an_hour(count: int, expected: str | None) -> None:
    """A trade that lost 10 dollars slows the fleet down, until one closes without a loss."""
    desk = Desk()
    desk.lose("10", as_of=NOW - timedelta(hours=2))
    for n in range(count):
        enter(desk, f"S{n}", NOW - timedelta(minutes=59))

    assert rule(desk.check()) == expected
    desk.hold_position("WIN", 10)
    desk.hold_position("WIN", -10, "100")
    assert rule(desk.check(signal=a_signal(decision_id="again", symbol="CCC"))) is None


def test_the_hour_after_a_loss_slides() -> None:
    """An entry exactly an hour old does not count."""
    desk = Desk()
    desk.lose("10", as_of=NOW - timedelta(hours=2))
    for n in range(3):
        enter(desk, f"S{n}", NOW - timedelta(hours=1))

    assert rule(desk.check()) is None


# ---- one decision, one reservation -------------------------------------------------------------------


def test_a_repeated_check_answers_the_same_reservation() -> None:
    """Its own risk does not make the second answer smaller."""
    desk = Desk()
    desk.hold_position("BBB", 900)  # 10,000 of exposure left, all of it reserved by the first check

    assert desk.check() == desk.check()


def test_another_decision_on_a_reserved_symbol_finds_it_busy() -> None:
    """Not refused: tried again later."""
    desk = Desk()
    desk.check()
    with pytest.raises(SymbolBusyError, match="AAA"):
        desk.check(signal=a_signal(decision_id="other"))


def test_risk_that_was_not_used_leaves_no_trace_in_the_rates() -> None:
    """The gate was closed: nothing was sent, so the next signal is not too soon."""
    desk = Desk()
    desk.check()
    desk.risk.release("d-AAA")

    assert rule(desk.check(signal=a_signal(decision_id="next"))) is None


def test_a_held_signal_keeps_its_slot_and_leaves_the_rates() -> None:
    """It is no order yet."""
    desk = Desk()
    desk.check()
    desk.risk.hold(a_signal(), at("13:30", 3))

    assert desk.ledger.snapshot(SESSION).held == {"AAA"}
    assert desk.ledger.snapshot(SESSION).reserved == {}
    assert rule(desk.check(signal=a_signal(decision_id="next"))) is None


def test_a_refused_check_changes_nothing() -> None:
    """Refusals name stage, rule, value and limit."""
    desk = Desk()
    hold_symbols(desk, 10)
    before = desk.ledger.snapshot(SESSION)

    assert desk.check() == Refusal(Stage.RISK, "open_positions", "11", "10")
    assert replace(desk.ledger.snapshot(SESSION)) == before


# ---- in words ----------------------------------------------------------------------------------------


def words(answer: Reservation | Refusal) -> tuple[str, str, str]:
    """Rule, observed value and limit, as a person reads them."""
    assert isinstance(answer, Refusal), answer
    assert answer.stage is Stage.RISK
    return answer.rule, answer.observed, answer.limit


MINUTE_AGO, SOON = NOW - timedelta(minutes=1), NOW + timedelta(seconds=2)
IN_SESSIONS = RiskSettings(max_quote_age_s=None, max_quote_sessions=0)


@pytest.mark.parametrize(
    ("desk", "expected"),
    [
        (Desk(control=FakeControl(TradingState.HALTED)), ("trading_state", "HALTED", "ACTIVE")),
        (Desk(control=FakeControl(TradingState.REDUCING)), ("trading_state", "REDUCING", "ACTIVE")),
        (Desk(control=FakeControl(deny="symbol:AAA")), ("denied", "symbol:AAA", "not on a deny-list")),
        (Desk(market=FakeMarket(fails=MarketDataError("x"))), ("no_quote", "market data failed", "a quote")),
        (Desk(market=FakeMarket({"AAA": D(0)})), ("bad_quote", "0 USD", "> 0 USD")),
        (Desk(market=FakeMarket({"AAA": D(100)}, quoted_at=SOON)), ("quote_age", "-2 s", ">= 0 s")),
        (Desk(market=FakeMarket({"AAA": D(100)}, quoted_at=MINUTE_AGO)), ("quote_age", "60 s", "5 s")),
        (
            Desk(market=FakeMarket({"AAA": D(100)}, quoted_at=NOW - timedelta(days=3)), settings=IN_SESSIONS),
            ("quote_age", "1 sessions", "0 sessions"),
        ),
        (Desk(market=FakeMarket({"AAA": D(104)})), ("price_collar", "0.0400", "0.03")),
        (Desk(cash=D(0)), ("equity", "0.00 USD", "> 0 USD")),
    ],
)
def test_a_refusal_says_what_was_seen_and_what_was_allowed(desk: Desk, expected: tuple[str, str, str]) -> None:
    """Operators read these words in traces and summaries."""
    assert words(desk.check()) == expected


def test_a_missing_quote_is_said_so() -> None:
    """None at all."""
    risk = RiskManager(MemoryLedger(D(1)), WeekdaySessions(), FakeMarket(), FakeControl(), RiskSettings())

    assert words(risk.check(a_recommendation(), NOW)) == ("no_quote", "none", "a quote")


def test_a_missing_number_is_named() -> None:
    """With its value."""
    assert words(Desk().check(levels=a_levels(stop_distance=D(0)))) == ("missing_input", "stop_distance 0", "> 0")


def test_a_position_that_would_be_added_to_is_named() -> None:
    """One share is a position too."""
    desk = Desk()
    desk.hold_position(quantity=1)

    assert words(desk.check()) == ("position_held", "1 shares", "no adding")


def test_less_than_a_share_says_how_much_was_wanted() -> None:
    """10 % of 900 is 90 dollars: 0.9 shares of 100, a quarter of them 0.225."""
    assert words(Desk(cash=D(900)).check(size_factor=0.25)) == ("max_position", "0.2250 shares", ">= 1 share")


def test_week_loss_and_drawdown_say_how_much() -> None:
    """3,000 lost in LOS; then 1,000 BBB bought at 100 and marked at 90: 10,000 of 87,000, the limit is 2,610."""
    desk = Desk()
    desk.lose("3000")
    assert [words(one) for one in desk.risk.review(SESSION, NOW)] == [("week_loss", "3000.00 USD", "3000.00 USD")]
    assert desk.control.reduced == ["week loss 3000.00 USD, limit 3000.00 USD"]
    assert desk.risk.drawdown(SESSION) is None
    desk.hold_position("BBB", 1000)
    desk.ledger.mark({"BBB": D(90)})
    drawdown = desk.risk.drawdown(SESSION)

    assert drawdown is not None
    assert words(drawdown) == ("unrealised_drawdown", "10000.00 USD", "2610.00 USD")


def test_a_drawdown_exactly_at_the_limit_warns() -> None:
    """100 BBB bought at 100, marked at 80: 2,000 lost, equity 100,000, the limit is 2 % of it."""
    desk = Desk(cash=D(102_000), settings=RiskSettings(warn_drawdown=D("0.02")))
    desk.hold_position("BBB", 100)
    desk.ledger.mark({"BBB": D(80)})

    assert desk.risk.drawdown(SESSION) is not None


def test_other_reservations_use_up_exposure() -> None:
    """BBB holds 98,000 of 100,000, CCC has 1,000 reserved: 1,000 / 100 = 10 shares are left for AAA."""
    desk = Desk()
    desk.hold_position("BBB", 980)
    desk.ledger.reserve(a_request("CCC"))

    assert shares(desk.check()) == 10


def test_a_penny_stock_has_a_price() -> None:
    """One dollar is a price: 10,000 / 1 = 10,000 shares at most, the position limit the same, the stop 0.02 away."""
    desk = Desk(market=FakeMarket({"AAA": D(1)}))

    assert shares(desk.check(levels=a_levels("1", "0.02", "0.04"))) == 10_000


def test_a_dollar_of_equity_is_equity() -> None:
    """It is refused for its size, not as an account without money."""
    assert words(Desk(cash=D(1)).check())[0] == "max_position"


def test_the_exposure_limit_is_a_share_of_equity() -> None:
    """Half of 100,000 is 50,000; 45,000 are in BBB, so 5,000 are left: 50 shares; the ledger gets the same ceiling."""
    desk = Desk(settings=RiskSettings(max_gross_exposure=D("0.5")))
    desk.hold_position("BBB", 450)

    assert shares(desk.check()) == 50


def test_closing_is_explained() -> None:
    """The whole position, whatever the budget."""
    desk = Desk()
    desk.hold_position(quantity=7)
    answer = desk.check(signal=a_signal(direction=Direction.SHORT))

    assert isinstance(answer, Reservation)
    assert (answer.sizing["binding"], answer.sizing["shares_close"], answer.sizing["factor"]) == (
        "close",
        "7.0000",
        "1",
    )


def test_the_fleet_itself_sets_reducing_under_its_own_name() -> None:
    """Who reduced is asked by the next person."""
    asked: list[str] = []

    class Named(FakeControl):
        def reduce(self, by: str, reason: str, at: datetime) -> None:
            asked.append(by)

    desk = Desk(control=Named())
    desk.lose("3000")
    desk.risk.review(SESSION, NOW)

    assert asked == ["risk"]

"""The paper venue's matching on bars worked by hand; 5 bps of slippage, no fees unless a test says so.

A long order at reference 100, stop 2 and target 4 away; its mirror image is a short on prices mirrored at 100.
"""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from config.paper import PaperSettings
from pipeline.models import BracketOrder, FillRole, OrderStatus, Side
from tests.money import CLOSE, D, WeekdaySessions, a_levels, an_order, at, some_bars
from workers.adapters.paper_book import PaperOrder, Venue, live, placed, withdrawn

SETTINGS = PaperSettings()
VENUE = Venue(SETTINGS, WeekdaySessions())
Row = tuple[datetime, datetime, float, float, float, float]
QUIET = (100.0, 100.5, 99.5, 100.0)


def bar(start: str, end: str, prices: tuple[float, float, float, float], day: int = 2) -> Row:
    """One bar of June 2014."""
    return (at(start, day), at(end, day), *prices)


def lived(order: BracketOrder, *rows: Row, as_of: datetime | None = None, settings: Any = SETTINGS) -> PaperOrder:
    """The order after these bars."""
    until = as_of or (rows[-1][1] if rows else order.submitted_at)
    return live(placed(order, settings), some_bars(order.symbol, *rows), until, Venue(settings, WeekdaySessions()))


def exits(state: PaperOrder) -> list[tuple[FillRole, Decimal, datetime]]:
    """Role, price and time of every fill after the entry."""
    return [(fill.role, fill.price, fill.at) for fill in state.fills[1:]]


# ---- entry -------------------------------------------------------------------------------------------


def test_an_order_without_a_bar_works_on() -> None:
    """Nothing fills at the moment of the decision itself."""
    state = lived(an_order())

    assert (state.status, state.fills, state.closed) == (OrderStatus.ACCEPTED, (), False)


def test_the_entry_fills_at_the_open_of_the_first_bar_from_the_decision_on() -> None:
    """Submitted at 15:00, bar 15:00-15:30 opens at 100: 100 x 1.0005 = 100.05."""
    state = lived(an_order(), bar("15:00", "15:30", QUIET))

    assert [(f.role, f.price, f.at, f.side) for f in state.fills] == [
        (FillRole.ENTRY, D("100.0500"), at("15:00"), Side.BUY)
    ]
    assert state.status is OrderStatus.FILLED
    assert not state.closed


def test_the_entry_fills_at_the_close_of_the_bar_that_contains_the_decision() -> None:
    """Submitted at 15:00 inside 14:45-15:15, whose close is seen before the next open."""
    rows = (bar("14:45", "15:15", (90.0, 90.0, 90.0, 101.0)), bar("15:15", "15:45", QUIET))
    state = lived(an_order(), *rows)

    assert [(f.price, f.at) for f in state.fills] == [(D("101.0505"), at("15:15"))]  # 101 x 1.0005


def test_a_bar_that_ends_at_the_decision_is_the_past() -> None:
    """Its close was known before; the next open is the first new price."""
    rows = (bar("14:30", "15:00", (90.0, 90.0, 90.0, 90.0)), bar("15:00", "15:30", QUIET))

    assert lived(an_order(), *rows).fills[0].at == at("15:00")


def test_a_short_entry_slips_down() -> None:
    """100 x 0.9995 = 99.95."""
    state = lived(an_order(side=Side.SELL), bar("15:00", "15:30", QUIET))

    assert (state.fills[0].price, state.fills[0].side) == (D("99.9500"), Side.SELL)


def test_slippage_is_rounded_against_us() -> None:
    """100.01 x 1.0005 = 100.060005: a buyer pays 100.0601; 100.01 x 0.9995 = 99.959995: a seller gets 99.9599."""
    row = bar("15:00", "15:30", (100.01, 100.5, 99.5, 100.0))

    assert lived(an_order(), row).fills[0].price == D("100.0601")
    assert lived(an_order(side=Side.SELL), row).fills[0].price == D("99.9599")


def test_a_fee_is_charged_per_order_and_per_share() -> None:
    """1.00 + 10 x 0.005 = 1.05."""
    settings = PaperSettings(fee_per_order=D(1), fee_per_share=D("0.005"))

    assert lived(an_order(), bar("15:00", "15:30", QUIET), settings=settings).fills[0].fee == D("1.05")


def test_stop_and_target_are_anchored_on_the_fill() -> None:
    """Filled at 100.05: stop 98.05, target 104.05; a short filled at 99.95: stop 101.95, target 95.95."""
    long = lived(an_order(), bar("15:00", "15:30", QUIET))
    short = lived(an_order(side=Side.SELL), bar("15:00", "15:30", QUIET))

    assert (long.stop, long.target) == (D("98.05"), D("104.05"))
    assert (short.stop, short.target) == (D("101.95"), D("95.95"))


def test_stop_and_target_are_rounded_to_the_tick() -> None:
    """Filled at 101 x 1.0005 = 101.0505: 99.0505 -> 99.05, 105.0505 -> 105.05."""
    state = lived(an_order(), bar("15:00", "15:30", (101.0, 101.5, 100.5, 101.0)))

    assert (state.stop, state.target) == (D("99.05"), D("105.05"))


# ---- no entry ----------------------------------------------------------------------------------------


def test_the_close_itself_is_still_a_price() -> None:
    """A daily bar that contains the decision fills at its close, at the session's end."""
    state = lived(an_order(), bar("13:30", "20:00", QUIET))

    assert [(f.price, f.at) for f in state.fills] == [(D("100.0500"), CLOSE)]


def test_no_price_by_the_close_is_unfilled() -> None:
    """At the close the order is over."""
    state = lived(an_order(), as_of=CLOSE)

    assert (state.status, state.closed, state.reason) == (OrderStatus.UNFILLED, True, "no_price_by_close")


def test_before_the_close_an_order_without_a_price_works_on() -> None:
    """A second earlier it is not over yet."""
    assert not lived(an_order(), as_of=at("19:59")).closed


def test_a_price_of_the_next_session_is_too_late() -> None:
    """The result is the same however late anybody looks."""
    state = lived(an_order(), bar("13:30", "14:00", QUIET, day=3))

    assert (state.status, state.fills) == (OrderStatus.UNFILLED, ())


@pytest.mark.parametrize("first", [105.01, 94.99])
def test_a_first_price_too_far_from_the_reference_is_rejected(first: float) -> None:
    """max_gap 5 % of 100, either way."""
    state = lived(an_order(), bar("15:00", "15:30", (first, first, first, first)))

    assert (state.status, state.reason, state.fills, state.closed) == (OrderStatus.REJECTED, "max_gap", (), True)


@pytest.mark.parametrize("first", [105.0, 95.0])
def test_a_first_price_exactly_at_the_gap_limit_fills(first: float) -> None:
    """The limit may be reached."""
    assert lived(an_order(), bar("15:00", "15:30", (first, first, first, first))).status is OrderStatus.FILLED


def test_a_short_of_a_symbol_that_is_hard_to_borrow_is_rejected_at_once() -> None:
    """Longs and closing orders of the same symbol are not."""
    settings = PaperSettings(hard_to_borrow=frozenset({"AAA"}))
    short = placed(an_order(side=Side.SELL), settings)

    assert (short.status, short.reason, short.closed) == (OrderStatus.REJECTED, "hard_to_borrow", True)
    assert placed(an_order(), settings).status is OrderStatus.ACCEPTED
    assert placed(an_order(side=Side.SELL, reduce_only=True), settings).status is OrderStatus.ACCEPTED


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_bar_without_a_price_is_passed_over(bad: float) -> None:
    """The next good bar fills."""
    rows = (bar("15:00", "15:30", (bad, 100.0, 100.0, 100.0)), bar("15:30", "16:00", QUIET))

    assert lived(an_order(), *rows).fills[0].at == at("15:30")


# ---- exits: entry long at 100.05, stop 98.05, target 104.05 ------------------------------------------

ENTRY = bar("15:00", "15:30", QUIET)
SHORT_ENTRY = ENTRY  # short at 99.95, stop 101.95, target 95.95


@pytest.mark.parametrize(
    ("side", "prices", "expected"),
    [
        # long: stop touched exactly: 98.05 x 0.9995 = 98.000975 -> 98.0009
        (Side.BUY, (100.0, 101.0, 98.05, 99.0), (FillRole.STOP, "98.0009", "16:00")),
        # a cent above it nothing happens
        (Side.BUY, (100.0, 101.0, 98.06, 99.0), None),
        # target touched exactly, a limit does not slip
        (Side.BUY, (100.0, 104.05, 99.0, 103.0), (FillRole.TARGET, "104.05", "16:00")),
        (Side.BUY, (100.0, 104.04, 99.0, 103.0), None),
        # both in one bar: the stop came first
        (Side.BUY, (100.0, 105.0, 97.0, 104.0), (FillRole.STOP, "98.0009", "16:00")),
        # opening beyond the stop fills at the open: 97 x 0.9995 = 96.9515
        (Side.BUY, (97.0, 105.0, 96.0, 100.0), (FillRole.STOP, "96.9515", "15:30")),
        # opening beyond the target fills at the open, better than the limit
        (Side.BUY, (106.0, 107.0, 97.0, 100.0), (FillRole.TARGET, "106.0000", "15:30")),
        # short, mirrored: 101.95 x 1.0005 = 102.000975 -> 102.0010
        (Side.SELL, (100.0, 101.95, 99.0, 101.0), (FillRole.STOP, "102.0010", "16:00")),
        (Side.SELL, (100.0, 101.94, 99.0, 101.0), None),
        (Side.SELL, (100.0, 101.0, 95.95, 97.0), (FillRole.TARGET, "95.95", "16:00")),
        (Side.SELL, (100.0, 101.0, 95.96, 97.0), None),
        (Side.SELL, (100.0, 103.0, 95.0, 96.0), (FillRole.STOP, "102.0010", "16:00")),
        # 103 x 1.0005 = 103.0515
        (Side.SELL, (103.0, 104.0, 95.0, 100.0), (FillRole.STOP, "103.0515", "15:30")),
        (Side.SELL, (94.0, 103.0, 93.0, 100.0), (FillRole.TARGET, "94.0000", "15:30")),
    ],
)
def test_exits_of_a_bar_after_the_entry(
    side: Side, prices: tuple[float, float, float, float], expected: tuple[FillRole, str, str] | None
) -> None:
    """The stop is a market order that slips, the target a limit; what an open triggers fills at the open."""
    state = lived(an_order(side=side), ENTRY, bar("15:30", "16:00", prices))
    wanted = [] if expected is None else [(expected[0], D(expected[1]), at(expected[2]))]

    assert exits(state) == wanted
    assert state.closed == (expected is not None)


def test_the_rest_of_the_bar_whose_open_filled_counts() -> None:
    """Filled at 15:00, the low of the same bar is 97: stopped in it."""
    state = lived(an_order(), bar("15:00", "15:30", (100.0, 101.0, 97.0, 99.0)))

    assert exits(state) == [(FillRole.STOP, D("98.0009"), at("15:30"))]


def test_the_range_of_the_bar_whose_close_filled_does_not_count() -> None:
    """Its low came before the fill at its close."""
    state = lived(an_order(), bar("14:45", "15:15", (100.0, 101.0, 90.0, 100.0)))

    assert (len(state.fills), state.closed) == (1, False)


def test_an_exit_is_on_the_other_side_for_the_whole_quantity() -> None:
    """Ten bought, ten sold."""
    state = lived(an_order(), ENTRY, bar("15:30", "16:00", (100.0, 105.0, 99.0, 104.0)))

    assert [(f.side, f.quantity) for f in state.fills] == [(Side.BUY, 10), (Side.SELL, 10)]


# ---- time --------------------------------------------------------------------------------------------


def session_bar(day: int) -> Row:
    """A quiet daily bar."""
    return bar("13:30", "20:00", QUIET, day=day)


def test_time_runs_out_at_the_close_of_the_last_session() -> None:
    """Three sessions from Monday: Monday, Tuesday, Wednesday's close at 100 x 0.9995 = 99.95."""
    order = an_order(max_hold_sessions=3, submitted_at=at("13:30"))
    two = lived(order, session_bar(2), session_bar(3))
    three = lived(order, session_bar(2), session_bar(3), session_bar(4), session_bar(5))

    assert exits(two) == []
    assert exits(three) == [(FillRole.TIME_EXIT, D("99.9500"), at("20:00", 4))]


def test_sessions_are_counted_over_a_weekend() -> None:
    """Ten sessions from Monday the 2nd end on Friday the 13th."""
    state = lived(an_order(submitted_at=at("13:30")), session_bar(2))

    assert state.exit_at == at("20:00", 13)


def test_when_the_last_session_has_no_bar_the_next_open_is_the_exit() -> None:
    """Wednesday is missing: Thursday's open."""
    order = an_order(max_hold_sessions=3, submitted_at=at("13:30"))
    state = lived(order, session_bar(2), session_bar(3), session_bar(5))

    assert exits(state) == [(FillRole.TIME_EXIT, D("99.9500"), at("13:30", 5))]


def test_the_stop_comes_before_the_time() -> None:
    """The last session's bar also holds the stop."""
    order = an_order(max_hold_sessions=1, submitted_at=at("13:30"))
    state = lived(order, bar("13:30", "20:00", (100.0, 101.0, 97.0, 100.0)))

    assert [fill.role for fill in state.fills] == [FillRole.ENTRY, FillRole.STOP]


# ---- closing, withdrawing, living once ----------------------------------------------------------------


def test_a_closing_order_fills_once_without_exits_and_ignores_the_gap() -> None:
    """Getting out is never refused for its price: 50 x 0.9995 = 49.975."""
    order = an_order(side=Side.SELL, reduce_only=True)
    state = lived(order, bar("15:00", "15:30", (50.0, 50.0, 50.0, 50.0)))

    assert [(f.role, f.price) for f in state.fills] == [(FillRole.CLOSE, D("49.9750"))]
    assert (state.closed, state.stop, state.target) == (True, None, None)


def test_a_withdrawn_entry_is_cancelled_and_a_withdrawn_position_keeps_its_fill() -> None:
    """Nothing of either can fill any more; withdrawing twice changes nothing."""
    waiting, holding = withdrawn(placed(an_order(), SETTINGS)), withdrawn(lived(an_order(), ENTRY))

    assert (waiting.status, waiting.closed) == (OrderStatus.CANCELLED, True)
    assert (holding.status, holding.closed, len(holding.fills)) == (OrderStatus.FILLED, True, 1)
    assert withdrawn(holding) == holding


def test_every_bar_is_lived_through_once_however_often_it_is_looked_at() -> None:
    """Bar by bar, in one go and with repeats: the same bracket."""
    rows = (ENTRY, bar("15:30", "16:00", QUIET), bar("16:00", "16:30", (100.0, 105.0, 99.0, 104.0)))
    at_once = lived(an_order(), *rows)
    step_by_step = placed(an_order(), SETTINGS)
    for end in (at("15:30"), at("15:30"), at("16:00"), at("16:30"), at("16:30")):
        step_by_step = live(step_by_step, some_bars("AAA", *rows), end, VENUE)

    assert step_by_step == at_once


def test_a_bar_that_is_not_complete_is_not_seen() -> None:
    """At 15:29 the bar of 15:00-15:30 is still the future."""
    state = lived(an_order(), ENTRY, as_of=at("15:29"))

    assert state == placed(an_order(), SETTINGS)


def test_a_tick_of_a_hundredth_of_a_cent_is_kept() -> None:
    """Below one dollar: 0.5 x 1.0005 = 0.50025 -> 0.5003; stop 0.4903, target 0.5203."""
    order = an_order(levels=a_levels("0.5", "0.01", "0.02", tick=D("0.0001")))
    state = lived(order, bar("15:00", "15:30", (0.5, 0.5, 0.5, 0.5)))

    assert (state.fills[0].price, state.stop, state.target) == (D("0.5003"), D("0.4903"), D("0.5203"))


def test_orders_are_named_by_their_bracket_and_role() -> None:
    """A fill's name is the same in every run."""
    state = lived(replace(an_order(), client_order_id="x"), ENTRY)

    assert state.fills[0].fill_id == "x.entry"
    assert state.cursor == at("15:30")

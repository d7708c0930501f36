"""Positions and realised results from fills, worked by hand."""

from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

import pytest

from pipeline.book import apply_fill, book_fill, cash_change, in_dollars, in_micros
from pipeline.models import Position, Side
from tests.money import NOW, D, a_fill


def held(quantity: int, cost: str) -> Position:
    """A position in AAA."""
    return Position("AAA", quantity, D(cost), NOW)


def test_a_first_fill_opens_a_position_at_its_cost() -> None:
    """Ten bought at 100 cost 1,000 and realise nothing."""
    assert apply_fill(None, a_fill()) == (held(10, "1000"), D(0))


def test_a_short_has_negative_quantity_and_cost() -> None:
    """The mirror image of buying."""
    assert apply_fill(None, a_fill(Side.SELL)) == (held(-10, "-1000"), D(0))


def test_an_entry_fee_is_realised_at_once() -> None:
    """Fees are losses when they are paid, not part of the cost."""
    position, realised = apply_fill(None, a_fill(fee=D("0.35")))

    assert (position, realised) == (held(10, "1000"), D("-0.35"))


@pytest.mark.parametrize(
    ("side", "start", "price", "gain"),
    [
        (Side.SELL, held(10, "1000"), "110", "100"),  # long: 10 x (110 - 100)
        (Side.BUY, held(-10, "-1000"), "90", "100"),  # short: 10 x (100 - 90)
        (Side.SELL, held(10, "1000"), "90", "-100"),
        (Side.BUY, held(-10, "-1000"), "110", "-100"),
    ],
)
def test_closing_a_position_realises_its_gain(side: Side, start: Position, price: str, gain: str) -> None:
    """Flat afterwards: the position is None, long and short mirrored."""
    assert apply_fill(start, a_fill(side, 10, price)) == (None, D(gain))


def test_a_partial_close_takes_its_share_of_the_cost() -> None:
    """4 of 10 at 110: 440 - 400 = 40 gained, 6 shares and 600 of cost stay."""
    assert apply_fill(held(10, "1000"), a_fill(Side.SELL, 4, "110")) == (held(6, "600"), D(40))


def test_a_cost_that_does_not_divide_loses_nothing() -> None:
    """3 shares for 100: one third is 33.333333, the remainder of the micro-dollar stays with the position."""
    position, realised = apply_fill(held(3, "100"), a_fill(Side.SELL, 1, "40"))

    assert position == held(2, "66.666667")
    assert realised == D("6.666667")


def test_a_fill_beyond_flat_closes_first_and_opens_the_rest_at_its_price() -> None:
    """Long 10 at 100, 15 sold at 110: 100 gained, then short 5 at 110, opened by that fill."""
    later = NOW + timedelta(hours=1)
    position, realised = apply_fill(held(10, "1000"), a_fill(Side.SELL, 15, "110", at=later))

    assert position == Position("AAA", -5, D(-550), later)
    assert realised == D(100)


def test_adding_keeps_the_time_of_opening() -> None:
    """10 at 100 and 10 at 110 cost 2,100."""
    later = NOW + timedelta(hours=1)

    assert apply_fill(held(10, "1000"), a_fill(Side.BUY, 10, "110", at=later)) == (held(20, "2100"), D(0))


@pytest.mark.parametrize(("side", "sign"), [(Side.BUY, 1), (Side.SELL, -1)])
def test_a_single_share_is_a_position_that_is_added_to(side: Side, sign: int) -> None:
    """One and ten are eleven: 100 + 1,000 dollars, nothing realised; the mirror image short."""
    assert apply_fill(held(sign, str(100 * sign)), a_fill(side)) == (held(11 * sign, str(1100 * sign)), D(0))


@pytest.mark.parametrize("rounding", [ROUND_FLOOR, ROUND_CEILING])
def test_money_rounds_half_to_even_whatever_the_caller_s_context_says(rounding: str) -> None:
    """1.2345675 -> 1.234568; 1 x 0.0000005 -> 0 and 3 x 0.0000005 -> 0.000002; a third of 100 is 33.333333."""
    with localcontext() as context:
        context.rounding = rounding
        micros = in_micros(D("1.2345675"))
        costs = [cash_change(a_fill(quantity=n, price="0.0000005")) for n in (1, 3)]
        part, _ = apply_fill(held(3, "100"), a_fill(Side.SELL, 1, "40"))

    assert micros == 1_234_568
    assert costs == [D(0), D("-0.000002")]
    assert part == held(2, "66.666667")


def test_another_symbols_fill_is_an_error() -> None:
    """A fill may never move a position it does not belong to."""
    with pytest.raises(ValueError, match="fill of BBB on a position in AAA"):
        apply_fill(held(10, "1000"), a_fill(symbol="BBB"))


def test_cash_moves_by_value_and_fee() -> None:
    """Buying takes price and fee, selling gives price less fee."""
    assert cash_change(a_fill(fee=D(1))) == D(-1001)
    assert cash_change(a_fill(Side.SELL, fee=D(1))) == D(999)


def test_a_round_trips_result_counts_its_entry_fee() -> None:
    """+1 on the price, 2 x 1 of fees: 10 - 2 = 8; at +0.15 it lost: 1.5 - 2 = -0.5."""
    opened = book_fill(None, D(0), a_fill(fee=D(1)))
    won = book_fill(opened.position, opened.running, a_fill(Side.SELL, 10, "101", fee=D(1)))
    lost = book_fill(opened.position, opened.running, a_fill(Side.SELL, 10, "100.15", fee=D(1)))

    assert (opened.trade, opened.running) == (None, D(-1))
    assert (won.trade, won.running) == (D(8), D(0))
    assert lost.trade == D("-0.5")


def test_an_unfinished_trade_has_no_result_yet() -> None:
    """A partial close leaves the round trip open."""
    part = book_fill(held(10, "1000"), D(-1), a_fill(Side.SELL, 4, "110"))

    assert (part.trade, part.running) == (None, D(39))


def test_micro_dollars_are_whole_and_come_back() -> None:
    """One dollar is a million."""
    assert in_micros(D("1.2345675")) == 1_234_568  # half to even: 1234567.5 -> 1234568
    assert in_dollars(1_234_567) == D("1.234567")


@pytest.mark.parametrize("bad", [Decimal("NaN"), Decimal("Infinity")])
def test_an_amount_that_is_no_number_is_refused(bad: Decimal) -> None:
    """NaN must not become a number of dollars."""
    with pytest.raises(ValueError, match="finite"):
        in_micros(bad)

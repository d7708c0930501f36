"""Indicators: what is read, and what is refused before TA-Lib is asked (STAGES 4)."""

import math
from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.indicators import IndicatorSettings, _diverges, age_in_intervals, atr, efficiency, pivots, read
from pipeline.models import Bars, Direction, Indicators, Refusal
from tests.market_builders import a_walk, at, minute_bars, some_bars, with_value, xnys

SETTINGS = IndicatorSettings()


def the_reading(bars: Bars) -> Indicators:
    """The reading of bars that can be read."""
    reading = read(bars)
    assert isinstance(reading, Indicators), reading
    return reading


def the_refusal(bars: Bars) -> Refusal:
    """The refusal of bars that cannot be read."""
    refusal = read(bars)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def test_150_bars_are_read_and_149_are_refused() -> None:
    """ADX needs 150 bars to settle within 0.02."""
    assert isinstance(read(some_bars(a_walk(150))), Indicators)

    refusal = the_refusal(some_bars(a_walk(149)))

    assert refusal.rule == "insufficient_data"
    assert refusal.observed == "149 bars"
    assert refusal.limit == ">= 150 bars"


def test_no_bars_are_refused() -> None:
    """Nothing is too few."""
    assert the_refusal(some_bars([])).observed == "0 bars"


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 75, 149])
def test_a_bar_with_a_value_that_is_not_finite_is_refused(column: str, value: float, index: int) -> None:
    """TA-Lib answers RSI 0.0 to a NaN bar: check before you ask."""
    refusal = the_refusal(with_value(some_bars(), column, index, value))

    assert refusal.rule == "insufficient_data"
    assert "no price" in refusal.observed


@pytest.mark.parametrize("value", [0.0, -0.01])
def test_a_price_of_zero_or_less_is_refused(value: float) -> None:
    """A share has a price above zero."""
    assert the_refusal(with_value(some_bars(), "low", 149, value)).rule == "insufficient_data"


def test_a_bad_bar_before_the_window_does_not_matter() -> None:
    """Only the last 150 bars are read."""
    bars = some_bars(a_walk(151))

    assert read(with_value(bars, "close", 0, math.nan)) == read(bars)


def test_a_constant_price_is_refused() -> None:
    """TA-Lib answers RSI 0.0, that is deeply oversold, to a constant price."""
    refusal = the_refusal(some_bars(np.full(150, 10.0), spread=0.0))

    assert refusal.rule == "insufficient_data"
    assert refusal.observed == "a constant price"


def test_constant_closes_are_refused_even_when_the_bars_have_a_range() -> None:
    """RSI asks only closes."""
    assert the_refusal(some_bars(np.full(150, 10.0), spread=0.5)).observed == "a constant price"


@pytest.mark.parametrize(("still", "refused"), [(13, False), (14, True), (15, True)])
def test_a_price_that_stood_still_through_the_stochastic_range_is_refused(still: int, *, refused: bool) -> None:
    """14 bars without any range make %K 0 / 0, which TA-Lib calls 0."""
    closes = a_walk(150)
    closes[-still:] = closes[-still]
    closes[-still - 1] = closes[-still] + 1

    assert isinstance(read(some_bars(closes, spread=0.0)), Refusal) is refused


def test_still_bars_that_the_last_d_no_longer_averages_do_not_matter() -> None:
    """%D reads the ranges that end in the last 5 bars (3 + 3 - 1)."""
    closes = a_walk(150)
    closes[-19:-5] = 100.0  # 14 still bars; the last bar of the range is the sixth from the end

    assert isinstance(read(some_bars(closes, spread=0.0)), Indicators)
    closes[-5] = 100.0  # now a still range ends in the fifth from the end
    assert isinstance(read(some_bars(closes, spread=0.0)), Refusal)


def test_prices_that_overflow_the_reading_are_refused() -> None:
    """A reading that is not finite is none."""
    closes = np.where(np.arange(150) % 2 == 0, 1.0, 1.7e308)
    refusal = the_refusal(some_bars(closes, spread=0.0))

    assert refusal.observed == "a reading that overflows"


def test_a_steady_rise_reads_as_its_definitions_say() -> None:
    """Only gains: RSI 100. Only upward movement: ADX 100. Range 1 + step 1: true range max(1, 1.5, 0.5) = 1.5."""
    reading = the_reading(some_bars(np.arange(100.0, 250.0), spread=0.5))

    assert reading.rsi == pytest.approx(100.0)
    assert reading.adx == pytest.approx(100.0)
    assert reading.atr == pytest.approx(1.5)
    # the 14 bars span 14 dollars (13 steps + a range of 1), the close lies 13.5 above their low
    assert reading.stochastic_k == pytest.approx(100 * 13.5 / 14)
    assert reading.stochastic_d == pytest.approx(100 * 13.5 / 14)
    # an exponential average lags a line by (n - 1) / 2 steps: (26 - 1) / 2 - (12 - 1) / 2 = 7
    assert reading.macd == pytest.approx(7.0)
    assert reading.macd_histogram == pytest.approx(0.0, abs=1e-9)


def test_a_steady_fall_is_the_mirror_image_of_a_steady_rise() -> None:
    """Long and short are mirror images."""
    reading = the_reading(some_bars(np.arange(250.0, 100.0, -1.0), spread=0.5))

    assert reading.rsi == pytest.approx(0.0)
    assert reading.adx == pytest.approx(100.0)
    assert reading.stochastic_k == pytest.approx(100 * 0.5 / 14)
    assert reading.macd == pytest.approx(-7.0)


@pytest.mark.parametrize(
    ("last", "trend"), [((100, 102, 105), "rising"), ((100, 98, 95), "falling"), ((103, 97, 103), "flat")]
)
def test_the_histogram_trend_is_strict_over_three_bars(last: tuple[float, ...], trend: str) -> None:
    """Accelerating prices raise the histogram bar by bar; a zigzag does neither."""
    zigzag = [100.0 + 0.01 * (number % 2) for number in range(147)]

    assert the_reading(some_bars([*zigzag, *last])).histogram_trend == trend


@pytest.mark.parametrize(
    ("prices", "found"),
    [
        ([1, 2, 3, 9, 3, 2, 1], [3]),
        ([1, 2, 3, 9, 9, 2, 1, 0], [3]),  # a flat top is one pivot, its first bar
        ([1, 2, 9, 9, 3, 2, 1], []),  # its first bar has only two bars before it
        ([1, 2, 3, 9, 3, 2], []),  # only two bars after
        ([9, 2, 3, 9, 3, 2, 1], []),  # not above a bar before it
        ([1, 2, 3, 9, 3, 2, 9.5], []),  # below a bar after it
        ([0, 1, 2, 9, 2, 1, 0, 1, 2, 8, 2, 1, 0], [3, 9]),
        ([], []),
    ],
)
def test_a_pivot_stands_above_three_bars_on_each_side(prices: list[float], found: list[int]) -> None:
    """Half-width 3: three bars before it are lower, three bars after it not higher."""
    assert pivots(np.asarray(prices, dtype=np.float64), 3).tolist() == found


@pytest.mark.parametrize(("bars_after", "seen"), [(3, True), (5, True), (6, False)])
def test_a_divergence_is_seen_while_the_later_pivot_is_at_most_five_bars_old(bars_after: int, *, seen: bool) -> None:
    """The pivot is known after 3 bars and counts up to 5; the last bar is 0 bars old."""
    prices = np.asarray([0, 1, 2, 9, 2, 1, 0, 1, 2, 10, *[5 - step for step in range(bars_after)]], dtype=np.float64)
    histogram = np.linspace(1, 0, prices.size)

    assert _diverges(prices, histogram, SETTINGS) is seen


@pytest.mark.parametrize(
    ("later_price", "later_histogram", "diverges"),
    [
        (10.0, 0.9, True),  # higher price, weaker histogram
        (10.0, 1.0, False),  # the same histogram
        (10.0, 1.1, False),  # the histogram confirms
        (9.0, 0.9, False),  # the same price
        (8.0, 0.9, False),  # a lower price
        (10.0, math.nan, False),  # no histogram there yet
    ],
)
def test_a_divergence_is_a_higher_pivot_on_a_weaker_histogram(
    later_price: float, later_histogram: float, *, diverges: bool
) -> None:
    """Both comparisons are strict."""
    prices = np.asarray([0, 1, 2, 9, 2, 1, 0, 1, 2, later_price, 2, 1, 0], dtype=np.float64)
    histogram = np.zeros(prices.size)
    histogram[3], histogram[9] = 1.0, later_histogram

    assert _diverges(prices, histogram, SETTINGS) is diverges


def a_tired_rise() -> list[float]:
    """A calm series, a fast rise to 120, a dip, and a slow crawl to a higher top that turns four bars ago."""
    calm = [100.0 + 0.1 * (number % 2) for number in range(100)]
    fast = [100.0 + 2 * step for step in range(1, 11)]  # to 120
    dip = [120.0 - step for step in range(1, 9)]  # to 112
    slow = [112.0 + 0.35 * step for step in range(1, 29)]  # to 121.8
    return [*calm, *fast, *dip, *slow, 121.0, 120.5, 120.0, 119.5]


def test_a_higher_top_on_a_weaker_histogram_reads_as_bearish_divergence() -> None:
    """End to end: SHORT is bearish."""
    assert the_reading(some_bars(a_tired_rise())).divergence is Direction.SHORT


def test_a_lower_bottom_on_a_stronger_histogram_reads_as_bullish_divergence() -> None:
    """The mirror image around 150: LONG is bullish."""
    mirrored = [300.0 - close for close in a_tired_rise()]

    assert the_reading(some_bars(mirrored)).divergence is Direction.LONG


def test_atr_by_hand() -> None:
    """True ranges of a rise by 1 with range 1 are 1.5; Wilder's mean of equal values is that value."""
    assert atr(some_bars(np.arange(100.0, 115.0)), 14) == pytest.approx(1.5)


@pytest.mark.parametrize(
    "bars",
    [
        some_bars(np.arange(100.0, 114.0)),  # 14 bars have only 13 true ranges
        some_bars([]),
        with_value(some_bars(), "high", 3, math.nan),
        some_bars(np.full(20, 10.0), spread=0.0),  # no range at all
    ],
)
def test_without_sound_bars_there_is_no_atr(bars: Bars) -> None:
    """None, never 0: a stop at no distance is none."""
    assert atr(bars, 14) is None


@pytest.mark.parametrize(
    ("closes", "ratio"),
    [
        ([1, 2, 3, 4], 1.0),  # net 3 of 3
        ([4, 3, 2, 1], 1.0),
        ([1, 2, 1, 2], 1 / 3),  # net 1 of 3
        ([1, 2, 1], 0.0),
        ([5, 5, 5], 0.0),  # no movement is no direction
    ],
)
def test_kaufman_efficiency_by_hand(closes: list[float], ratio: float) -> None:
    """Net change over the path walked."""
    assert efficiency(np.asarray(closes, dtype=np.float64)) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("last_day", "as_of", "age"),
    [
        ("2014-07-03", "2014-07-07 13:30", 0.0),  # a long weekend with Independence Day ages nothing
        ("2014-07-07", "2014-07-08 16:45", 0.5),  # 13:30 to 16:45 UTC is half of 6.5 h
        ("2014-07-07", "2014-07-08 20:00", 1.0),
        ("2014-07-07", "2014-07-09 20:00", 2.0),
        ("2014-11-26", "2014-11-29 00:00", 3.5 / 6.5),  # the day after Thanksgiving closes at 13:00
    ],
)
def test_a_daily_bar_ages_in_sessions(last_day: str, as_of: str, age: float) -> None:
    """Nights, weekends and holidays do not count."""
    bars = some_bars(a_walk(10), last_day=date.fromisoformat(last_day))

    assert age_in_intervals(bars, at(as_of), xnys()) == pytest.approx(age)


def test_a_minute_bar_ages_in_minutes_of_the_session() -> None:
    """The last bar ends at 20:00 UTC; the next session's third minute makes it 3 bars old."""
    bars = minute_bars([date(2014, 7, 8)])

    assert age_in_intervals(bars, at("2014-07-09 13:30"), xnys()) == 0.0
    assert age_in_intervals(bars, at("2014-07-09 13:33"), xnys()) == pytest.approx(3.0)


def test_no_bar_is_infinitely_old() -> None:
    """There is nothing that could be fresh."""
    assert age_in_intervals(some_bars([]), at("2014-07-09 13:30"), xnys()) == math.inf


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"macd_fast": 26}, "macd_fast"),
        ({"pivot_max_age": 2}, "pivot_max_age"),
        ({"adx_period": 80}, "bars is 150"),
        ({"bars": 49}, "bars"),
    ],
)
def test_periods_that_cannot_work_are_refused(changes: dict[str, int], word: str) -> None:
    """Wrong settings stop the fleet at start and name the field."""
    with pytest.raises(ValidationError, match=word):
        IndicatorSettings.model_validate(changes)

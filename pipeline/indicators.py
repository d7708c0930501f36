"""Technical readings of completed bars by TA-Lib; the data is checked before TA-Lib is asked.

TA-Lib answers RSI 0.0 to a constant price and to a NaN bar, so what cannot be read is refused here with the
rule `insufficient_data` and never becomes a reading.
"""

import math
from dataclasses import astuple
from datetime import datetime
from typing import Literal, Self

import numpy as np
import talib
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator
from talib._ta_lib import MA_Type

from pipeline.models import Bars, Direction, FloatArray, Frozen, Indicators, IntArray, Refusal, Stage
from pipeline.ports import Sessions


class IndicatorSettings(Frozen):
    """Periods of the readings, in bars."""

    bars: int = Field(
        default=150,
        ge=50,
        le=5_000,
        description="completed bars read, and the fewest accepted: 50 put ADX off by up to 9 points, 150 by 0.02",
    )
    rsi_period: int = Field(default=14, ge=2, le=200, description="bars of Wilder's RSI")
    macd_fast: int = Field(default=12, ge=2, le=200, description="bars of the fast average of MACD")
    macd_slow: int = Field(default=26, ge=3, le=400, description="bars of the slow average of MACD")
    macd_signal: int = Field(default=9, ge=1, le=200, description="bars of MACD's signal line")
    trend_bars: int = Field(default=3, ge=2, le=20, description="last histogram bars that must all rise or all fall")
    stochastic_k: int = Field(default=14, ge=2, le=200, description="bars of the stochastic's range")
    stochastic_slow: int = Field(default=3, ge=1, le=50, description="bars that smooth %K")
    stochastic_d: int = Field(default=3, ge=1, le=50, description="bars of %D, the average of %K")
    adx_period: int = Field(default=14, ge=2, le=200, description="bars of Wilder's ADX")
    atr_period: int = Field(default=14, ge=1, le=200, description="bars of Wilder's ATR")
    pivot_half_width: int = Field(default=3, ge=1, le=20, description="bars on each side that a pivot stands above")
    pivot_max_age: int = Field(default=5, ge=1, le=100, description="bars since the later pivot; the last bar is 0 old")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.macd_fast >= self.macd_slow:
            raise ValueError(f"macd_fast is {self.macd_fast}, it must be below macd_slow ({self.macd_slow})")
        if self.pivot_max_age < self.pivot_half_width:
            raise ValueError(
                f"pivot_max_age is {self.pivot_max_age}: a pivot is known only after {self.pivot_half_width} bars "
                "(pivot_half_width), so no divergence could ever be seen"
            )
        if self.bars < self.longest_warm_up:
            raise ValueError(f"bars is {self.bars}, these periods need at least {self.longest_warm_up}")
        return self

    @property
    def longest_warm_up(self) -> int:
        """The fewest bars that give every indicator a value, the histogram for a whole trend."""
        return max(
            self.rsi_period + 1,
            self.macd_slow + self.macd_signal + self.trend_bars,
            self.stochastic_k + self.stochastic_slow + self.stochastic_d,
            2 * self.adx_period,
            self.atr_period + 1,
        )


DEFAULTS = IndicatorSettings()
SMA = MA_Type.SMA


def insufficient(observed: str, limit: str) -> Refusal:
    """The refusal of data that cannot be read."""
    return Refusal(Stage.VALIDATOR, "insufficient_data", observed, limit)


def read(bars: Bars, settings: IndicatorSettings = DEFAULTS) -> Indicators | Refusal:
    """The readings at the last of `bars`, from its last `settings.bars` bars only; or why there is none.

    Refused as `insufficient_data`: too few bars, a value that is not finite, a price of zero or less, a constant
    price, a reading that overflows.
    """
    window = bars.part(len(bars) - settings.bars, len(bars))
    fault = _fault(window, settings)
    if fault is not None:
        return fault
    with np.errstate(all="ignore"):
        reading = _ask(window, settings)
    numbers = [value for value in astuple(reading) if isinstance(value, float)]
    return reading if all(map(math.isfinite, numbers)) else insufficient("a reading that overflows", "finite")


def atr(bars: Bars, period: int) -> float | None:
    """Wilder's average true range at the last bar in dollars; None without `period` + 1 sound bars or movement."""
    if len(bars) <= period or not _sound(bars):
        return None
    value = float(talib.ATR(bars.high, bars.low, bars.close, period)[-1])
    return value if math.isfinite(value) and value > 0 else None


def age_in_intervals(bars: Bars, as_of: datetime, sessions: Sessions) -> float:
    """How old the last bar is, in bars of session time: nights, weekends and holidays do not age it.

    A bar's length is the longest seen (a daily bar is one regular session, also when the last was a half day).
    Infinite when there is no bar.
    """
    if len(bars) == 0:
        return math.inf
    last = datetime.fromtimestamp(int(bars.end[-1]), tz=as_of.tzinfo)
    return sessions.session_seconds(last, as_of) / float(np.max(bars.end - bars.start))


def efficiency(closes: FloatArray) -> float:
    """Kaufman's efficiency ratio in [0, 1]: net change / sum of all changes; 0 for a price that never moved.

    Source: P. Kaufman, Trading Systems and Methods. `closes` of shape (n,) give n - 1 changes.
    """
    path = float(np.abs(np.diff(closes)).sum())
    return abs(float(closes[-1] - closes[0])) / path if path > 0 else 0.0


def pivots(prices: FloatArray, half_width: int) -> IntArray:
    """Indices of local highs, oldest first: above every one of the bars before, not below any of those after.

    So a flat top is one pivot, its first bar. Lows are the pivots of `-prices`.
    """
    if prices.size <= 2 * half_width:
        return np.empty(0, dtype=np.int64)
    windows = sliding_window_view(prices, 2 * half_width + 1)
    centre = windows[:, half_width]
    before, after = windows[:, :half_width].max(axis=1), windows[:, half_width + 1 :].max(axis=1)
    return np.flatnonzero((centre > before) & (centre >= after)).astype(np.int64) + half_width


# ---- what must hold before TA-Lib is asked -----------------------------------------------------------


def _fault(window: Bars, settings: IndicatorSettings) -> Refusal | None:
    if len(window) < settings.bars:
        return insufficient(f"{len(window)} bars", f">= {settings.bars} bars")
    if not _sound(window):
        return insufficient("a bar with a value that is no price", "finite prices above 0")
    if np.ptp(window.close) == 0 or _stood_still(window, settings):
        return insufficient("a constant price", f"movement within {settings.stochastic_k} bars")
    return None


def _sound(bars: Bars) -> bool:
    prices = np.concatenate((bars.open, bars.high, bars.low, bars.close))
    return bool(np.isfinite(prices).all() and (prices > 0).all() and np.isfinite(bars.volume).all())


def _stood_still(window: Bars, settings: IndicatorSettings) -> bool:
    """Whether any range that the last %D averages is empty (TA-Lib would call it 0, that is oversold)."""
    reach = settings.stochastic_k + settings.stochastic_slow + settings.stochastic_d - 2
    highs = sliding_window_view(window.high[-reach:], settings.stochastic_k).max(axis=1)
    lows = sliding_window_view(window.low[-reach:], settings.stochastic_k).min(axis=1)
    return bool((highs == lows).any())


# ---- TA-Lib ------------------------------------------------------------------------------------------


def _ask(window: Bars, s: IndicatorSettings) -> Indicators:
    high, low, close = window.high, window.low, window.close
    macd, signal, histogram = talib.MACD(close, s.macd_fast, s.macd_slow, s.macd_signal)
    slow_k, slow_d = talib.STOCH(high, low, close, s.stochastic_k, s.stochastic_slow, SMA, s.stochastic_d, SMA)
    return Indicators(
        rsi=float(talib.RSI(close, s.rsi_period)[-1]),
        macd=float(macd[-1]),
        macd_signal=float(signal[-1]),
        macd_histogram=float(histogram[-1]),
        histogram_trend=_trend(histogram[-s.trend_bars :]),
        stochastic_k=float(slow_k[-1]),
        stochastic_d=float(slow_d[-1]),
        adx=float(talib.ADX(high, low, close, s.adx_period)[-1]),
        atr=float(talib.ATR(high, low, close, s.atr_period)[-1]),
        divergence=_divergence(window, histogram, s),
    )


def _trend(values: FloatArray) -> Literal["rising", "falling", "flat"]:
    steps = np.diff(values)
    if (steps > 0).all():
        return "rising"
    return "falling" if (steps < 0).all() else "flat"


def _divergence(window: Bars, histogram: FloatArray, s: IndicatorSettings) -> Direction | Literal["both"] | None:
    bearish = _diverges(window.high, histogram, s)
    bullish = _diverges(-window.low, -histogram, s)
    if bearish and bullish:
        return "both"
    if bearish:
        return Direction.SHORT
    return Direction.LONG if bullish else None


def _diverges(prices: FloatArray, histogram: FloatArray, s: IndicatorSettings) -> bool:
    """Whether the last two pivots rise in price while the histogram at them falls, the later still being young."""
    found = pivots(prices, s.pivot_half_width)
    if found.size < 2:  # noqa: PLR2004 - a divergence compares two pivots
        return False
    earlier, later = found[-2], found[-1]
    young = prices.size - 1 - later <= s.pivot_max_age
    return bool(young and prices[later] > prices[earlier] and histogram[later] < histogram[earlier])

"""A hand-made chart on which nothing is vetoed: a steady zigzag up to 100 dollars at noon, then bars as a test says.

Half-hour bars, three closes up 0.25, up 0.25, down 0.375; RSI 54 to 60, ADX 33, no divergence. Daily bars of a
constant range of 2 dollars, so ATR 2.00: stop 3.00 and target 6.00 away. The short is the image mirrored at 100.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np

from pipeline.models import Bars, Direction
from tests.market_builders import minute_bars, some_bars, xnys
from tests.trunk import NOON
from workers.adapters.market_memory import MemoryMarketData

Prices = tuple[float, float, float, float]
QUIET: Prices = (100.0, 100.5, 99.5, 100.0)
FIRST_DAY, LAST_DAY = date(2014, 6, 2), date(2014, 7, 16)
STEPS = (0.25, 0.25, -0.375)


def half_hours(symbol: str = "AAPL") -> Bars:
    """Every half hour of every session from June 2nd to July 16th, 2014."""
    span = (FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1))
    return minute_bars([day for day in span if xnys().session(day) is not None], symbol=symbol, minutes=30)


def a_chart(symbol: str = "AAPL", direction: Direction = Direction.LONG, after: Sequence[Prices] = ()) -> Bars:
    """The zigzag until noon, then the prices (open, high, low, close) of the half hours after it, then quiet ones."""
    bars = half_hours(symbol)
    known = int(np.searchsorted(bars.end, NOON.timestamp(), side="right"))
    steps = np.resize(np.asarray(STEPS), known)
    close = 100 + np.cumsum(steps) - steps.sum()
    past = np.column_stack(
        [close - steps, np.maximum(close, close - steps) + 0.125, np.minimum(close, close - steps) - 0.125, close]
    )
    rows = np.vstack([past, *(np.asarray([prices]) for prices in after), *[[QUIET]] * (len(bars) - known - len(after))])
    made = replace(bars, open=rows[:, 0].copy(), high=rows[:, 1].copy(), low=rows[:, 2].copy(), close=rows[:, 3].copy())
    return made if direction is Direction.LONG else mirrored(made, 100.0)


def mirrored(bars: Bars, at: float) -> Bars:
    """Every price reflected at `at`; highs become lows."""
    return replace(
        bars, open=2 * at - bars.open, high=2 * at - bars.low, low=2 * at - bars.high, close=2 * at - bars.close
    )


def a_market(*charts: Bars) -> MemoryMarketData:
    """These charts, each with twenty daily bars of a range of 2 dollars before July 9th."""
    daily = {bars.symbol: some_bars([100.0] * 20, symbol=bars.symbol, spread=1.0) for bars in charts}
    return MemoryMarketData({bars.symbol: bars for bars in charts}, sessions=xnys(), daily=daily)


def half_hour(number: int) -> datetime:
    """The end of the `number`-th half hour after noon of July 9th, within that session (1 to 8)."""
    return datetime.fromtimestamp(NOON.timestamp() + 1800 * number, UTC)

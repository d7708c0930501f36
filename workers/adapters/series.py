"""Market data out of whole series of bars: what is known at a moment is found by binary search."""

import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.models import Bars, FloatArray, IntArray, Quote
from workers.adapters.calendar import SessionTable

ONE_DAY = timedelta(days=1)
SYMBOL = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,2})?")


class SeriesMarketData(ABC):
    """Implements `MarketData` and `BarHistory` over the series a subclass loads; each is loaded once and kept.

    Only bars with `end <= as_of` are ever answered. Every method raises MarketDataError for a symbol that is none,
    has no series or a broken one.
    """

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions
        self._series: dict[str, Bars] = {}
        self._daily: dict[str, Bars] = {}

    @abstractmethod
    def load(self, symbol: str) -> Bars:
        """The whole series of the analysis interval, oldest first."""

    def load_daily(self, symbol: str) -> Bars:
        """The whole daily series: the analysis series itself, or its bars gathered by session."""
        return daily_from(self._whole(symbol), self._sessions)

    def bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) completed bars of the analysis interval."""
        return last_bars(self._whole(symbol), as_of, count)

    def daily_bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) completed daily bars."""
        return last_bars(self._daily_whole(symbol), as_of, count)

    def bars_between(self, symbol: str, start: datetime, end: datetime) -> Bars:
        """Every bar with `start < bar end <= end`, oldest first."""
        series = self._whole(symbol)
        return series.part(completed(series, start), completed(series, end))

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The last completed bar's close at its end; None before the first bar."""
        series = self._whole(symbol)
        known = completed(series, as_of)
        if known == 0:
            return None
        at = datetime.fromtimestamp(int(series.end[known - 1]), tz=UTC)
        source = "daily close" if series.interval >= ONE_DAY else "bar close"
        return Quote(symbol, Decimal(str(float(series.close[known - 1]))), at, source)

    def halted(self, symbol: str, as_of: datetime) -> bool | None:  # noqa: ARG002 - the port asks as of a moment
        """Bars do not tell: None."""
        checked(symbol)
        return None

    def forget(self, symbol: str) -> None:
        """Load the symbol's series again when it is next asked for."""
        self._series.pop(symbol, None)
        self._daily.pop(symbol, None)

    def _whole(self, symbol: str) -> Bars:
        series = self._series.get(symbol)
        if series is None:
            series = self._series[symbol] = frozen(self.load(checked(symbol)))
        return series

    def _daily_whole(self, symbol: str) -> Bars:
        daily = self._daily.get(symbol)
        if daily is None:
            daily = self._daily[symbol] = frozen(self.load_daily(checked(symbol)))
        return daily


def checked(symbol: str) -> str:
    """The symbol itself. Raises MarketDataError when it is not canonical (so it can never leave a folder)."""
    if not SYMBOL.fullmatch(symbol):
        raise MarketDataError(f"symbol is {symbol[:40]!r}, it must be 1-5 capitals and an optional class as in BRK.B")
    return symbol


def daily_from(bars: Bars, sessions: SessionTable) -> Bars:
    """Daily bars from open to close of each session; daily bars as they are. Bars outside sessions do not count."""
    if bars.interval >= ONE_DAY or len(bars) == 0:
        return bars
    numbers = sessions.numbers(bars.start)
    regular = np.flatnonzero(numbers >= 0)
    days, first = np.unique(numbers[regular], return_index=True)
    last = np.append(first[1:], regular.size)[: first.size] - 1
    return Bars(
        symbol=bars.symbol,
        interval=ONE_DAY,
        start=sessions.opens[days],
        end=sessions.closes[days],
        open=bars.open[regular][first],
        high=_reduced(np.maximum, bars.high[regular], first),
        low=_reduced(np.minimum, bars.low[regular], first),
        close=bars.close[regular][last],
        volume=_reduced(np.add, bars.volume[regular], first),
    )


def frozen(bars: Bars) -> Bars:
    """The same bars as views that nobody can write through."""
    views = bars.part(0, len(bars))
    for values in (views.start, views.end, views.open, views.high, views.low, views.close, views.volume):
        values.flags.writeable = False
    return views


def _reduced(operation: np.ufunc, values: FloatArray, first: IntArray) -> FloatArray:
    if first.size == 0:
        return values[:0]
    reduced: FloatArray = operation.reduceat(values, first)
    return reduced


def completed(series: Bars, as_of: datetime) -> int:
    """How many bars are complete at `as_of`."""
    if as_of.tzinfo is None:
        raise ValueError(f"{as_of.isoformat()} has no time zone; times are aware UTC")
    return int(series.end.searchsorted(as_of.timestamp(), side="right"))


def last_bars(series: Bars, as_of: datetime, count: int) -> Bars:
    """The last `count` (or fewer) of the bars that are complete at `as_of`."""
    known = completed(series, as_of)
    return series.part(known - count, known)

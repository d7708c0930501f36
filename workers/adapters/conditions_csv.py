"""Conditions of the whole market: the VIX from a CSV file, the index out of the bars."""

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.indicators import age_in_intervals
from pipeline.models import Bars
from pipeline.ports import MarketData
from workers.adapters.calendar import NEW_YORK, SessionTable
from workers.adapters.csv_table import Table, file_version, read_table
from workers.adapters.series import ONE_DAY

DAILY_VIX_MAX_AGE = timedelta(hours=13)  # two regular sessions
INTRADAY_VIX_MAX_AGE = timedelta(minutes=30)
VOLUME_SESSIONS = 20
VOLUME_SPARE_SESSIONS = 10  # so many of the last sessions may have no bars
STALE_BARS = 2.0


class CsvConditions:
    """Implements `pipeline.ports.MarketConditions`.

    `vix_csv`: `date, close` (a day's value is known at that day's close) or `timestamp, close` (known then); None:
    the profile has no VIX. A value older than `vix_max_age` of session time (default: two sessions, intraday half an
    hour) is unknown. `index_symbol`: whose bars in `market` stand for the market; None: the profile has no index.
    """

    def __init__(
        self,
        market: MarketData,
        sessions: SessionTable,
        *,
        vix_csv: Path | None = None,
        index_symbol: str | None = None,
        vix_max_age: timedelta | None = None,
    ) -> None:
        self._market = market
        self._sessions = sessions
        self._index = index_symbol
        self._vix_csv = vix_csv
        self._vix_max_age = vix_max_age
        self._vix: VixSeries | None = None
        self._vix_version: tuple[int, int] | None = None
        self._follow_vix()
        self._volume: tuple[int, float] | None = None

    def vix(self, as_of: datetime) -> Decimal | None:
        """The last VIX close known at `as_of`, of the file as it is now."""
        self._follow_vix()
        return None if self._vix is None else self._vix.at(as_of)

    def _follow_vix(self) -> None:
        """Read the file again when it changed."""
        if self._vix_csv is None or self._vix_version == (version := file_version(self._vix_csv)):
            return
        self._vix = VixSeries(self._vix_csv, self._sessions, self._vix_max_age)
        self._vix_version = version

    def index_bars(self, as_of: datetime, count: int) -> Bars | None:
        """Completed bars of the index, oldest first."""
        return None if self._index is None else self._market.bars(self._index, as_of, count)

    def relative_index_volume(self, as_of: datetime) -> float | None:
        """Index volume of the session so far / its 20-session mean up to the same minute; daily: last bar / mean.

        Before a session's first bar is complete, the session before it counts, as a whole.
        """
        latest = self.index_bars(as_of, 1)
        if latest is None:
            return None
        age = age_in_intervals(latest, as_of, self._sessions)
        if age > STALE_BARS:
            raise MarketDataError(f"{self._index}: the last bar is {age:.2f} bars old, limit {STALE_BARS:g}")
        end = int(latest.end[-1])
        if self._volume is None or self._volume[0] != end:
            self._volume = (end, self._measure(as_of, latest.interval))
        return self._volume[1]

    def _measure(self, as_of: datetime, interval: timedelta) -> float:
        sessions = VOLUME_SESSIONS + VOLUME_SPARE_SESSIONS + 1
        bars = self._market.bars(str(self._index), as_of, sessions * max(int(ONE_DAY / interval), 1))
        return relative_volume(bars, self._sessions, VOLUME_SESSIONS)


class VixSeries:
    """The VIX's closes in the order they became known."""

    def __init__(self, path: Path, sessions: SessionTable, max_age: timedelta | None = None) -> None:
        table = read_table(path)
        table.require(("close",))
        if ("date" in table.columns) == ("timestamp" in table.columns):
            raise MarketDataError(f"{path}: line 1: expected one of the columns date and timestamp")
        daily = "date" in table.columns
        self._path = path
        self._sessions = sessions
        self._known_at = _closes(table, sessions) if daily else _moments(table)
        table.prices("close")
        self._closes = [Decimal(text.strip()) for text in table.columns["close"]]
        self._max_age = max_age or (DAILY_VIX_MAX_AGE if daily else INTRADAY_VIX_MAX_AGE)

    def at(self, as_of: datetime) -> Decimal:
        """The last close known at `as_of`. Raises MarketDataError when there is none or it is too old."""
        known = bisect_right(self._known_at, as_of.timestamp())
        if known == 0:
            raise MarketDataError(f"{self._path.name}: no VIX is known before {as_of.isoformat()}")
        at = datetime.fromtimestamp(self._known_at[known - 1], tz=UTC)
        age = timedelta(seconds=self._sessions.session_seconds(at, as_of))
        if age > self._max_age:
            raise MarketDataError(f"{self._path.name}: the VIX is {age} of session time old, limit {self._max_age}")
        return self._closes[known - 1]


def relative_volume(bars: Bars, sessions: SessionTable, count: int) -> float:
    """Volume of the last bar's session so far / the mean of the `count` sessions before up to the same minute.

    Sessions without bars do not count; bars outside sessions neither. Raises MarketDataError with fewer sessions or
    without any volume in them.
    """
    numbers = sessions.numbers(bars.start)
    inside = np.flatnonzero(numbers >= 0)
    if inside.size == 0:
        raise MarketDataError(f"{bars.symbol}: no bar lies in a session")
    numbers, volume = numbers[inside], bars.volume[inside]
    since_open = bars.end[inside] - sessions.opens[numbers]
    current = int(numbers[-1])
    before = np.unique(numbers)[:-1][-count:]
    if before.size < count:
        raise MarketDataError(f"{bars.symbol}: {before.size} sessions before {current}, {count} are needed")
    whole_days = bars.interval >= ONE_DAY
    counted = np.full(numbers.shape, fill_value=True) if whole_days else since_open <= since_open[-1]
    so_far = float(volume[counted & (numbers == current)].sum())
    mean = float(volume[counted & np.isin(numbers, before)].sum()) / count
    if mean <= 0:
        raise MarketDataError(f"{bars.symbol}: no volume in the {count} sessions before")
    return so_far / mean


def _midnight_after(day: date) -> datetime:
    """When a value of a day without a session is known: the VIX has a few that the exchange has not."""
    return datetime.combine(day + timedelta(days=1), time(0), tzinfo=NEW_YORK)


def _closes(table: Table, sessions: SessionTable) -> list[int]:
    known: list[int] = []
    for day in table.days("date"):
        session = sessions.session(day)
        known.append(int((session.close if session else _midnight_after(day)).timestamp()))
    table.rising(np.asarray(known, dtype=np.int64), "date")
    return known


def _moments(table: Table) -> list[int]:
    moments = table.moments("timestamp")
    table.rising(moments, "timestamp")
    return [int(moment) for moment in moments]

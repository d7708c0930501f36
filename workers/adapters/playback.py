"""A recorded day played over and over: the map from now to the recording, and its bars as if they were made now.

Everything is a function of the clock: which round it is, which bars are complete, which posts are due. So any number of
processes on any hosts see the same market, and one that is started again sees it as before.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.models import Bars, Quote
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.calendar import SessionTable
from workers.adapters.series import completed, last_bars

MOST_ROUNDS: Final = 500  # further back nobody asks: no position is held so long


@dataclass(frozen=True, slots=True)
class Playback:
    """Rounds of `round_s` seconds, one after the other since 1970, each beginning at `first` of the recording."""

    first: datetime
    round_s: int
    speed: int

    @property
    def last(self) -> datetime:
        """The recording's moment at which a round ends."""
        return self.first + timedelta(seconds=self.round_s * self.speed)

    def round_of(self, at: datetime) -> int:
        """The number of the round that plays at `at`."""
        return int(at.timestamp() // self.round_s)

    def recorded(self, at: datetime) -> datetime:
        """The recording's moment that is played at `at`."""
        into = at.timestamp() - self.round_of(at) * self.round_s
        return self.first + timedelta(seconds=into * self.speed)

    def played(self, number: int, recorded: datetime) -> datetime:
        """When round `number` plays the recording's moment."""
        into = (recorded - self.first) / self.speed
        return datetime.fromtimestamp(number * self.round_s, UTC) + into


class PlayedMarketData:
    """`MarketData` and `BarHistory` of a recording that is played over and over; prices jump where a round begins.

    The recorded daily bars up to the day that is played are those of the last sessions.
    """

    def __init__(self, recording: CsvMarketData, playback: Playback, sessions: SessionTable) -> None:
        self._recording = recording
        self._playback = playback
        self._sessions = sessions
        self._days: dict[str, Bars] = {}

    def bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) completed bars."""
        now, rounds = self._playback.round_of(as_of), -(-count // max(len(self._day(symbol)), 1))
        return last_bars(self._rounds(symbol, now - rounds, now), as_of, count)

    def bars_between(self, symbol: str, start: datetime, end: datetime) -> Bars:
        """Every bar with `start < bar end <= end`, oldest first, of the last 500 rounds."""
        until = self._playback.round_of(end)
        # a round's last bar ends in the moment the next round begins
        since = max(self._playback.round_of(start) - 1, until - MOST_ROUNDS)
        series = self._rounds(symbol, since, until)
        return series.part(completed(series, start), completed(series, end))

    def daily_bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) daily bars before the recorded day, as those of the sessions that are over."""
        recorded = self._recording.daily_bars(symbol, self._playback.first, count)
        over = int(np.searchsorted(self._sessions.closes, as_of.timestamp(), side="right"))
        known = slice(max(over - len(recorded), 0), over)
        part = recorded.part(len(recorded) - (known.stop - known.start), len(recorded))
        return replace(part, start=self._sessions.opens[known], end=self._sessions.closes[known])

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The last completed bar's close at its end."""
        last = self.bars(symbol, as_of, 1)
        if len(last) == 0:
            return None
        at = datetime.fromtimestamp(int(last.end[0]), tz=UTC)
        return Quote(symbol, Decimal(str(float(last.close[0]))), at, "played bar close")

    def halted(self, symbol: str, as_of: datetime) -> bool | None:
        """Bars do not tell: None."""
        return self._recording.halted(symbol, as_of)

    def preload(self, seconds: float) -> int:
        """Read files before they are asked for, for so long at most; of how many symbols."""
        return self._recording.preload(seconds)

    def universe(self) -> tuple[str, ...]:
        """The recording's symbols."""
        return self._recording.universe()

    def check(self) -> tuple[str, ...]:
        """Every problem of the recording's files, for a person."""
        return self._recording.check()

    def _day(self, symbol: str) -> Bars:
        """The bars that every round plays. Raises MarketDataError when they cannot be played at this speed."""
        day = self._days.get(symbol)
        if day is None:
            played = self._playback
            day = self._days[symbol] = self._recording.bars_between(symbol, played.first, played.last)
            if day.interval % timedelta(seconds=played.speed):
                raise MarketDataError(f"bars of {day.interval} at playback.speed {played.speed} are no whole seconds")
        return day

    def _rounds(self, symbol: str, first: int, last: int) -> Bars:
        """The day's bars as rounds `first` to `last` play them."""
        day, played = self._day(symbol), self._playback
        begins = np.repeat(np.arange(first, last + 1, dtype=np.int64) * played.round_s, len(day))
        since, times = int(played.first.timestamp()), last + 1 - first
        return Bars(
            symbol=symbol,
            interval=day.interval / played.speed,
            start=begins + np.tile((day.start - since) // played.speed, times),
            end=begins + np.tile((day.end - since) // played.speed, times),
            open=np.tile(day.open, times),
            high=np.tile(day.high, times),
            low=np.tile(day.low, times),
            close=np.tile(day.close, times),
            volume=np.tile(day.volume, times),
        )

"""The exchange's sessions: a table of opens and closes, XNYS as exchange_calendars knows it, and one always open."""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np
from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

from pipeline.errors import MarketDataError
from pipeline.models import IntArray, Phase, Session

NEW_YORK = ZoneInfo("America/New_York")
PRE_MARKET_FROM = time(4)
AFTER_HOURS_UNTIL = time(20)
FIRST_DAY = date(1995, 1, 1)
LAST_DAY = date(2035, 12, 31)


class SessionTable:
    """Implements `pipeline.ports.Sessions` by binary search over given sessions, sorted by day.

    Knows the days from `first` to `last` (default: those of the first and the last session); every question
    beyond them raises MarketDataError, a naive time raises ValueError.
    """

    def __init__(self, sessions: Sequence[Session], first: date | None = None, last: date | None = None) -> None:
        if not sessions:
            raise MarketDataError("the calendar has no session; it needs at least one")
        self._sessions = tuple(sessions)
        self._index = {session.day: number for number, session in enumerate(sessions)}
        self._opens = [session.open.timestamp() for session in sessions]
        self._closes = [session.close.timestamp() for session in sessions]
        self._pre_opens = [_new_york(session.day, PRE_MARKET_FROM) for session in sessions]
        self._after_closes = [_new_york(session.day, AFTER_HOURS_UNTIL) for session in sessions]
        lengths = [close - open_ for open_, close in zip(self._opens, self._closes, strict=True)]
        self._elapsed = [0.0, *accumulate(lengths)]
        self._first, self._last = first or sessions[0].day, last or sessions[-1].day
        self._from = _new_york(self._first, time(0))
        self._until = _new_york(self._last, time(23, 59, 59))
        self.opens: IntArray = np.asarray(self._opens, dtype=np.int64)
        self.closes: IntArray = np.asarray(self._closes, dtype=np.int64)

    # ---- the port ----

    def phase(self, at: datetime) -> Phase:
        """Regular [open, close); pre-market 04:00 New York to open and after-hours close to 20:00 on session days."""
        moment = self._moment(at)
        number = bisect_right(self._pre_opens, moment) - 1
        if number < 0 or moment >= self._after_closes[number]:
            return Phase.CLOSED
        if moment < self._opens[number]:
            return Phase.PRE_MARKET
        return Phase.REGULAR if moment < self._closes[number] else Phase.AFTER_HOURS

    def session_of(self, at: datetime) -> Session:
        """The trading day `at` belongs to: the first session whose close is later than `at`."""
        return self._numbered(bisect_right(self._closes, self._moment(at)), at)

    def next_open(self, at: datetime) -> datetime:
        """The first session open later than or equal to `at`."""
        return self._numbered(bisect_left(self._opens, self._moment(at)), at).open

    def session(self, day: date) -> Session | None:
        """The session of that date, None when the exchange is closed that day."""
        if not self._first <= day <= self._last:
            raise self._beyond(day.isoformat())
        number = self._index.get(day)
        return None if number is None else self._sessions[number]

    def session_seconds(self, start: datetime, end: datetime) -> float:
        """Seconds of regular session time between two instants; 0 when `end <= start`."""
        return max(self._lived(self._moment(end)) - self._lived(self._moment(start)), 0.0)

    def sessions_between(self, start: datetime, end: datetime) -> int:
        """How many sessions have `start < close <= end`."""
        past = bisect_right(self._closes, self._moment(start))
        return max(bisect_right(self._closes, self._moment(end)) - past, 0)

    # ---- for whole series of bars ----

    def numbers(self, moments: IntArray) -> IntArray:
        """For each of `moments` (epoch seconds, shape (n,)) the number of the session it lies in, -1 outside any."""
        beyond = moments[(moments < self._from) | (moments > self._until)]
        if beyond.size:
            raise self._beyond(datetime.fromtimestamp(int(beyond[0]), tz=UTC).isoformat())
        found = np.searchsorted(self.opens, moments, side="right") - 1
        inside = (found >= 0) & (moments < self.closes[found])
        return np.where(inside, found, -1)

    # ---- inside ----

    def _lived(self, moment: float) -> float:
        """Seconds of session time since the first open."""
        number = bisect_right(self._opens, moment) - 1
        if number < 0:
            return 0.0
        return self._elapsed[number] + min(moment, self._closes[number]) - self._opens[number]

    def _moment(self, at: datetime) -> float:
        if at.tzinfo is None:
            raise ValueError(f"{at.isoformat()} has no time zone; times are aware UTC")
        moment = at.timestamp()
        if not self._from <= moment <= self._until:
            raise self._beyond(at.isoformat())
        return moment

    def _numbered(self, number: int, at: datetime) -> Session:
        if number >= len(self._sessions):
            raise self._beyond(at.isoformat())
        return self._sessions[number]

    def _beyond(self, what: str) -> MarketDataError:
        return MarketDataError(f"{what} is beyond the calendar, which knows {self._first} to {self._last}")


class ExchangeSessions(SessionTable):
    """The New York Stock Exchange (XNYS) from `first` to `last`; the bounds are explicit, never today's."""

    def __init__(self, first: date = FIRST_DAY, last: date = LAST_DAY) -> None:
        super().__init__(_xnys(first, last), first, last)


class AlwaysOpen(SessionTable):
    """An exchange that never closes: a session is a day of UTC, from midnight to midnight."""

    def __init__(self, first: date = FIRST_DAY, last: date = LAST_DAY) -> None:
        opens = [datetime.combine(first, time(0), UTC) + timedelta(days=n) for n in range((last - first).days + 1)]
        super().__init__([Session(at.date(), at, at + timedelta(days=1)) for at in opens], first, last)

    def phase(self, at: datetime) -> Phase:
        """Always regular."""
        self._moment(at)
        return Phase.REGULAR


def _xnys(first: date, last: date) -> list[Session]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 uses what pandas 3.1 deprecates
        calendar = XNYSExchangeCalendar(start=first.isoformat(), end=last.isoformat())
    schedule = calendar.schedule
    return [
        Session(day.date(), _utc(opened), _utc(closed))
        for day, opened, closed in zip(schedule.index, calendar.opens_nanos, calendar.closes_nanos, strict=True)
    ]


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(int(nanoseconds) // 1_000_000_000, tz=UTC)


def _new_york(day: date, at: time) -> float:
    return datetime.combine(day, at, tzinfo=NEW_YORK).timestamp()

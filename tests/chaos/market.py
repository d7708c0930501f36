"""A market for the wall clock: sessions of 24 s with 6 s of night between them, and bars that no rule vetoes.

Sessions are short so that a run of minutes sees opens, closes, held signals and orders whose session ends. Each bears
a date of its own, the present one today's.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.models import Bars, Phase, Session
from tests.csv_files import write_bars
from workers.adapters.calendar import SessionTable

CYCLE_S: Final = 30
OPEN_S: Final = 24
BAR_S: Final = 8
PAST, FUTURE = 200, 360  # sessions before and after the run's start
STEPS: Final = (0.25, 0.25, -0.375)
PRICE: Final = 100.0
DAILY_BARS: Final = 30


class ShortSessions(SessionTable):
    """Two sessions a minute: 24 s open, 6 s closed."""

    def __init__(self, start: datetime) -> None:
        first = int(start.timestamp()) // CYCLE_S * CYCLE_S - PAST * CYCLE_S
        day = start.date() - timedelta(days=PAST)
        super().__init__([_session(day + timedelta(days=n), first + n * CYCLE_S) for n in range(PAST + FUTURE)])
        self._from, self._until = self._opens[0], self._closes[-1]

    def phase(self, at: datetime) -> Phase:
        """Open or closed; there is no pre-market here."""
        return Phase.REGULAR if self.session_of(at).open <= at else Phase.CLOSED

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All of them."""
        return self._sessions


def _session(day: date, start: int) -> Session:
    return Session(day, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + OPEN_S, UTC))


def write_market(folder: Path, symbols: list[str], sessions: ShortSessions, start: datetime) -> None:
    """Bars of 8 s in `folder`/bars, from 150 bars back to the end of all sessions, and daily ones in `folder`/daily."""
    past = [session for session in sessions.sessions if session.close <= start]
    near = [*past[-60:], *(session for session in sessions.sessions if session.close > start)]
    starts = np.asarray(
        [int(s.open.timestamp()) + offset for s in near for offset in range(0, OPEN_S, BAR_S)], dtype=np.int64
    )
    for symbol in symbols:
        write_bars(folder / "bars", _zigzag(symbol, starts))
        _write_daily(folder / "daily", symbol, [s.day for s in past[-DAILY_BARS:]])


def _zigzag(symbol: str, starts: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Bars:
    """Closes up 0.25, up 0.25, down 0.375 around 100 dollars: RSI 54 to 60, ADX 33, no divergence."""
    steps = np.resize(np.asarray(STEPS), starts.size)
    close = PRICE + np.cumsum(steps)
    return Bars(
        symbol=symbol,
        interval=timedelta(seconds=BAR_S),
        start=starts,
        end=starts + BAR_S,
        open=close - steps,
        high=np.maximum(close, close - steps) + 0.125,
        low=np.minimum(close, close - steps) - 0.125,
        close=close,
        volume=np.full(starts.size, 1000.0),
    )


def _write_daily(folder: Path, symbol: str, days: list[date]) -> None:
    """Days of a range of 2 dollars, so the stop is 3 dollars away."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{day.isoformat()},{PRICE},{PRICE + 1},{PRICE - 1},{PRICE},100000" for day in days]
    (folder / f"{symbol}.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows, ""]))

"""Builders of bars, sessions, readings and signals that are valid by default."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from pipeline.models import Bars, Direction, FloatArray, Indicators, Label, Signal, Validation, ValidationStatus, Vote
from workers.adapters.calendar import ExchangeSessions

FIRST, LAST = date(2012, 1, 1), date(2016, 12, 31)
WEDNESDAY_NOON = datetime(2014, 7, 9, 16, tzinfo=UTC)  # 12:00 New York, regular session


@cache
def xnys() -> ExchangeSessions:
    """The New York calendar of 2012 to 2016."""
    return ExchangeSessions(FIRST, LAST)


def at(text: str) -> datetime:
    """A UTC time such as `2014-07-09 16:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def a_walk(bars: int = 150, seed: int = 1, start: float = 100.0) -> FloatArray:
    """Closes of a random walk on a grid of 1/64 dollar, far from zero."""
    steps = np.random.default_rng(seed).integers(-64, 65, bars)
    return np.asarray(start + np.cumsum(steps) / 64, dtype=np.float64)


def some_bars(
    closes: Sequence[float] | FloatArray | None = None,
    *,
    symbol: str = "AAPL",
    last_day: date = date(2014, 7, 8),
    spread: float = 0.5,
    volume: float = 1_000.0,
) -> Bars:
    """Daily bars that end with the session of `last_day`; each opens at its close, `spread` above its low."""
    values = np.asarray(a_walk() if closes is None else closes, dtype=np.float64)
    days: list[date] = []
    day = last_day
    while len(days) < values.size:
        if xnys().session(day) is not None:
            days.append(day)
        day -= timedelta(days=1)
    found = [session for day in reversed(days) if (session := xnys().session(day)) is not None]
    return Bars(
        symbol=symbol,
        interval=timedelta(days=1),
        start=np.asarray([session.open.timestamp() for session in found], dtype=np.int64),
        end=np.asarray([session.close.timestamp() for session in found], dtype=np.int64),
        open=values.copy(),
        high=values + spread,
        low=values - spread,
        close=values.copy(),
        volume=np.full(values.size, volume),
    )


def minute_bars(days: Sequence[date], *, symbol: str = "AAPL", seed: int = 1, minutes: int = 1) -> Bars:
    """Bars of some minutes through the whole sessions of `days`, a random walk around 100."""
    starts: list[int] = []
    for day in days:
        session = xnys().session(day)
        assert session is not None
        starts += range(int(session.open.timestamp()), int(session.close.timestamp()), 60 * minutes)
    start = np.asarray(starts, dtype=np.int64)
    close = a_walk(start.size, seed, start=500.0)
    return Bars(
        symbol=symbol,
        interval=timedelta(minutes=minutes),
        start=start,
        end=start + 60 * minutes,
        open=close.copy(),
        high=close + 0.25,
        low=close - 0.25,
        close=close,
        volume=np.full(start.size, 10.0),
    )


def with_value(bars: Bars, column: str, index: int, value: float) -> Bars:
    """The same bars but for one value."""
    changed = np.array(getattr(bars, column))
    changed[index] = value
    columns: dict[str, Any] = {column: changed}
    return replace(bars, **columns)


def a_signal(direction: Direction = Direction.LONG, **changes: Any) -> Signal:
    """An urgent signal at Wednesday noon: |score| 0.8, confidence 0.9, so conviction 0.72."""
    decided_at = changes.get("decided_at", WEDNESDAY_NOON)
    signal = Signal(
        decision_id="d-1",
        symbol="AAPL",
        direction=direction,
        score=0.8 * direction.sign,
        confidence=0.9,
        created_at=decided_at,
        decided_at=decided_at,
        expires_at=decided_at + timedelta(days=1),
        authors=frozenset({"ann"}),
        fingerprints=frozenset({"text-1"}),
        message_ids=("m-1",),
        kind="urgent",
    )
    return replace(signal, **changes)


def a_reading(**changes: Any) -> Indicators:
    """A reading on which no rule fires, for either direction."""
    reading = Indicators(
        rsi=50.0,
        macd=0.0,
        macd_signal=0.0,
        macd_histogram=0.0,
        histogram_trend="flat",
        stochastic_k=50.0,
        stochastic_d=50.0,
        adx=25.0,
        atr=1.0,
        divergence=None,
    )
    return replace(reading, **changes)


def a_validation(status: ValidationStatus = ValidationStatus.PASS, **reading: Any) -> Validation:
    """A validation with a reading, but for an unvalidated one, which has none."""
    if status is ValidationStatus.UNVALIDATED:
        return Validation(status, error="MarketDataError")
    return Validation(status, indicators=a_reading(**reading))


def a_vote(by: str = "bob", text: str = "text-2", label: str = "bullish", **changes: Any) -> Vote:
    """A vote of someone else, one minute before Wednesday noon."""
    known = changes.pop("at", WEDNESDAY_NOON - timedelta(minutes=1))
    fields: dict[str, Any] = {"id": f"{by}-{text}", "by": by, "text": text, "label": Label(label), "score": 0.5}
    return Vote(**(fields | {"confidence": 0.6, "created_at": known, "at": known} | changes))

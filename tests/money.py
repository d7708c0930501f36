"""Builders and fakes of the money side: valid by default, every fact can be named."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import redis

from pipeline.errors import TransientError
from pipeline.models import (
    Bars,
    BracketOrder,
    Direction,
    Fill,
    FillRole,
    GateVerdict,
    Levels,
    Phase,
    Quote,
    Session,
    Side,
    Signal,
    Tier,
    TradeRecommendation,
    TradingState,
    Validation,
    ValidationStatus,
)
from pipeline.ports import ReservationRequest
from pipeline.risk import RiskSettings

D = Decimal
MONDAY = date(2014, 6, 2)
OPEN = datetime(2014, 6, 2, 13, 30, tzinfo=UTC)
CLOSE = datetime(2014, 6, 2, 20, 0, tzinfo=UTC)
NOW = datetime(2014, 6, 2, 15, 0, tzinfo=UTC)
SESSION = Session(MONDAY, OPEN, CLOSE)


def at(clock: str, day: int = 2) -> datetime:
    """A moment of June 2014, UTC; the 2nd is a Monday."""
    hour, minute = clock.split(":")
    return datetime(2014, 6, day, int(hour), int(minute), tzinfo=UTC)


class WeekdaySessions:
    """Every weekday 13:30-20:00 UTC, no holidays."""

    def session(self, day: date) -> Session | None:
        if day.weekday() > 4:
            return None
        return Session(day, datetime.combine(day, time(13, 30), UTC), datetime.combine(day, time(20), UTC))

    def session_of(self, at: datetime) -> Session:
        day = at.date()
        while (session := self.session(day)) is None or session.close <= at:
            day += timedelta(days=1)
        return session

    def phase(self, at: datetime) -> Phase:
        session = self.session(at.date())
        return Phase.REGULAR if session is not None and session.open <= at < session.close else Phase.CLOSED

    def next_open(self, at: datetime) -> datetime:
        session = self.session_of(at)
        return session.open if session.open >= at else self.session_of(session.close).open

    def session_seconds(self, start: datetime, end: datetime) -> float:
        raise NotImplementedError

    def sessions_between(self, start: datetime, end: datetime) -> int:
        count, session = 0, self.session_of(start)
        while session.close <= end:
            count, session = count + 1, self.session_of(session.close)
        return count


@dataclass
class FakeMarket:
    """Quotes by symbol and completed bars by symbol; every price is known at `quoted_at`."""

    prices: dict[str, Decimal] = field(default_factory=dict)
    history: dict[str, Bars] = field(default_factory=dict)
    quoted_at: datetime | None = None
    fails: Exception | None = None

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        if self.fails is not None:
            raise self.fails
        price = self.prices.get(symbol)
        return None if price is None else Quote(symbol, price, self.quoted_at or as_of, "test")

    def bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        raise NotImplementedError

    def daily_bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        raise NotImplementedError

    def halted(self, symbol: str, as_of: datetime) -> bool | None:
        return None

    def bars_between(self, symbol: str, start: datetime, end: datetime) -> Bars:
        bars = self.history.get(symbol) or some_bars(symbol)
        kept = (bars.end > start.timestamp()) & (bars.end <= end.timestamp())
        names = ("start", "end", "open", "high", "low", "close", "volume")
        return replace(bars, **{name: getattr(bars, name)[kept] for name in names})


@dataclass
class FakeControl:
    """A trading state that can be lost."""

    state: TradingState = TradingState.ACTIVE
    deny: str | None = None
    fails: bool = False
    reduced: list[str] = field(default_factory=list)

    def trading_state(self) -> TradingState:
        if self.fails:
            raise TransientError("no answer")
        return self.state

    def denied(self, symbol: str, authors: frozenset[str]) -> str | None:
        return self.deny

    def reduce(self, by: str, reason: str, at: datetime) -> None:
        self.reduced.append(reason)
        self.state = TradingState.REDUCING if self.state is TradingState.ACTIVE else self.state


def some_bars(symbol: str, *rows: tuple[datetime, datetime, float, float, float, float]) -> Bars:
    """Bars from (start, end, open, high, low, close)."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 6
    starts, ends = (np.array([int(at.timestamp()) for at in column], dtype=np.int64) for column in columns[:2])
    first, high, low, last = (np.array(column, dtype=np.float64) for column in columns[2:])
    return Bars(symbol, timedelta(minutes=30), starts, ends, first, high, low, last, np.full(len(rows), 1000.0))


def a_levels(price: str = "100", stop: str = "2", target: str = "4", **facts: Any) -> Levels:
    """Stop 2 and target 4 dollars away from 100, tick one cent."""
    reference, near, far = D(price), D(stop), D(target)
    return replace(Levels(reference, near, far, reference - near, reference + far, D("0.01")), **facts)


def a_signal(symbol: str = "AAA", direction: Direction = Direction.LONG, **facts: Any) -> Signal:
    """A long urgent signal of one author, good for a minute."""
    sure = Signal(
        decision_id=f"d-{symbol}",
        symbol=symbol,
        direction=direction,
        score=0.9 * direction.sign,
        confidence=0.9,
        created_at=NOW,
        decided_at=NOW,
        expires_at=NOW + timedelta(minutes=1),
        authors=frozenset({"ann"}),
        fingerprints=frozenset({"f1"}),
        message_ids=("m1",),
        kind="urgent",
    )
    return replace(sure, **facts)


def a_recommendation(signal: Signal | None = None, **facts: Any) -> TradeRecommendation:
    """A strong, validated recommendation at 100 dollars with the stop 2 dollars away."""
    made = signal or a_signal()
    whole = TradeRecommendation(
        signal=made,
        score=90.0,
        tier=Tier.STRONG,
        size_factor=1.0,
        validation=Validation(ValidationStatus.PASS),
        quote=Quote(made.symbol, D(100), NOW, "test"),
        levels=a_levels(),
        components={},
    )
    return replace(whole, **facts)


def a_request(symbol: str = "AAA", **facts: Any) -> ReservationRequest:
    """10 shares of a new long position at 100, with the default ceilings of 100,000 dollars of equity."""
    limits = RiskSettings()
    request = ReservationRequest(
        decision_id=f"d-{symbol}",
        symbol=symbol,
        side=Side.BUY,
        quantity=10,
        price=D(100),
        notional=D(1000),
        as_of=NOW,
        session=SESSION.day,
        week=SESSION.week,
        expected_position=0,
        max_open_positions=limits.max_open_positions,
        max_gross_exposure=D(100_000),
        max_session_loss=D(1_000),
        max_week_loss=D(3_000),
        same_side_window_s=limits.same_side_window_s,
        max_per_symbol_per_minute=limits.max_per_symbol_per_minute,
        max_per_minute=limits.max_per_minute,
        max_entries_per_hour_after_loss=limits.max_entries_per_hour_after_loss,
    )
    return replace(request, **facts)


def a_fill(side: Side = Side.BUY, quantity: int = 10, price: str = "100", **facts: Any) -> Fill:
    """Ten shares of AAA bought at 100 without a fee."""
    fill = Fill(
        fill_id=f"{side}-{quantity}-{price}",
        client_order_id="o-1",
        symbol="AAA",
        side=side,
        quantity=quantity,
        price=D(price),
        fee=D(0),
        at=NOW,
        role=FillRole.ENTRY,
    )
    return replace(fill, **facts)


def an_order(symbol: str = "AAA", side: Side = Side.BUY, **facts: Any) -> BracketOrder:
    """Ten shares at 100, submitted at 15:00, good until the close, stop 2 and target 4 away."""
    order = BracketOrder(
        client_order_id=f"o-{symbol}",
        decision_id=f"d-{symbol}",
        symbol=symbol,
        side=side,
        quantity=10,
        levels=a_levels(),
        submitted_at=NOW,
        good_until=CLOSE,
        max_gap=D("0.05"),
        max_hold_sessions=10,
    )
    return replace(order, **facts)


def an_open_gate(factor: str = "1") -> GateVerdict:
    """A gate that lets through this share of the size."""
    return GateVerdict(open=True, factor=D(factor), checks=())


def keyspace(client: redis.Redis) -> dict[str, Any]:
    """Everything the server holds, by key: strings, hashes, sets, and zsets as member -> score."""
    server: Any = client
    readers = {
        "string": server.get,
        "hash": server.hgetall,
        "set": server.smembers,
        "list": lambda key: server.lrange(key, 0, -1),
        "stream": lambda key: [fields for _, fields in server.xrange(key)],
        "zset": lambda key: dict(server.zrange(key, 0, -1, withscores=True)),
    }
    return {key: readers[server.type(key)](key) for key in sorted(server.scan_iter())}

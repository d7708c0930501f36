"""The paper venue's matching, pure: one bracket and the bars it lives through give a new bracket with its fills.

Rules (STAGES 8): the entry fills at the first price seen after the decision; market and stop fills slip against us,
the target is a limit; where one bar holds both, the stop comes first; each bar is lived through once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from math import isfinite

from config.paper import PaperSettings
from pipeline.executor import close_of_session
from pipeline.models import Bars, BracketOrder, Fill, FillRole, OrderReport, OrderStatus, Side
from pipeline.ports import Sessions

PRICE_STEP = Decimal("0.0001")
BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class PaperOrder:
    """One bracket at the venue.

    `cursor`: every bar that ended by then was lived through. `exit_at`: the close at which time runs out,
    set by the entry's fill, like `stop` and `target`. `closed`: nothing of it can fill any more.
    """

    order: BracketOrder
    cursor: datetime
    status: OrderStatus = OrderStatus.ACCEPTED
    fills: tuple[Fill, ...] = ()
    stop: Decimal | None = None
    target: Decimal | None = None
    exit_at: datetime | None = None
    reason: str = ""
    closed: bool = False

    @property
    def report(self) -> OrderReport:
        """What the venue tells about it."""
        return OrderReport(
            client_order_id=self.order.client_order_id,
            symbol=self.order.symbol,
            status=self.status,
            filled_quantity=self.order.quantity if self.fills else 0,
            fills=self.fills,
            stop=self.stop,
            target=self.target,
            reason=self.reason,
            closed=self.closed,
        )


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of `Bars`, prices as decimals on the venue's step of 0.0001 dollars."""

    start: datetime
    end: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True, slots=True)
class Venue:
    """What matching needs besides the bars."""

    settings: PaperSettings
    sessions: Sessions


def placed(order: BracketOrder, settings: PaperSettings) -> PaperOrder:
    """A bracket as it is accepted, or rejected at once (`hard_to_borrow`)."""
    fresh = PaperOrder(order, cursor=order.submitted_at)
    if order.side is Side.SELL and not order.reduce_only and order.symbol in settings.hard_to_borrow:
        return rejected(fresh, "hard_to_borrow")
    return fresh


def rejected(state: PaperOrder, reason: str) -> PaperOrder:
    """Refused by the venue: nothing of it was or will be filled."""
    return replace(state, status=OrderStatus.REJECTED, reason=reason, closed=True)


def withdrawn(state: PaperOrder) -> PaperOrder:
    """What has not filled is taken back: a working entry is cancelled, a position is left without exits."""
    if state.closed:
        return state
    if state.fills:
        return replace(state, closed=True)
    return replace(state, closed=True, status=OrderStatus.CANCELLED, reason="cancelled")


def live(state: PaperOrder, bars: Bars, as_of: datetime, venue: Venue) -> PaperOrder:
    """The bracket at `as_of`, having lived through the bars that ended in (cursor, as_of], each once."""
    for bar in rows(bars):
        if state.closed or bar.end > as_of:
            break
        if bar.end > state.cursor:
            state = replace(_through(state, bar, venue), cursor=bar.end)
    if not state.closed and not state.fills and as_of >= state.order.good_until:
        return _unfilled(state)
    return state


def rows(bars: Bars) -> Iterator[Bar]:
    """The bars one by one; a bar without four finite positive prices is no price and is passed over."""
    for i in range(len(bars)):
        prices = (bars.open[i], bars.high[i], bars.low[i], bars.close[i])
        if all(isfinite(price) and price > 0 for price in prices):
            start, end = (datetime.fromtimestamp(int(at[i]), UTC) for at in (bars.start, bars.end))
            yield Bar(start, end, *(Decimal(str(price)).quantize(PRICE_STEP) for price in prices))


def _through(state: PaperOrder, bar: Bar, venue: Venue) -> PaperOrder:
    """One bar: the entry first, then the exits it leaves open."""
    if state.fills:
        return _exits(state, bar, venue, at_open=True)
    if bar.end > state.order.good_until:
        return _unfilled(state)
    order = state.order
    if bar.start >= order.submitted_at:
        entered = _entry(state, bar.open, bar.start, venue)
        return _exits(entered, bar, venue, at_open=False) if not entered.closed else entered
    return _entry(state, bar.close, bar.end, venue)


def _entry(state: PaperOrder, price: Decimal, at: datetime, venue: Venue) -> PaperOrder:
    """The first price after the decision: filled, or rejected when it gapped too far from the reference."""
    order = state.order
    if not order.reduce_only and abs(price / order.levels.reference - 1) > order.max_gap:
        return rejected(state, "max_gap")
    role = FillRole.CLOSE if order.reduce_only else FillRole.ENTRY
    fill = _fill(state, role, _slipped(price, order.side, venue.settings), at, venue.settings)
    filled = replace(state, status=OrderStatus.FILLED, fills=(fill,))
    if order.reduce_only:
        return replace(filled, closed=True)
    levels, way = order.levels, order.side.sign
    return replace(
        filled,
        stop=_on_tick(fill.price - way * levels.stop_distance, levels.tick),
        target=_on_tick(fill.price + way * levels.target_distance, levels.tick),
        exit_at=close_of_session(venue.sessions, at, order.max_hold_sessions),
    )


def _exits(state: PaperOrder, bar: Bar, venue: Venue, *, at_open: bool) -> PaperOrder:
    """The exit this bar brings, if any. `at_open`: the position was already held at the bar's open."""
    found = (_exit_at_open(state, bar) if at_open else None) or _exit_within(state, bar)
    if found is None:
        return state
    role, price, at = found
    if role is not FillRole.TARGET:
        price = _slipped(price, _other(state.order.side), venue.settings)
    return replace(state, fills=(*state.fills, _fill(state, role, price, at, venue.settings)), closed=True)


def _exit_at_open(state: PaperOrder, bar: Bar) -> tuple[FillRole, Decimal, datetime] | None:
    """What the first price of the bar triggers: a gap beyond the stop or the target, or time that has run out."""
    if _reached(bar.open, state.stop, state.order.side, worse=True):
        return FillRole.STOP, bar.open, bar.start
    if _reached(bar.open, state.target, state.order.side, worse=False):
        return FillRole.TARGET, bar.open, bar.start
    if state.exit_at is not None and bar.start >= state.exit_at:
        return FillRole.TIME_EXIT, bar.open, bar.start
    return None


def _exit_within(state: PaperOrder, bar: Bar) -> tuple[FillRole, Decimal, datetime] | None:
    """What the rest of the bar triggers, the stop before the target, time last. Known when the bar ends."""
    long = state.order.side is Side.BUY
    worst, best = (bar.low, bar.high) if long else (bar.high, bar.low)
    if state.stop is not None and _reached(worst, state.stop, state.order.side, worse=True):
        return FillRole.STOP, state.stop, bar.end
    if state.target is not None and _reached(best, state.target, state.order.side, worse=False):
        return FillRole.TARGET, state.target, bar.end
    if state.exit_at is not None and bar.end >= state.exit_at:
        return FillRole.TIME_EXIT, bar.close, bar.end
    return None


def _reached(price: Decimal, level: Decimal | None, side: Side, *, worse: bool) -> bool:
    """Whether the price touched the level from the position's worse (stop) or better (target) side."""
    if level is None:
        return False
    way = -side.sign if worse else side.sign
    return way * (price - level) >= 0


def _unfilled(state: PaperOrder) -> PaperOrder:
    return replace(state, status=OrderStatus.UNFILLED, reason="no_price_by_close", closed=True)


def _slipped(price: Decimal, side: Side, settings: PaperSettings) -> Decimal:
    """The price a market order gets: worse by the slippage, rounded against us to 0.0001 dollars."""
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    return (price * (1 + side.sign * settings.slippage_bps / BPS)).quantize(PRICE_STEP, rounding)


def _on_tick(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value(ROUND_HALF_UP) * tick


def _other(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


def _fill(state: PaperOrder, role: FillRole, price: Decimal, at: datetime, settings: PaperSettings) -> Fill:
    """The whole quantity at this price; the bracket's name and the role name the fill."""
    order = state.order
    opening = role in (FillRole.ENTRY, FillRole.CLOSE)
    return Fill(
        fill_id=f"{order.client_order_id}.{role}",
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side if opening else _other(order.side),
        quantity=order.quantity,
        price=price,
        fee=settings.fee_per_order + settings.fee_per_share * order.quantity,
        at=at,
        role=role,
    )

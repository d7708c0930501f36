"""Positions and realised results from fills, in exact decimals: every amount is a whole number of micro-dollars."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from pipeline.models import Fill, Position

MICRO = Decimal("0.000001")


def in_micros(amount: Decimal) -> int:
    """The amount in micro-dollars, to the nearest one. Raises ValueError for an amount that is not finite."""
    if not amount.is_finite():
        raise ValueError(f"amount is {amount}; a finite number of dollars is needed")
    return int((amount / MICRO).to_integral_value(ROUND_HALF_EVEN))


def in_dollars(micros: int) -> Decimal:
    """Micro-dollars as dollars, exact."""
    return micros * MICRO


def apply_fill(position: Position | None, fill: Fill) -> tuple[Position | None, Decimal]:
    """The position after a fill (None when flat) and what the fill realised in dollars, its fee included.

    A fill against the position closes it pro rata at average cost; what goes beyond flat opens the other side
    at the fill's price. Costs are split to the micro-dollar and the remainder stays with the position, so
    `change of cash + change of cost = realised`, exactly. Raises ValueError for another symbol's fill.
    """
    if position is not None and position.symbol != fill.symbol:
        raise ValueError(f"fill of {fill.symbol} on a position in {position.symbol}; symbols must match")
    closing = _closing(position, fill)
    rest, gain = _close(position, fill, closing) if position is not None and closing else (position, Decimal(0))
    return _open(rest, fill, fill.quantity - closing), gain - fill.fee


def cash_change(fill: Fill) -> Decimal:
    """Dollars a fill adds to cash: proceeds of a sale or cost of a purchase (negative), less the fee."""
    return -_value(fill, fill.quantity) - fill.fee


@dataclass(frozen=True, slots=True)
class Booking:
    """What one fill does to the book, in dollars.

    `running`: realised so far by the round trip that is still open (0 when flat). `trade`: the result of the
    round trip this fill ended, None when it ended none; below zero it was a losing trade.
    """

    position: Position | None
    realised: Decimal
    cash: Decimal
    running: Decimal
    trade: Decimal | None


def book_fill(position: Position | None, running: Decimal, fill: Fill) -> Booking:
    """One fill on a position whose round trip has realised `running` dollars so far."""
    after, realised = apply_fill(position, fill)
    total = running + realised
    ended = position is not None and _closing(position, fill) == abs(position.quantity)
    return Booking(
        position=after,
        realised=realised,
        cash=cash_change(fill),
        running=Decimal(0) if ended else total,
        trade=total if ended else None,
    )


def _closing(position: Position | None, fill: Fill) -> int:
    """How many of the fill's shares close the position; 0 when it is flat or on the same side."""
    if position is None or position.quantity * fill.side.sign > 0:
        return 0
    return min(abs(position.quantity), fill.quantity)


def _close(position: Position, fill: Fill, shares: int) -> tuple[Position | None, Decimal]:
    """The position less `shares`, and the gain in dollars before fees."""
    left = position.quantity + fill.side.sign * shares
    cost = (position.cost * shares / abs(position.quantity)).quantize(MICRO, ROUND_HALF_EVEN) if left else position.cost
    rest = Position(position.symbol, left, position.cost - cost, position.opened_at) if left else None
    return rest, -_value(fill, shares) - cost


def _open(position: Position | None, fill: Fill, shares: int) -> Position | None:
    """The position with `shares` of the fill added on its side."""
    if shares == 0:
        return position
    held = position or Position(fill.symbol, 0, Decimal(0), fill.at)
    quantity = held.quantity + fill.side.sign * shares
    return Position(fill.symbol, quantity, held.cost + _value(fill, shares), held.opened_at)


def _value(fill: Fill, shares: int) -> Decimal:
    """Signed dollars for `shares` of the fill: positive bought, negative sold."""
    return (fill.side.sign * shares * fill.price).quantize(MICRO, ROUND_HALF_EVEN)

"""What the ledger keeps of a reservation, a position and a fill, and how its refusals read."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pipeline.book import in_dollars, in_micros
from pipeline.models import Fill, Position, Refusal, Reservation, Side, Stage
from pipeline.ports import ReservationRequest

MONEY_RULES = frozenset({"session_loss", "week_loss", "gross_exposure"})


@dataclass(frozen=True, slots=True)
class ReservedRow:
    """One open reservation. `counted_micro` and `counted_quantity` are what it counts for after the gate's factor."""

    decision_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    notional: Decimal
    reduce_only: bool
    sizing: dict[str, str]
    at: datetime
    counted_micro: int
    counted_quantity: int

    @property
    def reservation(self) -> Reservation:
        """As it was first made, whatever it counts for now."""
        return Reservation(
            decision_id=self.decision_id,
            symbol=self.symbol,
            side=self.side,
            quantity=self.quantity,
            price=self.price,
            notional=self.notional,
            reduce_only=self.reduce_only,
            sizing=self.sizing,
        )


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One holding; `running`: dollars its round trip has realised so far."""

    symbol: str
    quantity: int
    cost: Decimal
    opened_at: datetime
    running: Decimal

    @property
    def position(self) -> Position:
        """The holding itself."""
        return Position(self.symbol, self.quantity, self.cost, self.opened_at)


@dataclass(frozen=True, slots=True)
class FillRow:
    """One booked fill and the decision it belongs to."""

    decision_id: str
    fill: Fill
    realised: Decimal


def reserved_row(request: ReservationRequest) -> ReservedRow:
    """The row of a request that is granted."""
    return ReservedRow(
        decision_id=request.decision_id,
        symbol=request.symbol,
        side=request.side,
        quantity=request.quantity,
        price=request.price,
        notional=request.notional,
        reduce_only=request.reduce_only,
        sizing=request.sizing,
        at=request.as_of,
        counted_micro=in_micros(request.notional),
        counted_quantity=request.quantity,
    )


def restored_row(reservation: Reservation, as_of: datetime) -> ReservedRow:
    """The row of a reservation that is put back whole."""
    return ReservedRow(
        decision_id=reservation.decision_id,
        symbol=reservation.symbol,
        side=reservation.side,
        quantity=reservation.quantity,
        price=reservation.price,
        notional=reservation.notional,
        reduce_only=reservation.reduce_only,
        sizing=reservation.sizing,
        at=as_of,
        counted_micro=in_micros(reservation.notional),
        counted_quantity=reservation.quantity,
    )


def position_row(position: Position, running: Decimal) -> PositionRow:
    """The row of a holding."""
    return PositionRow(position.symbol, position.quantity, position.cost, position.opened_at, running)


def checked_smaller(row: ReservedRow | None, decision_id: str, quantity: int, notional_micro: int) -> ReservedRow:
    """The row if it may shrink to these amounts. Raises ValueError for a growth or an unknown decision."""
    if row is None:
        raise ValueError(f"decision {decision_id} has no reservation; reserve before shrinking")
    if not 0 < quantity <= row.counted_quantity or notional_micro > row.counted_micro:
        raise ValueError(
            f"reservation {decision_id}: {quantity} shares, {in_dollars(notional_micro)} USD asked; valid: 1 to "
            f"{row.counted_quantity} shares, at most {in_dollars(row.counted_micro)} USD"
        )
    return row


def ledger_refusal(rule: str, observed: int, limit: int) -> Refusal:
    """A refused counter in words: dollars for money rules, else a count."""
    if rule in MONEY_RULES:
        return Refusal(Stage.RISK, rule, f"{in_dollars(observed):.2f} USD", f"{in_dollars(limit):.2f} USD")
    return Refusal(Stage.RISK, rule, str(observed), str(limit))

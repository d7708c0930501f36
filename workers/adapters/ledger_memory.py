"""Our own book in memory: the ledger's twin for one process, every method one atomic step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from threading import RLock

from pipeline.book import Booking, book_fill, in_dollars, in_micros
from pipeline.errors import AccountUnknownError, SymbolBusyError, UnreconciledError
from pipeline.models import Direction, Fill, Refusal, Reservation, Session, Side, Signal
from pipeline.ports import BookSnapshot, ReservationRequest, Statement
from workers.adapters.executions import MemoryExecutions
from workers.adapters.ledger_rows import (
    FillRow,
    PositionRow,
    ReservedRow,
    checked_smaller,
    ledger_refusal,
    position_row,
    reserved_row,
    restored_row,
)
from workers.adapters.truth import MemoryTruth

MINUTE = timedelta(seconds=60)
HOUR = timedelta(hours=1)
LATER = timedelta(hours=2)

Counted = tuple[str, int, int, bool]


@dataclass(slots=True)
class Results:
    """Realised dollars of one session or week."""

    start_equity: Decimal
    realised: Decimal = Decimal(0)
    worst: Decimal = Decimal(0)
    forgiven: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One order that counts for the rates."""

    decision_id: str
    symbol: str
    side: Side
    at: datetime


class MemoryLedger:
    """The book of one process.

    `starting_cash` in dollars, None: the venue's first statement opens the account. `executions` are those of the
    intents; `truth` is asked before an entry.
    """

    def __init__(
        self,
        starting_cash: Decimal | None,
        executions: MemoryExecutions | None = None,
        truth: MemoryTruth | None = None,
    ) -> None:
        self._truth = truth
        self._executions = executions or MemoryExecutions()
        self._lock = RLock()
        self._account = starting_cash
        self._positions: dict[str, PositionRow] = {}
        self._marks: dict[str, Decimal] = {}
        self._reserved: dict[str, ReservedRow] = {}
        self._held: dict[str, tuple[datetime, Signal]] = {}
        self._results: dict[str, Results] = {}
        self._entries: dict[tuple[Side, str], Entry] = {}
        self._fills: dict[tuple[str, str], FillRow] = {}
        self._last_loss: datetime | None = None

    def snapshot(self, session: Session) -> BookSnapshot:
        """The book now; opens the session and its week when first seen."""
        with self._lock:
            day, week = self._open(session)
            return BookSnapshot(
                equity=self._equity(),
                cash=self._cash,
                positions={symbol: row.position for symbol, row in self._positions.items()},
                marks=dict(self._marks),
                reserved={row.symbol: in_dollars(row.counted_micro) for row in self._reserved.values()},
                held=frozenset(signal.symbol for _, signal in self._held.values()),
                realised_session=day.realised,
                realised_week=week.realised,
                worst_session=day.worst,
                worst_week=week.worst - week.forgiven,
                start_equity_session=day.start_equity,
                start_equity_week=week.start_equity,
                last_losing_trade=self._last_loss,
            )

    def reserve(self, request: ReservationRequest) -> Reservation | Refusal:
        """Test every counter and set the risk aside, or refuse and change nothing."""
        with self._lock:
            self._executions.refuse_old(request.decision_id, request.execution)
            self._refuse_untrusted(request)
            if (mine := self._reserved.get(request.decision_id)) is not None:
                return self._later_run(request) or mine.reservation
            for other in self._reserved.values():
                if other.symbol == request.symbol:
                    raise SymbolBusyError(f"{request.symbol} is held by decision {other.decision_id}")
            if (refusal := self._refusal(request)) is not None:
                return refusal
            row = self._reserved[request.decision_id] = reserved_row(request)
            if not request.reduce_only:
                self._enter(request)
            return row.reservation

    def _later_run(self, request: ReservationRequest) -> Refusal | None:
        """A later run of a reserved decision enters the market later: its rates are tested, and count from then on."""
        entered = self._entries.get((request.side, request.decision_id))
        if request.reduce_only or entered is None or entered.symbol != request.symbol:
            return None
        if entered.at >= request.as_of:
            return None
        refusal = _first(self._rates(request))
        if refusal is None:
            self._enter(request)
        return refusal

    def _enter(self, request: ReservationRequest) -> None:
        entry = Entry(request.decision_id, request.symbol, request.side, request.as_of)
        self._entries[request.side, request.decision_id] = entry

    def restore(self, reservation: Reservation, as_of: datetime) -> None:
        """Set aside the risk of an order that works at the venue and was forgotten here. Idempotent."""
        with self._lock:
            self._reserved.setdefault(reservation.decision_id, restored_row(reservation, as_of))

    def shrink(self, decision_id: str, quantity: int, notional: Decimal) -> None:
        """Lower what a reservation counts for. Raises ValueError for a growth."""
        with self._lock:
            micro = in_micros(notional)
            row = checked_smaller(self._reserved.get(decision_id), decision_id, quantity, micro)
            self._reserved[decision_id] = replace(row, counted_micro=micro, counted_quantity=quantity)

    def release(self, decision_id: str, *, unused: bool = False, execution: int | None = None) -> bool:
        """Give the risk back; unused risk leaves the rates too. False for an older execution or a sent order."""
        with self._lock:
            if self._executions.is_old(decision_id, execution) or (unused and self._executions.sent(decision_id)):
                return False
            row = self._reserved.pop(decision_id, None)
            if row is not None and unused:
                self._entries.pop((row.side, decision_id), None)
            return True

    def hold(self, signal: Signal, until: datetime, execution: int | None = None) -> None:
        """Turn a reservation into a held signal; the rates forget it. Raises TakenOverError."""
        side = Side.BUY if signal.direction is Direction.LONG else Side.SELL
        with self._lock:
            self._executions.refuse_old(signal.decision_id, execution)
            self._reserved.pop(signal.decision_id, None)
            self._entries.pop((side, signal.decision_id), None)
            self._held[signal.decision_id] = (until, signal)

    def held(self, until: datetime) -> tuple[Signal, ...]:
        """Held signals due by then, by (due, symbol, decision id)."""
        with self._lock:
            due = [(at, s.symbol, s.decision_id, s) for at, s in self._held.values() if at <= until]
            return tuple(signal for *_, signal in sorted(due, key=lambda row: row[:3]))

    def forgive_week(self, session: Session) -> None:
        """Count the week's loss from here on: a person resumed after it. Idempotent."""
        with self._lock:
            year, week = session.week
            results = self._results.get(f"{year}-W{week:02}")
            if results is not None:
                results.forgiven = results.worst = results.realised

    def unhold(self, decision_ids: Sequence[str]) -> None:
        """Forget held signals, all in one step. Idempotent."""
        with self._lock:
            for decision_id in decision_ids:
                self._held.pop(decision_id, None)

    def apply(self, decision_id: str, fill: Fill, session: Session) -> bool:
        """Book one fill. False when it was booked before."""
        with self._lock:
            name = (fill.client_order_id, fill.fill_id)
            if name in self._fills:
                return False
            results = self._open(session)
            row = self._positions.get(fill.symbol)
            booking = book_fill(row.position if row else None, row.running if row else Decimal(0), fill)
            self._fills[name] = FillRow(decision_id, fill, booking.realised)
            self._account = self._cash + booking.cash
            self._move(fill, booking)
            _realise(results, booking.realised)
            return True

    def mark(self, prices: dict[str, Decimal]) -> None:
        """Value held symbols at these prices."""
        with self._lock:
            held = {symbol: price for symbol, price in prices.items() if symbol in self._positions}
            self._marks |= {symbol: in_dollars(in_micros(price)) for symbol, price in held.items()}

    def reservations(self) -> dict[str, datetime]:
        """Open reservations: decision id -> the `as_of` it was made for."""
        with self._lock:
            return {name: row.at for name, row in sorted(self._reserved.items())}

    def open(self, statement: Statement) -> bool:
        """Begin the book with what the broker has; False when there is an account."""
        with self._lock:
            if self._account is not None:
                return False
            self._take(statement)
            return True

    def adopt(self, statement: Statement, session: Session, cash_flow: Decimal = Decimal(0)) -> Decimal:
        """Replace cash, positions and marks by the broker's; a loss it shows is a result of session and week."""
        with self._lock:
            results = self._open(session)
            before = self._cash + sum((row.cost for row in self._positions.values()), Decimal(0))
            change = in_dollars(in_micros(statement.value) - in_micros(before) - in_micros(cash_flow))
            self._take(statement)
            _realise(results, min(change, Decimal(0)))
            return change

    # ---- inside ------------------------------------------------------------------------------------------

    @property
    def _cash(self) -> Decimal:
        """Dollars. Raises AccountUnknownError without an account."""
        if self._account is None:
            raise AccountUnknownError("the book has no account; the first reconciliation with the venue opens it")
        return self._account

    def _take(self, statement: Statement) -> None:
        """What the broker has becomes the book's money and holdings; the fills that made it count as booked."""
        self._account = in_dollars(in_micros(statement.cash))
        self._positions = {symbol: position_row(one, Decimal(0)) for symbol, one in statement.positions.items()}
        self._marks = {symbol: in_dollars(in_micros(statement.marks[symbol])) for symbol in statement.positions}
        for decision, fill in statement.fills:
            self._fills.setdefault((fill.client_order_id, fill.fill_id), FillRow(decision, fill, Decimal(0)))

    def _refuse_untrusted(self, request: ReservationRequest) -> None:
        """Raises UnreconciledError for an entry while the broker's book is unknown."""
        why = None if request.reduce_only or self._truth is None else self._truth.untrusted()
        if why is not None:
            raise UnreconciledError(f"the broker's book was compared {why}; an entry waits for the next time")

    def _move(self, fill: Fill, booking: Booking) -> None:
        """Position, mark and memory of the last trade after a fill."""
        if booking.position is None:
            self._positions.pop(fill.symbol, None)
            self._marks.pop(fill.symbol, None)
        else:
            self._positions[fill.symbol] = position_row(booking.position, booking.running)
            self._marks[fill.symbol] = in_dollars(in_micros(fill.price))
        if booking.trade is not None:
            self._last_loss = fill.at if booking.trade < 0 else None

    def _equity(self) -> Decimal:
        return self._cash + sum((r.quantity * self._marks[s] for s, r in self._positions.items()), Decimal(0))

    def _open(self, session: Session) -> tuple[Results, Results]:
        """The results of the session and of its week."""
        year, week = session.week
        names = (session.day.isoformat(), f"{year}-W{week:02}")
        day, week_results = (self._results.setdefault(name, Results(self._equity())) for name in names)
        return day, week_results

    def _refusal(self, request: ReservationRequest) -> Refusal | None:
        """The first rule that refuses; the order is the port's."""
        row = self._positions.get(request.symbol)
        quantity = row.quantity if row else 0
        if quantity != request.expected_position:
            return ledger_refusal("position_changed", quantity, request.expected_position)
        if request.reduce_only:
            return None
        return _first((*self._amounts(request), *self._rates(request)))

    def _amounts(self, request: ReservationRequest) -> tuple[Counted, ...]:
        """(rule, observed, limit, whether reaching the limit refuses) in the port's order; money in micro-dollars."""
        year, week = request.week
        day, of_week = (self._worst(name) for name in (request.session.isoformat(), f"{year}-W{week:02}"))
        return (
            ("session_loss", day, in_micros(request.max_session_loss), True),
            ("week_loss", of_week, in_micros(request.max_week_loss), True),
            ("open_positions", self._symbols(request), request.max_open_positions, False),
            ("gross_exposure", self._gross(request), in_micros(request.max_gross_exposure), False),
        )

    def _rates(self, request: ReservationRequest) -> tuple[Counted, ...]:
        """The same for entries in a time."""
        own_side = timedelta(seconds=request.same_side_window_s)
        return (
            ("same_side_window", self._count(request, own_side, symbol=True, side=True), 1, False),
            ("symbol_rate", self._count(request, MINUTE, symbol=True), request.max_per_symbol_per_minute, False),
            ("fleet_rate", self._count(request, MINUTE), request.max_per_minute, False),
            ("entries_after_loss", self._after_loss(request), request.max_entries_per_hour_after_loss, False),
        )

    def _worst(self, name: str) -> int:
        results = self._results.get(name)
        return in_micros(results.forgiven - results.worst) if results else 0

    def _symbols(self, request: ReservationRequest) -> int:
        names = {request.symbol, *self._positions, *(row.symbol for row in self._reserved.values())}
        return len(names | {signal.symbol for _, signal in self._held.values()})

    def _gross(self, request: ReservationRequest) -> int:
        held = sum(abs(row.quantity) * in_micros(self._marks[s]) for s, row in self._positions.items())
        return held + sum(row.counted_micro for row in self._reserved.values()) + in_micros(request.notional)

    def _after_loss(self, request: ReservationRequest) -> int:
        return self._count(request, HOUR) if self._last_loss is not None else 0

    def _count(
        self, request: ReservationRequest, window: timedelta, *, symbol: bool = False, side: bool = False
    ) -> int:
        """Entries later than `as_of - window`, up to two hours after it, this one included."""
        return 1 + sum(
            request.as_of - window < entry.at <= request.as_of + LATER
            and entry.decision_id != request.decision_id
            and (not symbol or entry.symbol == request.symbol)
            and (not side or entry.side == request.side)
            for entry in self._entries.values()
        )


def _realise(results: Sequence[Results], dollars: Decimal) -> None:
    """A result of session and week; the worst it ever was stays."""
    for result in results:
        result.realised += dollars
        result.worst = min(result.worst, result.realised)


def _first(counted: Iterable[Counted]) -> Refusal | None:
    """The first rule that refuses."""
    for rule, observed, limit, inclusive in counted:
        if observed > limit or (inclusive and observed == limit):
            return ledger_refusal(rule, observed, limit)
    return None

"""Reconciliation: our book against the broker's. Drift reduces the fleet and raises an alarm within one cycle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pipeline.errors import BrokerError, TransientError
from pipeline.models import BracketOrder, OrderReport, Position
from pipeline.ports import BookSnapshot, Broker, Control, Intents, Ledger, Sessions
from workers.adapters.alarms import Alarm, Alarms

LOOKS = 3  # a fill between two readings is no drift: it must be seen in so many looks, each after a settlement
BY = "reconcile"
DRIFT, ADOPTED, SILENT = "book_drift", "order_adopted", "venue_silent"


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. `subject`: a symbol, an order, or "cash"."""

    subject: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        """In a person's words."""
        return f"{self.subject}: we have {self.ours}, the broker has {self.theirs}"


class Reconciler:
    """Compares positions, cash and orders; `settle(as_of)` books first what the broker can explain.

    `cash_tolerance`: dollars that cash may differ by. `working()`: every bracket of which something can still fill,
    with its report, whoever sent it; None for a venue that cannot list them: its unknown orders show as unknown
    positions once they fill, and are then drift.
    """

    def __init__(
        self,
        broker: Broker,
        intents: Intents,
        ledger: Ledger,
        sessions: Sessions,
        control: Control,
        alarms: Alarms,
        settle: Callable[[datetime], object],
        cash_tolerance: Decimal,
        working: Callable[[], Sequence[tuple[BracketOrder, OrderReport]]] | None,
    ) -> None:
        self._broker = broker
        self._intents = intents
        self._ledger = ledger
        self._sessions = sessions
        self._control = control
        self._alarms = alarms
        self._settle = settle
        self._cash_tolerance = cash_tolerance
        self._working = working or (lambda: ())

    def cycle(self, as_of: datetime) -> tuple[Drift, ...]:
        """One cycle: unknown orders are adopted, drift sets REDUCING and an alarm each; what is left to explain.

        Raises TransientError and BrokerError, after an alarm, when the broker cannot be asked.
        """
        try:
            adopted, drifts = self._adopt_orders(), self.look(as_of)
        except (TransientError, BrokerError) as error:
            self._alarms.sound(Alarm(SILENT, "", f"{type(error).__name__}: {error}", as_of))
            raise
        self._alarms.quiet(SILENT)
        self._alarms.quiet(DRIFT, [drift.subject for drift in drifts])
        for name in adopted:
            self._alarms.sound(Alarm(ADOPTED, name, "an order at the broker that we did not know", as_of))
        for drift in drifts:
            self._alarms.sound(Alarm(DRIFT, drift.subject, str(drift), as_of))
        if adopted or drifts:
            found = [*(f"unknown order {name}" for name in adopted), *map(str, drifts)]
            self._control.reduce(BY, f"drift: {'; '.join(found)[:400]}", as_of)
        return drifts

    def look(self, as_of: datetime) -> tuple[Drift, ...]:
        """The differences that several looks, each after a settlement, found; nothing is changed but the book."""
        drifts: tuple[Drift, ...] = ()
        for _ in range(LOOKS):
            self._settle(as_of)
            drifts = self._compare(as_of)
            if not drifts:
                break
        return drifts

    def accept(self, as_of: datetime) -> None:
        """Our book becomes the broker's: a person decided so. Orders that the broker forgot stay to be settled."""
        self._settle(as_of)
        positions, cash = self._broker.positions(), self._broker.account().cash
        marks = {symbol: self._mark(position, as_of) for symbol, position in positions.items()}
        self._ledger.adopt(cash, positions, marks)
        self._alarms.quiet(DRIFT)

    # ---- inside ------------------------------------------------------------------------------------------

    def _adopt_orders(self) -> list[str]:
        """Names of working orders at the broker that we did not know; they are ours now and never cancelled."""
        unknown = [
            (order, report) for order, report in self._working() if self._intents.get(order.client_order_id) is None
        ]
        for order, report in unknown:
            self._intents.adopt(order, report)
        return [order.client_order_id for order, _ in unknown]

    def _compare(self, as_of: datetime) -> tuple[Drift, ...]:
        book = self._ledger.snapshot(self._sessions.session_of(as_of))
        return (*self._positions(book), *self._cash(book), *self._missing_orders())

    def _positions(self, book: BookSnapshot) -> list[Drift]:
        theirs = self._broker.positions()
        symbols = sorted(book.positions.keys() | theirs.keys())
        pairs = [(symbol, _shares(book.positions.get(symbol)), _shares(theirs.get(symbol))) for symbol in symbols]
        return [Drift(symbol, f"{mine} shares", f"{other} shares") for symbol, mine, other in pairs if mine != other]

    def _cash(self, book: BookSnapshot) -> list[Drift]:
        theirs = self._broker.account().cash
        if abs(book.cash - theirs) <= self._cash_tolerance:
            return []
        return [Drift("cash", f"{book.cash:.2f} USD", f"{theirs:.2f} USD")]

    def _missing_orders(self) -> list[Drift]:
        """Orders the broker once confirmed as working and does not know any more."""
        working = {order.client_order_id for order, _ in self._working()}
        confirmed = [i for i in self._intents.open() if i.report is not None and not i.report.closed]
        gone = [i.client_order_id for i in confirmed if i.client_order_id not in working]
        return [Drift(name, "a working order", "no such order") for name in gone if self._broker.order(name) is None]

    def _mark(self, position: Position, as_of: datetime) -> Decimal:
        quote = self._broker.quote(position.symbol, as_of)
        usable = quote is not None and quote.price.is_finite() and quote.price > 0
        return quote.price if quote is not None and usable else position.average_price


def _shares(position: Position | None) -> int:
    return 0 if position is None else position.quantity

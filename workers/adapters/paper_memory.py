"""The paper venue's memory inside one process."""

from collections.abc import Sequence
from decimal import Decimal
from threading import RLock

from pipeline.models import Position
from workers.adapters.paper import Transition
from workers.adapters.paper_book import PaperOrder


class MemoryPaperStore:
    """Orders, positions and cash of one process. `starting_cash` in dollars."""

    def __init__(self, starting_cash: Decimal) -> None:
        self._lock = RLock()
        self._cash = starting_cash
        self._orders: dict[str, PaperOrder] = {}
        self._positions: dict[str, Position] = {}
        self._marks: dict[str, Decimal] = {}

    def orders(self, client_order_ids: Sequence[str]) -> tuple[PaperOrder | None, ...]:
        """These orders, None where one is not known."""
        with self._lock:
            return tuple(self._orders.get(name) for name in client_order_ids)

    def working(self) -> tuple[str, ...]:
        """Names of the orders with something that can fill, sorted."""
        with self._lock:
            return tuple(sorted(name for name, state in self._orders.items() if not state.closed))

    def holdings(self) -> dict[str, Position]:
        """Positions by symbol."""
        with self._lock:
            return dict(self._positions)

    def marks(self) -> dict[str, Decimal]:
        """The last price of each position."""
        with self._lock:
            return dict(self._marks)

    def cash(self) -> Decimal:
        """Dollars after fees."""
        with self._lock:
            return self._cash

    def write(self, step: Transition) -> bool:
        """Write the step if order and position still are what was read."""
        name, symbol = step.after.order.client_order_id, step.after.order.symbol
        with self._lock:
            if self._orders.get(name) != step.before or (step.fills and self._positions.get(symbol) != step.held):
                return False
            self._orders[name] = step.after
            if step.fills:
                self._cash += step.cash
                self._hold(symbol, step.position)
            if step.mark is not None and symbol in self._positions:
                self._marks[symbol] = step.mark
            return True

    def _hold(self, symbol: str, position: Position | None) -> None:
        if position is None:
            self._positions.pop(symbol, None)
            self._marks.pop(symbol, None)
        else:
            self._positions[symbol] = position

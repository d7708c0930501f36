"""The paper venue: the broker port over a store that many processes share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from config.paper import PaperSettings
from pipeline.book import apply_fill, cash_change
from pipeline.errors import TransientError
from pipeline.models import Account, BracketOrder, Fill, ListedOrder, OrderReport, Phase, Position, Quote
from pipeline.ports import BarHistory, MarketData, Sessions
from workers.adapters.paper_book import PaperOrder, Venue, live, placed, rejected, rows, withdrawn

ATTEMPTS = 200  # eight writers on one symbol lose 7 of 8 tries each: 0.875^200 is never, 0.875^20 was one in 14


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one order: written whole, and only when order and position still are what was read.

    `fills`: the step's new fills; without any, position and cash stay. `mark`: the last price, None = unchanged.
    """

    before: PaperOrder | None
    after: PaperOrder
    fills: tuple[Fill, ...]
    held: Position | None
    position: Position | None
    cash: Decimal
    mark: Decimal | None


class PaperStore(Protocol):
    """The venue's memory."""

    def orders(self, client_order_ids: Sequence[str]) -> tuple[PaperOrder | None, ...]:
        """These orders, None where one is not known."""
        ...

    def working(self) -> tuple[str, ...]:
        """Names of the orders with something that can fill, sorted."""
        ...

    def holdings(self) -> dict[str, Position]:
        """Positions by symbol, without flat ones."""
        ...

    def marks(self) -> dict[str, Decimal]:
        """The last price of each position, dollars."""
        ...

    def cash(self) -> Decimal:
        """Dollars after fees."""
        ...

    def write(self, step: Transition) -> bool:
        """Write the step, or nothing and False when order or position changed since they were read."""
        ...


class PaperBroker:
    """Fills brackets from bars. Every transition is one compare-and-set, so any number of processes may share it."""

    def __init__(
        self, store: PaperStore, market: MarketData, history: BarHistory, sessions: Sessions, settings: PaperSettings
    ) -> None:
        self._store = store
        self._market = market
        self._history = history
        self._sessions = sessions
        self._settings = settings
        self._venue = Venue(settings, sessions)

    def submit(self, order: BracketOrder) -> OrderReport:
        """Accept or reject the bracket; a repeated name answers the order that is already there.

        A closing order first withdraws the exits of the brackets it closes, and is rejected when what is held is
        not the other side of at least its quantity: it may never open anything.
        """
        fresh = placed(order, self._settings)
        if order.reduce_only:
            known = self.order(order.client_order_id)
            if known is not None:
                return known
            self._withdraw_exits(order)
            if not self._reduces(order):
                fresh = rejected(fresh, "reduce_only")
        if self._store.write(Transition(None, fresh, (), None, None, Decimal(0), None)):
            return fresh.report
        return self._known(order.client_order_id).report

    def order(self, client_order_id: str) -> OrderReport | None:
        """What the venue knows of this name."""
        found = self._store.orders([client_order_id])[0]
        return found.report if found is not None else None

    def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:
        """Live through to `as_of`, then take back what has not filled, exits included."""
        state = self._store.orders([client_order_id])[0]
        if state is None:
            return None
        return self._advance(state, as_of, withdraw=True).report

    def orders(self, closed_since: datetime | None) -> tuple[ListedOrder, ...]:  # noqa: ARG002
        """Every bracket of which something can still fill, by client order id.

        What ended is not listed: this venue's memory is the fleet's own, and is never older or younger than ours.
        """
        found = self._store.orders(self._store.working())
        return tuple(
            ListedOrder(state.order, state.report) for state in found if state is not None and not state.closed
        )

    def positions(self) -> dict[str, Position]:
        """Holdings by symbol."""
        return self._store.holdings()

    def account(self) -> Account:
        """Cash, and equity at the last prices the venue saw."""
        marks, cash = self._store.marks(), self._store.cash()
        held = self._store.holdings()
        return Account(cash, cash + sum((p.quantity * marks[s] for s, p in held.items()), Decimal(0)))

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The market's last price."""
        return self._market.quote(symbol, as_of)

    def clock(self, as_of: datetime) -> bool:
        """Whether the regular session is on."""
        return self._sessions.phase(as_of) is Phase.REGULAR

    def updates(self, as_of: datetime, client_order_ids: Sequence[str]) -> tuple[OrderReport, ...]:
        """Reports of the orders the venue knows, each having lived through every bar up to `as_of`."""
        found = self._store.orders(client_order_ids)
        return tuple(self._advance(state, as_of).report for state in found if state is not None)

    # ---- inside ------------------------------------------------------------------------------------------

    def _advance(self, state: PaperOrder, as_of: datetime, *, withdraw: bool = False) -> PaperOrder:
        """The order at `as_of`, written; repeated when another process was faster."""
        for _ in range(ATTEMPTS):
            step = self._step(state, as_of, withdraw=withdraw)
            if step is None:
                return state
            if self._store.write(step):
                return step.after
            state = self._known(state.order.client_order_id)
        raise TransientError(f"paper order {state.order.client_order_id} changed {ATTEMPTS} times while it was moved")

    def _step(self, state: PaperOrder, as_of: datetime, *, withdraw: bool) -> Transition | None:
        """What the time until `as_of` does to the order, None when nothing."""
        if state.closed:
            return None
        symbol = state.order.symbol
        bars = self._history.bars_between(symbol, state.cursor, max(as_of, state.cursor))
        after = live(state, bars, as_of, self._venue)
        after = withdrawn(after) if withdraw else after
        if after == state:
            return None
        fills = after.fills[len(state.fills) :]
        held = self._store.holdings().get(symbol) if fills else None
        position, cash = held, Decimal(0)
        for fill in fills:
            position, _ = apply_fill(position, fill)
            cash += cash_change(fill)
        seen = [bar.close for bar in rows(bars) if bar.end <= after.cursor]
        mark = seen[-1] if seen else None
        return Transition(state, after, fills, held, position, cash, mark or (fills[-1].price if fills else None))

    def _withdraw_exits(self, order: BracketOrder) -> None:
        """Whatever works in the symbol is taken back as of the closing order's moment."""
        for state in self._store.orders(self._store.working()):
            if state is not None and state.order.symbol == order.symbol:
                self._advance(state, order.submitted_at, withdraw=True)

    def _reduces(self, order: BracketOrder) -> bool:
        held = self._store.holdings().get(order.symbol)
        return held is not None and -order.side.sign * held.quantity >= order.quantity

    def _known(self, client_order_id: str) -> PaperOrder:
        state = self._store.orders([client_order_id])[0]
        if state is None:
            raise TransientError(f"paper order {client_order_id} vanished while it was moved")
        return state

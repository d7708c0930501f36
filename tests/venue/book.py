"""The venue's own book, in the order of its own events: the truth that the fleet's book is compared with."""

import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

ENTRY_DONE = frozenset({"filled", "unfilled", "cancelled", "rejected"})
D = Decimal


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened at the venue, in order, and what was at stake right after it.

    `exposure`: dollars of all positions at cost (gross). `worst`: the same if every working entry filled whole at its
    reference. `positions`: signed shares by symbol; `open_symbols`: symbols held or with a working entry.
    """

    number: int
    kind: str  # placed, rejected, filled, exited, cancelled, expired
    client_order_id: str
    symbol: str
    quantity: int  # signed shares of this event
    price: str
    at: str
    exposure: str
    worst: str
    positions: dict[str, int]
    worst_by_symbol: dict[str, str]
    open_symbols: int
    equity: str = "0"  # dollars at the last prices


@dataclass(frozen=True, slots=True)
class Book:
    """A copy of the book.

    `orders`: by client order id, the last of each. `made`: how many orders of each id really exist. `asked`: how many
    POST requests named it. `events`: in the venue's own order.
    """

    orders: dict[str, dict[str, Any]]
    made: dict[str, int]
    asked: dict[str, int]
    events: list[Event]
    positions: dict[str, int]
    cash: str

    @property
    def doubled(self) -> dict[str, int]:
        """Ids with more than one order: must be empty."""
        return {name: count for name, count in self.made.items() if count > 1}


@dataclass
class _Order:
    body: dict[str, Any]
    status: str = "accepted"
    filled: int = 0
    held: int = 0  # signed shares of this bracket's position
    fills: list[dict[str, Any]] = field(default_factory=list)
    takes_stops: bool = True
    stop: Decimal | None = None
    target: Decimal | None = None
    reason: str = ""
    last_at: str = ""  # of its last event

    @property
    def sign(self) -> int:
        return 1 if self.body["side"] == "buy" else -1

    @property
    def working(self) -> int:
        """Shares of the entry that may still fill."""
        return 0 if self.status in ENTRY_DONE else int(self.body["quantity"]) - self.filled

    @property
    def closed(self) -> bool:
        """Whether nothing of it can fill any more."""
        return self.status in ENTRY_DONE and self.held == 0

    def report(self) -> dict[str, Any]:
        closed = self.closed
        return {
            "client_order_id": self.body["client_order_id"],
            "symbol": self.body["symbol"],
            "status": self.status,
            "filled_quantity": self.filled,
            "fills": self.fills,
            "stop": None if self.stop is None else str(self.stop),
            "target": None if self.target is None else str(self.target),
            "reason": self.reason,
            "closed": closed,
        }


class VenueBook:
    """Orders, positions and events behind one lock. Fills happen at the order's reference unless a price is given.

    `remembers_ids` False is a venue that takes the same client order id twice, so that a double order is seen.
    """

    def __init__(self, cash: str = "100000", *, remembers_ids: bool = True, buying_power: str = "1000000000") -> None:
        self._lock = threading.RLock()
        self._live: list[_Order] = []  # those that can still fill, in order
        self._by_id: dict[str, _Order] = {}
        self._made: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._events: list[Event] = []
        self._positions: dict[str, int] = {}
        self._cost: dict[str, Decimal] = {}
        self._opened: dict[str, str] = {}
        self._marks: dict[str, Decimal] = {}
        self._cash = D(cash)
        self._remembers_ids = remembers_ids
        self._buying_power = D(buying_power)

    # ---- what requests do --------------------------------------------------------------------------------

    def asked(self, client_order_id: str) -> None:
        """A POST named this id, whatever comes of it."""
        with self._lock:
            self._asked[client_order_id] += 1

    def place(
        self, body: dict[str, Any], fill: int | None = None, *, takes_stops: bool = True
    ) -> tuple[int, dict[str, Any]]:
        """Make the order; `fill` shares fill at once, None = all of them. Status and body of the answer."""
        with self._lock:
            name = str(body["client_order_id"])
            if self._remembers_ids and name in self._by_id:
                return 422, {"code": "duplicate_client_order_id", "message": f"{name} is there"}
            order = _Order(body, takes_stops=takes_stops)
            no = self._refuses(order)
            if no:
                return 403, {"code": no, "message": "refused by the venue"}
            self._live.append(order)
            self._by_id[name] = order
            self._made[name] += 1
            self._tell("placed", order, order.sign * int(body["quantity"]), body["reference"], body["submitted_at"])
            if body["reduce_only"]:
                self._withdraw_symbol(order)
            self.fill(name, int(body["quantity"]) if fill is None else fill)
            return 201, order.report()

    def order(self, client_order_id: str) -> dict[str, Any] | None:
        """The report, None for an id that was never heard of."""
        with self._lock:
            order = self._by_id.get(client_order_id)
            return None if order is None else order.report()

    def cancel(self, client_order_id: str) -> dict[str, Any] | None:
        """Withdraw what has not filled, exits included."""
        with self._lock:
            order = self._by_id.get(client_order_id)
            if order is None:
                return None
            self._withdraw(order)
            return order.report()

    def listing(self, closed_since: str | None, after: str | None, size: int) -> dict[str, Any]:
        """A page of the orders that can still fill (or ended since), as they were placed."""
        with self._lock:
            known = [order for order in self._by_id.values() if not order.closed or _ended_since(order, closed_since)]
            names = [order.body["client_order_id"] for order in known]
            first = names.index(after) + 1 if after in names else 0
            rows = [{"order": one.body, "report": one.report()} for one in known[first : first + size]]
            more = first + size < len(known)
            return {"orders": rows} | ({"next": names[first + size - 1]} if more else {})

    def positions(self) -> list[dict[str, Any]]:
        """Holdings without flat ones."""
        with self._lock:
            return [
                {"symbol": s, "quantity": q, "cost": str(self._cost[s]), "opened_at": self._opened[s]}
                for s, q in sorted(self._positions.items())
                if q
            ]

    def account(self) -> dict[str, str]:
        """Cash, and equity at the last prices."""
        with self._lock:
            held = sum((q * self._marks[s] for s, q in self._positions.items() if q), D(0))
            return {"cash": str(self._cash), "equity": str(self._cash + held)}

    def summary(self) -> dict[str, Any]:
        """Cash, equity, positions, bodies of working entries, number of orders, for one that plays the market."""
        with self._lock:
            working = [order.body for order in self._live if order.working]
            return {**self.account(), "positions": self.positions(), "working": working, "orders": len(self._by_id)}

    def mark(self, symbol: str) -> Decimal | None:
        """The last price of a symbol that ever traded here."""
        with self._lock:
            return self._marks.get(symbol)

    # ---- what the market does ----------------------------------------------------------------------------

    def fill(self, client_order_id: str, quantity: int, price: str | None = None, at: str | None = None) -> None:
        """Fill so many more shares of the entry."""
        with self._lock:
            order = self._by_id[client_order_id]
            count = min(quantity, order.working)
            if count <= 0:
                return
            body = order.body
            order.filled += count
            order.status = "filled" if order.filled == int(body["quantity"]) else "partially_filled"
            role = "close" if body["reduce_only"] else "entry"
            paid = D(price or body["reference"])
            self._book(order, role, order.sign * count, paid, at or body["submitted_at"])
            if not body["reduce_only"]:
                order.held += order.sign * count
            if not body["reduce_only"] and order.takes_stops:
                order.stop = paid - order.sign * D(body["stop_distance"])
                order.target = paid + order.sign * D(body["target_distance"])
            self._tell("filled", order, order.sign * count, str(paid), at or body["submitted_at"])

    def move(self, symbol: str, price: str, at: str) -> None:
        """The market trades at this price: stops and targets that it touches fill, the stop first."""
        with self._lock:
            now = D(price)
            self._marks[symbol] = now
            for order in [o for o in self._live if o.body["symbol"] == symbol and o.held]:
                side = 1 if order.held > 0 else -1
                stopped = order.stop is not None and side * (now - order.stop) <= 0
                hit = order.target is not None and side * (now - order.target) >= 0
                if stopped or hit:
                    self._exit(order, "stop" if stopped else "target", now, at)

    def expire(self, client_order_id: str, at: str) -> None:
        """The session closed: what has not filled of the entry never will."""
        with self._lock:
            order = self._by_id[client_order_id]
            if order.working:
                gone = order.working
                order.status = "filled" if order.filled else "unfilled"
                order.reason = "" if order.filled else "session_end"
                self._tell("expired", order, -order.sign * gone, "0", at)

    # ---- the truth ---------------------------------------------------------------------------------------

    def copy(self) -> Book:
        """The whole book as it stands."""
        with self._lock:
            return Book(
                orders={name: order.report() | {"body": order.body} for name, order in self._by_id.items()},
                made=dict(self._made),
                asked=dict(self._asked),
                events=list(self._events),
                positions={s: q for s, q in self._positions.items() if q},
                cash=str(self._cash),
            )

    def json(self) -> dict[str, Any]:
        """The copy for the control endpoint."""
        return asdict(self.copy())

    # ---- inside ------------------------------------------------------------------------------------------

    def _refuses(self, order: _Order) -> str:
        body = order.body
        if body["reduce_only"] and -order.sign * self._positions.get(body["symbol"], 0) < int(body["quantity"]):
            return "reduce_only"
        if not body["reduce_only"] and D(body["reference"]) * int(body["quantity"]) > self._buying_power:
            return "insufficient_buying_power"
        return ""

    def _withdraw_symbol(self, closing: _Order) -> None:
        """A closing order takes the exits of what it closes; those brackets hold nothing any more."""
        for order in list(self._live):
            if order is not closing and order.body["symbol"] == closing.body["symbol"]:
                self._withdraw(order)

    def _withdraw(self, order: _Order) -> None:
        if order.working:
            gone = order.working
            order.status = "cancelled" if not order.filled else "filled"
            self._tell("cancelled", order, -order.sign * gone, "0", order.body["submitted_at"])
        order.held, order.stop, order.target = 0, None, None

    def _exit(self, order: _Order, role: str, price: Decimal, at: str) -> None:
        shares = -order.held
        order.held = 0
        self._book(order, role, shares, price, at)
        self._tell("exited", order, shares, str(price), at)

    def _book(self, order: _Order, role: str, shares: int, price: Decimal, at: str) -> None:
        symbol = order.body["symbol"]
        before, cost = self._positions.get(symbol, 0), self._cost.get(symbol, D(0))
        after = before + shares
        if before and before * shares < 0:  # shrinks: cost falls in proportion
            closed = min(abs(shares), abs(before))
            cost -= cost * closed / abs(before)
            cost += price * (after if before * after < 0 else 0)
        else:
            cost += price * shares
        if not before:
            self._opened[symbol] = at
        self._positions[symbol], self._cost[symbol], self._marks[symbol] = after, cost, price
        self._cash -= price * shares
        order.fills = [
            *order.fills,
            {
                "fill_id": f"{order.body['client_order_id']}-{len(order.fills) + 1}",
                "side": "buy" if shares > 0 else "sell",
                "quantity": abs(shares),
                "price": str(price),
                "fee": "0",
                "at": at,
                "role": role,
            },
        ]

    def _tell(self, kind: str, order: _Order, quantity: int, price: str, at: str) -> None:
        order.last_at = at
        self._live = [one for one in self._live if not one.closed]
        held = {s: q for s, q in self._positions.items() if q}
        by_symbol = {s: abs(self._cost[s]) for s in held}
        exposure = sum(by_symbol.values(), D(0))
        for other in self._live:
            if other.working and not other.body["reduce_only"]:
                symbol, dollars = other.body["symbol"], D(other.body["reference"]) * other.working
                by_symbol[symbol] = by_symbol.get(symbol, D(0)) + dollars
        self._events.append(
            Event(
                number=len(self._events) + 1,
                kind=kind,
                client_order_id=order.body["client_order_id"],
                symbol=order.body["symbol"],
                quantity=quantity,
                price=price,
                at=at,
                exposure=str(exposure),
                worst=str(sum(by_symbol.values(), D(0))),
                positions=held,
                worst_by_symbol={s: str(d) for s, d in by_symbol.items()},
                open_symbols=len(by_symbol),
                equity=self.account()["equity"],
            )
        )


def _ended_since(order: _Order, moment: str | None) -> bool:
    return moment is not None and datetime.fromisoformat(order.last_at) >= datetime.fromisoformat(moment)

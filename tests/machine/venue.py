"""The venue in memory: a paper broker that answers late or not at all, and what it saw in its own order of events."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pipeline.errors import BrokerError
from pipeline.models import BracketOrder, FillRole, OrderReport, Position
from pipeline.risk import RiskSettings
from workers.adapters.paper import PaperBroker, Transition
from workers.adapters.paper_book import PaperOrder
from workers.adapters.paper_memory import MemoryPaperStore

DRIFT = Decimal("1.05")  # what the market may move between the moment of a check and the venue's own reckoning


class Mood(StrEnum):
    """How the venue takes the next requests."""

    GOOD = "good"
    SILENT = "silent"  # accepts, and the answer is lost
    LATE = "late"  # the request arrives after the caller gave up
    DEAF = "deaf"  # the request never arrives
    DOWN = "down"  # no call has an answer


class Findings(list[str]):
    """What was seen that must never be. A process may catch an assertion, so it is written down instead."""

    def unless(self, holds: object, sentence: str) -> None:
        """Write the sentence down unless it holds."""
        if not holds:
            self.append(sentence)


@dataclass(slots=True)
class Wire:
    """The line to the venue, the same for all processes. `requests`: how often each order was put on it."""

    findings: Findings
    mood: Mood = Mood.GOOD
    under_way: list[BracketOrder] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)


class Recorder(MemoryPaperStore):
    """The venue's memory; every order that begins to work is measured against the limits, by the venue's own book."""

    def __init__(self, starting_cash: Decimal, limits: RiskSettings, findings: Findings) -> None:
        super().__init__(starting_cash)
        self._limits, self._starting_cash, self._findings = limits, starting_cash, findings
        self.entries: list[BracketOrder] = []

    def write(self, step: Transition) -> bool:
        """Written, then judged."""
        before = self.holdings().get(step.after.order.symbol)
        written = super().write(step)
        if written and step.before is None and not step.after.closed and not step.after.order.reduce_only:
            self._judge_entry(step.after.order)
        if written and any(fill.role is FillRole.CLOSE for fill in step.fills):
            self._judge_close(before, self.holdings().get(step.after.order.symbol))
        return written

    def brackets(self) -> dict[str, list[PaperOrder]]:
        """Entries of which something can still fill, by symbol."""
        found: dict[str, list[PaperOrder]] = {}
        for state in self._orders.values():
            if not state.closed and not state.order.reduce_only:
                found.setdefault(state.order.symbol, []).append(state)
        return found

    def _judge_entry(self, order: BracketOrder) -> None:
        self.entries.append(order)
        working, held = self.brackets(), self.holdings()
        costs = [abs(position.cost) for position in held.values()]
        costs += [_notional(state.order) for states in working.values() for state in states if not state.fills]
        limits, equity, symbols = self._limits, self._starting_cash * DRIFT, working.keys() | held.keys()
        said, notional = self._findings.unless, _notional(order)
        said(len(working[order.symbol]) == 1, f"{len(working[order.symbol])} brackets work in {order.symbol}")
        said(len(symbols) <= limits.max_open_positions, f"open_positions: {sorted(symbols)}")
        said(notional <= min(limits.max_order_usd, limits.max_position * equity), f"max_order: {notional}")
        said(sum(costs) <= limits.max_gross_exposure * equity, f"gross_exposure: {costs}")

    def _judge_close(self, before: Position | None, after: Position | None) -> None:
        shrinks = before is not None and (after is None or 0 < after.quantity / before.quantity < 1)
        self._findings.unless(shrinks, f"a closing order made {after} of {before}")


class MoodyBroker(PaperBroker):
    """The paper venue over a wire; `step` is called before and after every request."""

    def __init__(self, *args: Any, wire: Wire, step: Callable[[], None]) -> None:
        super().__init__(*args)
        self._wire, self._passing = wire, step

    def submit(self, order: BracketOrder) -> OrderReport:
        """As the wire's mood is."""
        wire = self._wire
        self._passing()
        wire.requests[order.client_order_id] += 1
        wire.findings.unless(wire.requests[order.client_order_id] == 1, f"{order.client_order_id} was sent twice")
        if wire.mood is Mood.LATE:
            wire.under_way.append(order)
        if wire.mood in {Mood.LATE, Mood.DEAF, Mood.DOWN}:
            raise BrokerError("no answer")
        report = super().submit(order)
        self._passing()
        if wire.mood is Mood.SILENT:
            raise BrokerError("no answer")
        return report

    def order(self, client_order_id: str) -> OrderReport | None:
        self._ask()
        return super().order(client_order_id)

    def cancel(self, client_order_id: str, as_of: Any) -> OrderReport | None:
        self._ask()
        return super().cancel(client_order_id, as_of)

    def updates(self, as_of: Any, client_order_ids: Any) -> tuple[OrderReport, ...]:
        self._ask()
        return super().updates(as_of, client_order_ids)

    def _ask(self) -> None:
        self._passing()
        if self._wire.mood is Mood.DOWN:
            raise BrokerError("no answer")


def _notional(order: BracketOrder) -> Decimal:
    return order.quantity * order.levels.reference

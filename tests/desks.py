"""Desks of the money side: a risk manager and an executor, each with everything it asks in reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.executor import ExecutorSettings, TradeExecutor
from pipeline.models import (
    Account,
    BracketOrder,
    ExecutionResult,
    GateVerdict,
    ListedOrder,
    OrderReport,
    OrderStatus,
    Position,
    Quote,
    Refusal,
    Reservation,
    Session,
    Side,
)
from pipeline.risk import RiskManager, RiskSettings
from tests.money import (
    NOW,
    SESSION,
    D,
    FakeControl,
    FakeMarket,
    WeekdaySessions,
    a_fill,
    a_recommendation,
    a_request,
    a_signal,
    an_open_gate,
)
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.ledger_memory import MemoryLedger


@dataclass
class RiskDesk:
    """A risk manager with everything in reach."""

    cash: Decimal = Decimal(100_000)
    settings: RiskSettings = field(default_factory=RiskSettings)
    market: FakeMarket = field(default_factory=lambda: FakeMarket({"AAA": D(100)}))
    control: FakeControl = field(default_factory=FakeControl)

    def __post_init__(self) -> None:
        self.executions = MemoryExecutions()
        self.ledger = MemoryLedger(self.cash, self.executions)
        self.risk = RiskManager(self.ledger, WeekdaySessions(), self.market, self.control, self.settings)

    def check(self, as_of: datetime = NOW, execution: int | None = None, **facts: Any) -> Reservation | Refusal:
        signal = facts.pop("signal", None) or a_signal()
        self.market.prices.setdefault(signal.symbol, D(100))
        return self.risk.check(a_recommendation(signal, **facts), as_of, execution)

    def hold_position(self, symbol: str = "AAA", quantity: int = 10, price: str = "100", **facts: Any) -> None:
        side = Side.BUY if quantity > 0 else Side.SELL
        name = f"{symbol}-{quantity}-{price}-{facts.get('at', NOW)}"
        fill = a_fill(side, abs(quantity), price, symbol=symbol, fill_id=name, **facts)
        self.ledger.apply("d-held", fill, WeekdaySessions().session_of(fill.at))

    def lose(self, dollars: str, as_of: datetime = NOW, session: Session = SESSION) -> None:
        """A round trip in LOS that ends with this loss."""
        price = D(100) - D(dollars) / 1000
        for side, at_price in ((Side.BUY, D(100)), (Side.SELL, price)):
            fill = a_fill(side, 1000, str(at_price), symbol="LOS", fill_id=f"LOS-{side}-{as_of}", at=as_of)
            self.ledger.apply("d-lost", fill, session)


def rule(answer: Reservation | Refusal) -> str | None:
    """The rule that refused, None for a reservation."""
    return answer.rule if isinstance(answer, Refusal) else None


def shares(answer: Reservation | Refusal) -> int:
    """The reserved quantity."""
    assert isinstance(answer, Reservation), answer
    return answer.quantity


@dataclass
class FakeBroker:
    """Accepts everything, remembers it, and fails when told to: before or after the order arrived."""

    fails: Exception | None = None
    arrives: bool = True
    answer: OrderStatus = OrderStatus.ACCEPTED
    submitted: list[BracketOrder] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    held: dict[str, Position] = field(default_factory=dict)

    def submit(self, order: BracketOrder) -> OrderReport:
        if self.arrives:
            self.submitted.append(order)
        if self.fails is not None:
            raise self.fails
        return self.report(order)

    def report(self, order: BracketOrder) -> OrderReport:
        closed = self.answer is OrderStatus.REJECTED
        return OrderReport(order.client_order_id, order.symbol, self.answer, closed=closed)

    def order(self, client_order_id: str) -> OrderReport | None:
        return next((self.report(o) for o in self.submitted if o.client_order_id == client_order_id), None)

    def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:
        self.cancelled.append(client_order_id)
        return self.order(client_order_id)

    def orders(self, closed_since: datetime | None) -> tuple[ListedOrder, ...]:
        raise NotImplementedError

    def positions(self) -> dict[str, Position]:
        return self.held

    def account(self) -> Account:
        raise NotImplementedError

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        raise NotImplementedError

    def clock(self, as_of: datetime) -> bool:
        raise NotImplementedError

    def updates(self, as_of: datetime, client_order_ids: Sequence[str]) -> tuple[OrderReport, ...]:
        raise NotImplementedError


@dataclass
class ExecutorDesk:
    """An executor with a reservation of 10 shares at 100 dollars."""

    broker: FakeBroker = field(default_factory=FakeBroker)
    control: FakeControl = field(default_factory=FakeControl)
    reduce_only: bool = False

    def __post_init__(self) -> None:
        executions = MemoryExecutions()
        self.ledger = MemoryLedger(D(100_000), executions)
        self.intents = MemoryIntents(self.control, executions)
        self.executor = TradeExecutor(
            self.broker, self.intents, self.ledger, WeekdaySessions(), ExecutorSettings(), "paper"
        )
        self.reserve()

    def reserve(self) -> None:
        granted = self.ledger.reserve(a_request(reduce_only=self.reduce_only))
        assert isinstance(granted, Reservation)
        self.reservation = granted

    def execute(
        self,
        gate: GateVerdict | None = None,
        as_of: datetime = NOW,
        execution: int | None = None,
        ask_again: Callable[[], GateVerdict] | None = None,
        **facts: Any,
    ) -> ExecutionResult:
        made, verdict = a_recommendation(**facts), gate or an_open_gate()
        return self.executor.execute(made, self.reservation, verdict, as_of, execution, ask_again)

    @property
    def reserved(self) -> dict[str, Decimal]:
        return self.ledger.snapshot(SESSION).reserved

"""The money half of the trunk over one vault: real risk, executor, settlement and paper venue, a gate that obeys."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from config.paper import PaperSettings
from pipeline.executor import ExecutorSettings, TradeExecutor
from pipeline.models import Direction, GateVerdict, ProcessResult, Refusal, Stage, TradingState
from pipeline.models import Validation as Validated
from pipeline.models import ValidationStatus as Status
from pipeline.orchestrator import OrchestratorSettings, TradingOrchestrator
from pipeline.risk import RiskManager, RiskSettings
from tests.money import NOW, D, FakeMarket, WeekdaySessions, a_recommendation, a_signal, an_open_gate
from workers.adapters.alarms import MemoryAlarms
from workers.adapters.paper import PaperBroker
from workers.settlement import Settlement

CLOSED = GateVerdict(open=False, factor=D(0), checks=(), refusal=Refusal(Stage.GATE, "vix", "31", "30"))


def nothing() -> None:
    """No act."""


@dataclass
class Gate:
    """Answers what it is told, in turn; the last answer stays. `before` runs before each answer."""

    answers: list[GateVerdict] = field(default_factory=lambda: [an_open_gate()])
    before: Callable[[], object] = nothing
    asked: int = 0

    def check(self, _signal: Any) -> GateVerdict:
        self.asked += 1
        before, self.before = self.before, nothing
        before()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def on_error(self, described: str, *, fail_safe_closed: bool) -> GateVerdict:
        raise AssertionError(described)


class Worker:
    """One worker process: its own orchestrator over the shared vault and venue."""

    def __init__(
        self,
        vault: Any,
        market: FakeMarket | None = None,
        gate: Gate | None = None,
        limits: RiskSettings | None = None,
    ) -> None:
        sessions, self.market = WeekdaySessions(), market or FakeMarket({"AAA": D(100)})
        self.vault, self.gate = vault, gate or Gate()
        self.broker: Any = PaperBroker(vault.paper, self.market, self.market, sessions, PaperSettings())
        self.risk = RiskManager(vault.ledger, sessions, self.market, vault.control, limits or RiskSettings())
        self.executor = TradeExecutor(self.broker, vault.intents, vault.ledger, sessions, ExecutorSettings(), "paper")
        self.settlement = Settlement(
            self.broker, vault.intents, vault.ledger, sessions, self.market, self.risk, MemoryAlarms()
        )
        validator: Any = SimpleNamespace(validate=lambda _signal: Validated(Status.PASS))
        scorer: Any = SimpleNamespace(score=lambda signal, _validation: a_recommendation(signal))
        idle: Any = SimpleNamespace()
        gate_port: Any = self.gate
        self.orchestrator = TradingOrchestrator(
            idle,
            idle,
            validator,
            scorer,
            self.risk,
            gate_port,
            self.executor,
            OrchestratorSettings(),
            backlog=idle,
            journal=vault.journal,
            votes=idle,
        )

    def decide(self, symbol: str = "AAA", direction: Direction = Direction.LONG, **facts: Any) -> ProcessResult:
        """One run of the decision `d-AAA:AAA`, recorded as a job does."""
        signal = a_signal(symbol, direction, **({"decision_id": f"d-{symbol}:{symbol}"} | facts))
        result = self.orchestrator.decide(signal)
        self.vault.journal.record([(result, (signal.decision_id,))])
        return result

    @property
    def orders(self) -> list[str]:
        """What arrived at the venue and works."""
        return [one.name for one in self.broker.orders(None)]


def active(vault: Any) -> Any:
    """The vault with trading on."""
    vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
    return vault

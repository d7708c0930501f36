"""Hand-written stages for the trunk: each passes everything, remembers what it was asked, and fails on demand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pipeline.models import (
    AnalyzedMessage,
    ExecutionResult,
    GateCheck,
    GateVerdict,
    OrderReport,
    OrderStatus,
    Refusal,
    Reservation,
    Side,
    Signal,
    SocialMessage,
    Stage,
    Tier,
    TradeRecommendation,
    Validation,
    ValidationStatus,
)
from pipeline.ports import Execution
from tests.money import a_recommendation
from tests.trunk import a_message

CLOSED = Refusal(Stage.GATE, "session", "closed", "regular")


@dataclass
class Stages:
    """Seven fakes in one place. `fails`: what a stage raises; `calls`: who was asked, in order.

    `answers` of risk by symbol: an exception is raised, a refusal answered. `reserved`: risk set aside now.
    """

    fails: dict[str, Exception] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fresh: bool = True
    analyzed: dict[str, AnalyzedMessage] = field(default_factory=dict)
    validation: Validation = field(default_factory=lambda: Validation(ValidationStatus.PASS))
    tier: Tier = Tier.STRONG
    refusal: Refusal | None = None
    verdict: GateVerdict = field(default_factory=lambda: GateVerdict(open=True, factor=Decimal(1), checks=()))
    busy: set[str] = field(default_factory=set)
    sent: ExecutionResult | None = None
    order_status: OrderStatus = OrderStatus.FILLED
    seen: list[Signal] = field(default_factory=list)
    scored_on: list[Validation] = field(default_factory=list)
    reserved: set[str] = field(default_factory=set)
    released: list[str] = field(default_factory=list)
    held: list[tuple[Signal, datetime]] = field(default_factory=list)
    lived_through: list[datetime] = field(default_factory=list)

    def asked(self, stage: str, symbol: str = "") -> None:
        """Remember the question; fail when told to, for every symbol (`risk`) or for one (`risk:AAPL`)."""
        self.calls.append(stage)
        for name in (stage, f"{stage}:{symbol}"):
            if name in self.fails:
                raise self.fails[name]


@dataclass
class FakeCollectors:
    """Fresh or not."""

    stages: Stages

    def is_fresh(self, as_of: datetime) -> bool:
        return self.stages.fresh


@dataclass
class FakeAnalyzer:
    """Reads what it was told to read, else an urgent bullish post."""

    stages: Stages

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        self.stages.asked("analyzer")
        return self.stages.analyzed.get(message.message_id) or a_message().model_copy(update={"message": message})

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        return [self.analyze(message) for message in messages]


@dataclass
class FakeValidator:
    """Says one thing."""

    stages: Stages

    def validate(self, signal: Signal) -> Validation:
        self.stages.seen.append(signal)
        self.stages.asked("validator", signal.symbol)
        return self.stages.validation


@dataclass
class FakeScorer:
    """Gives every signal the same tier."""

    stages: Stages

    def score(self, signal: Signal, validation: Validation) -> TradeRecommendation:
        self.stages.asked("scorer", signal.symbol)
        self.stages.scored_on.append(validation)
        return a_recommendation(signal, tier=self.stages.tier, validation=validation)


@dataclass
class FakeRisk:
    """Reserves ten shares for everybody."""

    stages: Stages

    def check(
        self, recommendation: TradeRecommendation, as_of: datetime, execution: int | None = None
    ) -> Reservation | Refusal:
        signal = recommendation.signal
        self.stages.asked("risk", signal.symbol)
        if self.stages.refusal is not None:
            return self.stages.refusal
        self.stages.reserved.add(signal.decision_id)
        return Reservation(signal.decision_id, signal.symbol, Side.BUY, 10, Decimal(100), Decimal(1000))

    def release(self, decision_id: str, execution: int | None = None) -> None:
        if "release" in self.stages.fails:
            raise self.stages.fails["release"]
        self.stages.released.append(decision_id)
        self.stages.reserved.discard(decision_id)

    def hold(self, signal: Signal, until: datetime, execution: int | None = None) -> None:
        self.stages.reserved.discard(signal.decision_id)
        self.stages.held.append((signal, until))


@dataclass
class FakeGate:
    """Open, unless told otherwise."""

    stages: Stages

    def check(self, signal: Signal) -> GateVerdict:
        self.stages.asked("gate", signal.symbol)
        return self.stages.verdict

    def on_error(self, error: str, *, fail_safe_closed: bool) -> GateVerdict:
        check = GateCheck("gate", passed=not fail_safe_closed, observed=error, limit="no error")
        refusal = Refusal(Stage.GATE, "error", error, "no error") if fail_safe_closed else None
        return GateVerdict(open=not fail_safe_closed, factor=Decimal(1), checks=(check,), refusal=refusal)


@dataclass
class FakeExecutor:
    """Fills everything at once."""

    stages: Stages

    def begin(self, signal: Signal) -> Execution | ExecutionResult:
        return self.stages.sent or Execution(signal.decision_id, 1)

    def execute(
        self,
        recommendation: TradeRecommendation,
        reservation: Reservation,
        gate: GateVerdict,
        as_of: datetime,
        execution: int | None = None,
        ask_again: Callable[[], GateVerdict] | None = None,
    ) -> ExecutionResult:
        self.stages.calls.append("executor")
        error = self.stages.fails.get("executor")
        symbol = reservation.symbol
        if error is not None:
            return ExecutionResult("", symbol, Side.BUY, 0, None, error=f"{type(error).__name__}: {error}")
        report = OrderReport("o-1", symbol, self.stages.order_status, reservation.quantity)
        return ExecutionResult("o-1", symbol, Side.BUY, reservation.quantity, report)

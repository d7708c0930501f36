"""The trunk: the seed's test list under its own words, the degradation table, and what waits for later."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from pipeline.consensus import ConsensusSettings
from pipeline.errors import FleetError, MarketDataError, SymbolBusyError, TransientError
from pipeline.executor import TradeExecutor
from pipeline.gate import MarketGate
from pipeline.models import (
    AnalyzedMessage,
    Direction,
    ExecutionResult,
    GateVerdict,
    Label,
    OrchestratorState,
    OrderReport,
    OrderStatus,
    Outcome,
    ProcessResult,
    Refusal,
    Side,
    Signal,
    Stage,
    Tier,
    Validation,
    ValidationStatus,
)
from pipeline.orchestrator import OrchestratorSettings, TradingOrchestrator, voting_legs
from pipeline.risk import RiskManager
from pipeline.router import DenyList
from pipeline.scorer import SignalScorer
from pipeline.validator import TechnicalValidator
from tests.stages import (
    CLOSED,
    FakeAnalyzer,
    FakeCollectors,
    FakeExecutor,
    FakeGate,
    FakeRisk,
    FakeScorer,
    FakeValidator,
    Stages,
)
from tests.trunk import NOON, a_message, a_post, a_vote, later, votes
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.journal_memory import MemoryJournal

ALL_FIVE = ["validator", "scorer", "risk", "gate", "executor"]
SHUT = GateVerdict(open=False, factor=Decimal(1), checks=(), refusal=CLOSED)
TRANSIENT = TransientError("no answer")
BROKEN = MarketDataError("bars are broken")


@dataclass
class Desk:
    """An orchestrator, started, on fakes that let everything pass, with the real in-memory lists and journal."""

    settings: OrchestratorSettings = field(default_factory=OrchestratorSettings)
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    stages: Stages = field(default_factory=Stages)

    def __post_init__(self) -> None:
        """Put it together."""
        stages = self.stages
        self.journal = MemoryJournal(self._mark_used)
        self.backlog = MemoryBacklog(self.journal)
        self.orchestrator = TradingOrchestrator(
            FakeCollectors(stages),
            FakeAnalyzer(stages),
            cast("TechnicalValidator", FakeValidator(stages)),
            cast("SignalScorer", FakeScorer(stages)),
            cast("RiskManager", FakeRisk(stages)),
            cast("MarketGate", FakeGate(stages)),
            cast("TradeExecutor", FakeExecutor(stages)),
            self.settings,
            backlog=self.backlog,
            journal=self.journal,
            votes=self.backlog,
            consensus=self.consensus,
            live_through=stages.lived_through.append,
        )
        self.orchestrator.start()

    def _mark_used(self, symbol: str, ids: Sequence[str], decided_at: datetime) -> None:
        self.backlog.mark_used(symbol, ids, decided_at)

    def post(self, message: AnalyzedMessage | None = None, *, at: datetime = NOON) -> ProcessResult:
        """A post goes through collector and analyzer, as of `at`."""
        analyzed = message or a_message()
        self.stages.analyzed[analyzed.message_id] = analyzed
        return self.orchestrator.on_message(analyzed.message, at)

    def vote(self, number: int, label: str = "bullish", symbol: str = "AAPL", at: datetime = NOON) -> ProcessResult:
        """A regular post of an author of its own, confidence 0.8."""
        return self.post(
            a_message(label, 0.8, symbols=(symbol,), number=number, author=f"author-{number}", at=at), at=at
        )

    def decide(self, **facts: Any) -> ProcessResult:
        """One urgent signal through the five stages."""
        return self.orchestrator.decide(replace(self.signal(), **facts))

    def signal(self) -> Signal:
        """The urgent leg of a post at noon."""
        return self.orchestrator.urgent_signal(a_message(), NOON)

    def outcome(self, name: str) -> Outcome | None:
        """How a leg or decision stands."""
        return self.journal.outcome(name)


def desk(*, settings: dict[str, Any] | None = None, min_votes: int = 2, **stages: Any) -> Desk:
    """A desk with these settings and these fakes."""
    return Desk(OrchestratorSettings(**settings or {}), ConsensusSettings(min_votes=min_votes), Stages(**stages))


def rule(result: ProcessResult) -> tuple[Stage, str]:
    """Who refused and why."""
    assert result.refusal is not None
    return result.refusal.stage, result.refusal.rule


# ---- the seed's unit tests ---------------------------------------------------------------------------


def test_start_changes_state_to_running() -> None:
    """Seed: start() changes state to RUNNING; before it, it is STOPPED."""
    orchestrator = desk().orchestrator
    orchestrator.stop(NOON)
    assert (orchestrator.state, orchestrator.is_running) == (OrchestratorState.STOPPED, False)

    orchestrator.start()

    assert (orchestrator.state, orchestrator.is_running) == (OrchestratorState.RUNNING, True)


def test_stop_changes_state_to_stopped() -> None:
    """Seed: stop() changes state to STOPPED."""
    orchestrator = desk().orchestrator
    orchestrator.stop(NOON)

    assert orchestrator.state is OrchestratorState.STOPPED
    assert not orchestrator.is_running


@pytest.mark.parametrize("confidence", [0.85, math.nextafter(0.85, 1), 1.0])
def test_is_high_signal_returns_true_for_high_confidence(confidence: float) -> None:
    """Seed: confidence >= 0.85, inclusive."""
    assert desk().orchestrator.is_high_signal(a_message(confidence=confidence))


@pytest.mark.parametrize("confidence", [0.85, 1.0])
def test_is_high_signal_returns_false_for_neutral(confidence: float) -> None:
    """Seed: not neutral, however sure."""
    assert not desk().orchestrator.is_high_signal(a_message(Label.NEUTRAL, confidence))


@pytest.mark.parametrize("confidence", [math.nextafter(0.85, 0), 0.5, 0.0])
def test_is_high_signal_returns_false_for_low_confidence(confidence: float) -> None:
    """Seed: the float below 0.85 is below 0.85."""
    assert not desk().orchestrator.is_high_signal(a_message(confidence=confidence))


def test_on_message_routes_high_signal_to_immediate() -> None:
    """Seed: decided and recorded before on_message returns; its vote waits all the same."""
    fleet = desk()
    result = fleet.post(a_message(confidence=0.85))

    assert (result.status, result.decision_id, result.timestamp) == ("executed", "test-1:AAPL", NOON)
    assert fleet.stages.calls == ["analyzer", *ALL_FIVE]
    assert fleet.outcome("test-1:AAPL") is Outcome.EXECUTED
    assert fleet.backlog.sizes() == {"AAPL": 1}


def test_on_message_routes_regular_to_buffer() -> None:
    """Seed: the float below the threshold is buffered and no stage is asked."""
    fleet = desk()
    result = fleet.post(a_message(confidence=math.nextafter(0.85, 0)))

    assert result.status == "buffered"
    assert fleet.stages.calls == ["analyzer"]
    assert fleet.backlog.sizes() == {"AAPL": 1}


def test_process_immediate_calls_all_pipeline_stages() -> None:
    """Seed: validator, scorer, risk, gate, executor, in this order, once each, all as of the same moment."""
    fleet = desk()
    result = fleet.orchestrator.process_immediate(a_message(), NOON)

    assert result.status == "executed"
    assert fleet.stages.calls == ALL_FIVE
    assert fleet.stages.lived_through == [NOON]
    assert result.recommendation is not None
    assert result.execution_result is not None
    assert [result.validation, result.gate] == [fleet.stages.validation, fleet.stages.verdict]
    assert result.reservation is not None


def test_process_immediate_handles_validator_error_gracefully() -> None:
    """Seed: the signal passes through unvalidated, visibly, and goes on to execution."""
    fleet = desk(fails={"validator": BROKEN})
    result = fleet.orchestrator.process_immediate(a_message(), NOON)

    assert result.status == "executed"
    assert result.validation == Validation(ValidationStatus.UNVALIDATED, error="MarketDataError: bars are broken")
    assert fleet.stages.scored_on == [result.validation]


def test_process_immediate_handles_gate_error_with_fail_safe() -> None:
    """Seed: a failing gate is closed, nothing is executed, the risk is given back."""
    fleet = desk(fails={"gate": BROKEN})
    result = fleet.orchestrator.process_immediate(a_message(), NOON)

    assert result.status == "gate_closed"
    assert rule(result) == (Stage.GATE, "error")
    assert "executor" not in fleet.stages.calls
    assert fleet.stages.reserved == set()


def test_batch_processor_processes_buffer_periodically() -> None:
    """Seed: each turn takes what came since the last one: two votes, then nothing, then two more."""
    fleet = desk()
    fleet.vote(1)
    fleet.vote(2)
    first = fleet.orchestrator.batch_processor(later(60))
    nothing = fleet.orchestrator.batch_processor(later(120))
    fleet.vote(3, at=later(125))
    fleet.vote(4, at=later(125))
    second = fleet.orchestrator.batch_processor(later(180))

    assert [(r.status, r.decision_id, r.timestamp) for r in first] == [("executed", "AAPL-1", later(60))]
    assert nothing == []
    assert [(r.status, r.decision_id, r.timestamp) for r in second] == [("executed", "AAPL-2", later(180))]
    assert fleet.outcome("test-1:AAPL") is fleet.outcome("test-4:AAPL") is Outcome.EXECUTED


def test_aggregate_sentiment_calculates_consensus() -> None:
    """Seed: 3 bullish of 5 are a strength of 0.6."""
    found = desk().orchestrator.aggregate_sentiment(votes(3, 1, 1))

    assert (found.label, found.strength, found.total) == (Label.BULLISH, 0.6, 5)


def test_buffer_respects_max_buffer_size() -> None:
    """Seed: the 1000th vote of a symbol drains its list at once, the 999th does not; other lists stay."""
    fleet = desk()
    fleet.vote(0, symbol="MSFT")
    for number in range(1, 1000):
        fleet.vote(number)
    assert fleet.backlog.sizes() == {"AAPL": 999, "MSFT": 1}
    assert "validator" not in fleet.stages.calls

    fleet.vote(1000)

    assert fleet.backlog.sizes() == {"MSFT": 1}
    assert fleet.outcome("AAPL-1") is fleet.outcome("test-1000:AAPL") is Outcome.EXECUTED


# ---- manual control ----------------------------------------------------------------------------------


def test_a_stopped_orchestrator_takes_no_message() -> None:
    """Nothing is analyzed, opened or lost unsaid."""
    fleet = desk()
    fleet.orchestrator.stop(NOON)

    with pytest.raises(FleetError, match=r"stopped; valid: running"):
        fleet.post()
    assert fleet.stages.calls == []
    assert fleet.journal.outcomes == {}


def test_enabled_false_refuses_to_start() -> None:
    """The message names parameter, value and what is valid."""
    with pytest.raises(FleetError, match=r"orchestrator\.enabled is false; valid: true"):
        desk(settings={"enabled": False})


def test_stop_brings_the_buffer_to_its_end() -> None:
    """Rule: intake ends, buffers are drained to a terminal outcome, then STOPPED."""
    fleet = desk()
    fleet.vote(1)
    fleet.vote(2)
    fleet.vote(3, symbol="MSFT")
    fleet.orchestrator.stop(later(5))

    assert fleet.backlog.sizes() == {}
    assert fleet.outcome("test-2:AAPL") is Outcome.EXECUTED
    assert fleet.outcome("test-3:MSFT") is Outcome.NO_CONSENSUS


def test_a_stop_that_cannot_drain_is_still_stopping() -> None:
    """What is buffered is not forgotten: the next stop drains it."""
    fleet = desk(fails={"validator": TRANSIENT})
    fleet.vote(1)
    fleet.vote(2)
    with pytest.raises(TransientError):
        fleet.orchestrator.stop(later(5))
    assert fleet.orchestrator.state.value == "stopping"

    fleet.stages.fails.clear()
    fleet.orchestrator.stop(later(6))

    assert fleet.orchestrator.state.value == "stopped"
    assert fleet.outcome("test-1:AAPL") is Outcome.EXECUTED


def test_no_fresh_collector_stops_the_orchestrator_after_a_last_drain() -> None:
    """Seed: collector critical. The post that met it is refused, what was buffered ends."""
    fleet = desk()
    fleet.vote(1)
    fleet.vote(2)
    fleet.stages.fresh = False

    with pytest.raises(FleetError, match="stopped"):
        fleet.post()
    assert fleet.orchestrator.state is OrchestratorState.STOPPED
    assert fleet.outcome("test-1:AAPL") is Outcome.EXECUTED


# ---- the degradation table ---------------------------------------------------------------------------


def test_a_failing_analyzer_skips_the_message() -> None:
    """Seed: critical, skip. The failure is a result, the next message is taken."""
    fleet = desk(fails={"analyzer": ValueError("no words")})
    result = fleet.post()

    assert (result.status, result.error) == ("error", "ValueError: no words")
    assert rule(result) == (Stage.ANALYZER, "ValueError")
    assert fleet.backlog.sizes() == {}
    fleet.stages.fails.clear()
    assert fleet.post().status == "executed"


def test_a_failing_validator_ends_the_signal_when_settings_say_so() -> None:
    """continue_without_validator: false makes it `error`."""
    fleet = desk(settings={"continue_without_validator": False}, fails={"validator": BROKEN})
    result = fleet.decide()

    assert (result.status, rule(result)) == ("error", (Stage.VALIDATOR, "MarketDataError"))
    assert fleet.stages.calls == ["validator"]


@pytest.mark.parametrize(("stage", "asked"), [("scorer", ALL_FIVE[:2]), ("risk", ALL_FIVE[:3])])
def test_a_failing_scorer_or_risk_check_skips_the_trade(stage: str, asked: list[str]) -> None:
    """Seed: critical. The result is `error` under the exception's name, with what was known by then."""
    fleet = desk(fails={stage: BROKEN})
    result = fleet.decide()

    assert (result.status, rule(result)) == ("error", (Stage(stage), "MarketDataError"))
    assert result.validation == fleet.stages.validation
    assert fleet.stages.calls == asked
    assert fleet.stages.reserved == set()


def test_a_failing_gate_opens_only_when_settings_say_so() -> None:
    """gate_fail_safe_closed: false: open at full size, the failure visible as a check."""
    fleet = desk(settings={"gate_fail_safe_closed": False}, fails={"gate": BROKEN})
    result = fleet.decide()

    assert result.status == "executed"
    assert result.gate is not None
    assert [check.observed for check in result.gate.checks] == ["MarketDataError: bars are broken"]


def test_a_failing_executor_is_an_error_result() -> None:
    """Seed: return error result; never raised through."""
    result = desk(fails={"executor": ValueError("no session")}).decide()

    assert (result.status, result.error) == ("error", "ValueError: no session")
    assert rule(result) == (Stage.EXECUTOR, "error")


@pytest.mark.parametrize("stage", ["validator", "scorer", "risk", "gate"])
@pytest.mark.parametrize("error", [TRANSIENT, SymbolBusyError("AAPL is held by decision d-2")])
def test_what_may_work_later_passes_through_every_stage(stage: str, error: Exception) -> None:
    """TransientError and SymbolBusyError end nothing: the same call is repeated."""
    with pytest.raises(type(error)):
        desk(fails={stage: error}).decide()


def test_one_symbol_s_failure_never_stops_another_s() -> None:
    """Seed: AAPL's chart is broken and MSFT's risk check fails, TSLA trades."""
    fleet = desk(
        settings={"continue_without_validator": False}, fails={"validator:AAPL": BROKEN, "risk:MSFT": KeyError("x")}
    )
    for number, symbol in enumerate(["AAPL", "MSFT", "TSLA"] * 2):
        fleet.vote(number, symbol=symbol)
    results = fleet.orchestrator.batch_processor(later(60))

    assert [(r.symbol, r.status) for r in results] == [("AAPL", "error"), ("MSFT", "error"), ("TSLA", "executed")]


def test_a_failing_look_back_is_an_error_of_its_symbol_only() -> None:
    """Seed: what fails in the consensus itself ends that symbol's batch."""
    fleet = desk()
    batch = (a_vote(1), a_vote(2))
    fleet.backlog._recent["AAPL"] = [None]  # type: ignore[list-item]
    result = fleet.orchestrator.process_symbol_batch("AAPL", batch, later(60), "AAPL-1")

    assert result is not None
    assert (result.status, rule(result)) == ("error", (Stage.CONSENSUS, "AttributeError"))


# ---- the five stages: the first refusal ends it ------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "status", "asked"),
    [
        (
            {
                "validation": Validation(
                    ValidationStatus.VETO, vetoes=(Refusal(Stage.VALIDATOR, "rsi_overbought", "71", "70"),)
                )
            },
            "vetoed",
            1,
        ),
        ({"tier": Tier.NO_TRADE}, "low_score", 2),
        ({"refusal": Refusal(Stage.RISK, "max_order", "0", "1")}, "risk_rejected", 3),
        ({"verdict": SHUT}, "gate_closed", 4),
    ],
)
def test_the_first_refusal_ends_the_signal_and_later_stages_are_not_asked(
    stages: dict[str, Any], status: str, asked: int
) -> None:
    """Seed: vetoed, low_score, risk_rejected, gate_closed; nothing is executed, no risk stays set aside."""
    fleet = desk(**stages)
    result = fleet.decide()

    assert result.status == status
    assert fleet.stages.calls == ALL_FIVE[:asked]
    assert result.refusal is not None
    assert fleet.stages.reserved == set()


@pytest.mark.parametrize("tier", [Tier.WEAK, Tier.MODERATE, Tier.STRONG])
def test_every_tier_but_no_trade_goes_on(tier: Tier) -> None:
    """The near-miss of low_score."""
    assert desk(tier=tier).decide().status == "executed"


def test_a_warning_is_no_veto() -> None:
    """WARN goes on."""
    assert desk(validation=Validation(ValidationStatus.WARN)).decide().status == "executed"


@pytest.mark.parametrize(("seconds", "status"), [(30, "executed"), (30.000001, "expired")])
def test_a_signal_is_decided_until_it_expires(seconds: float, status: str) -> None:
    """Urgent: 30 s after the post was written, inclusive; asked before any stage."""
    fleet = desk()

    assert fleet.decide(decided_at=later(seconds)).status == status
    assert (fleet.stages.calls == []) is (status == "expired")


def test_a_signal_closed_by_the_session_alone_is_held_for_the_open() -> None:
    """gate_queue: risk is told to hold it until the open; nothing is sent."""
    opens = later(77_400)
    fleet = desk(verdict=replace(SHUT, hold_until=opens))
    result = fleet.decide()

    assert (result.status, rule(result)) == ("held", (Stage.GATE, "session"))
    assert fleet.stages.held == [(fleet.signal(), opens)]
    assert fleet.stages.released == []
    assert "executor" not in fleet.stages.calls


def test_an_open_gate_holds_nothing() -> None:
    """The near-miss: a verdict that is open, whatever else it says."""
    fleet = desk(verdict=GateVerdict(open=True, factor=Decimal(1), checks=(), hold_until=later(1)))

    assert fleet.decide().status == "executed"
    assert fleet.stages.held == []


def test_a_decision_that_was_sent_before_is_never_asked_again() -> None:
    """Idempotent by decision id: the order that is there answers, even when the signal is long expired."""
    order = ExecutionResult("o-1", "AAPL", Side.BUY, 10, OrderReport("o-1", "AAPL", OrderStatus.FILLED, 10))
    fleet = desk(sent=order)
    result = fleet.decide(decided_at=later(9999))

    assert (result.status, result.execution_result) == ("executed", order)
    assert fleet.stages.calls == []


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ({"decided_at": later(31)}, "expired"),
        ({"veto": True}, "vetoed"),
        ({"tier": Tier.NO_TRADE}, "low_score"),
        ({"refusal": Refusal(Stage.RISK, "trading_state", "HALTED", "ACTIVE")}, "risk_rejected"),
    ],
)
def test_risk_of_a_first_attempt_is_given_back_when_the_second_ends_without_an_order(
    then: dict[str, Any], status: str
) -> None:
    """The first attempt died after its reservation; a symbol that stays reserved could never trade again."""
    fleet = desk(fails={"gate": TRANSIENT})
    with pytest.raises(TransientError):
        fleet.decide()
    assert fleet.stages.reserved == {"test-1:AAPL"}
    fleet.stages.fails.clear()
    changes = dict(then)
    if changes.pop("veto", False):
        fleet.stages.validation = Validation(
            ValidationStatus.VETO, vetoes=(Refusal(Stage.VALIDATOR, "adx_no_trend", "14", "15"),)
        )
    fleet.stages.tier = changes.pop("tier", Tier.STRONG)
    fleet.stages.refusal = changes.pop("refusal", None)

    assert fleet.decide(**changes).status == status
    assert fleet.stages.reserved == set()


@pytest.mark.parametrize("status", [OrderStatus.ACCEPTED, OrderStatus.FILLED])
def test_the_risk_of_a_sent_order_stays_set_aside(status: OrderStatus) -> None:
    """Settlement gives it back when the entry is definite, nobody before."""
    fleet = desk(order_status=status)
    fleet.decide()

    assert fleet.stages.reserved == {"test-1:AAPL"}


def test_risk_that_cannot_be_given_back_is_an_error_or_repeated() -> None:
    """A ledger that does not answer is asked again; one that fails is said."""
    again = desk(verdict=SHUT, fails={"release": TRANSIENT})
    broken = desk(verdict=SHUT, fails={"release": KeyError("x")})

    with pytest.raises(TransientError):
        again.decide()
    assert rule(broken.decide()) == (Stage.RISK, "KeyError")


# ---- urgent signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "direction", "score"), [("bullish", Direction.LONG, 0.8), ("bearish", Direction.SHORT, -0.8)]
)
def test_an_urgent_signal_is_the_post_s_own(label: str, direction: Direction, score: float) -> None:
    """Symbol, direction, numbers, author and text of the post; it lives 30 s from when it was written."""
    signal = desk().orchestrator.urgent_signal(a_message(label), later(7))

    assert (signal.symbol, signal.direction, signal.score, signal.confidence) == ("AAPL", direction, score, 0.9)
    assert (signal.created_at, signal.decided_at, signal.expires_at) == (NOON, later(7), later(30))
    assert (*signal.authors, *signal.fingerprints) == ("ann", "text-test-1")
    assert (signal.decision_id, signal.message_ids, signal.kind) == ("test-1:AAPL", ("test-1",), "urgent")


@pytest.mark.parametrize("message", [a_message(confidence=0.84), a_message("neutral"), a_message(symbols=())])
def test_what_is_no_high_signal_has_no_urgent_signal(message: AnalyzedMessage) -> None:
    """A job that names such a message is wrong."""
    with pytest.raises(FleetError, match="is no high signal"):
        desk().orchestrator.process_immediate(message, NOON)


def test_the_other_symbols_of_an_urgent_post_vote() -> None:
    """One urgent leg, the primary's; the result of the first leg is answered."""
    fleet = desk()
    result = fleet.post(a_message(symbols=("AAPL", "MSFT")))

    assert (result.symbol, result.status) == ("AAPL", "executed")
    assert fleet.outcome("test-1:MSFT") is Outcome.BUFFERED
    assert fleet.stages.calls.count("executor") == 1


def test_deny_lists_reach_the_router() -> None:
    """A muted author's post ends at the router."""
    fleet = desk()
    result = fleet.orchestrator.on_message(a_post(), NOON, DenyList(authors=frozenset({"ann"})))

    assert (result.status, rule(result)) == ("spam", (Stage.ROUTER, "muted_author"))


@pytest.mark.parametrize("confidence", [0.9, 0.8])
def test_a_message_that_comes_twice_is_answered_as_recorded(confidence: float) -> None:
    """Redelivery decides nothing and votes once."""
    fleet = desk()
    first = fleet.post(a_message(confidence=confidence))
    calls = list(fleet.stages.calls)
    again = fleet.post(a_message(confidence=confidence), at=later(3))

    assert (again.status, again.decision_id) == (first.status, "test-1:AAPL")
    assert fleet.stages.calls == [*calls, "analyzer"]
    assert fleet.backlog.sizes() == {"AAPL": 1}


def test_a_near_duplicate_ends_as_duplicate_and_trades_nothing() -> None:
    """The same text by somebody else."""
    fleet = desk()
    fleet.post(a_message(fingerprint="same"))
    result = fleet.post(a_message(number=2, author="bob", fingerprint="same"), at=later(9))

    assert (result.status, result.decision_id) == ("duplicate", "test-2:-")
    assert fleet.stages.calls.count("executor") == 1


# ---- batches -----------------------------------------------------------------------------------------


def test_an_empty_batch_is_a_no_op() -> None:
    """Rule: no votes, no result, nobody asked."""
    fleet = desk()

    assert fleet.orchestrator.process_symbol_batch("AAPL", (), NOON, "AAPL-1") is None
    assert fleet.orchestrator.batch_processor(NOON) == []
    assert fleet.stages.calls == []


def test_a_batch_without_consensus_ends_its_votes_with_the_numbers() -> None:
    """1 : 1 is a tie: no stage is asked, every vote ends `no_consensus`."""
    fleet = desk()
    fleet.vote(1)
    fleet.vote(2, "bearish")
    (result,) = fleet.orchestrator.batch_processor(later(60))

    assert (result.status, rule(result)) == ("no_consensus", (Stage.CONSENSUS, "tie"))
    assert result.aggregate is not None
    assert (result.aggregate.bullish, result.aggregate.bearish) == (1, 1)
    assert fleet.outcome("test-1:AAPL") is fleet.outcome("test-2:AAPL") is Outcome.NO_CONSENSUS
    assert "validator" not in fleet.stages.calls


def test_a_batch_with_consensus_carries_its_aggregate_through_the_five_stages() -> None:
    """One synthetic signal runs the same stages."""
    fleet = desk()
    fleet.vote(1, "bearish")
    fleet.vote(2, "bearish")
    (result,) = fleet.orchestrator.batch_processor(later(60))

    assert result.status == "executed"
    assert result.aggregate is not None
    assert result.aggregate.strength == 1.0
    assert [(s.direction, s.kind, s.decision_id) for s in fleet.stages.seen] == [(Direction.SHORT, "batch", "AAPL-1")]


def test_earlier_unused_votes_count_along_and_used_ones_do_not() -> None:
    """Look-back 900 s: a lone vote is no consensus, with the next minute's vote it is; then both are used up."""
    fleet = desk()
    fleet.vote(1)
    assert [r.status for r in fleet.orchestrator.batch_processor(later(60))] == ["no_consensus"]
    fleet.vote(2, at=later(65))
    assert [r.status for r in fleet.orchestrator.batch_processor(later(120))] == ["executed"]
    fleet.vote(3, at=later(125))
    (third,) = fleet.orchestrator.batch_processor(later(180))

    assert (third.status, rule(third)) == ("no_consensus", (Stage.CONSENSUS, "min_votes"))
    assert fleet.outcome("test-1:AAPL") is Outcome.NO_CONSENSUS


@pytest.mark.parametrize(("decided_s", "agrees"), [(899, True), (900, False)])
def test_the_look_back_reaches_fifteen_minutes(decided_s: float, *, agrees: bool) -> None:
    """Votes with as_of - 900 s < at: one cast at noon counts until just before 12:15:00."""
    fleet = desk()
    fleet.vote(1)
    fleet.orchestrator.batch_processor(later(60))
    fleet.vote(2, at=later(890))
    (result,) = fleet.orchestrator.batch_processor(later(decided_s))

    assert (result.status == "executed") is agrees


def test_the_look_back_looks_back_never_at_votes_after_the_batch() -> None:
    """A vote at 12:01:00 is the next window's: as of that moment it must not count in both."""
    fleet = desk()
    fleet.vote(1, at=later(5))
    (claim_id,) = fleet.backlog.claim()
    claim = fleet.backlog.claimed(claim_id)
    assert claim is not None
    fleet.vote(2, at=later(60))
    result = fleet.orchestrator.process_symbol_batch("AAPL", claim.votes, later(60), claim_id)

    assert result is not None
    assert (result.status, rule(result)) == ("no_consensus", (Stage.CONSENSUS, "min_votes"))


def test_a_look_back_of_zero_is_the_seed_s_literal_rule() -> None:
    """Only the window's own votes count."""
    fleet = Desk(consensus=ConsensusSettings(lookback_s=0))
    fleet.vote(1)
    fleet.orchestrator.batch_processor(later(60))
    fleet.vote(2, at=later(65))

    assert [r.status for r in fleet.orchestrator.batch_processor(later(120))] == ["no_consensus"]


def test_an_urgent_post_votes_too_and_keeps_its_own_end() -> None:
    """One urgent and one regular post agree; the urgent leg's end stays that of its own decision."""
    fleet = desk()
    fleet.post(a_message(number=1))
    fleet.stages.tier = Tier.NO_TRADE
    fleet.vote(2)
    (result,) = fleet.orchestrator.batch_processor(later(60))

    assert result.status == "low_score"
    assert fleet.outcome("test-1:AAPL") is Outcome.EXECUTED
    assert fleet.outcome("test-2:AAPL") is Outcome.LOW_SCORE


def test_the_legs_of_a_batch_are_those_of_its_regular_votes() -> None:
    """Urgent votes have an end of their own."""
    assert voting_legs("AAPL", (a_vote(1), a_vote(2, urgent=True))) == ("test-1:AAPL",)


# ---- what waits for later ----------------------------------------------------------------------------


def test_an_urgent_leg_on_a_busy_symbol_is_decided_with_the_next_drain() -> None:
    """Per-symbol single flight: it stays buffered, and is tried again until it expires."""
    fleet = desk(fails={"risk:AAPL": SymbolBusyError("AAPL is held by decision d-2")})
    assert fleet.post().status == "buffered"
    assert fleet.orchestrator.batch_processor(later(5), ["MSFT"]) == []

    fleet.stages.fails.clear()
    results = fleet.orchestrator.batch_processor(later(10), ["MSFT"])

    assert [(r.status, r.decision_id) for r in results] == [("executed", "test-1:AAPL")]
    assert fleet.outcome("test-1:AAPL") is Outcome.EXECUTED


def test_a_busy_symbol_does_not_stop_the_others_and_its_claim_is_decided_later() -> None:
    """The claim is immutable: later it is decided under the same id, before anything that came after it."""
    fleet = desk(fails={"risk:AAPL": SymbolBusyError("AAPL is held by decision d-2")})
    for number, symbol in enumerate(["AAPL", "MSFT"] * 2):
        fleet.vote(number, symbol=symbol)
    assert [r.symbol for r in fleet.orchestrator.batch_processor(later(60))] == ["MSFT"]

    fleet.stages.fails.clear()
    fleet.vote(9, symbol="TSLA", at=later(70))
    results = fleet.orchestrator.batch_processor(later(75))

    assert [(r.decision_id, r.status) for r in results] == [("AAPL-1", "executed"), ("TSLA-1", "no_consensus")]
    assert fleet.backlog.claimed("AAPL-1") is None


def test_work_that_met_a_transient_error_is_kept() -> None:
    """The error passes through; the same claims are decided when the next drain comes."""
    fleet = desk(fails={"scorer": TRANSIENT})
    for number, symbol in enumerate(["AAPL", "MSFT"] * 2):
        fleet.vote(number, symbol=symbol)
    with pytest.raises(TransientError):
        fleet.orchestrator.batch_processor(later(60))
    with pytest.raises(TransientError):
        fleet.post(a_message(number=7, symbols=("TSLA",), at=later(65)), at=later(65))

    fleet.stages.fails.clear()
    results = fleet.orchestrator.batch_processor(later(70), ["AAPL"])

    assert [(r.decision_id, r.status) for r in results] == [
        ("AAPL-1", "executed"),
        ("MSFT-1", "executed"),
        ("test-7:TSLA", "executed"),
    ]


def test_a_busy_signal_expires_like_any_other() -> None:
    """31 s after the post it ends `expired`, and no risk is left set aside."""
    fleet = desk(fails={"risk:AAPL": SymbolBusyError("AAPL is held by decision d-2")})
    fleet.post()
    results = fleet.orchestrator.batch_processor(later(31), ["MSFT"])

    assert [(r.status, r.decision_id) for r in results] == [("expired", "test-1:AAPL")]
    assert fleet.outcome("test-1:AAPL") is Outcome.EXPIRED

"""The trunk: one message, or one batch of votes, through the five stages to one result (seed, phase 8)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

from pydantic import Field

from pipeline.consensus import Consensus, ConsensusSettings, aggregate_sentiment, reach_consensus
from pipeline.errors import FleetError, SymbolBusyError, TakenOverError, TransientError, UnreconciledError
from pipeline.executor import TradeExecutor
from pipeline.gate import MarketGate
from pipeline.models import (
    AggregatedSentiment,
    AnalyzedMessage,
    Direction,
    ExecutionResult,
    Frozen,
    GateVerdict,
    OrchestratorState,
    Outcome,
    ProcessResult,
    Refusal,
    Reservation,
    Signal,
    SocialMessage,
    Stage,
    Tier,
    TradeRecommendation,
    Validation,
    ValidationStatus,
    Vote,
)
from pipeline.ports import (
    TAKEN_OVER,
    UNRECONCILED,
    AnalyzerManager,
    Backlog,
    CollectorManager,
    Journal,
    VoteHistory,
)
from pipeline.results import describe, ended, executed, expired, failed
from pipeline.risk import RiskManager
from pipeline.router import DenyList, Fate, Leg, RouterSettings, is_high_signal, leg_id, route
from pipeline.scorer import SignalScorer
from pipeline.validator import TechnicalValidator

P = ParamSpec("P")
T = TypeVar("T")
_RETRIED = (TransientError, SymbolBusyError)


class OrchestratorSettings(Frozen):
    """The seed's settings."""

    enabled: bool = Field(default=True, description="off: intake refuses to start")
    immediate_threshold: float = Field(default=0.85, ge=0, le=1, description="confidence, inclusive")
    batch_interval_seconds: int = Field(default=60, ge=1, le=86_400, description="seconds between drains")
    min_consensus: float = Field(
        default=0.6, ge=0, le=1, description="share of votes with the leading label, inclusive"
    )
    max_buffer_size: int = Field(default=1000, ge=1, le=1_000_000, description="votes of a symbol that force a drain")
    max_buffered_total: int = Field(default=100_000, ge=1, le=100_000_000, description="votes of all symbols together")
    continue_without_validator: bool = Field(default=True, description="a failing validator halves the size")
    gate_fail_safe_closed: bool = Field(default=True, description="a failing gate is closed")


class TradingOrchestrator:
    """Coordinates analyzer, validator, scorer, risk, gate and executor with graceful degradation (seed)."""

    def __init__(
        self,
        collector_manager: CollectorManager,
        analyzer_manager: AnalyzerManager,
        technical_validator: TechnicalValidator,
        signal_scorer: SignalScorer,
        risk_manager: RiskManager,
        market_gate: MarketGate,
        trade_executor: TradeExecutor,
        settings: OrchestratorSettings,
        *,
        backlog: Backlog,
        journal: Journal,
        votes: VoteHistory,
        router: RouterSettings | None = None,
        consensus: ConsensusSettings | None = None,
        live_through: Callable[[datetime], object] | None = None,
        stopwatch: Callable[[], float] | None = None,
        moment_of_sending: Callable[[datetime], datetime] | None = None,
    ) -> None:
        """Hooks from outside, since the core neither asks the time nor writes logs.

        `live_through(as_of)` brings the book up to a decision's moment, where time is the events' own.
        `stopwatch()` answers seconds; `stage_ms` then says how long each stage of the last decision took.
        `moment_of_sending(decided_at)` is when the gate is asked for the last time, right before an order is sent:
        live it is now, in event time (the default) the decision's own moment.
        """
        self._moment_of_sending = moment_of_sending or (lambda decided_at: decided_at)
        self._stopwatch = stopwatch or (lambda: 0.0)
        self.stage_ms: dict[Stage, float] = {}
        self._collector_manager = collector_manager
        self._analyzer = analyzer_manager
        self._validator = technical_validator
        self._scorer = signal_scorer
        self._risk_manager = risk_manager
        self._gate = market_gate
        self._executor = trade_executor
        self._settings = settings
        self._backlog = backlog
        self._journal = journal
        self._votes = votes
        self._router_settings = router or RouterSettings()
        self._consensus_settings = consensus or ConsensusSettings()
        self._live_through = live_through or (lambda _as_of: None)
        self._state = OrchestratorState.STOPPED
        self._undecided: dict[str, Callable[[datetime], ProcessResult | None]] = {}

    # ---- manual control ----

    @property
    def state(self) -> OrchestratorState:
        """STOPPED, RUNNING or STOPPING."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether messages are taken (seed)."""
        return self._state is OrchestratorState.RUNNING

    def start(self) -> None:
        """Begin taking messages. Raises FleetError when the settings say `enabled: false`."""
        if not self._settings.enabled:
            raise FleetError("orchestrator.enabled is false; valid: true to start")
        self._state = OrchestratorState.RUNNING

    def stop(self, as_of: datetime) -> None:
        """Take no more messages, bring what is buffered to its end, then be STOPPED."""
        self._state = OrchestratorState.STOPPING
        self.batch_processor(as_of)
        self._state = OrchestratorState.STOPPED

    # ---- messages ----

    def on_message(self, message: SocialMessage, as_of: datetime, deny: DenyList | None = None) -> ProcessResult:
        """Analyze and route one post; the result is that of its first leg ("buffered" for a vote).

        Raises FleetError when not running. Stops itself when no collector is fresh any more (seed: critical).
        """
        if self.is_running and not self._collector_manager.is_fresh(as_of):
            self.stop(as_of)
        if not self.is_running:
            raise FleetError(f"orchestrator is {self._state.value}; valid: running (start it first)")
        try:
            analyzed = self._analyzer.analyze(message)
        except Exception as error:  # noqa: BLE001  # seed: a failing analyzer skips the message
            return failed(Stage.ANALYZER, error, leg_id(message.message_id, None), as_of)
        return self.on_analyzed(analyzed, as_of, deny or DenyList())

    def on_analyzed(self, analyzed: AnalyzedMessage, as_of: datetime, deny: DenyList) -> ProcessResult:
        """Route one analyzed message: urgent leg at once, votes to the backlog."""
        legs = self.route(analyzed, as_of, deny)
        accepted = self._backlog.accept([(analyzed, legs)])[0]
        results = [self._follow(leg, analyzed, as_of) for leg in accepted]
        self._drain_full_lists(as_of)
        return results[0] if results else self._as_recorded(legs[0], as_of)

    def route(self, analyzed: AnalyzedMessage, as_of: datetime, deny: DenyList) -> tuple[Leg, ...]:
        """Where each leg of the message goes."""
        return route(analyzed, as_of, deny, self._router_settings, self._settings.immediate_threshold)

    def is_high_signal(self, message: AnalyzedMessage) -> bool:
        """Whether the message is processed at once (seed)."""
        return is_high_signal(message, self._settings.immediate_threshold)

    def process_immediate(self, analyzed: AnalyzedMessage, as_of: datetime) -> ProcessResult:
        """The primary symbol's leg of a high-signal message through the five stages (seed)."""
        return self.decide(self.urgent_signal(analyzed, as_of))

    def urgent_signal(self, analyzed: AnalyzedMessage, as_of: datetime) -> Signal:
        """The urgent leg as a signal. Raises FleetError when the message has no primary symbol or is neutral."""
        symbol, sentiment, message = analyzed.tickers.primary, analyzed.sentiment, analyzed.message
        if symbol is None or not self.is_high_signal(analyzed):
            raise FleetError(
                f"message {analyzed.message_id} is no high signal; valid: a direction and a primary symbol"
            )
        return Signal(
            decision_id=leg_id(analyzed.message_id, symbol),
            symbol=symbol,
            direction=Direction.LONG if sentiment.label == "bullish" else Direction.SHORT,
            score=sentiment.score,
            confidence=sentiment.confidence,
            created_at=message.created_at,
            decided_at=as_of,
            expires_at=message.created_at + timedelta(seconds=self._router_settings.max_age_urgent_s),
            authors=frozenset({message.author}),
            fingerprints=frozenset({analyzed.fingerprint}),
            message_ids=(analyzed.message_id,),
            kind="urgent",
        )

    def batch_processor(self, as_of: datetime, symbols: Sequence[str] | None = None) -> list[ProcessResult]:
        """Drain the lists and decide each symbol; one symbol's failure never stops another's (seed).

        Decides first what was taken before and not ended: its symbol was busy, or something outside did not answer.
        """
        for claim_id in self._backlog.claim(symbols):
            self._undecided[claim_id] = partial(self._process_claim, claim_id)
        results = [self._attempt(name, as_of) for name in tuple(self._undecided)]
        return [result for result in results if result is not None]

    def process_symbol_batch(
        self, symbol: str, votes: Sequence[Vote], as_of: datetime, decision_id: str
    ) -> ProcessResult | None:
        """Consensus of one symbol's votes, and its signal through the five stages (seed).

        None for an empty batch, or one whose votes all took part in an earlier decision by look-back. `legs` of the
        result are those of the votes, and of looked-back ones that made the signal and still wait in a list.
        """
        try:
            fresh = self.unused(symbol, votes)
            if not fresh:
                return None
            earlier = self._lookback(symbol, votes, as_of)
            consensus = self._consensus(decision_id, symbol, (*fresh, *earlier), as_of)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # one symbol's failure never stops another's (seed)
            return failed(Stage.CONSENSUS, error, decision_id, as_of, symbol=symbol)
        if consensus.signal is None:
            return ProcessResult(
                status=Outcome.NO_CONSENSUS,
                timestamp=as_of,
                symbol=symbol,
                decision_id=decision_id,
                refusal=consensus.refusal,
                aggregate=consensus.aggregate,
                legs=voting_legs(symbol, fresh),
            )
        legs = voting_legs(symbol, (*fresh, *earlier))
        return replace(self.decide(consensus.signal), aggregate=consensus.aggregate, legs=legs)

    def agrees(self, symbol: str, votes: Sequence[Vote], as_of: datetime) -> bool:
        """Whether `process_symbol_batch` would find a consensus in these votes; decides and writes nothing."""
        fresh = self.unused(symbol, votes)
        if not fresh:
            return False
        counted = (*fresh, *self._lookback(symbol, votes, as_of))
        return self._consensus("", symbol, counted, as_of).signal is not None

    def unused(self, symbol: str, votes: Sequence[Vote]) -> list[Vote]:
        """Those of the votes that no decision with consensus counted yet."""
        used = self._votes.used(symbol, [vote.id for vote in votes])
        return [vote for vote in votes if vote.id not in used]

    def aggregate_sentiment(self, votes: Sequence[Vote]) -> AggregatedSentiment:
        """Counts, lead and strength of the votes (seed)."""
        return aggregate_sentiment(votes)

    # ---- the five stages ----

    def decide(self, signal: Signal) -> ProcessResult:
        """One signal through validator, scorer, risk, gate and executor; the first refusal ends it.

        Raises SymbolBusyError and TransientError only: the same call may be repeated later, and will do no harm.
        """
        self.stage_ms = {}
        self._live_through(signal.decided_at)
        execution = self._executor.begin(signal)
        if isinstance(execution, ExecutionResult):
            return executed(signal, execution)
        result = self._decide(signal, execution.id) if signal.decided_at <= signal.expires_at else expired(signal)
        keeps_risk = result.execution_result is not None or result.outcome is Outcome.HELD
        return result if keeps_risk else self._give_back(result, signal, execution.id)

    def _decide(self, signal: Signal, execution: int) -> ProcessResult:
        validation = self._timed(Stage.VALIDATOR, self._validate, signal)
        if isinstance(validation, ProcessResult):
            return validation
        recommendation = self._timed(Stage.SCORER, self._score, signal, validation)
        if isinstance(recommendation, ProcessResult):
            return recommendation
        reservation = self._timed(Stage.RISK, self._check_risk, recommendation, execution)
        if isinstance(reservation, ProcessResult):
            return reservation
        return self._enter(recommendation, reservation, execution)

    def abandon(self, decision_id: str) -> None:
        """Take a decision over that is given up: no run of it sends any more, what it reserved is free.

        An order that was sent stays; its fate ends the decision. Raises TransientError.
        """
        self._executor.abandon(decision_id)

    def _timed(self, stage: Stage, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began = self._stopwatch()
        try:
            return step(*args, **kwargs)
        finally:
            self.stage_ms[stage] = (self._stopwatch() - began) * 1000

    def _validate(self, signal: Signal) -> Validation | ProcessResult:
        try:
            validation = self._validator.validate(signal)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # seed: the validator is not critical
            if not self._settings.continue_without_validator:
                return failed(Stage.VALIDATOR, error, signal.decision_id, signal.decided_at, symbol=signal.symbol)
            return Validation(ValidationStatus.UNVALIDATED, error=describe(error))
        if validation.status is ValidationStatus.VETO:
            return ended(signal, Outcome.VETOED, validation.vetoes[0], validation=validation)
        return validation

    def _score(self, signal: Signal, validation: Validation) -> TradeRecommendation | ProcessResult:
        try:
            recommendation = self._scorer.score(signal, validation)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # seed: a failing scorer skips the message
            return failed(
                Stage.SCORER, error, signal.decision_id, signal.decided_at, symbol=signal.symbol, validation=validation
            )
        if recommendation.tier is Tier.NO_TRADE:
            refusal = Refusal(Stage.SCORER, "min_score", f"{recommendation.score:.2f}", "WEAK tier")
            return ended(signal, Outcome.LOW_SCORE, refusal, validation=validation, recommendation=recommendation)
        return recommendation

    def _check_risk(self, recommendation: TradeRecommendation, execution: int) -> Reservation | ProcessResult:
        signal = recommendation.signal
        facts: dict[str, Any] = {"recommendation": recommendation, "validation": recommendation.validation}
        try:
            answer = self._risk_manager.check(recommendation, signal.decided_at, execution)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # seed: a failing risk check skips the trade
            return failed(Stage.RISK, error, signal.decision_id, signal.decided_at, symbol=signal.symbol, **facts)
        if isinstance(answer, Refusal):
            return ended(signal, Outcome.RISK_REJECTED, answer, **facts)
        return answer

    def _enter(self, recommendation: TradeRecommendation, reservation: Reservation, execution: int) -> ProcessResult:
        signal = recommendation.signal
        gate = self._timed(Stage.GATE, self._ask_gate, signal)
        facts: dict[str, Any] = {
            "recommendation": recommendation,
            "validation": recommendation.validation,
            "reservation": reservation,
            "gate": gate,
        }
        if gate.hold_until is not None and not gate.open:
            self._risk_manager.hold(signal, gate.hold_until, execution)
            return ended(signal, Outcome.HELD, gate.refusal, **facts)
        if not gate.open:
            return ended(signal, Outcome.GATE_CLOSED, gate.refusal, **facts)
        sent = self._timed(
            Stage.EXECUTOR,
            self._executor.execute,
            recommendation,
            reservation,
            gate,
            signal.decided_at,
            execution,
            lambda: self._ask_gate(replace(signal, decided_at=self._moment_of_sending(signal.decided_at))),
        )
        if sent.refusal is not None and sent.refusal.rule == UNRECONCILED:
            raise UnreconciledError(f"the broker's book was compared {sent.refusal.observed}; nothing was sent")
        if sent.refusal is not None and sent.refusal.rule == TAKEN_OVER:
            raise TakenOverError(f"decision {signal.decision_id} is run by a newer execution; nothing was sent here")
        return replace(executed(signal, sent), **facts)

    def _give_back(self, result: ProcessResult, signal: Signal, execution: int) -> ProcessResult:
        """The end without an order, once no risk is set aside for it, by this attempt or one that died before it."""
        try:
            self._risk_manager.release(signal.decision_id, execution)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # seed: a failing risk stage skips the trade
            return failed(Stage.RISK, error, signal.decision_id, signal.decided_at, symbol=signal.symbol)
        return result

    def _ask_gate(self, signal: Signal) -> GateVerdict:
        try:
            return self._gate.check(signal)
        except _RETRIED:
            raise
        except Exception as error:  # noqa: BLE001  # seed: a failing gate is closed
            return self._gate.on_error(describe(error), fail_safe_closed=self._settings.gate_fail_safe_closed)

    # ---- buffers ----

    def _follow(self, leg: Leg, analyzed: AnalyzedMessage, as_of: datetime) -> ProcessResult:
        if leg.fate is Fate.URGENT:
            self._undecided[leg.leg_id] = partial(self._process_urgent, leg.leg_id, analyzed)
            result = self._attempt(leg.leg_id, as_of)
            if result is not None:
                return result
        status = Outcome.BUFFERED if leg.fate is not Fate.END else leg.outcome or Outcome.ERROR
        return ProcessResult(status, as_of, symbol=leg.symbol, decision_id=leg.leg_id, refusal=leg.refusal)

    def _as_recorded(self, leg: Leg, as_of: datetime) -> ProcessResult:
        outcome = self._journal.outcome(leg.leg_id) or Outcome.DUPLICATE
        return ProcessResult(outcome, as_of, symbol=leg.symbol, decision_id=leg.leg_id)

    def _drain_full_lists(self, as_of: datetime) -> None:
        full = [symbol for symbol, size in self._backlog.sizes().items() if size >= self._settings.max_buffer_size]
        if full:
            self.batch_processor(as_of, full)

    def _attempt(self, name: str, as_of: datetime) -> ProcessResult | None:
        """Decide what was taken; it is kept for the next drain until it is recorded. None while its symbol is busy."""
        try:
            result = self._undecided[name](as_of)
        except SymbolBusyError:
            return None
        del self._undecided[name]
        return result

    def _process_urgent(self, leg: str, analyzed: AnalyzedMessage, as_of: datetime) -> ProcessResult:
        result = self.process_immediate(analyzed, as_of)
        self._journal.record([(result, (leg,))])
        return result

    def _process_claim(self, claim_id: str, as_of: datetime) -> ProcessResult | None:
        claim = self._backlog.claimed(claim_id)
        if claim is None:
            return None
        result = self.process_symbol_batch(claim.symbol, claim.votes, as_of, claim_id)
        if result is not None:
            self._journal.record([(result, result.legs)])
        self._backlog.finish(claim_id)
        return result

    def _consensus(self, decision_id: str, symbol: str, votes: Sequence[Vote], as_of: datetime) -> Consensus:
        numbers, least = self._consensus_settings, self._settings.min_consensus
        return reach_consensus(decision_id, symbol, votes, as_of, numbers, least)

    def _lookback(self, symbol: str, votes: Sequence[Vote], as_of: datetime) -> list[Vote]:
        seconds = self._consensus_settings.lookback_s
        if not seconds:
            return []
        own, newest = {vote.id for vote in votes}, max(vote.at for vote in votes)
        earlier = self._votes.votes(symbol, as_of - timedelta(seconds=seconds), newest)
        return self.unused(symbol, [vote for vote in earlier if vote.id not in own])


def voting_legs(symbol: str, votes: Sequence[Vote]) -> tuple[str, ...]:
    """The legs whose end is the batch decision's: urgent votes have an end of their own."""
    return tuple(leg_id(vote.id, symbol) for vote in votes if not vote.urgent)

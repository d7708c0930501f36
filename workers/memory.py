"""The whole trunk in one process: real stages over in-memory twins, for tests and for users without Redis."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from config.settings import Settings, load_settings
from pipeline.analyzer import LexiconAnalyzer
from pipeline.consensus import window_of
from pipeline.errors import FleetError
from pipeline.executor import TradeExecutor
from pipeline.gate import MarketGate
from pipeline.models import INTERIM, TERMINAL, AnalyzedMessage, ProcessResult, SocialMessage, TradingState
from pipeline.orchestrator import TradingOrchestrator
from pipeline.ports import (
    AnalyzerManager,
    BarHistory,
    CollectorManager,
    MarketConditions,
    MarketData,
    Sessions,
)
from pipeline.risk import RiskManager
from pipeline.router import DenyList
from pipeline.scorer import SignalScorer
from pipeline.validator import TechnicalValidator
from workers.adapters.alarms import MemoryAlarms
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.control_memory import MemoryControl
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.market_memory import MemoryConditions
from workers.adapters.paper import PaperBroker
from workers.adapters.paper_memory import MemoryPaperStore
from workers.collectors import NullCollectorManager
from workers.endings import Release, release_held, settle_orders
from workers.settlement import Settlement

MAX_SESSIONS_TO_FINISH = 30


class Market(MarketData, BarHistory, Protocol):
    """Prices for the stages and for the paper venue."""


class MemoryFleet:
    """A `TradingOrchestrator` with everything around it, in the events' own time; nothing trades before `start`.

    `universe`: the symbols that may trade. `settings`: default the shipped `replay` profile. What is not given is
    the real thing, or, for `conditions`, not configured. Moments must be passed in order of time.
    """

    def __init__(
        self,
        market: Market,
        sessions: Sessions,
        universe: frozenset[str],
        settings: Settings | None = None,
        *,
        conditions: MarketConditions | None = None,
        collectors: CollectorManager | None = None,
        analyzer: AnalyzerManager | None = None,
        validator: TechnicalValidator | None = None,
    ) -> None:
        self.settings = settings = settings or load_settings("replay", environ={})
        cash = settings.paper.starting_cash
        self.sessions = sessions
        self.control = MemoryControl()
        executions = MemoryExecutions()
        self.alarms = MemoryAlarms()
        self.ledger = MemoryLedger(cash, executions)
        self.intents = MemoryIntents(self.control, executions, self._ended)
        self.broker = PaperBroker(MemoryPaperStore(cash), market, market, sessions, settings.paper)
        self.journal = MemoryJournal(self._mark_used, executions.sent)
        self.backlog = MemoryBacklog(self.journal, settings.router.duplicate_window_s, settings.consensus.lookback_most)
        risk = RiskManager(self.ledger, sessions, market, self.control, settings.risk)
        self._settlement = Settlement(self.broker, self.intents, self.ledger, sessions, market, risk, self.alarms)
        self.orchestrator = TradingOrchestrator(
            collectors or NullCollectorManager(),
            analyzer or LexiconAnalyzer(universe, settings.analyzer, settings.tickers),
            validator or TechnicalValidator(market, sessions, settings.validator),
            SignalScorer(market, sessions, self.backlog, settings.scorer),
            risk,
            MarketGate(sessions, conditions or MemoryConditions(), market, settings.gate),
            TradeExecutor(self.broker, self.intents, self.ledger, sessions, settings.executor, settings.environment),
            settings.orchestrator,
            backlog=self.backlog,
            journal=self.journal,
            votes=self.backlog,
            router=settings.router,
            consensus=settings.consensus,
            live_through=self._settle_orders,
        )

    # ---- what a user does ----

    def start(self, as_of: datetime) -> None:
        """Take messages and let them trade."""
        self.control.set(TradingState.ACTIVE, "start", "manual start", as_of)
        self.orchestrator.start()

    def post(self, message: SocialMessage | AnalyzedMessage) -> ProcessResult:
        """What became of the post's first leg, decided at the moment the post was known. Raises FleetError: stopped."""
        if isinstance(message, SocialMessage):
            return self.orchestrator.on_message(message, _known_at(message), self._deny())
        return self.orchestrator.on_analyzed(message, _known_at(message), self._deny())

    def drain(self, as_of: datetime) -> list[ProcessResult]:
        """Consensus of every symbol's votes, as of the end of their window."""
        return self.orchestrator.batch_processor(as_of)

    def settle(self, as_of: datetime) -> int:
        """Live on to `as_of`: held signals at their open, fills and exits; how many orders became definite."""
        for opened in sorted({self.sessions.next_open(signal.decided_at) for signal in self.ledger.held(as_of)}):
            release = Release(opened, self.sessions, timedelta(seconds=self.settings.schedule.release_max_age_s))
            release_held(self.orchestrator, self.ledger, self.journal, release)
        return self._settle_orders(as_of)

    def live(self, messages: Iterable[SocialMessage | AnalyzedMessage]) -> datetime | None:
        """Live through messages in order of time, every window drained at its end; where the last window ends.

        None without any message. What is still interim then waits for `finish`.
        """
        closes: datetime | None = None
        for message in messages:
            at = _known_at(message)
            if closes is not None and at >= closes:
                self._close_window(closes)
                closes = None
            self.settle(at)
            self.post(message)
            closes = closes or self._window_end(at)
        if closes is not None:
            self._close_window(closes)
        return closes

    def finish(self, as_of: datetime) -> datetime:
        """Drain, then live on from close to close until every leg is at its end; the moment that was.

        Raises FleetError when legs are still interim after 30 sessions.
        """
        self.drain(as_of)
        for _ in range(MAX_SESSIONS_TO_FINISH):
            if not self.interim():
                return as_of
            as_of = self.sessions.session_of(as_of).close
            self.settle(as_of)
            self.drain(as_of)
        raise FleetError(f"{self.interim()} legs are interim after {MAX_SESSIONS_TO_FINISH} sessions; valid: 0")

    def interim(self) -> int:
        """Legs that are not at their end."""
        return sum(count for outcome, count in self.journal.count().items() if outcome in INTERIM)

    # ---- inside ----

    def _window_end(self, at: datetime) -> datetime:
        seconds = self.settings.orchestrator.batch_interval_seconds
        return datetime.fromtimestamp((window_of(at, seconds) + 1) * seconds, UTC)

    def _close_window(self, at: datetime) -> None:
        self.settle(at)
        self.drain(at)

    def _settle_orders(self, as_of: datetime) -> int:
        return settle_orders(self._settlement, self.journal, as_of)

    def _ended(self, decision_id: str) -> bool:
        return self.journal.outcome(decision_id) in TERMINAL

    def _mark_used(self, symbol: str, ids: Sequence[str], decided_at: datetime) -> None:
        self.backlog.mark_used(symbol, ids, decided_at)

    def _deny(self) -> DenyList:
        return DenyList(*(frozenset(self.control.denials(kind)) for kind in ("symbol", "author", "source")))


def _known_at(message: SocialMessage | AnalyzedMessage) -> datetime:
    return message.received_at if isinstance(message, SocialMessage) else message.message.received_at

"""Lives the recorded day through the orchestrator in one process, over the in-memory twins and the shipped profile."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from config.settings import Settings, load_settings
from pipeline.analyzer import LexiconAnalyzer
from pipeline.consensus import window_of
from pipeline.errors import InvalidInputError
from pipeline.executor import TradeExecutor
from pipeline.gate import MarketGate
from pipeline.models import ProcessResult, SocialMessage, TradingState
from pipeline.orchestrator import TradingOrchestrator
from pipeline.risk import RiskManager
from pipeline.scorer import SignalScorer
from pipeline.validator import TechnicalValidator
from workers.adapters.alarms import MemoryAlarms
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.calendar import ExchangeSessions
from workers.adapters.conditions_csv import CsvConditions
from workers.adapters.control_memory import MemoryControl
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.ledger_rows import FillRow
from workers.adapters.paper import PaperBroker
from workers.adapters.paper_memory import MemoryPaperStore
from workers.adapters.posts import parse_post
from workers.settlement import Settlement

START = datetime(2025, 9, 17, tzinfo=UTC)
CLOSE_OF_NEXT_SESSION = datetime(2025, 9, 18, 20, 0, tzinfo=UTC)


class AlwaysFresh:
    """A collector that never dies."""

    def is_fresh(self, as_of: datetime) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class DemoDay:
    """What came of the day. `results`: what each decision said last; `fills`: in order of time."""

    messages: int
    refused: Counter[str]
    legs: Counter[str]
    results: dict[str, ProcessResult]
    fills: tuple[FillRow, ...]

    def rules(self) -> Counter[str]:
        """`outcome rule` of every decision that a rule ended."""
        return Counter(f"{r.status} {r.refusal.rule}" for r in self.results.values() if r.refusal is not None)


class Fleet:
    """The day's orchestrator with everything around it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sessions = ExchangeSessions(date(2025, 1, 2), date(2025, 12, 31))
        self.data = CsvMarketData(
            located(settings.market.bars_dir),
            sessions=self.sessions,
            daily_folder=located(settings.market.daily_bars_dir),
        )
        control = MemoryControl()
        control.set(TradingState.ACTIVE, "demo", "the day begins", START)
        cash = settings.paper.starting_cash
        self.ledger = MemoryLedger(cash)
        self.intents = MemoryIntents(control)
        self.broker = PaperBroker(MemoryPaperStore(cash), self.data, self.data, self.sessions, settings.paper)
        self.risk = RiskManager(self.ledger, self.sessions, self.data, control, settings.risk)
        self.settlement = Settlement(
            self.broker, self.intents, self.ledger, self.sessions, self.data, self.risk, MemoryAlarms()
        )
        self.journal = MemoryJournal(self._mark_used)
        self.backlog = MemoryBacklog(self.journal, settings.router.duplicate_window_s)
        self.orchestrator = self._orchestrator(settings)

    def _orchestrator(self, settings: Settings) -> TradingOrchestrator:
        market, data, sessions = settings.market, self.data, self.sessions
        universe = frozenset(data.universe()) - {market.index_symbol or ""}
        conditions = CsvConditions(data, sessions, vix_csv=located(market.vix_csv), index_symbol=market.index_symbol)
        return TradingOrchestrator(
            AlwaysFresh(),
            LexiconAnalyzer(universe, settings.analyzer, settings.tickers),
            TechnicalValidator(data, sessions, settings.validator),
            SignalScorer(data, sessions, self.backlog, settings.scorer),
            self.risk,
            MarketGate(sessions, conditions, data, settings.gate),
            TradeExecutor(self.broker, self.intents, self.ledger, sessions, settings.executor, settings.environment),
            settings.orchestrator,
            backlog=self.backlog,
            journal=self.journal,
            votes=self.backlog,
            router=settings.router,
            consensus=settings.consensus,
            live_through=self.settle,
        )

    def _mark_used(self, symbol: str, ids: Sequence[str], decided_at: datetime) -> None:
        self.backlog.mark_used(symbol, ids, decided_at)

    def settle(self, as_of: datetime) -> None:
        """Bring the book up to `as_of` and end the decisions whose order became definite."""
        settled = self.settlement.settle(as_of)
        for one in settled:
            result = ProcessResult(
                one.outcome, one.as_of, symbol=one.symbol, decision_id=one.decision_id, refusal=one.refusal
            )
            self.journal.record([(result, (one.decision_id,) if ":" in one.decision_id else ())])
        self.settlement.acknowledge([one.decision_id for one in settled])

    def live(self, posts: list[SocialMessage]) -> None:
        """Every post when it was known, every window at its end, then on to the next session's close."""
        self.orchestrator.start()
        seconds = self.settings.orchestrator.batch_interval_seconds
        window = 0
        for post in posts:
            now = window_of(post.received_at, seconds)
            if now > window:
                self._drain((window + 1) * seconds)
                window = now
            self.orchestrator.on_message(post, post.received_at)
        self._drain((window + 1) * seconds)
        self.settle(CLOSE_OF_NEXT_SESSION)

    def _drain(self, epoch: int) -> None:
        self.orchestrator.batch_processor(datetime.fromtimestamp(epoch, UTC))


def live_the_day() -> DemoDay:
    """The whole recording under the shipped profile."""
    settings = load_settings("demo", environ={})
    posts, refused = read_posts(located(settings.source.path))
    fleet = Fleet(settings)
    fleet.live(posts)
    return DemoDay(
        messages=len(posts),
        refused=refused,
        legs=Counter({str(outcome): count for outcome, count in fleet.journal.count().items()}),
        results=fleet.journal.results,
        fills=tuple(sorted(fleet.ledger._fills.values(), key=lambda row: (row.fill.at, row.fill.fill_id))),
    )


def read_posts(path: Path) -> tuple[list[SocialMessage], Counter[str]]:
    """The posts in the order they became known, and why the other lines were refused."""
    posts, refused = [], Counter[str]()
    for line in path.read_bytes().splitlines():
        try:
            posts.append(parse_post(line, None))
        except InvalidInputError as error:
            refused[error.reason] += 1
    return sorted(posts, key=lambda post: (post.received_at, post.message_id)), refused


def located(path: Path | None) -> Path:
    """A path the profile must name."""
    if path is None:
        raise ValueError("the demo's profile names every file")
    return path

"""Lives the recorded day through the orchestrator in one process, over the in-memory twins and the shipped profile."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from config.paper import PaperSettings
from pipeline.analyzer import LexiconAnalyzer
from pipeline.consensus import window_of
from pipeline.errors import InvalidInputError
from pipeline.executor import ExecutorSettings, TradeExecutor
from pipeline.gate import GateSettings, MarketGate
from pipeline.models import Fill, ProcessResult, SocialMessage, TradingState
from pipeline.orchestrator import OrchestratorSettings, TradingOrchestrator
from pipeline.risk import RiskManager, RiskSettings
from pipeline.scorer import ScorerSettings, SignalScorer
from pipeline.validator import TechnicalValidator, ValidatorSettings
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.calendar import ExchangeSessions
from workers.adapters.conditions_csv import CsvConditions
from workers.adapters.control_memory import MemoryControl
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.paper import PaperBroker
from workers.adapters.paper_memory import MemoryPaperStore
from workers.adapters.posts import parse_post
from workers.settlement import Settlement

CONFIG = Path(__file__).parents[2] / "config"
INTERVAL = timedelta(seconds=60)
CLOSE_OF_NEXT_SESSION = datetime(2025, 9, 18, 20, 0, tzinfo=UTC)


class AlwaysFresh:
    """A collector that never dies."""

    def is_fresh(self, as_of: datetime) -> bool:
        return True


@dataclass(slots=True)
class DemoDay:
    """What came of the day. `results`: what each decision said last; `fills`: in order of time."""

    legs: Counter[str]
    results: dict[str, ProcessResult]
    refused: Counter[str]
    fills: tuple[Fill, ...]
    messages: int

    def rules(self) -> Counter[str]:
        """`outcome rule` of every decision that a rule ended."""
        return Counter(f"{r.status} {r.refusal.rule}" for r in self.results.values() if r.refusal is not None)


class Fleet:
    """The day's orchestrator with everything around it."""

    def __init__(self, profile: dict[str, Any]) -> None:
        market = profile["market"]
        self.sessions = ExchangeSessions(date(2025, 1, 2), date(2025, 12, 31))
        self.data = CsvMarketData(
            CONFIG / market["bars_dir"], sessions=self.sessions, daily_folder=CONFIG / market["daily_bars_dir"]
        )
        paper = PaperSettings(**profile["paper"])
        control = MemoryControl()
        control.set(TradingState.ACTIVE, "demo", "the day begins", datetime(2025, 9, 17, tzinfo=UTC))
        self.ledger = MemoryLedger(paper.starting_cash)
        self.intents = MemoryIntents(control)
        self.broker = PaperBroker(
            MemoryPaperStore(paper.starting_cash), self.data, self.data, self.sessions, paper
        )
        self.risk = RiskManager(self.ledger, self.sessions, self.data, control, RiskSettings(**profile["risk"]))
        self.settlement = Settlement(
            self.broker, self.intents, self.ledger, self.sessions, self.data, self.risk
        )
        self.journal = MemoryJournal(lambda *used: self.backlog.mark_used(*used))
        self.backlog = MemoryBacklog(self.journal)
        self.orchestrator = self._orchestrator(profile)

    def _orchestrator(self, profile: dict[str, Any]) -> TradingOrchestrator:
        market, data, sessions = profile["market"], self.data, self.sessions
        universe = frozenset(data.universe()) - {market["index_symbol"]}
        conditions = CsvConditions(
            data, sessions, vix_csv=CONFIG / market["vix_csv"], index_symbol=market["index_symbol"]
        )
        return TradingOrchestrator(
            AlwaysFresh(),
            LexiconAnalyzer(universe),
            TechnicalValidator(data, sessions, ValidatorSettings()),
            SignalScorer(data, sessions, self.backlog, ScorerSettings(**profile["scorer"])),
            self.risk,
            MarketGate(sessions, conditions, data, GateSettings()),
            TradeExecutor(self.broker, self.intents, self.ledger, sessions, ExecutorSettings(), "demo"),
            OrchestratorSettings(),
            backlog=self.backlog,
            journal=self.journal,
            votes=self.backlog,
            live_through=self.settle,
        )

    def settle(self, as_of: datetime) -> None:
        """Bring the book up to `as_of` and end the decisions whose order became definite."""
        settled = self.settlement.settle(as_of)
        for one in settled:
            result = ProcessResult(
                one.outcome, one.as_of, symbol=one.symbol, decision_id=one.decision_id, refusal=one.refusal
            )
            self.journal.record([(result, (one.decision_id,) if ":" in one.decision_id else ())])
        self.settlement.acknowledge([one.decision_id for one in settled])

    def drain(self, window: int) -> None:
        """The consensus of everything that waits, at the end of its window."""
        if self.backlog.sizes():
            self.orchestrator.batch_processor(datetime.fromtimestamp((window + 1) * INTERVAL.total_seconds(), UTC))

    def live(self, posts: list[SocialMessage]) -> None:
        """Every post when it was known, every window at its end, then on to the next session's close."""
        self.orchestrator.start()
        window = 0
        for post in posts:
            now = window_of(post.received_at, int(INTERVAL.total_seconds()))
            if now > window:
                self.drain(window)
                window = now
            self.orchestrator.on_message(post, post.received_at)
        self.drain(window)
        self.settle(CLOSE_OF_NEXT_SESSION)


def live_the_day() -> DemoDay:
    """The whole recording under the shipped profile."""
    profile = yaml.safe_load((CONFIG / "profiles" / "demo.yaml").read_text(encoding="utf-8"))
    posts, refused = read_posts(CONFIG / profile["source"]["path"])
    fleet = Fleet(profile)
    fleet.live(posts)
    reports = (intent.report for intent in fleet.intents._intents.values())
    fills = [fill for report in reports if report is not None for fill in report.fills]
    return DemoDay(
        legs=Counter({str(outcome): count for outcome, count in fleet.journal.count().items()}),
        results=fleet.journal.results,
        refused=refused,
        fills=tuple(sorted(fills, key=lambda fill: (fill.at, fill.fill_id))),
        messages=len(posts),
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

"""The composition root: the only place that picks real adapters and puts the fleet together from its settings."""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from time import perf_counter
from typing import Final

import redis

from config.settings import Settings, load_settings
from pipeline.analyzer import LexiconAnalyzer
from pipeline.errors import MarketDataError, SettingsError
from pipeline.executor import TradeExecutor
from pipeline.gate import MarketGate
from pipeline.models import OrchestratorState, TradingState
from pipeline.orchestrator import TradingOrchestrator
from pipeline.ports import BookSnapshot, Broker
from pipeline.risk import RiskManager
from pipeline.scorer import SignalScorer
from pipeline.validator import TechnicalValidator
from workers.adapters.alarms import Alarm, RedisAlarms
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.breaker_redis import RedisBreaker
from workers.adapters.broker_guarded import GuardedBroker
from workers.adapters.broker_http import HttpBroker
from workers.adapters.calendar import AlwaysOpen, ExchangeSessions, SessionTable
from workers.adapters.clock import RedisClock
from workers.adapters.conditions_csv import CsvConditions
from workers.adapters.connection import connect, connect_bytes
from workers.adapters.control_redis import RedisControl
from workers.adapters.dead_work import RedisDeadWork
from workers.adapters.followups_redis import RedisFollowUps, RedisStrikes
from workers.adapters.held_redis import HeldClock
from workers.adapters.http_bounded import BoundedHttp
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import Keys
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.notify import Messenger, messenger
from workers.adapters.paper import PaperBroker
from workers.adapters.paper_redis import RedisPaperStore
from workers.adapters.playback import Playback, PlayedMarketData
from workers.adapters.rq_factory import JobQueues
from workers.adapters.standing_redis import StandingReader
from workers.adapters.state_redis import RedisState
from workers.adapters.truth import NoTruth, RedisTruth, Truth
from workers.adapters.undone_redis import RedisUndone
from workers.adapters.votes_cache import CachedVotes
from workers.collect import Intake
from workers.collectors import NullCollectorManager
from workers.decide import Decider
from workers.liveness import Liveness
from workers.protection import Protection
from workers.reconcile import Reconciler
from workers.route import Router
from workers.schedule import Scheduler
from workers.settlement import Settlement
from workers.standing import Standing, limits_used
from workers.tell import Teller
from workers.watch import Watcher
from workers.watch_rules import Bounds

RECENT_S: Final = 86_400
RECENT_REPLAYED_S: Final = 2 * RECENT_S  # a replay decides what cannot agree when it has time


@dataclass
class Runtime:
    """Everything a process of the fleet may need, built when first asked for."""

    settings: Settings
    patient: bool = False  # an RQ worker, which has no back-off of its own, waits longer for Redis
    _strikes_now: int = field(default=1)

    # ---- connections and keys ----

    @cached_property
    def keys(self) -> Keys:
        """Key names under the configured prefix."""
        return Keys(self.settings.redis.key_prefix)

    @cached_property
    def client(self) -> redis.Redis:
        """Text client for our own keys."""
        return connect(self.settings)

    @cached_property
    def rq_client(self) -> redis.Redis:
        """Bytes client for RQ."""
        return connect_bytes(self.settings, patient=self.patient)

    @cached_property
    def clock(self) -> RedisClock:
        """Now, the same on every host."""
        return RedisClock(self.client)

    @cached_property
    def liveness(self) -> Liveness:
        """Whether this process's loop turns."""
        return Liveness(self.settings.metrics.stuck_s)

    # ---- delivery ----

    @cached_property
    def state(self) -> RedisState:
        """Manual control."""
        return RedisState(self.client, self.keys)

    @cached_property
    def inbox(self) -> RedisInbox:
        """The stream of analyzed messages and the dead letters."""
        return RedisInbox(self.client, self.keys)

    @cached_property
    def backlog(self) -> RedisBacklog:
        """Lists of votes and claims."""
        return RedisBacklog(
            self.client,
            self.keys,
            duplicate_window_s=self.settings.router.duplicate_window_s,
            lease_s=self.settings.workers.claim_time_s,
            most_votes=self.settings.consensus.lookback_most,
            recent_s=RECENT_REPLAYED_S if self.settings.clock == "event" else RECENT_S,
        )

    @cached_property
    def journal(self) -> RedisJournal:
        """Outcomes."""
        return RedisJournal(self.client, self.keys, self.settings.fingerprint)

    @cached_property
    def votes(self) -> CachedVotes:
        """Recent votes."""
        return CachedVotes(self.client, self.keys, self.backlog)

    @cached_property
    def followups(self) -> RedisFollowUps:
        """Work to be tried again later."""
        return RedisFollowUps(self.client, self.keys)

    @cached_property
    def strikes(self) -> RedisStrikes:
        """Starts of jobs that did not end."""
        return RedisStrikes(self.client, self.keys)

    @cached_property
    def dead_work(self) -> RedisDeadWork:
        """What three strikes ended."""
        return RedisDeadWork(self.client, self.keys, self.settings.workers.claim_time_s)

    @cached_property
    def queues(self) -> JobQueues:
        """RQ."""
        workers = self.settings.workers
        return JobQueues(
            self.rq_client,
            job_timeout_s=workers.job_timeout_s,
            result_ttl_s=workers.result_ttl_s,
            failure_ttl_s=workers.failure_ttl_s,
            retry_max=workers.retry_max,
            lease_s=workers.job_lease_s,
            keys=self.keys,
        )

    @cached_property
    def undone(self) -> RedisUndone:
        """What is still to be done."""
        return RedisUndone(self.client, self.keys, self.queues)

    @cached_property
    def scheduler(self) -> Scheduler:
        """What is due becomes a job."""
        return Scheduler(
            queues=self.queues,
            backlog=self.backlog,
            inbox=self.inbox,
            followups=self.followups,
            held=HeldClock(self.client, self.keys),
            state=self.state,
            interval_s=self.settings.orchestrator.batch_interval_seconds,
            settle_interval_s=self.settings.schedule.settle_interval_s,
            janitor_interval_s=self.settings.schedule.janitor_interval_s,
            reconcile_interval_s=self.settings.schedule.reconcile_interval_s,
            claims_per_job=self.settings.workers.claims_per_job,
        )

    # ---- market ----

    @cached_property
    def sessions(self) -> SessionTable:
        """The exchange's calendar."""
        market = self.settings.market
        calendar = AlwaysOpen if market.calendar == "24/7" else ExchangeSessions
        return _calendar(calendar, market.calendar_start, market.calendar_end)

    @cached_property
    def playback(self) -> Playback | None:
        """The recording that is played over and over, None for a real feed."""
        played = self.settings.playback
        return Playback(played.first, played.round_s, played.speed) if played.first is not None else None

    @cached_property
    def market(self) -> CsvMarketData | PlayedMarketData:
        """Bars and quotes. Raises SettingsError without a folder of bars."""
        if self.playback is None:
            return self._csv(self.sessions)
        market = self.settings.market
        return PlayedMarketData(
            self._csv(_calendar(ExchangeSessions, market.calendar_start, market.calendar_end)),
            self.playback,
            self.sessions,
        )

    def _csv(self, sessions: SessionTable) -> CsvMarketData:
        market = self.settings.market
        if market.bars_dir is None:
            raise SettingsError("market.bars_dir is not set; valid: a folder of SYMBOL.csv (FLEET_MARKET__BARS_DIR)")
        try:
            return CsvMarketData(market.bars_dir, sessions=sessions, daily_folder=market.daily_bars_dir)
        except MarketDataError as error:
            raise SettingsError(f"market.bars_dir: {error}") from error

    @cached_property
    def conditions(self) -> CsvConditions:
        """VIX and index."""
        market = self.settings.market
        try:
            return CsvConditions(self.market, self.sessions, vix_csv=market.vix_csv, index_symbol=market.index_symbol)
        except MarketDataError as error:
            raise SettingsError(f"market.vix_csv: {error}") from error

    @cached_property
    def universe(self) -> frozenset[str]:
        """Symbols that may trade: those with bars, without the index."""
        return frozenset(self.market.universe()) - {self.settings.market.index_symbol or ""}

    # ---- money ----

    @cached_property
    def control(self) -> RedisControl:
        """Trading state and deny-lists."""
        return RedisControl(self.client, self.keys)

    @cached_property
    def alarms(self) -> RedisAlarms:
        """What a person must know now."""
        return RedisAlarms(self.client, self.keys)

    @cached_property
    def ledger(self) -> RedisLedger:
        """Our own book."""
        starting_cash = None if self.settings.venue.kind == "http" else self.settings.paper.starting_cash
        return RedisLedger(self.client, self.keys, starting_cash, self._truth_max_age_s)

    @cached_property
    def intents(self) -> RedisIntents:
        """What was asked of the broker."""
        return RedisIntents(self.client, self.keys, self.settings.clock, self._truth_max_age_s)

    @cached_property
    def truth(self) -> Truth:
        """When the broker's book was last compared with ours; the simulated venue's is our own."""
        return RedisTruth(self.client, self.keys) if self.settings.venue.kind == "http" else NoTruth()

    @property
    def _truth_max_age_s(self) -> float | None:
        """How long a comparison counts for an entry; a recording and the simulated venue ask nobody."""
        asked = self.settings.venue.kind == "http" and self.settings.clock == "live"
        return self.settings.schedule.reconcile_max_age_s if asked else None

    def why_entries_wait(self) -> str | None:
        """Since when the venue's book is unknown, None while it is known or nobody asks."""
        if self._truth_max_age_s is None or not isinstance(self.truth, RedisTruth):
            return None
        return self.truth.untrusted(self._truth_max_age_s)

    @cached_property
    def breaker(self) -> RedisBreaker:
        """Stops entries while the venue fails."""
        return RedisBreaker(self.client, self.keys, self.settings.venue.breaker)

    @cached_property
    def broker(self) -> Broker:
        """The configured venue: the simulated one, shared by the whole fleet, or a guarded one over HTTP.

        Raises SettingsError without the key of a venue over HTTP.
        """
        if self.settings.venue.kind == "http":
            if self.settings.venue.api_key is None:
                raise SettingsError("venue.api_key is not set; valid: FLEET_VENUE__API_KEY or a secret file")
            return GuardedBroker(HttpBroker(BoundedHttp(self.settings.venue)), self.breaker)
        store = RedisPaperStore(self.client, self.keys, self.settings.paper.starting_cash)
        return PaperBroker(store, self.market, self.market, self.sessions, self.settings.paper)

    @cached_property
    def executor(self) -> TradeExecutor:
        """Sends brackets."""
        settings = self.settings
        return TradeExecutor(
            self.broker,
            self.intents,
            self.ledger,
            self.sessions,
            settings.executor,
            settings.environment,
            breaker=self.breaker if settings.venue.kind == "http" else None,
        )

    @cached_property
    def risk_manager(self) -> RiskManager:
        """Sizes and limits."""
        return RiskManager(self.ledger, self.sessions, self.market, self.control, self.settings.risk)

    @cached_property
    def settlement(self) -> Settlement:
        """Books fills."""
        return Settlement(
            self.broker,
            self.intents,
            self.ledger,
            self.sessions,
            self.market,
            self.risk_manager,
            self.alarms,
            timedelta(seconds=self.settings.schedule.reservation_bound_s),
        )

    @cached_property
    def protection(self) -> Protection:
        """Closes entries without a stop."""
        grace = timedelta(seconds=self.settings.executor.stop_grace_s)
        return Protection(self.intents, self.executor, self.alarms, grace)

    @cached_property
    def reconciler(self) -> Reconciler:
        """Our book against the broker's."""
        return Reconciler(
            self.broker,
            self.intents,
            self.ledger,
            self.sessions,
            self.control,
            self.alarms,
            self.decider.settle,
            self.settings.schedule.cash_tolerance_usd,
            self.settings.environment,
            self.truth,
        )

    def warn_of_drawdown(self, as_of: datetime) -> None:
        """Raise or close the alarm of an unrealised loss."""
        said = self.risk_manager.drawdown(self.sessions.session_of(as_of))
        if said is None:
            self.alarms.quiet("unrealised_drawdown", as_of)
        else:
            self.alarms.sound(Alarm(said.rule, "", f"{said.observed}, limit {said.limit}", as_of))

    # ---- decisions ----

    @cached_property
    def analyzer(self) -> LexiconAnalyzer:
        """Words to sentiment and symbols."""
        return LexiconAnalyzer(self.universe, self.settings.analyzer, self.settings.tickers)

    @cached_property
    def orchestrator(self) -> TradingOrchestrator:
        """The five stages."""
        settings = self.settings
        event_time = settings.clock == "event"
        return TradingOrchestrator(
            NullCollectorManager(),
            self.analyzer,
            TechnicalValidator(self.market, self.sessions, settings.validator),
            SignalScorer(self.market, self.sessions, self.votes, settings.scorer),
            self.risk_manager,
            MarketGate(self.sessions, self.conditions, self.market, settings.gate),
            self.executor,
            settings.orchestrator,
            backlog=self.backlog,
            journal=self.journal,
            votes=self.votes,
            router=settings.router,
            consensus=settings.consensus,
            live_through=self._live_through if event_time else None,
            moment_of_sending=None if event_time else lambda _decided_at: self.clock.now(),
            stopwatch=perf_counter,
        )

    @cached_property
    def decider(self) -> Decider:
        """What jobs do."""
        return Decider(
            orchestrator=self.orchestrator,
            inbox=self.inbox,
            backlog=self.backlog,
            journal=self.journal,
            votes=self.votes,
            followups=self.followups,
            settlement=self.settlement,
            ledger=self.ledger,
            clock=self.settings.clock,
            interval_s=self.settings.orchestrator.batch_interval_seconds,
            lookback_s=max(self.settings.consensus.lookback_s, self.settings.scorer.confluence_seconds),
            busy_delay_s=self.settings.schedule.busy_delay_s,
            sessions=self.sessions,
            release_max_age_s=self.settings.schedule.release_max_age_s,
            dead_work=self.dead_work,
        )

    # ---- processes ----

    def intake(self) -> Intake:
        """A collector's hands."""
        return Intake(self.inbox, self.analyzer, frozenset(self.settings.source.known))

    def router(self, consumer: str) -> Router:
        """One consumer of the stream."""
        orchestrator = self.settings.orchestrator
        self.inbox.open_group()
        return Router(
            consumer=consumer,
            inbox=self.inbox,
            backlog=self.backlog,
            queues=self.queues,
            scheduler=self.scheduler,
            clock=self.settings.clock,
            settings=self.settings.router,
            threshold=orchestrator.immediate_threshold,
            max_buffer_size=orchestrator.max_buffer_size,
            max_buffered_total=orchestrator.max_buffered_total,
            block_ms=int(self.settings.redis.block_s * 1000),
        )

    @cached_property
    def messenger(self) -> Messenger:
        """Who tells people. Raises SettingsError for an address nobody can call."""
        return messenger(self.settings.watch, self.settings.environment)

    @cached_property
    def standing_reader(self) -> StandingReader:
        """How the fleet stands, as Redis's keys say it."""
        return StandingReader(self.client, self.keys, self.queues, self.settings.workers.claim_lease_s)

    def standing(self, now: datetime) -> Standing:
        """How the fleet stands, with what settings and the book add."""
        return self._facts(self.standing_reader.read(now))

    def watcher(self) -> Watcher:
        """Who looks at the fleet, raises alarms and has them told."""
        settings = self.settings
        teller = Teller(self.alarms, self.messenger, settings.watch)
        return Watcher(
            reader=self.standing_reader,
            facts=self._facts,
            alarms=self.alarms,
            teller=teller,
            bounds=Bounds(settings.watch, settings.orchestrator.max_buffered_total),
            now=self.clock.now,
        )

    def _facts(self, standing: Standing) -> Standing:
        """What settings and the book add to how the fleet stands. Looking opens no session."""
        book = self._book_at(standing.at)
        limits = self.settings.orchestrator.max_buffered_total
        used = {"buffered": standing.lists.waiting / limits, "memory": standing.redis.memory_used}
        known = replace(standing, entries_wait=self.why_entries_wait(), limits=used)
        if self.settings.venue.kind == "http":
            breaker = self.breaker.state()
            known = replace(known, breaker=breaker.state, breaker_failures=breaker.failures)
        if book is None:
            return known
        used |= limits_used(book, self.settings.risk)
        return replace(known, limits=used, equity_usd=float(book.equity), positions=len(book.positions))

    def _book_at(self, at: datetime) -> BookSnapshot | None:
        """Our book; None before its session was opened, or beyond the calendar, as now is to a recording."""
        try:
            return self.ledger.peek(self.sessions.session_of(at))
        except MarketDataError:
            return None

    def initialise_if_empty(self, by: str, at: datetime) -> bool:
        """On an empty namespace: RUNNING and ACTIVE. A fleet that was stopped or halted stays as it is.

        Real money waits for a person's `fleet start`. Raises SettingsError when `orchestrator.enabled` is false.
        """
        self.require_enabled()
        empty = self.state.is_empty() and not self.settings.is_live
        self.state.claim_namespace(self.settings.profile)
        if empty:
            self.control.set(TradingState.ACTIVE, by, "first start on an empty Redis", at)
            self.state.write(OrchestratorState.RUNNING, by, at)
        return empty

    def reconcile_first(self, starter: str) -> None:
        """The fleet starts: entries wait until our book was compared with the broker's, which is asked for now."""
        self.truth.distrust()
        if self.settings.clock == "live":
            self.scheduler.queue_reconcile(starter)

    def require_enabled(self) -> None:
        """Raise SettingsError when the settings say that the fleet shall not run."""
        if not self.settings.orchestrator.enabled:
            raise SettingsError("orchestrator.enabled = false; valid: true to start")

    # ---- strikes of the running job ----

    def note_strikes(self, strikes: int) -> None:
        """Remember how often the running job was begun."""
        self._strikes_now = strikes

    def strikes_of_current_job(self) -> int:
        """How often the running job was begun, this time included."""
        return self._strikes_now

    def _live_through(self, as_of: datetime) -> None:
        self.decider.settle(as_of)


@cache
def _calendar(kind: type[AlwaysOpen] | type[ExchangeSessions], first: date, last: date) -> SessionTable:
    """A calendar never changes: one for all runtimes of this process, and of the children forked from it."""
    return kind(first, last)


_RUNTIME: dict[str, Runtime] = {}


def runtime() -> Runtime:
    """This process's runtime, built from the environment when first asked for."""
    if "here" not in _RUNTIME:
        _RUNTIME["here"] = Runtime(load_settings())
    return _RUNTIME["here"]


def use(fleet: Runtime) -> Runtime:
    """Make this the process's runtime: the command line and tests decide what jobs run with."""
    _RUNTIME["here"] = fleet
    return fleet

"""The whole fleet over memory: shared twins that outlive every process, and processes that may die at any step."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import rq.job

import workers.jobs
from config.settings import Settings, load_settings
from pipeline.errors import TransientError
from pipeline.models import (
    TERMINAL,
    AnalyzedMessage,
    Bars,
    BracketOrder,
    Label,
    OrchestratorState,
    Refusal,
    Reservation,
    Sentiment,
    SocialMessage,
    TickerReading,
    TradingState,
)
from pipeline.ports import Control, ReservationRequest
from pipeline.router import DenyList
from tests.machine.delivery import (
    Job,
    JournalPort,
    LeasedBacklog,
    ListingControl,
    LoadedVotes,
    MemoryDeadWork,
    MemoryFollowUps,
    MemoryHeldClock,
    MemoryInbox,
    MemoryQueues,
    MemoryState,
    MemoryStrikes,
)
from tests.machine.turns import Actor, Killed, Stop, Turn, Watched
from tests.machine.venue import DRIFT, Findings, Mood, MoodyBroker, Recorder, Wire
from tests.market_builders import minute_bars, some_bars, xnys
from workers.adapters.alarms import MemoryAlarms
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData
from workers.adapters.paper import PaperBroker
from workers.collect import Intake
from workers.settlement import LOST_AFTER
from workers.wiring import Runtime, use

SYMBOLS = ("AAA", "BBB", "CCC")
UNBORROWABLE = "CCC"
MOST_LAPS, MOST_TURNS, MOST_SESSIONS = 3, 60, 4
BEGIN = datetime.fromisoformat("2014-06-25T14:30:00+00:00")  # a Wednesday, 10:30 New York
DAYS = [session.day for session in xnys()._sessions if 20 <= (session.day - BEGIN.date()).days + 30 <= 60]


@cache
def a_market(seed: int) -> MemoryMarketData:
    """Five-minute walks that reach stops and targets within a session or two; daily ATR 2 dollars, stops 3 away."""
    rng = np.random.default_rng(seed)
    daily = {symbol: some_bars([100.0] * 20, symbol=symbol, spread=1.0, last_day=DAYS[0]) for symbol in SYMBOLS}
    return MemoryMarketData({s: _walk(s, rng) for s in SYMBOLS}, sessions=xnys(), daily=daily)


def _walk(symbol: str, rng: np.random.Generator) -> Bars:
    bars = minute_bars(DAYS, symbol=symbol, minutes=5)
    steps = rng.integers(-5, 6, len(bars)) / 10
    close = 100 + np.cumsum(steps - (np.cumsum(steps) > 0) * 0.01)
    close = np.clip(close, 60, 140)
    return replace(bars, open=close - steps, high=np.maximum(close, close - steps) + 0.125,
                   low=np.minimum(close, close - steps) - 0.125, close=close)  # fmt: skip


@cache
def the_settings(max_gross_exposure: str = "1", max_per_minute: int = 2) -> Settings:
    """The shipped paper profile, live clock, with limits so low that a few posts reach them; charts only warn."""
    shipped = load_settings("paper", environ={})
    off = dict.fromkeys(("no_trend", "rsi", "divergence"), "warn")
    return shipped.model_copy(
        update={
            "validator": type(shipped.validator).model_validate(shipped.validator.model_dump() | off),
            "gate": shipped.gate.model_copy(update={"gate_queue": True}),
            "executor": shipped.executor.model_copy(update={"max_hold_sessions": 2}),
            "paper": shipped.paper.model_copy(update={"hard_to_borrow": frozenset({UNBORROWABLE})}),
            "risk": shipped.risk.model_copy(
                update={
                    "max_open_positions": 2,
                    "max_gross_exposure": Decimal(max_gross_exposure),
                    "max_per_minute": max_per_minute,
                    "max_session_loss": Decimal("0.004"),
                    "max_week_loss": Decimal("0.01"),
                    "max_entries_per_hour_after_loss": 2,
                    "max_quote_age_s": None,
                    "max_quote_sessions": 1,
                }
            ),
        }
    )


class Clock:
    """The server's clock; a test sets it."""

    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> datetime:
        return self.at


class WordsAnalyzer:
    """A post says itself how it is read: `bullish 0.95 AAA,BBB`."""

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        label, confidence, named = message.text.split()[:3]
        symbols = tuple(named.split(","))
        sign = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}[Label(label)]
        return AnalyzedMessage(
            message=message,
            sentiment=Sentiment(label=Label(label), score=0.95 * sign, confidence=float(confidence), model="words"),
            tickers=TickerReading(symbols=symbols, primary=symbols[0], cashtags=len(symbols)),
            fingerprint=message.text,
        )

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        return [self.analyze(message) for message in messages]


class LiveIntents(MemoryIntents):
    """The twin with the server's clock, as the fleet has it live; SENT is judged by rules written again here."""

    def __init__(self, world: "World", executions: MemoryExecutions, ended: Callable[[str], bool]) -> None:
        control: Control = world.control
        super().__init__(control, executions, ended)
        self._world, self._done = world, ended

    def mark_sent(self, client_order_id: str, now: datetime, expires_at: datetime, **facts: Any) -> Refusal | None:
        """Asked and judged in one step."""
        moment, intent = self._world.clock.now(), self.get(client_order_id)
        refusal = super().mark_sent(client_order_id, moment, expires_at, **facts)
        if refusal is None and intent is not None:
            self._judge(intent.order, moment <= expires_at, under_halt=bool(facts.get("under_halt")))
        return refusal

    def _judge(self, order: BracketOrder, in_time: bool, *, under_halt: bool) -> None:  # noqa: FBT001
        world, state = self._world, self._world.control.trading_state()
        said, name = world.findings.unless, order.client_order_id
        allowed = state is TradingState.ACTIVE or (state is TradingState.REDUCING and order.reduce_only)
        said(allowed or under_halt, f"{name} was sent while {state}")
        said(in_time, f"{name} was sent too late")
        said(not self._done(order.decision_id), f"{name} was sent for a decision that had ended")
        said(under_halt or order.decision_id in world.ledger.reservations(), f"{name} was sent without a reservation")


class JudgedLedger(MemoryLedger):
    """The twin; each risk it sets aside for an entry is judged by the losses of the session, added up again here."""

    def __init__(self, world: "World", cash: Decimal, executions: MemoryExecutions) -> None:
        super().__init__(cash, executions)
        self._world, self._start = world, cash

    def reserve(self, request: ReservationRequest) -> Reservation | Refusal:
        """Asked, then judged."""
        known = request.decision_id in self._reserved
        answer = super().reserve(request)
        if isinstance(answer, Reservation) and not request.reduce_only and not known:
            lost, limit = -self._result_of(request.session), self._world.settings.risk.max_session_loss
            self._world.findings.unless(lost < limit * self._start * DRIFT, f"{lost} USD were lost before {request}")
        return answer

    def _result_of(self, day: date) -> Decimal:
        """Realised dollars of the session: what its fills changed in cash, and in shares at cost."""
        return sum((row.realised for row in self._fills.values() if row.fill.at.date() == day), Decimal(0))


@dataclass
class Process:
    """One process: a runtime of its own over the shared memory."""

    fleet: Runtime
    actor: Actor


@dataclass(frozen=True, slots=True)
class Incident:
    """What a turn of a round meets. `suspected`: right after it every worker that stands still is taken for dead."""

    stop: Stop
    suspected: bool = False


@dataclass
class World:
    """Everything that outlives a process, and the acts of the machine."""

    market: MemoryMarketData
    settings: Settings = field(default_factory=the_settings)

    def __post_init__(self) -> None:
        settings, cash = self.settings, self.settings.paper.starting_cash
        executions = MemoryExecutions()
        self.clock, self.findings = Clock(), Findings()
        self.wire = Wire(self.findings)
        self.control, self.alarms, self.state = ListingControl(), MemoryAlarms(), MemoryState()
        self.control.set(TradingState.ACTIVE, "test", "begin", BEGIN)
        self.ledger = JudgedLedger(self, cash, executions)
        self.store = Recorder(cash, settings.risk, self.findings)
        self.journal = MemoryJournal(self._mark_used, executions.sent)
        self.intents = LiveIntents(self, executions, lambda name: self.journal.outcome(name) in TERMINAL)
        now, workers = self.clock.now, settings.workers
        self.backlog = LeasedBacklog(self.journal, now, workers.claim_lease_s)
        self.inbox = MemoryInbox(now, self._standing)
        self.followups, self.strikes = MemoryFollowUps(), MemoryStrikes()
        self.queues = MemoryQueues(now, workers.retry_max, workers.result_ttl_s, workers.failure_ttl_s)
        self.backlog.inbox, self.backlog.queues = self.inbox, self.queues
        self.dead_work = MemoryDeadWork(self.backlog.finish)
        self.lines: list[bytes] = []
        self.read = 0
        self.deaths = 0
        self.paused: list[Turn] = []
        self._consumers = 0

    def _standing(self) -> tuple[OrchestratorState, int, DenyList]:
        return self.state.read(), self.backlog.buffered(), self.control.deny_list()

    def _mark_used(self, *facts: Any) -> None:
        self.backlog.mark_used(*facts)

    # ---- processes -----------------------------------------------------------------------------------------

    def process(self) -> Process:
        """A fresh process: nothing but the shared memory is older than it."""
        actor, fleet = Actor(), Runtime(self.settings)
        ports = {
            "clock": self.clock,
            "state": self.state,
            "inbox": self.inbox,
            "backlog": self.backlog,
            "journal": JournalPort(self.journal),
            "followups": self.followups,
            "strikes": self.strikes,
            "dead_work": self.dead_work,
            "queues": self.queues,
            "control": self.control,
            "alarms": self.alarms,
            "ledger": self.ledger,
            "intents": self.intents,
        }
        watched = {name: Watched(port, actor) for name, port in ports.items()}
        store: Any = Watched(self.store, actor)
        settings, market = self.settings, self.market
        broker = MoodyBroker(store, market, market, xnys(), settings.paper, wire=self.wire, step=actor.step)
        parts = {"market": market, "sessions": xnys(), "conditions": MemoryConditions(), "broker": broker}
        vars(fleet).update(watched, **parts, client=None, analyzer=WordsAnalyzer(), universe=frozenset(SYMBOLS))
        vars(fleet)["votes"] = LoadedVotes(fleet.backlog)
        held: Any = Watched(MemoryHeldClock(self.ledger), actor)
        vars(fleet)["scheduler"] = replace(fleet.scheduler, held=held)
        return Process(fleet, actor)

    # ---- turns ---------------------------------------------------------------------------------------------

    def collect(self, process: Process) -> None:
        """Hand over the lines that are there; the mark moves on only after that."""
        fleet, until = process.fleet, len(self.lines)
        Intake(fleet.inbox, fleet.analyzer).take(self.lines[self.read : until], fleet.clock.now())
        self.read = max(self.read, until)

    def route(self, process: Process) -> None:
        """One turn of a router."""
        self._consumers += 1
        router = process.fleet.router(f"router-{self._consumers}")
        router.block_ms = 0
        router.now = process.fleet.clock.now
        router.step()

    def schedule(self, process: Process) -> None:
        """One turn of a scheduler."""
        process.fleet.scheduler.turn(process.fleet.clock.now())

    def flatten(self, process: Process) -> None:
        """A person closes everything."""
        process.fleet.executor.flatten(process.fleet.clock.now(), "flatten")

    def work(self, process: Process, name: str | None = None) -> None:
        """One job (of this name or id), as RQ runs it: of the most urgent queue that has one."""
        job = self.queues.take(name)
        if job is not None:
            copy_context().run(self._run_job, process, job)

    def _run_job(self, process: Process, job: Job) -> None:
        current: Any = SimpleNamespace(id=job.job_id)
        rq.job._current_job.set(current)
        use(process.fleet)
        try:
            getattr(workers.jobs, job.name)(*orjson.loads(job.args))
        except Killed:
            job.lost = True
            raise
        except Exception:  # noqa: BLE001 - RQ takes any exception of a job
            self.queues.retry(job)
        else:
            self.queues.finished(job)

    def run(self, turn: Callable[[Process], None], stop: Stop | None = None) -> None:
        """A fresh process takes one turn, to its end, to its death, or to where it stands still for now."""
        process = self.process()
        begun = Turn(process.actor, partial(turn, process))
        self._watch(begun, partial(begun.begin, stop))

    def go_on(self, stop: Stop | None = None) -> None:
        """The turn that stood still longest goes on."""
        begun = self.paused.pop(0)
        self._watch(begun, partial(begun.go_on, stop))

    def _watch(self, begun: Turn, let: Callable[[], None]) -> None:
        try:
            let()
        except (Killed, TransientError):  # another life begins
            self.deaths += 1
        if not begun.over:
            self.paused.append(begun)

    def suspect(self) -> list[str]:
        """Workers that stand still are taken for dead: their jobs (ids) are queued again, and may run twice at once."""
        begun = [job.job_id for job in self.queues.jobs.values() if job.state == "started"]
        for job in self.queues.jobs.values():
            job.lost = True
        self.queues.cleanup()
        return begun

    # ---- the world around --------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Requests that were under way reach the venue now, but none whose time is over."""
        late, self.wire.under_way = self.wire.under_way, []
        venue = PaperBroker(self.store, self.market, self.market, xnys(), self.settings.paper)
        for order in late:
            bound = order.submitted_at + LOST_AFTER if order.reduce_only else order.good_until
            if self.clock.at < bound:
                venue.submit(order)

    def quiet(self) -> None:
        """Let everything come to its end: faults are over, trading is on, time passes until nothing moves."""
        self.wire.mood = Mood.GOOD
        while self.paused:
            self.go_on()
        self.arrive()
        self.control.set(TradingState.ACTIVE, "test", "quiet", self.clock.at)
        for seconds in (1, 61, 200, 200, 4000):
            self.clock.at += timedelta(seconds=seconds)
            self.round()
        for _ in range(MOST_SESSIONS):
            for moment in (xnys().next_open(self.clock.at), xnys().session_of(self.clock.at).close):
                if not self.at_rest():
                    self.clock.at = moment + timedelta(seconds=1)
                    self.round()

    def round(self, incidents: Mapping[int, Incident] | None = None) -> None:
        """Every process takes turns until nobody has anything to do at this moment; some turns meet an incident."""
        turns = count()
        happens = incidents or {}

        def take(turn: Callable[[Process], None]) -> None:
            incident = happens.get(next(turns))
            self.run(turn, replace(incident.stop) if incident else None)
            if incident and incident.suspected:
                self.suspect()

        take(self.collect)
        for _ in range(self.inbox.waiting()):
            take(self.route)
        for _ in range(MOST_LAPS):
            take(self.schedule)
            for _ in range(MOST_TURNS):
                if self.queues.waiting():
                    take(self.work)
            if not self.queues.busy() and not self.backlog.sizes():
                break

    def at_rest(self) -> bool:
        """Whether nothing is left that time could still change."""
        ended = set(self.journal.outcomes.values()) <= TERMINAL
        left = self.intents.open() or self.ledger.reservations() or self.followups.waiting or self.backlog.deadlines
        return ended and not left

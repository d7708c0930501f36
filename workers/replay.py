"""Replays a recording through the real fleet: the driver is collector and clock, children route and work."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from pipeline.book import apply_fill
from pipeline.consensus import reach_consensus
from pipeline.errors import FleetError
from pipeline.models import TERMINAL, Fill, Position, Vote
from pipeline.router import DenyList, Fate, Leg, route
from workers.adapters.keys import to_ms
from workers.adapters.undone_redis import Undone
from workers.adapters.wire_posts import post_of
from workers.ahead import Ahead, Failure
from workers.collect import Intake
from workers.ordering import Planner
from workers.wiring import Runtime

CHUNK = 200
STREAM_BOUND = 4_000
PAUSE_S = 0.0005
_CLAIM_NUMBER = re.compile(r"-\d+-w(?=\d+$)")  # S-n-wWINDOW, in event time
USUALLY = 16  # as many last decisions count
AHEAD_FOR = timedelta(hours=12)  # votes are kept for a day
FREE_RUN_TICK_S = 0.25
STUCK_AFTER_S = 300.0
FINAL_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """`speed`: event seconds per wall second, None = as fast as possible."""

    ordered: bool = True
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line that is a post: when it was known, its id."""

    at: datetime
    message_id: str
    line: bytes


@dataclass(slots=True)
class Replay:
    """One run. `tend` is called while waiting (keep children alive); `progress(done, total, at)` shows the way."""

    fleet: Runtime
    options: ReplayOptions
    tend: Callable[[], None]
    progress: Callable[[int, int, datetime | None], None]
    _intake: Intake = field(init=False)
    _planner: Planner = field(init=False)
    _ahead: Ahead = field(init=False)
    _pending: list[tuple[str, bytes]] = field(default_factory=list)
    _undone: Undone = field(default=Undone(0, 0, 0, None, None))
    _begun: datetime | None = None  # the moment of decisions whose end was not awaited, until when it need not be
    _begun_until: datetime = field(default=datetime.min.replace(tzinfo=UTC))
    _begun_by_votes: bool = False
    _begun_s: float = 0.0
    _usual_s: float = 0.0  # how long decisions took lately
    _quiet_until: datetime | None = None  # until when the end of decisions without consensus need not be awaited
    _woken: datetime | None = None
    _started: float = 0.0
    _first_event: datetime | None = None

    def __post_init__(self) -> None:
        """Build the collector's hands and the planner from the fleet's settings."""
        settings = self.fleet.settings
        self._intake = self.fleet.intake()
        self._ahead = Ahead(settings, self.fleet.analyzer)
        self._planner = Planner(
            interval_s=settings.orchestrator.batch_interval_seconds,
            lookback_s=settings.consensus.lookback_s,
            min_votes=settings.consensus.min_votes,
            max_list=settings.orchestrator.max_buffer_size,
            keep_s=self.fleet.backlog.recent_s,
            most_votes=self.fleet.backlog.most_votes,
            duplicate_window_s=settings.router.duplicate_window_s,
            agrees=self._agrees,
        )

    def run(self, lines: Iterable[bytes]) -> dict[str, Any]:
        """Push every line through the fleet, wait until nothing is left to decide; the summary."""
        self._started = time.monotonic()
        parsed = ((line, self._intake.parse(line, None)) for line in lines)
        posts = [Recorded(post.received_at, post.message_id, line) for line, post in parsed if post is not None]
        posts.sort(key=lambda post: (post.at, post.message_id))
        walk = self._run_ordered if self.options.ordered else self._run_free
        with self._ahead.bodies([post.line for post in posts]) as bodies:
            walk(posts, bodies)
        last = posts[-1].at if posts else None
        if last is not None:
            self._finish(last)
        self.progress(len(posts), len(posts), last)
        return self.summary()

    # ---- in order ----

    def _run_ordered(self, posts: Sequence[Recorded], bodies: Iterable[bytes | Failure]) -> None:
        for done, (post, body) in enumerate(zip(posts, bodies, strict=True)):
            self._pace(post.at)
            legs = self._legs(post, body)
            self._live_until(post.at, decides=decides_at_once(legs))
            self._take(post, body)
            if self._planner.follow(legs):
                self._push()
                self._begin(post.at)
            elif self._planner.full():
                self._drain(post.at)
            elif len(self._pending) >= CHUNK:
                self._push()
            if done % CHUNK == 0:
                self.progress(done, len(posts), post.at)

    def _live_until(self, at: datetime, *, decides: bool = True) -> None:
        """Let everything that is due before or at `at` happen, in order of time, unless it can wait.

        `decides`: the account may change at `at`, so nothing can.
        """
        closed = self._planner.closes_before(at)
        while decides or closed is not None or not self._may_wait(at):
            self._await_begun()
            due = self._next_due(closed)
            if due is None or due > at:
                break
            if due == closed:
                closed = None
                self._close(due)
            else:
                self._wake(due)
        if self._planner.overdue(at):
            self._drain_quietly(at)
        if self._quiet_until is not None and at >= self._quiet_until:
            self._let_everything_end()

    def _may_wait(self, at: datetime) -> bool:
        """Whether what was begun may end later, and with it what is due then: votes after its moment are none to it."""
        due = self._next_due(None)
        return self._begun is not None and self._begun < at < self._begun_until and (due is None or due > at)

    def _await_begun(self) -> None:
        """Until what was begun has ended; what was drained quietly may go on beside it."""
        if self._begun is not None and self._quiet_until is not None and not self._begun_by_votes:
            self._end(lambda undone: undone.decides_alone)
        elif self._begun is not None:
            self._let_everything_end()

    def _close(self, window_end: datetime) -> None:
        """Drain the lists where a consensus is certain, once every vote of the window is routed."""
        self._let_everything_end()
        if agreed := self.fleet.decider.agree(self._planner.suspects, window_end):
            self._drain(window_end, agreed)

    def _drain(self, at: datetime, agreed: frozenset[str] | None = None) -> None:
        """Begin the decisions of all lists as of `at`; `agreed` have a consensus, None: nobody knows who has."""
        self._let_everything_end()
        self.fleet.scheduler.drain(at.isoformat())
        self._begin(at, self._planner.prunes_from)
        self._planner.drained(at, agreed)

    def _drain_quietly(self, at: datetime) -> None:
        """Begin the decisions of windows that were left alone, once all votes are routed.

        No order can come of them, so nothing waits for them but what is decided of votes.
        """
        self._push()
        self._wait(lambda undone: undone.messages == 0)
        self.fleet.scheduler.drain(at.isoformat())
        self._quiet_until = min(self._quiet_until or self._planner.prunes_from, self._planner.prunes_from)
        self._planner.drained()

    def _begin(self, at: datetime, prunes_from: datetime | None = None) -> None:
        """Decisions as of `at` were begun; their end is awaited before votes that they look back on would be pruned.

        `prunes_from`: from when on, where votes are decided.
        """
        self._begun, self._begun_s = at, time.monotonic()
        self._begun_by_votes = prunes_from is not None
        self._begun_until = min(at + AHEAD_FOR, prunes_from or at + AHEAD_FOR)

    def _next_due(self, closed: datetime | None) -> datetime | None:
        """The earliest of the window's end, the next follow-up and the next open.

        What was woken and is still there is due again after the delay of a busy symbol, as it would be live.
        """
        known = (self._undone.followup_ms, self._undone.open_ms)
        moments = [datetime.fromtimestamp(ms / 1000, UTC) for ms in known if ms is not None]
        if self._woken is not None:
            again = self._woken + timedelta(seconds=self.fleet.settings.schedule.busy_delay_s)
            moments = [at if at > self._woken else again for at in moments]
        return min([*moments, *([closed] if closed else [])], default=None)

    def _wake(self, at: datetime) -> None:
        """Held signals and follow-ups whose moment has come; in order one by one, whatever the number of workers."""
        at_once = 1 if self.options.ordered else 500
        self._let_everything_end()
        while (opened := self._undone.open_ms) is not None and opened <= at.timestamp() * 1000:
            again = self._woken is not None and opened <= self._woken.timestamp() * 1000
            self.fleet.scheduler.queue_release(at, again=again)
            self._begin(at)
            self._let_everything_end()
            if self._undone.open_ms == opened:
                break
        while (due := self._undone.followup_ms) is not None and due <= to_ms(at):
            if not self.fleet.scheduler.queue_followups(at, at_once):
                break
            self._begin(at)
            self._let_everything_end()
        self._woken = at

    # ---- free run ----

    def _run_free(self, posts: Sequence[Recorded], bodies: Iterable[bytes | Failure]) -> None:
        next_tick = time.monotonic() + FREE_RUN_TICK_S
        for done, (post, body) in enumerate(zip(posts, bodies, strict=True)):
            self._pace(post.at)
            self._take(post, body)
            if len(self._pending) < CHUNK and done + 1 < len(posts):
                continue
            self._push()
            self._wait(lambda undone: undone.messages < STREAM_BOUND)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + FREE_RUN_TICK_S
                self._tick(post.at)
                self.progress(done, len(posts), post.at)
        self._push()

    def _tick(self, at: datetime) -> None:
        scheduler = self.fleet.scheduler
        scheduler.queue_drain(at, event_time=True)
        scheduler.queue_followups(at)
        scheduler.queue_release(at)

    # ---- the end of the recording ----

    def _finish(self, last: datetime) -> None:
        """Live on through the following sessions until no leg is interim."""
        interval = timedelta(seconds=self.fleet.settings.orchestrator.batch_interval_seconds)
        at = last + interval
        self._drain(at)
        self._let_everything_end()
        rounds, before = 0, self._unfinished()
        while any(before):
            due = self._next_due(None)
            at = due if due is not None and due > at else self._next_close(at)
            self._wake(at)
            self.fleet.scheduler.queue_settle(at)
            self._let_everything_end()
            now = self._unfinished()
            rounds, before = (0 if now != before else rounds + 1), now
            if rounds >= FINAL_ROUNDS:
                raise FleetError(f"{now[0]} legs are still interim after {rounds} sessions without change; valid: 0")

    def _unfinished(self) -> tuple[int, int | None, int | None]:
        """Interim legs, the next follow-up and the next open: all nothing when the recording is done."""
        return self.interim(), self._undone.followup_ms, self._undone.open_ms

    def _next_close(self, at: datetime) -> datetime:
        return self.fleet.sessions.session_of(at + timedelta(seconds=1)).close

    def interim(self) -> int:
        """Legs that are not at their end yet."""
        tally = self.fleet.journal.tally()
        return tally.get("legs", 0) - sum(tally.get(f"leg:{outcome}", 0) for outcome in TERMINAL)

    # ---- inside ----

    def _legs(self, post: Recorded, body: bytes | Failure) -> tuple[Leg, ...]:
        """Where the post's legs will go, as the router decides; none for one that could not be analyzed."""
        if isinstance(body, Failure):
            return ()
        settings = self.fleet.settings
        return route(post_of(body), post.at, DenyList(), settings.router, settings.orchestrator.immediate_threshold)

    def _agrees(self, symbol: str, votes: Sequence[Vote], at: datetime) -> bool:
        """Whether these votes reach a consensus."""
        numbers, least = self.fleet.settings.consensus, self.fleet.settings.orchestrator.min_consensus
        return reach_consensus("", symbol, votes, at, numbers, least).signal is not None

    def _take(self, post: Recorded, body: bytes | Failure) -> None:
        """Hand it over with the next chunk, or keep it as a dead letter."""
        if isinstance(body, Failure):
            self._intake.refuse("analyzer", "analyzer_error", body.words, post.line)
        else:
            self._pending.append((post.message_id, body))

    def _push(self) -> None:
        self._intake.append_bodies(self._pending)
        self._pending = []

    def _let_everything_end(self) -> None:
        """Push what is pending, then wait until it is routed and no job is left."""
        self._end(lambda undone: undone.is_idle)
        self._quiet_until = None

    def _end(self, condition: Callable[[Undone], bool]) -> None:
        """Push what is pending, then wait; while decisions are made, half of their usual time without a look."""
        self._push()
        if self._begun is None:
            self._wait(condition)
            return
        time.sleep(max(0.0, self._begun_s + self._usual_s / 2 - time.monotonic()))  # every look costs them time
        self._wait(condition)
        self._usual_s += (time.monotonic() - self._begun_s - self._usual_s) / USUALLY
        self._begun = None

    def _wait(self, condition: Callable[[Undone], bool]) -> None:
        deadline = time.monotonic() + STUCK_AFTER_S
        pause = PAUSE_S
        while not condition(undone := self.fleet.undone.look()):
            self.tend()
            time.sleep(pause)
            pause = min(pause * 1.2, 0.02)
            if time.monotonic() > deadline:
                raise FleetError(
                    f"the fleet made no progress for {STUCK_AFTER_S:g} s: {undone.messages} messages and "
                    f"{undone.jobs + undone.batches} jobs are waiting; look at the children's logs in the data folder"
                )
        self._undone = undone

    def _pace(self, at: datetime) -> None:
        if self.options.speed is None:
            return
        self._first_event = self._first_event or at
        due = self._started + (at - self._first_event).total_seconds() / self.options.speed
        while (left := due - time.monotonic()) > 0:
            self._push()
            self.tend()
            time.sleep(min(left, 0.1))

    def summary(self) -> dict[str, Any]:
        """What went in and what came of it; accepted + refused = read, outcomes sum to legs."""
        tally = self.fleet.journal.tally()
        seconds = time.monotonic() - self._started
        equity = self.fleet.broker.account().equity
        return {
            "profile": self.fleet.settings.profile,
            "ordered": self.options.ordered,
            "messages_read": self._intake.read,
            "accepted": self._intake.accepted,
            "refused": dict(sorted(self._intake.refused.items())),
            **count_outcomes(tally),
            "fills": len(self.fleet.ledger.fills()),
            "trades": trades(self.fleet.ledger.fills()),
            "starting_equity": str(self.fleet.settings.paper.starting_cash),
            "final_equity": str(equity),
            "profit": str(equity - self.fleet.settings.paper.starting_cash),
            "digest": self._digest(),
            "seconds": round(seconds, 2),
            "messages_per_second": round(self._intake.read / seconds, 1) if seconds else 0.0,
        }

    def _digest(self) -> str:
        """16 hexadecimal digits of every decision's end and every fill: equal digests mean equal runs.

        The number of a claim is left out: how often the lists were taken decides nothing.
        """
        ends = sorted(
            f"{_CLAIM_NUMBER.sub('-w', end['id'])} {end['outcome']} {end['rule']} {end['at']}"
            for end in self.fleet.journal.ends()
        )
        fills = [f"{f.symbol} {f.side} {f.quantity} {f.price} {f.at} {f.role}" for f in self.fleet.ledger.fills()]
        return sha256("\n".join([*ends, *fills]).encode()).hexdigest()[:16]


def decides_at_once(legs: Iterable[Leg]) -> bool:
    """Whether one of a post's legs is urgent."""
    return any(leg.fate is Fate.URGENT for leg in legs)


def count_outcomes(tally: dict[str, int]) -> dict[str, Any]:
    """Legs, outcomes, decisions, orders and the rules that refused, from the fleet's counters."""
    legs = {name.removeprefix("leg:"): n for name, n in sorted(tally.items()) if name.startswith("leg:")}
    rules = {name.removeprefix("rule:"): n for name, n in sorted(tally.items()) if name.startswith("rule:")}
    return {
        "legs": tally.get("legs", 0),
        "outcomes": legs,
        "decisions": sum(n for name, n in tally.items() if name.startswith("decision:")),
        "orders": tally.get("orders", 0),
        "rules": rules,
    }


def trades(fills: Sequence[Fill]) -> dict[str, int]:
    """Closed round trips: how many, how many won and how many lost (fees included; zero counts as neither)."""
    position: dict[str, Position | None] = defaultdict(lambda: None)
    result: dict[str, Decimal] = defaultdict(Decimal)
    closed: list[Decimal] = []
    for fill in sorted(fills, key=lambda fill: (fill.at, fill.fill_id)):
        position[fill.symbol], realised = apply_fill(position[fill.symbol], fill)
        result[fill.symbol] += realised
        if position[fill.symbol] is None:
            closed.append(result.pop(fill.symbol))
    return {"closed": len(closed), "won": sum(r > 0 for r in closed), "lost": sum(r < 0 for r in closed)}

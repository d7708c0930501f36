"""A fleet that lives in peace until one thing is done to it, and how long it takes to work again.

A drill is a chaos run without deaths at points: the same processes, server, venue and promises. What works is asked by
probes: an urgent post, two votes and a housekeeping job that were made after the moment in question, so router,
scheduler and every kind of worker must have done their part.
"""

import socket
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import redis
from rq.utils import utcformat

from pipeline.models import AnalyzedMessage, Label, Outcome
from tests.chaos.feed import COLD, a_post
from tests.chaos.report import Plan, Report
from tests.chaos.run import ChaosRun
from workers.adapters.keys import to_ms
from workers.adapters.rq_factory import MAINTENANCE

T = TypeVar("T")

PATIENCE_S: Final = 180.0
PROBE_EVERY_S: Final = 0.05
EMPTY: Final[Mapping[str, float]] = {}
COLLECTED: Final = 0.2  # of the trickle, what the collector reads


@dataclass
class Times:
    """Seconds of one case, each measured once."""

    case: str
    promised_s: float
    found: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)  # the same by kind of process, where that was looked at

    def cells(self, parts: Sequence[str]) -> list[str]:
        """A row of the table: case, times, median, worst, what is promised; then of each part median and worst."""
        shown = [f"{pick(self.found):.1f} s" if self.found else "-" for pick in (statistics.median, max)]
        each = [_both(self.parts.get(part, [])) for part in parts]
        return [self.case, str(len(self.found)), *shown, f"{self.promised_s:g} s", *each]

    @property
    def broken(self) -> list[str]:
        """What took longer than promised."""
        late = [f"{self.case}: {s:.1f} s, promised {self.promised_s:g} s" for s in self.found if s > self.promised_s]
        none = [] if self.found else [f"{self.case}: never measured"]
        return late + none


def table(times: Iterable[Times]) -> str:
    """All cases as markdown; a column for each kind of process, with median / worst, where every case has them."""
    rows = list(times)
    parts = sorted({part for one in rows for part in one.parts}) if all(one.parts for one in rows) else []
    head = ["case", "times", "median", "worst", "promised", *parts]
    lines = [head, ["---"] * len(head), *(one.cells(parts) for one in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _both(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f}" if seconds else "-"


class Drill(ChaosRun):
    """One family: `_act` does things to the fleet and notes times; the promises are checked as after every run."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        super().__init__(folder, plan, say)
        self.times: dict[str, Times] = {}
        self.faults: list[str] = []
        self.facts: list[str] = []  # sentences for the page
        self._probes = 0
        self._next_post = 0.0

    timed = True  # whether a time that is longer than promised is a broken promise
    side_by_side = 1  # fleets that share the family's work, each on a server of its own

    # ---- what a family says ------------------------------------------------------------------------------

    def _act(self) -> None:
        raise NotImplementedError

    def _note(self, case: str, promised_s: float, seconds: float, parts: Mapping[str, float] = EMPTY) -> None:
        times = self.times.setdefault(case, Times(case, promised_s))
        times.found.append(seconds)
        for part, own in parts.items():
            times.parts.setdefault(part, []).append(own)
        self._say(f"       {case}: {seconds:.1f} s")

    def _mine(self, acts: Sequence[T]) -> list[T]:
        """This fleet's share of the family's acts, in an order of its own."""
        mine = list(acts[self._plan.part :: self._plan.parts])
        self._dice.shuffle(mine)
        return mine

    # ---- a chaos run without its executioner ---------------------------------------------------------------

    def _arm(self) -> None:
        """Nobody dies by itself."""
        self._points.peace()

    def _fire(self, begun: float) -> None:
        probe = self._probe()
        self._live_through(lambda: self._works_since(probe), "the fleet's start")
        self._act()

    def _rounds(self, begun: float) -> dict[str, int]:
        self._fire(begun)
        left = self._come_to_rest()
        return left | self._end()

    def _judge(self, begun: float) -> Report:
        report = super()._judge(begun)
        report.untested = []
        late = [fault for one in self.times.values() for fault in one.broken] if self.timed else []
        report.broken += [*self.faults, *late]
        return report

    # ---- living --------------------------------------------------------------------------------------------

    def _tend_through(self) -> None:
        """Tend while Redis may be away: what asks it fails and is tried again."""
        try:
            self._tend()
        except redis.RedisError:
            time.sleep(PROBE_EVERY_S)
        self._move()

    def _now(self) -> str:
        """The market goes on while Redis is away."""
        return datetime.now(UTC).isoformat()  # noqa: TID251 - this machine's clock is the market's

    def _live_through(self, holds: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
        """Tend until it holds; the seconds that took. A wait that is given up is a broken promise."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                if holds():
                    return time.monotonic() - began
            except redis.RedisError:
                pass
            self._tend_through()
        self.faults.append(f"{what}: not in {seconds:g} s")
        return seconds

    def _for(self, seconds: float, act: Callable[[], object] = lambda: None) -> None:
        """Tend for so long, and do `act` each time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            act()
            self._tend_through()

    def _trickle(self, per_second: float = 10.0) -> None:
        """A post now and then; what the server does not take stays with the source."""
        if time.monotonic() < self._next_post:
            return
        self._next_post = time.monotonic() + 1 / per_second
        now = self._ask(self._fleet.clock.now)
        if self._dice.random() < COLLECTED:
            self._feed.made += self._file.write([self._dice.choice(COLD)], now)
        else:
            self._deliver(self._feed.some(1, now))

    def _ask(self, what: Callable[[], T]) -> T:
        """Ask Redis until it answers."""
        found: list[T] = []

        def asked() -> bool:
            found.append(what())
            return True

        self._live_through(asked, "asking")
        return found[0]

    def _deliver(self, posts: list[AnalyzedMessage]) -> None:
        """Hand posts over until the server said that it has them, as the collector does."""
        self._live_through(lambda: self._handed(posts), "handing over")
        self._deliveries += len(posts)

    def _handed(self, posts: list[AnalyzedMessage]) -> bool:
        self._fleet.inbox.append(posts)
        return True

    # ---- probes --------------------------------------------------------------------------------------------

    def _probe(self) -> list[str]:
        """An urgent leg, votes, one that the collector reads, and a job, made now; the legs' ids and the job's."""
        self._probes += 1
        now, number = self._ask(self._fleet.clock.now), self._probes
        symbols = [COLD[(3 * number + n) % len(COLD)] for n in range(2)]
        confidences = (0.95, 0.7)
        posts = [a_post(10**12 + 10 * number + n, now, (symbols[n],), Label.BULLISH, confidences[n]) for n in range(2)]
        self._feed.made += posts
        self._deliver(posts)
        collected = self._file.write([COLD[(3 * number + 2) % len(COLD)]], now)
        self._feed.made += collected
        posts, symbols = [*posts, *collected], [*symbols, *collected[0].tickers.symbols]
        job = f"janitor-probe-{number}"
        self._live_through(lambda: self._asked(job), "asking for a job")
        return [*(f"{post.message_id}:{symbol}" for post, symbol in zip(posts, symbols, strict=True)), job]

    def _asked(self, job: str) -> bool:
        self._fleet.queues.enqueue(MAINTENANCE, "janitor", job, (), "a probe")
        return True

    def _works_since(self, probe: list[str]) -> bool:
        """Whether the urgent leg was decided, the votes too, and the job is done."""
        *legs, job = probe
        states = self._fleet.journal.outcomes(legs)
        rq: Any = self._fleet.rq_client
        done = rq.hget(f"rq:job:{job}", "status") == b"finished"
        return done and all(state not in (None, Outcome.BUFFERED) for state in states)

    def _recovers(self, case: str, promised_s: float, *, each: bool = False) -> None:
        """Note how long it takes from now until a probe made now has come through.

        `each`: and until every process has turned once, by kind the time of the last one.
        """
        began, since = time.monotonic(), self._ask(self._fleet.clock.now)
        waiting = set(self._crew.pids) if each else set()
        parts: dict[str, float] = {}
        probe = self._probe()

        def everybody() -> bool:
            for name in sorted(waiting):
                if self._turned(name, since):
                    waiting.discard(name)
                    parts[_kind(name)] = time.monotonic() - began
            return not waiting and self._works_since(probe)

        took = self._live_through(everybody, f"{case}: {sorted(waiting)}")
        self._note(case, promised_s, took, parts)

    def _turned(self, name: str, since: datetime) -> bool:
        """Whether the process has written a sign of life since then, which it does after a turn."""
        own, fleet = name.rpartition("-")[0], self._fleet
        here = f"-{socket.gethostname()}-{self._crew.pids.get(name)}"
        if own.startswith("work-"):
            rq: Any = fleet.rq_client
            mine = [worker for worker in fleet.queues.worker_names() if worker.endswith(here)]
            beats = [rq.hget(f"rq:worker:{worker}", "last_heartbeat") for worker in mine]
            return any(beat is not None and beat.decode() > utcformat(since) for beat in beats)
        client: Any = fleet.client
        return (client.zscore(fleet.keys.heartbeats(), own + here) or 0) > to_ms(since)


def _kind(name: str) -> str:
    """The kind of process a child is of: its queue, or its role."""
    return name.rpartition("-")[0].removeprefix("work-")

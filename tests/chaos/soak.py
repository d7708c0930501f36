"""A fleet that is never left alone: posts at a steady rate, and something killed or cut every second or three.

Signals that met no death wait little longer than in peace: their 99th percentile is held against it.
"""

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import redis

from pipeline.models import AnalyzedMessage, Label, Outcome
from tests.chaos.drill import Drill
from tests.chaos.feed import CALM_KINDS, COLD, a_post
from tests.chaos.servers import hardy
from tests.warm import horses

WORSE: Final = 5.0  # times the peaceful 99th percentile
FLOOR_S: Final = 0.5
#: What may be cut; the server itself seldom, for everybody meets that.
KINDS: Final = (
    *("worker", "horse", "route", "schedule", "maintenance", "collect") * 3,
    *("lines", "lines", "server"),
)


@dataclass
class Cut:
    """Something killed or cut at `began`; one that everybody meets is over when each process has turned again."""

    what: str
    began: float
    over: float = float("inf")
    since: datetime | None = None
    waiting: set[str] = field(default_factory=set)

    def mend(self, turned: Callable[[str, datetime], bool]) -> None:
        """Look who has turned since."""
        if self.waiting and self.since is not None:
            self.waiting = {name for name in self.waiting if not turned(name, self.since)}
            self.over = time.monotonic()


class Soak(Drill):
    """So many seconds in peace, then under fire."""

    seconds = 600.0
    peace_s = 30.0
    per_second = 200.0

    def _act(self) -> None:
        self._feed.kinds = CALM_KINDS
        self._cuts: list[Cut] = []
        self._marked: dict[str, tuple[float, float | None]] = {}
        self._sent, self._next_mark = 0, 0.0
        peaceful = self._stretch(self.peace_s, cut=False)
        under_fire = self._stretch(self.seconds, cut=True)
        self._live_through(lambda: self._look() or not self._open(), "marked signals")
        self._judge_percentiles(peaceful, under_fire)

    # ---- a stretch of time -------------------------------------------------------------------------------------

    def _stretch(self, seconds: float, *, cut: bool) -> list[str]:
        """Posts at the rate; the marked ones of this stretch."""
        began, before, marked = time.monotonic(), self._sent, set(self._marked)
        next_cut, shown = began + 2.0, began
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * self.per_second) - (self._sent - before)
            if due > 0:
                self._post_some(min(due, 100))
            if cut and time.monotonic() > next_cut:
                next_cut = time.monotonic() + self._dice.uniform(1, 3)
                self._cut()
            self._look()
            self._tend_through()
            if time.monotonic() - shown > 20:
                shown = time.monotonic()
                self._say(f"{passed:5.0f} s  {self._sent} posts, {len(self._cuts)} cuts, {self._crew.lives} lives")
        return sorted(set(self._marked) - marked)

    def _post_some(self, count: int) -> None:
        """Mostly votes, a tenth of all through the collector; one urgent signal a second is marked, and timed."""
        with suppress(redis.RedisError):
            now, collected = self._fleet.clock.now(), count // 10
            posts: list[AnalyzedMessage] = self._feed.some(count - collected, now)
            self._feed.made += self._file.write(self._dice.choices(COLD, k=collected), now)
            if time.monotonic() >= self._next_mark:
                self._next_mark = time.monotonic() + 1.0
                symbol = self._dice.choice(COLD)
                posts.append(a_post(7 * 10**11 + self._sent, now, (symbol,), Label.BULLISH, 0.95))
                self._feed.made.append(posts[-1])
                self._marked[f"{posts[-1].message_id}:{symbol}"] = (time.monotonic(), None)
            self._deliver(posts)
            self._sent += count

    def _cut(self) -> None:
        """Kill or cut one thing: a worker, a horse, a router, the scheduler, the collector, the server, all lines..."""
        what = self._dice.choice(KINDS)
        cut = Cut(what, time.monotonic())
        self._cuts.append(cut)
        with suppress(ProcessLookupError, redis.RedisError):
            getattr(self, f"_cut_{what}")()
        if what in {"lines", "server"}:
            cut.since, cut.waiting = self._ask(self._fleet.clock.now), set(self._crew.pids)
        cut.over = time.monotonic()

    def _cut_worker(self) -> None:
        self._kill("work-immediate", "work-consensus")

    def _cut_horse(self) -> None:
        workers = [pid for name, pid in self._crew.pids.items() if name.startswith("work-")]
        found = horses(self._dice.choice(workers)) if workers else []
        if found:
            os.kill(self._dice.choice(found), signal.SIGKILL)

    def _cut_route(self) -> None:
        self._kill("route")

    def _cut_collect(self) -> None:
        self._kill("collect")

    def _cut_schedule(self) -> None:
        self._kill("schedule")

    def _cut_maintenance(self) -> None:
        self._kill("work-maintenance", "watch")

    def _cut_lines(self) -> None:
        admin: Any = redis.Redis.from_url(self._server.url)
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _cut_server(self) -> None:
        os.kill(self._server.pid or 0, signal.SIGKILL)
        self._for(self._dice.uniform(0.2, 2.0))
        self._live_through(self._server.revive, "reviving the server")

    def _kill(self, *roles: str) -> None:
        pids = [pid for name, pid in sorted(self._crew.pids.items()) if name.startswith(roles)]
        if pids:
            os.kill(self._dice.choice(pids), signal.SIGKILL)

    # ---- marked signals ------------------------------------------------------------------------------------------

    def _open(self) -> list[str]:
        return [leg for leg, (_, ended) in self._marked.items() if ended is None]

    def _look(self) -> bool:
        """Note the end of marked signals, and of cuts that everybody met; False, so that a wait goes on."""
        with suppress(redis.RedisError):
            for cut in self._cuts[-20:]:
                cut.mend(self._turned)
        waiting = self._open()
        if waiting:
            with suppress(redis.RedisError):
                states = self._fleet.journal.outcomes(waiting)
                for leg, state in zip(waiting, states, strict=True):
                    if state not in (None, Outcome.BUFFERED):
                        self._marked[leg] = (self._marked[leg][0], time.monotonic())
        return False

    def _judge_percentiles(self, peaceful: list[str], under_fire: list[str]) -> None:
        calm = _p99([self._seconds(leg) for leg in peaceful])
        unaffected = [leg for leg in under_fire if not self._met_a_cut(leg)]
        fire = _p99([self._seconds(leg) for leg in unaffected])
        bound = max(FLOOR_S, WORSE * calm)
        self._say(
            f"       p99 in peace {calm:.2f} s of {len(peaceful)}, all under fire "
            f"{_p99([self._seconds(leg) for leg in under_fire]):.2f} s of {len(under_fire)}"
        )
        cuts = ", ".join(f"{what} {n}" for what, n in sorted(Counter(cut.what for cut in self._cuts).items()))
        self.facts.append(
            f"{self._sent:,} posts at {self.per_second:g} a second; cut: {cuts}. p99 in peace {calm:.2f} s of "
            f"{len(peaceful)} signals, of all {len(under_fire)} under fire "
            f"{_p99([self._seconds(leg) for leg in under_fire]):.2f} s."
        )
        self._note(f"p99 of {len(unaffected)} signals that met no cut, {len(self._cuts)} cuts", round(bound, 2), fire)

    def _seconds(self, leg: str) -> float:
        began, ended = self._marked[leg]
        return (ended or time.monotonic()) - began

    def _met_a_cut(self, leg: str) -> bool:
        """Whether anything was cut, or not mended yet, between the post and its end."""
        began, ended = self._marked[leg]
        return any(cut.began <= (ended or began) and cut.over >= began - FLOOR_S for cut in self._cuts)

    def run(self) -> Any:
        """On a server that bears it."""
        self._dice = random.Random(self._plan.seed)
        with hardy():
            return super().run()


class ShortSoak(Soak):
    """Half a minute, slowly."""

    seconds = 30.0
    peace_s = 5.0
    per_second = 20.0


def _p99(seconds: list[float]) -> float:
    """The 99th percentile; 0 of nothing."""
    return statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else max(seconds, default=0.0)

"""More than the fleet can take: a burst on one hot symbol, a slow consumer, a full disk, hosts with a wrong clock.

Memory stays bounded, what is too much waits in the stream and at the source, and everything ends once it is over.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rq import utils

from pipeline.models import Label, Vote
from tests.chaos.crew import ForkedCrew
from tests.chaos.feed import COLD, HOT, gist
from tests.chaos.outages import Outages
from tests.warm import horses
from workers.adapters.keys import to_ms
from workers.adapters.wire_votes import vote_json

PROMISED_S: Final = 15.0
OVER_S: Final = 120.0
MIB: Final = 1_048_576
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
BYTES_A_POST: Final = 8_192  # body, leg, votes, outcome and their indexes: measured about 3 kB
BYTES_A_VOTE: Final = 512
BASE_BYTES: Final = 64 * MIB
RSS_MIB: Final = 512  # of any process
CHUNK: Final = 500


class Pressure(Outages):
    """A hot symbol, a burst of a hundred times the usual rate, a router that sleeps, a full disk, wrong clocks."""

    hot_votes = 1_000_000
    burst_s = 300.0
    per_second = 1000.0  # a hundred times the trickle of other drills
    slow_s = 45.0
    disk_s = 30.0
    side_by_side = 1

    def _act(self) -> None:
        self._most: dict[str, int] = {}
        self._next_look = 0.0
        self._hot_symbol()
        self._burst()
        self._slow_consumer()
        self._through_one("disk full under the append-only file", self._disk, self.disk_s)
        self._wrong_clocks()
        self.facts.append(f"Most memory of one process: {self._peaks()}.")

    # ---- a burst ---------------------------------------------------------------------------------------------

    def _hot_symbol(self) -> None:
        """So many votes on one symbol within its look-back, all used: what a decision on it costs must not follow."""
        client: Any = self._fleet.client
        now, name = self._fleet.clock.now(), HOT[0]
        recent, used, at = self._fleet.keys.recent(name), self._fleet.keys.used(name), to_ms(now) - 60_000
        for start in range(0, self.hot_votes, 10_000):
            ids = [f"hot-{number}" for number in range(start, min(start + 10_000, self.hot_votes))]
            facts: dict[str, Any] = {"label": Label.BULLISH, "score": 0.9, "confidence": 0.7}
            rows = [Vote(one, f"by-{n}", created_at=now, at=now, text=one, **facts) for n, one in enumerate(ids)]
            with client.pipeline(transaction=False) as pipe:
                pipe.zadd(recent, {vote_json(row): at for row in rows})
                pipe.zadd(used, dict.fromkeys(ids, at))
                pipe.expire(recent, 86_400)
                pipe.expire(used, 86_400)
                pipe.execute()
            self._tend_through()
        self._recovers(f"a symbol with {self.hot_votes:,} votes in its look-back", PROMISED_S)

    def _burst(self) -> None:
        """Votes of many authors, nine in ten on the hot symbol, at that rate unless a hundred thousand wait."""
        number, began, lag, sent, shown = 6 * 10**11, time.monotonic(), 0, 0, 0.0
        while (passed := time.monotonic() - began) < self.burst_s:
            due, waiting = min(CHUNK, int(passed * self.per_second) - sent), self._fleet.inbox.waiting()
            if due > 0 and waiting < self._fleet.settings.orchestrator.max_buffered_total:
                now = self._ask(self._fleet.clock.now)
                hot = [HOT[0] if self._dice.random() < 0.9 else self._dice.choice(COLD) for _ in range(due)]
                gists = [gist(number + sent + n, one, now) for n, one in enumerate(hot)]
                self._feed.made += [one for one, _ in gists]  # type: ignore[misc] # as much of a post as is judged
                self._fleet.inbox.append_bodies([(one.message_id, body) for one, body in gists])
                self._deliveries, sent = self._deliveries + due, sent + due
            lag = max(lag, waiting)
            self._look_at_memory()
            self._tend_through()
            if passed - shown > 20:
                shown = passed
                self._say(f"{passed:5.0f} s  {sent:,} posts, {waiting:,} to route, {self._peaks()}")
        took = self._live_through(self._drained, "the burst's end", 900)
        self._note(f"{sent:,} posts in {self.burst_s:g} s, from the last until all were decided", OVER_S, took)
        self.facts.append(
            f"Of the burst at most {lag:,} posts waited in the stream; most memory of Redis {self._most['redis']} MiB."
        )
        if self._most["redis"] * MIB > BASE_BYTES + BYTES_A_POST * sent + BYTES_A_VOTE * self.hot_votes:
            self.faults.append(f"{self._most['redis']} MiB for {sent:,} posts; promised {BYTES_A_POST} bytes each")
        self.faults += [
            f"{name} had {mib} MiB" for name, mib in self._most.items() if name != "redis" and mib > RSS_MIB
        ]

    def _drained(self) -> bool:
        self._look_at_memory()
        fleet = self._fleet
        return not (fleet.inbox.waiting() or fleet.backlog.buffered() or fleet.backlog.unfinished())

    def _look_at_memory(self) -> None:
        """Once a second: what Redis says of itself, and the kernel of each process and its horses."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + 1.0
        client: Any = self._fleet.client
        found = {"redis": int(client.info("memory")["used_memory"])}
        for name, pid in self._crew.pids.items():
            kind = name.rpartition("-")[0]
            found[kind] = max(found.get(kind, 0), _resident(pid))
            if kind.startswith("work-"):
                found["horse"] = max([found.get("horse", 0), *map(_resident, horses(pid))])
        for kind, size in found.items():
            self._most[kind] = max(self._most.get(kind, 0), size // MIB)

    def _peaks(self) -> str:
        return ", ".join(f"{kind} {mib} MiB" for kind, mib in sorted(self._most.items()))

    # ---- a slow consumer ---------------------------------------------------------------------------------------

    def _slow_consumer(self) -> None:
        """All routers stand still in the middle of their work; entries wait in the stream, and people are told."""
        routers = [pid for name, pid in self._crew.pids.items() if name.startswith("route")]
        for pid in routers:
            os.kill(pid, signal.SIGSTOP)
        self._for(self.slow_s, lambda: self._trickle(50))
        waited = self._fleet.inbox.waiting()
        if self.slow_s > self._fleet.settings.watch.stream_s + 5 and not self._lag_alarm():
            self.faults.append(f"{waited} entries waited {self.slow_s:g} s and nobody was told of stream_lag")
        for pid in routers:
            os.kill(pid, signal.SIGCONT)
        self._recovers(f"routers stopped for {self.slow_s:g} s, {waited} entries waited", PROMISED_S)
        self._live_through(lambda: not self._lag_alarm(), "the end of the alarm stream_lag")

    def _lag_alarm(self) -> bool:
        return any(alarm.code == "stream_lag" for alarm in self._fleet.alarms.open())

    # ---- clocks ------------------------------------------------------------------------------------------------

    def _wrong_clocks(self) -> None:
        """Both immediate workers start again on hosts whose clocks are an hour ahead, then an hour behind."""
        for hours in (1, -1):
            with _skewed(hours):
                self._restart("work-immediate")
                self._for(5.0, self._trickle)
                self._recovers(f"clocks of both workers' hosts {hours:+d} h", PROMISED_S)
        self._restart("work-immediate")

    def _restart(self, role: str) -> None:
        old = {pid for name, pid in self._crew.pids.items() if name.startswith(role)}
        for pid in old:
            os.kill(pid, signal.SIGTERM)
        self._live_through(lambda: not old & set(self._crew.pids.values()), f"end of {role}")


class ShortPressure(Pressure):
    """A small burst, a short stop."""

    hot_votes = 20_000
    burst_s = 3.0
    slow_s = 2.0
    disk_s = 1.0


def _resident(pid: int) -> int:
    """Bytes of memory a process has; 0 of one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


@contextmanager
def _skewed(hours: int) -> Iterator[None]:
    """Processes that are started within the block have a host's clock that is so wrong: RQ's and ours."""
    usual = ForkedCrew._live

    def live(crew: ForkedCrew, life: Any) -> int:
        if life.role == "work-immediate":
            _set_clocks(timedelta(hours=hours))
        return usual(crew, life)

    ForkedCrew._live = live  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ForkedCrew._live = usual  # type: ignore[method-assign]


def _set_clocks(by: timedelta) -> None:
    """Every reading of the host's clock that RQ or our worker makes in this process."""
    now, stamp = utils.now, utils.current_timestamp
    wrong = {now: lambda: now() + by, stamp: lambda: stamp() + int(by.total_seconds())}
    for module in [one for name, one in sys.modules.items() if name.startswith(("rq", "workers"))]:
        for name in ("now", "current_timestamp"):
            found = getattr(module, name, None)
            if found in (now, stamp):
                setattr(module, name, wrong[found])

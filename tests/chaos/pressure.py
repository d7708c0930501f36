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
from typing import Any, Final

from rq import utils

from pipeline.models import Label
from tests.chaos.crew import ForkedCrew
from tests.chaos.feed import COLD, HOT, a_post
from tests.chaos.outages import Outages

PROMISED_S: Final = 15.0
OVER_S: Final = 120.0
BYTES_A_POST: Final = 8_192  # body, leg, votes, outcome and their indexes: measured about 3 kB
BASE_BYTES: Final = 64 * 1024 * 1024
CHUNK: Final = 500


class Pressure(Outages):
    """A burst of a hundred times the usual rate, then a router that sleeps, then a full disk, then wrong clocks."""

    burst_s = 300.0
    per_second = 1000.0  # a hundred times the trickle of other drills
    slow_s = 30.0
    disk_s = 30.0

    def _act(self) -> None:
        self._burst()
        self._slow_consumer()
        self._through_one("disk full under the append-only file", self._disk, self.disk_s)
        self._wrong_clocks()

    # ---- a burst ---------------------------------------------------------------------------------------------

    def _burst(self) -> None:
        """Votes of many authors, nine in ten on one symbol, as fast as the server takes them at that rate."""
        number, began, most, lag = 6 * 10**11, time.monotonic(), 0, 0
        sent = 0
        while (passed := time.monotonic() - began) < self.burst_s:
            due = min(CHUNK, int(passed * self.per_second) - sent)
            if due > 0 and self._fleet.inbox.waiting() < self._fleet.settings.orchestrator.max_buffered_total:
                now = self._ask(self._fleet.clock.now)
                hot = [HOT[0] if self._dice.random() < 0.9 else self._dice.choice(COLD) for _ in range(due)]
                posts = [a_post(number + sent + n, now, (one,), Label.BULLISH, 0.7) for n, one in enumerate(hot)]
                self._feed.made += posts
                self._deliver(posts)
                sent += due
            lag = max(lag, self._fleet.inbox.waiting())
            client: Any = self._fleet.client
            most = max(most, int(client.info("memory")["used_memory"]))
            self._tend_through()
        took = self._live_through(self._drained, "the burst's end", 900)
        self._note(
            f"burst of {sent:,} posts in {self.burst_s:g} s, all routed and decided", max(OVER_S, self.burst_s), took
        )
        self._say(f"       most that waited in the stream {lag:,}, most memory {most / 2**20:.0f} MiB")
        if most > BASE_BYTES + BYTES_A_POST * sent:
            self.faults.append(f"{most:,} bytes for {sent:,} posts; promised {BYTES_A_POST} each")

    def _drained(self) -> bool:
        fleet = self._fleet
        return not (fleet.inbox.waiting() or fleet.backlog.buffered() or fleet.backlog.unfinished())

    # ---- a slow consumer ---------------------------------------------------------------------------------------

    def _slow_consumer(self) -> None:
        """All routers are stopped in the middle of their work; entries wait in the stream and none is lost."""
        routers = [life.pid for life in self._crew._lives if life.role == "route" and life.pid]
        for pid in routers:
            os.kill(pid, signal.SIGSTOP)
        self._for(self.slow_s, lambda: self._trickle(50))
        waited = self._fleet.inbox.waiting()
        for pid in routers:
            os.kill(pid, signal.SIGCONT)
        self._recovers(f"routers stopped for {self.slow_s:g} s", PROMISED_S)
        self._say(f"       {waited} entries had waited")

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

    burst_s = 3.0
    slow_s = 2.0
    disk_s = 1.0


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

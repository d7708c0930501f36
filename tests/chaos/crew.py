"""The fleet's processes as children of the harness, forked from it, traced, and brought back when they die.

They run the same code as `fleet collect`, `route`, `schedule`, `watch` and `work`; what a supervisor of one machine
does about a dead worker's jobs is done by the product's own `Crew`.
"""

import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.chaos.market import ShortSessions
from tests.chaos.points import Points, trace
from workers.adapters.alarms import Notice
from workers.collect import PATIENCE_S, build_collector
from workers.fleet import Crew
from workers.process import Heartbeat, await_server, process_name, run_process
from workers.route import Router
from workers.stop import Stop
from workers.wiring import Runtime
from workers.work import work

PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_PDEATHSIG: Final = 1
TAKE_OVER_IDLE_MS: Final = 800
TOLD: Final = "told.log"


@dataclass
class ChaosRuntime(Runtime):
    """The product's composition, with short sessions."""

    start: datetime = field(kw_only=True)

    @cached_property
    def sessions(self) -> Any:
        """Sessions around the run's start."""
        return ShortSessions(self.start)

    @cached_property
    def messenger(self) -> Any:
        """Into a file."""
        return FileMessenger(self.settings.data_dir / TOLD)

    def router(self, consumer: str) -> Router:
        """One that takes over sooner than in 5 s: a run has many deaths and little time."""
        router = super().router(consumer)
        router.take_over_idle_ms = TAKE_OVER_IDLE_MS
        return router


@dataclass(frozen=True)
class FileMessenger:
    """Whoever is told reads this file: a line each time, with the notice's id."""

    file: Path

    def tell(self, notices: Sequence[Notice]) -> None:
        """Each on a line of its own, in one write."""
        with self.file.open("a") as told:
            told.write("".join(f"{notice.id}\n" for notice in notices))


@dataclass
class _Life:
    """One child's role and present process."""

    name: str
    role: str
    pid: int | None = None
    lives: int = 0


class ForkedCrew:
    """Implements what `Crew` needs of a supervisor: `poll`, `pids`, `fatal`, `finished` and `shut_down`."""

    def __init__(self, make: Callable[[], Runtime], roles: dict[str, int], points: Points, logs: Path) -> None:
        self._make = make
        self._points = points
        self._logs = logs
        self._lives = [_Life(f"{role}-{n + 1}", role) for role, number in roles.items() for n in range(number)]
        self.fatal: int | None = None
        self.finished = False
        self.deaths: dict[int, int] = {}
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.crew = Crew(make(), [], {}, None)
        self.crew.supervisor = self  # type: ignore[assignment] # the same interface

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {life.name: life.pid for life in self._lives if life.pid is not None}

    @property
    def lives(self) -> int:
        """Processes started so far."""
        return sum(life.lives for life in self._lives)

    def poll(self) -> None:
        """Notice deaths, begin new lives."""
        self._reap()
        if not self.finished:
            for life in self._lives:
                if life.pid is None:
                    life.pid, life.lives = self._begin(life), life.lives + 1

    def ask_one_to_end(self, dice: random.Random) -> None:
        """SIGTERM to somebody, as a rolling upgrade does."""
        if self.pids:
            os.kill(dice.choice(sorted(self.pids.values())), signal.SIGTERM)

    def end(self, *prefixes: str, patience_s: float = 30.0) -> list[str]:
        """SIGTERM to the roles that begin so; names of those that had to be killed."""
        mine = [life for life in self._lives if life.role.startswith(prefixes)]
        for life in mine:
            if life.pid is not None:
                os.kill(life.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        self.finished = True
        while any(life.pid is not None for life in mine) and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.02)
        stuck = [life for life in mine if life.pid is not None]
        for life in stuck:
            os.kill(life.pid or 0, signal.SIGKILL)
        return [life.name for life in stuck]

    def shut_down(self) -> None:
        """End all at once."""
        self.finished = True
        for life in self._lives:
            if life.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(life.pid, signal.SIGKILL)

    def _reap(self) -> None:
        by_pid = {life.pid: life for life in self._lives if life.pid is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self.deaths[code] = self.deaths.get(code, 0) + 1
            life = by_pid.get(pid)
            if life is not None:
                life.pid = None
                self.crew._on_exit(life.name, pid, code)

    def _begin(self, life: _Life) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self._redirect(life.name)
            code = self._live(life)
        except BaseException as error:  # noqa: BLE001 - a forked child must never return into the harness
            sys.stderr.write(f"{life.name}: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
            code = int(error.code or 0) if isinstance(error, SystemExit) else 1
        finally:
            os._exit(code)

    def _redirect(self, name: str) -> None:
        log = os.open(self._logs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.setsid()
        _die_with_the_harness()

    def _live(self, life: _Life) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        fleet, self._points.place = self._make(), life.name
        queue = life.role.removeprefix("work-") if life.role.startswith("work-") else None
        trace(self._points, "worker" if queue else life.role, "horse" if queue else None)
        if queue:
            return work(fleet, queue)
        return self._turn(fleet, life.role)

    def _turn(self, fleet: Runtime, role: str) -> int:
        """What `fleet collect`, `fleet route`, `fleet schedule` and `fleet watch` do."""
        name, stop = process_name(role), Stop().listen()
        beat = Heartbeat(fleet.client, fleet.keys, name, role)
        if role == "collect":
            await_server(fleet.client, role, stop)
            step = build_collector(fleet).step
            return run_process(name, step, heartbeat=beat, interval=PATIENCE_S, stop=stop)
        if role.startswith("route"):
            router = fleet.router(name)
            return run_process(name, router.step, heartbeat=beat, interval=0.0, stop=stop, finish=router.finish)
        if role == "watch":
            step = fleet.watcher().step
            return run_process(name, step, heartbeat=beat, interval=fleet.settings.watch.interval_s, stop=stop)
        turn = fleet.scheduler.turn
        return run_process(name, lambda: turn(fleet.clock.now()), heartbeat=beat, interval=1.0, stop=stop)


def _die_with_the_harness() -> None:
    """A harness that is killed leaves nobody behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

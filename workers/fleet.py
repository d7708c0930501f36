"""Children of one machine: which processes there are, the server they share, and a whole fleet as one command."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from config.settings import Settings
from pipeline.errors import FleetError, SettingsError
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.redis_edge import RedisAwayError
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE, MAINTENANCE
from workers.stop import Stop
from workers.supervisor import ChildSpec, Supervisor, Verb, fleet_command
from workers.wiring import Runtime

READY_AFTER_S = 60.0
LOOK_EVERY_S = 0.1
SUSPECT_FOR_S = 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where the fleet's Redis is; `revive` starts an embedded one again, with its data, if it died."""

    url: str
    revive: Callable[[], object] = lambda: None


@contextmanager
def server(settings: Settings, *, fresh: bool = False) -> Iterator[Server]:
    """The configured server, else an embedded one of our own, which `fresh` empties first."""
    if settings.redis.url is not None:
        yield Server(settings.redis.url.get_secret_value())
        return
    with EmbeddedServer(settings.data_dir) as embedded:
        if fresh:
            with redis.Redis.from_url(embedded.url) as client:
                client.flushall()
        yield Server(embedded.url, embedded.revive)


def workers(settings: Settings, count: int | None = None) -> list[ChildSpec]:
    """The RQ workers, one queue each; `count` replaces the configured numbers of immediate and consensus ones."""
    numbers = {
        IMMEDIATE: count or settings.workers.immediate,
        CONSENSUS: count or settings.workers.consensus,
        MAINTENANCE: settings.workers.maintenance,
    }
    return [
        ChildSpec(f"work-{queue}-{number + 1}", fleet_command("work", queue))
        for queue, total in numbers.items()
        for number in range(total)
    ]


def everything(settings: Settings) -> list[ChildSpec]:
    """Every process of a whole fleet, who watches it first; a source that ends ends its collector only."""
    reads_stdin = settings.source.kind == "stdin"
    has_source = settings.source.kind in {"stdin", "webhook"} or settings.source.path is not None
    collector = ChildSpec("collect", fleet_command("collect"), restart="on_failure", reads_stdin=reads_stdin)
    watcher = ChildSpec("watch", fleet_command("watch"))
    others = [router(), ChildSpec("schedule", fleet_command("schedule")), *workers(settings)]
    return numbered([watcher, *([collector] if has_source else []), *others], settings.metrics.port)


def numbered(children: list[ChildSpec], first_port: int | None) -> list[ChildSpec]:
    """The same, each with a port of its own for its metrics, from `first_port` on; None: nobody has one."""
    if first_port is None:
        return children
    return [
        replace(child, env={**child.env, "FLEET_METRICS__PORT": str(first_port + place)})
        for place, child in enumerate(children)
    ]


class Crew:
    """Children and what must happen when one of them dies: its jobs go back to their queue at once."""

    def __init__(
        self,
        fleet: Runtime,
        children: list[ChildSpec],
        environ: Mapping[str, str],
        log_dir: Path | None,
        revive: Callable[[], object] = lambda: None,
        verb: Verb | None = None,
    ) -> None:
        """`verb`: as the supervisor says."""
        self._fleet = fleet
        self._revive = revive
        self.supervisor = Supervisor(
            children, env=environ, grace_s=10, on_exit=self._on_exit, log_dir=log_dir, verb=verb
        )
        self._log_dir = log_dir
        self._suspects: list[tuple[float, list[str]]] = []
        self._next_look = 0.0
        self.recovered: list[str] = []

    def tend(self) -> None:
        """Keep children alive. Raises FleetError when one refuses its settings."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        self._revive()
        self.supervisor.poll()
        self._recover_taken()
        if self.supervisor.fatal is not None:
            where = f"see {self._log_dir}" if self._log_dir else "see above"
            raise SettingsError(f"a child process refused its settings; {where}")

    def run(self, stop: Stop) -> int:
        """Keep everybody alive until `stop` or until all have finished, then end them; the exit code."""
        try:
            while not (stop.wait(LOOK_EVERY_S) or self.supervisor.finished):
                self.tend()
        finally:
            self.supervisor.shut_down()
        return 0

    def wait_until_ready(self, total: int) -> None:
        """Until that many RQ workers listen. Raises FleetError after a minute."""
        deadline = time.monotonic() + READY_AFTER_S
        while len(self._fleet.queues.worker_names()) < total:
            self.tend()
            time.sleep(0.05)
            if time.monotonic() > deadline:
                raise FleetError(f"only some of {total} workers came up in {READY_AFTER_S:g} s; see {self._log_dir}")

    def _on_exit(self, name: str, pid: int, code: int) -> None:  # noqa: ARG002  # the supervisor's hook
        if not name.startswith("work-"):
            return
        queue = name.split("-")[1]
        with suppress(RedisAwayError):  # then the lease brings its jobs back
            self.recovered += self._fleet.queues.recover_worker(pid)
            self._suspects.append((time.monotonic() + SUSPECT_FOR_S, self._fleet.queues.taken(queue)))

    def _recover_taken(self) -> None:
        """Jobs the dead worker had taken but not started: a living one starts what it takes within milliseconds."""
        due = [one for one in self._suspects if one[0] <= time.monotonic()]
        for suspect in due:
            self._suspects.remove(suspect)
            with suppress(RedisAwayError):
                self.recovered += self._fleet.queues.recover_taken(suspect[1])


def run(
    fleet: Runtime, environ: Mapping[str, str], stop: Stop, revive: Callable[[], object], verb: Verb | None = None
) -> int:
    """The whole fleet on this machine until SIGTERM; the exit code."""
    settings = fleet.settings
    now = fleet.clock.now()
    fleet.initialise_if_empty("fleet run", now)
    fleet.reconcile_first(f"fleet run at {now:%Y-%m-%d %H:%M:%S.%f}")
    return Crew(fleet, everything(settings), environ, settings.data_dir / "logs", revive, verb).run(stop)


def router() -> ChildSpec:
    """One router."""
    return ChildSpec("route", fleet_command("route"))


def several_workers(fleet: Runtime, queue: str, number: int, verb: Verb | None = None) -> int:
    """Several RQ workers of one queue on this machine until SIGTERM; the exit code."""
    children = [ChildSpec(f"work-{queue}-{one + 1}", fleet_command("work", queue)) for one in range(number)]
    ported = numbered(children, fleet.settings.metrics.port)
    return Crew(fleet, ported, os.environ, None, verb=verb).run(Stop().listen())

"""`fleet replay` and the demo: a server or namespace of its own, children, the driver, the summary."""

import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.settings import Settings
from pipeline.errors import RefusedError, SettingsError
from workers.adapters.posts import MAX_LINE_BYTES

REPORT_EVERY_S = 2.0
UNLINK_CHUNK = 1000


def run_replay(
    settings_of: Callable[[], Settings],
    runtime_of: Callable[[], Any],
    file: Path | None,
    *,
    ordered: bool,
    speed: str,
    workers: int | None,
    keep: bool,
) -> dict[str, Any]:
    """The whole run; answers the summary.

    Raises SettingsError for a missing file, RefusedError beside a live fleet, FleetError for a stuck one.
    """
    factor = _speed(speed)
    settings = settings_of()
    recording = file or settings.source.path
    if recording is None or not recording.is_file():
        raise SettingsError(f"FILE is {recording}; valid: a file of recorded posts (JSON lines, .gz too)")
    own_namespace = _prepare_environment(settings, ordered=ordered)
    settings = settings_of()
    from workers import fleet as crew_of
    from workers.replay import Replay, ReplayOptions
    from workers.verbs.children import preloaded

    with crew_of.server(settings, fresh=True) as server:
        os.environ["FLEET_REDIS_URL"] = server.url
        fleet = runtime_of()
        _refuse_live(fleet)
        fleet.initialise_if_empty("fleet replay", fleet.clock.now())
        children = [crew_of.router(), *crew_of.workers(settings, workers)]
        logs, verb = settings.data_dir / "logs", preloaded(fleet)
        crew = crew_of.Crew(fleet, children, os.environ, logs, server.revive, verb)
        try:
            crew.wait_until_ready(len(children) - 1)
            with _progress() as report:
                replay = Replay(fleet, ReplayOptions(ordered, factor), crew.tend, report)
                summary = replay.run(read_lines(recording))
        finally:
            crew.supervisor.shut_down()
        summary["recovered_jobs"] = len(crew.recovered)
        summary["examples"] = _examples(fleet)
        if own_namespace and not keep:
            _forget(fleet)
    return summary


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of a recording, .gz too, each cut one byte over the cap so that no line is ever held whole."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            yield line.rstrip(b"\r\n")
            while line and not line.endswith(b"\n") and len(line) > MAX_LINE_BYTES:
                line = stream.readline(MAX_LINE_BYTES + 1)


def _prepare_environment(settings: Settings, *, ordered: bool) -> bool:
    """Variables the children share; whether the run has a namespace of its own on somebody's server."""
    os.environ["FLEET_WORKERS__CLAIMS_PER_JOB"] = "100000" if ordered else "50"
    if settings.redis.url is None:
        os.environ["FLEET_DATA_DIR"] = str((settings.data_dir / settings.profile).resolve())
        return False
    os.environ["FLEET_REDIS__KEY_PREFIX"] = f"{settings.profile}-{uuid4().hex[:8]}"
    return True


def _refuse_live(fleet: Any) -> None:
    owners = fleet.client.scan_iter("*:environment", count=UNLINK_CHUNK)
    if any('"live"' in (fleet.client.get(key) or "") for key in owners):
        raise RefusedError("this server holds a live environment; valid: another server for replays")


def _examples(fleet: Any) -> dict[str, str]:
    """One decision id per outcome, to look at with `fleet trace`."""
    found: dict[str, str] = {}
    for _, fields in fleet.client.xrevrange(fleet.keys.decisions(), count=5000):
        found.setdefault(fields["outcome"], fields["id"])
    return dict(sorted(found.items()))


def _forget(fleet: Any) -> None:
    """Remove the run's own namespace from a shared server."""
    client: redis.Redis = fleet.client
    keys = client.scan_iter(f"{fleet.keys.prefix}:*", count=UNLINK_CHUNK)
    while batch := list(islice(keys, UNLINK_CHUNK)):
        client.unlink(*batch)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise SettingsError(f"--speed is {text!r}; valid: max, or a positive number of event seconds per second")
    return factor


class _progress:  # noqa: N801  # a context manager used like a function
    """A bar on a terminal, a line every two seconds elsewhere; both on standard error."""

    def __enter__(self) -> Callable[[int, int, datetime | None], None]:
        self._bar: Progress | None = None
        self._next = 0.0
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("posts", total=None)
            self._bar.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _report(self, done: int, total: int, at: datetime | None) -> None:
        when = f"{at:%Y-%m-%d %H:%M}" if at else "start"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=when)
        elif time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + REPORT_EVERY_S
            print(f"{done}/{total} posts, {when}", file=sys.stderr, flush=True)  # noqa: T201  # progress is for people

"""Child processes of one machine: started, restarted with back-off, ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

import structlog

from workers.adapters.forked import Forked, fork, may_fork
from workers.adapters.lifeline import Watchdog, die_with_parent, watchdog_for
from workers.stop import Stop

POLL_S: Final = 0.1
RESTART_FIRST_S: Final = 0.5
RESTART_LONGEST_S: Final = 10.0
HEALTHY_AFTER_S: Final = 60.0
COLD_STOP_S: Final = 3.0
SETTINGS_EXIT: Final = 2

log = structlog.get_logger()

OnExit = Callable[[str, int, int], None]
Verb = Callable[[Sequence[str]], object]
Child = Forked | subprocess.Popen[bytes]


def fleet_command(*words: str) -> tuple[str, ...]:
    """The command line of one of our own verbs, in this interpreter."""
    return (sys.executable, "-m", "workers.cli", *words)


@dataclass(frozen=True)
class ChildSpec:
    """One process to keep alive.

    `restart`: "always", or "on_failure" for one whose exit 0 means it is finished. `reads_stdin`: it gets ours. `env`:
    variables of its own.
    """

    name: str
    command: tuple[str, ...]
    restart: Literal["always", "on_failure"] = "always"
    reads_stdin: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def verb(self) -> tuple[str, ...] | None:
        """Its words when it is a verb of ours that reads nothing, else None."""
        ours = fleet_command()
        return self.command[len(ours) :] if self.command[: len(ours)] == ours and not self.reads_stdin else None


@dataclass
class _Child:
    """A spec and its present life."""

    spec: ChildSpec
    process: Child | None = None
    watchdog: Watchdog | None = None
    started: float = 0.0
    failures: int = 0
    due: float = field(default=float("-inf"))
    finished: bool = False


class Supervisor:
    """Keeps children alive. Call it from one thread that lives as long as they shall (see `lifeline`).

    Each child has a session of its own, so a Ctrl-C reaches only us and they end in our order. `on_exit` gets
    (name, pid, code) of every child that ended, a negative code is the signal that killed it. `log_dir`: a
    file per child for what it prints; without it children share our standard error. `verb`: runs words of the command
    line in this process; with it such children are forked where that is safe, not begun from nothing.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        env: Mapping[str, str],
        grace_s: float = 20.0,
        on_exit: OnExit | None = None,
        log_dir: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        verb: Verb | None = None,
    ) -> None:
        self._verb = verb
        self._children = [_Child(spec) for spec in children]
        self._env = dict(env)
        self._grace_s = grace_s
        self._on_exit = on_exit
        self._log_dir = log_dir
        self._monotonic = monotonic
        self.fatal: int | None = None

    @property
    def pids(self) -> dict[str, int]:
        """Process id of every child that runs, by name."""
        return {child.spec.name: child.process.pid for child in self._children if child.process}

    @property
    def finished(self) -> bool:
        """Whether every child that may finish has, and no other is left."""
        return all(child.finished for child in self._children)

    def poll(self) -> None:
        """Notice who ended and start who is due. Call it often; the first call starts everybody.

        `fatal` becomes 2 when a child refuses its settings: another start would meet the same.
        """
        for child in self._children:
            self._notice(child)
        if self.fatal is None:
            for child in self._children:
                self._start_if_due(child)

    def run(self, stop: Stop, until: Callable[[], bool] = lambda: False) -> int:
        """Keep everybody alive until `stop`, `until()` or a fatal end, then end all; the exit code."""
        try:
            while not (stop.is_set() or self.fatal is not None or self.finished or until()):
                self.poll()
                stop.wait(POLL_S)
        finally:
            self.shut_down()
        return self.fatal or 0

    def shut_down(self) -> None:
        """End all: SIGTERM (finish what is begun), after the grace again (leave it), after 3 s more SIGKILL."""
        for patience, number in ((self._grace_s, signal.SIGTERM), (COLD_STOP_S, signal.SIGTERM), (COLD_STOP_S, None)):
            alive = [child.process for child in self._children if child.process]
            for process in alive:
                _signal(process, number)
            self._await(patience)
        for child in self._children:
            child.finished = True

    def _await(self, patience: float) -> None:
        """Notice ends for so long, or until nobody is left."""
        deadline = self._monotonic() + patience
        while self.pids and self._monotonic() < deadline:
            for child in self._children:
                self._notice(child)
            time.sleep(POLL_S / 5)

    def _notice(self, child: _Child) -> None:
        """Take note of a child's end and decide about its next life."""
        if child.process is None or (code := child.process.poll()) is None:
            return
        pid, child.process = child.process.pid, None
        if child.watchdog:
            child.watchdog.dismiss()
        log.info("child.ended", child=child.spec.name, pid=pid, code=code)
        child.finished = code == 0 and child.spec.restart == "on_failure"
        if code == SETTINGS_EXIT:
            self.fatal = code
        self._plan_restart(child)
        if self._on_exit:
            self._on_exit(child.spec.name, pid, code)

    def _plan_restart(self, child: _Child) -> None:
        """The pause before the next life doubles with each short one."""
        now = self._monotonic()
        child.failures = 1 if now - child.started >= HEALTHY_AFTER_S else child.failures + 1
        child.due = now + min(RESTART_LONGEST_S, RESTART_FIRST_S * 2 ** min(child.failures - 1, 10))

    def _start_if_due(self, child: _Child) -> None:
        """A child's next life, when its pause is over."""
        if child.process or child.finished or self._monotonic() < child.due:
            return
        child.process = self._spawn(child.spec)
        child.watchdog = watchdog_for(child.process.pid)
        child.started = self._monotonic()
        log.info("child.started", child=child.spec.name, pid=child.process.pid, life=child.failures + 1)

    def _spawn(self, spec: ChildSpec) -> Child:
        """The child process."""
        output, env = self._log_file(spec.name), self._env | dict(spec.env)
        try:
            if self._verb is not None and spec.verb is not None and may_fork():
                return fork(partial(self._verb, spec.verb), env, output)
            return subprocess.Popen(
                spec.command,
                env=env,
                stdin=None if spec.reads_stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - two system calls, no locks taken
            )
        finally:
            if output is not None:
                os.close(output)

    def _log_file(self, name: str) -> int | None:
        """The child's own log, opened to append."""
        if self._log_dir is None:
            return None
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return os.open(self._log_dir / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _signal(process: Child, number: signal.Signals | None) -> None:
    """Send it; None kills the child's whole process group."""
    with suppress(ProcessLookupError):
        if number is None:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(number)

"""The supervisor with real children."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_embedded import eventually, is_gone
from workers.stop import Stop
from workers.supervisor import ChildSpec, Supervisor, fleet_command

SLEEPS = (sys.executable, "-c", "import sys, time; print('up', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
)


def exits(code: int) -> tuple[str, ...]:
    """A child that ends at once with this code."""
    return (sys.executable, "-c", f"raise SystemExit({code})")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def end_of(supervisor: Supervisor, pid: int) -> None:
    """Wait until the child has ended and was noticed."""
    assert eventually(lambda: is_gone(pid))
    supervisor.poll()


def test_a_killed_child_is_started_again_after_a_pause() -> None:
    """The hook learns name, pid and the signal that killed it."""
    clock, ends = Clock(), list[tuple[str, int, int]]()
    supervisor = Supervisor(
        [ChildSpec("a", SLEEPS)], env=os.environ, on_exit=lambda *end: ends.append(end), monotonic=clock
    )
    supervisor.poll()
    first = supervisor.pids["a"]
    os.kill(first, signal.SIGKILL)
    end_of(supervisor, first)

    assert ends == [("a", first, -signal.SIGKILL)]
    assert supervisor.pids == {}
    clock.now = 0.5
    supervisor.poll()
    assert supervisor.pids["a"] != first
    os.kill(supervisor.pids["a"], signal.SIGKILL)
    end_of(supervisor, supervisor.pids["a"])


def test_pauses_double_while_a_child_keeps_failing_and_start_over_once_it_was_healthy() -> None:
    """0.5, 1, 2 s; after a minute of life 0.5 s again."""
    clock = Clock()
    supervisor = Supervisor([ChildSpec("a", exits(1))], env=os.environ, monotonic=clock)
    supervisor.poll()
    pauses = []
    for lived in (0, 0, 0, 60):
        clock.now += lived
        end_of(supervisor, supervisor.pids["a"])
        ended = clock.now
        while not supervisor.pids:
            clock.now += 0.25
            supervisor.poll()
        pauses.append(clock.now - ended)
    end_of(supervisor, supervisor.pids["a"])

    assert pauses == [0.5, 1.0, 2.0, 0.5]


def test_a_child_that_may_finish_is_not_started_again() -> None:
    """A collector at the end of its file; `run` ends when nobody is left."""
    supervisor = Supervisor([ChildSpec("a", exits(0), restart="on_failure")], env=os.environ)

    assert supervisor.run(Stop()) == 0
    assert supervisor.finished


def test_a_child_that_must_not_finish_is_started_again_after_exit_0() -> None:
    """An RQ worker that leaves in silence is a failure too."""
    clock = Clock()
    supervisor = Supervisor([ChildSpec("a", exits(0))], env=os.environ, monotonic=clock)
    supervisor.poll()
    end_of(supervisor, supervisor.pids["a"])
    clock.now = 1
    supervisor.poll()

    assert "a" in supervisor.pids
    end_of(supervisor, supervisor.pids["a"])


def test_refused_settings_end_the_fleet_with_2() -> None:
    """Another start would meet the same settings; the others are ended."""
    supervisor = Supervisor([ChildSpec("good", SLEEPS), ChildSpec("bad", exits(2))], env=os.environ)

    assert supervisor.run(Stop()) == 2
    assert supervisor.pids == {}


def test_the_wish_to_end_ends_all_children() -> None:
    """SIGTERM is passed on."""
    stop, ends = Stop(), list[int]()
    supervisor = Supervisor(
        [ChildSpec("a", SLEEPS), ChildSpec("b", SLEEPS)], env=os.environ, on_exit=lambda *end: ends.append(end[2])
    )
    supervisor.poll()
    stop.set()

    assert supervisor.run(stop) == 0
    assert ends == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_child_that_does_not_obey_is_killed_after_the_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process outlives its fleet."""
    monkeypatch.setattr("workers.supervisor.COLD_STOP_S", 0.1)
    ends = list[int]()
    supervisor = Supervisor(
        [ChildSpec("a", STUBBORN)],
        env=os.environ,
        grace_s=0.1,
        on_exit=lambda *end: ends.append(end[2]),
        log_dir=tmp_path,
    )
    supervisor.poll()
    assert eventually(lambda: (tmp_path / "a.log").read_bytes() == b"up\n")
    supervisor.shut_down()

    assert ends == [-signal.SIGKILL]


def test_run_ends_when_the_caller_has_seen_enough() -> None:
    """`until` is asked at every turn."""
    supervisor = Supervisor([ChildSpec("a", SLEEPS)], env=os.environ)

    assert supervisor.run(Stop(), until=lambda: bool(supervisor.pids)) == 0
    assert supervisor.pids == {}


def test_children_get_exactly_the_environment_given(tmp_path: Path) -> None:
    """Nothing of ours slips through by accident."""
    show = (sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))")
    spec = ChildSpec("a", show, restart="on_failure")
    Supervisor([spec], env={"FLEET_PROFILE": "demo", "LC_ALL": "C"}, log_dir=tmp_path).run(Stop())

    assert json.loads((tmp_path / "a.log").read_text()) == {"FLEET_PROFILE": "demo", "LC_ALL": "C"}


#: A supervisor of one child that does nothing: a program that is begun, and a verb of ours, which is forked on Linux.
PARENT = """
import os, sys, time
from workers.stop import Stop
from workers.supervisor import ChildSpec, Supervisor, fleet_command
stop = Stop().listen()
spec = ChildSpec("a", COMMAND)
supervisor = Supervisor([spec], env=os.environ, verb=lambda words: time.sleep(600))
supervisor.poll()
print(supervisor.pids["a"], flush=True)
supervisor.run(stop)
"""
BEGUN, FORKED = '(sys.executable, "-c", "import time; time.sleep(600)")', "fleet_command()"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")


@pytest.mark.parametrize("command", [BEGUN, pytest.param(FORKED, marks=ON_LINUX)])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_die_with_their_supervisor(number: signal.Signals, command: str) -> None:
    """However it ends, nobody trades on alone."""
    words = [sys.executable, "-c", PARENT.replace("COMMAND", command)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert parent.stdout is not None
    child = 0
    while not child:
        line = parent.stdout.readline().strip()
        child = int(line) if line.isdigit() else 0
    parent.send_signal(number)
    code = parent.wait(timeout=120)

    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert eventually(lambda: is_gone(child))
    parent.stdout.close()


def test_our_own_verbs_run_in_this_interpreter() -> None:
    """Not in whatever `fleet` is first on the path."""
    assert fleet_command("work", "immediate") == (sys.executable, "-m", "workers.cli", "work", "immediate")

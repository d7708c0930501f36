"""Children forked by a supervisor that has loaded the code stand as programs of their own."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_embedded import eventually
from workers.adapters.forked import may_fork
from workers.stop import Stop
from workers.supervisor import ChildSpec, Supervisor, fleet_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")


def tell(words: Sequence[str]) -> None:
    """A verb that says what it sees of itself and ends with the code it was given."""
    sys.stdout.write(json.dumps(seen() | {"words": list(words)}))
    raise SystemExit(int(words[0]))


def seen() -> dict[str, Any]:
    """What a process may have from its parent."""
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "environ": dict(os.environ),
        "open": [number for number in range(64) if Path(f"/proc/self/fd/{number}").exists()],
        "input": sys.stdin.read(),
        "handlers": [signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler) for number in (2, 15)],
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "dice": random.random(),
    }


def sleep(_words: Sequence[str]) -> None:
    """A verb that never ends by itself."""
    time.sleep(600)


def patience() -> Callable[[], bool]:
    """Whether two minutes are over: a child that fails would be started for ever."""
    deadline = time.monotonic() + 120
    return lambda: time.monotonic() > deadline


def told(path: Path) -> Any:
    """What a child said."""
    return json.loads(path.read_text())


def test_a_forked_child_has_nothing_of_its_parent_but_the_code(tmp_path: Path) -> None:
    """Environment, session, input, output, handlers, descriptors and randomness are its own."""
    secret = (tmp_path / "secret").open("w")
    os.set_inheritable(secret.fileno(), True)  # noqa: FBT003 - os's own order
    stop, state = Stop().listen(), random.getstate()
    try:
        spec = ChildSpec("a", fleet_command("0", "more"), restart="on_failure")
        Supervisor([spec], env={"FLEET_PROFILE": "demo"}, log_dir=tmp_path, verb=tell).run(stop, until=patience())
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        secret.close()
    random.setstate(state)
    child = told(tmp_path / "a.log")

    assert child["words"] == ["0", "more"]
    assert child["pid"] == child["session"] != os.getpid()
    assert child["environ"] == {"FLEET_PROFILE": "demo"}
    assert child["open"] == [0, 1, 2]
    assert child["input"] == ""
    assert child["handlers"] == [True, True]
    assert child["blocked"] == []
    assert child["dice"] != random.random()


def test_the_end_of_a_forked_child_is_told_as_that_of_any_other(tmp_path: Path) -> None:
    """Exit code 2 is fatal as ever; a signal is its negative number; the next life is another process."""
    ends = list[tuple[str, int, int]]()
    refused = Supervisor([ChildSpec("a", fleet_command("2"))], env={}, log_dir=tmp_path, verb=tell)

    assert refused.run(Stop(), until=patience()) == 2

    killed = Supervisor([ChildSpec("a", fleet_command("x"))], env={}, on_exit=lambda *end: ends.append(end), verb=sleep)
    killed.poll()
    first = killed.pids["a"]
    os.kill(first, signal.SIGKILL)

    def lives_again() -> bool:
        killed.poll()
        return killed.pids.get("a") not in (None, first)

    assert eventually(lives_again)
    assert ends == [("a", first, -signal.SIGKILL)]
    killed.shut_down()
    assert killed.pids == {}


def test_only_our_own_verbs_are_forked_and_only_from_a_process_without_threads(tmp_path: Path) -> None:
    """A copy would miss the threads; one that reads our input, or another program, is begun from nothing."""
    assert ChildSpec("a", fleet_command("route")).verb == ("route",)
    assert ChildSpec("a", fleet_command("collect"), reads_stdin=True).verb is None
    assert ChildSpec("a", (sys.executable, "-c", "pass")).verb is None

    assert may_fork()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not may_fork()
        spec = ChildSpec("a", fleet_command("no-such-verb"), restart="on_failure")
        crew = Supervisor([spec], env=os.environ, log_dir=tmp_path, verb=tell)
        assert crew.run(Stop(), until=patience()) == 2  # the command line itself answered: there is no such verb
    finally:
        ended.set()
        thread.join()

    assert "no-such-verb" in (tmp_path / "a.log").read_text()

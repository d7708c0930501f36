"""The loop of every process, with real signals and a real server."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from redis.exceptions import AuthenticationError

from pipeline.errors import SettingsError, TransientError
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.keys import Keys
from workers.process import Heartbeat, run_process
from workers.stop import Stop

KEYS = Keys("test")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server's address."""
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running.url


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    client = redis.Redis.from_url(server, decode_responses=True)
    client.flushall()
    yield client
    client.close()


def nobody(_done: int) -> None:
    """A heartbeat nobody listens to."""


def turns(stop: Stop, *results: int | Exception) -> Callable[[], int]:
    """A step that gives these results and then wishes the end."""
    left = list(results)

    def step() -> int:
        result = left.pop(0)
        if not left:
            stop.set()
        if isinstance(result, Exception):
            raise result
        return result

    return step


def test_the_loop_turns_until_the_wish_to_end_and_exits_0() -> None:
    """Units of work add up to the heartbeat's count."""
    stop, counts = Stop(), list[int]()

    assert run_process("t", turns(stop, 2, 3, 0), heartbeat=counts.append, interval=0, stop=stop) == 0
    assert counts == [2, 5, 5]


class NotedStop(Stop):
    """Waits for nobody, and keeps how long it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def test_a_turn_that_found_work_is_followed_at_once() -> None:
    """Only an idle turn waits."""
    stop = NotedStop()
    run_process("t", turns(stop, 1, 1, 1, 1), heartbeat=nobody, interval=5, stop=stop)

    assert stop.waits == []


def test_an_idle_turn_waits_what_is_left_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured from the turn's start: turns of 0.5, 2 and 3 s in an interval of 2 s leave 1.5, 0 and less than none."""
    stop, clock, lengths = NotedStop(), [100.0], [0.5, 2.0, 3.0]

    def step() -> int:
        clock[0] += lengths.pop(0)
        if not lengths:
            stop.set()
        return 0

    monkeypatch.setattr("workers.process.time", SimpleNamespace(monotonic=lambda: clock[0]))
    run_process("t", step, heartbeat=nobody, interval=2, stop=stop)

    assert stop.waits == [1.5, 0.0, -1.0]


@pytest.mark.parametrize("error", [TransientError("x"), redis.ConnectionError("x"), redis.TimeoutError("x")])
def test_an_outage_repeats_the_turn(error: Exception) -> None:
    """With growing pauses, and the loop goes on."""
    stop, counts = Stop(), list[int]()

    assert run_process("t", turns(stop, error, error, 1), heartbeat=counts.append, interval=0, stop=stop) == 0
    assert counts == [1]


def test_an_outage_does_not_keep_a_process_from_ending() -> None:
    """SIGTERM during a pause ends it with 0: nothing was acknowledged."""
    stop = Stop()

    def step() -> int:
        threading.Timer(0.1, stop.set).start()
        raise TransientError("down")

    assert run_process("t", step, heartbeat=nobody, interval=0, stop=stop) == 0


@pytest.mark.parametrize(
    "error", [ValueError("x"), SettingsError("x"), redis.ResponseError("x"), AuthenticationError("x"), KeyError("x")]
)
def test_anything_else_ends_the_process_with_1(error: Exception) -> None:
    """The supervisor restarts it; a refused login is no outage, though redis-py calls it a ConnectionError."""
    stop = Stop()

    assert run_process("t", turns(stop, 1, error, 1), heartbeat=nobody, interval=0, stop=stop) == 1


@pytest.mark.parametrize("interval", [-0.1, 10.1, float("nan")])
def test_an_interval_longer_than_a_heartbeat_bears_is_refused(interval: float) -> None:
    """Three turns fit in the 30 s a heartbeat lives."""
    with pytest.raises(ValueError, match=r"valid: 0\.\.10"):
        run_process("t", lambda: 0, heartbeat=nobody, interval=interval, stop=Stop())


def test_a_heartbeat_says_who_lives_where_and_what_was_done(client: redis.Redis) -> None:
    """JSON that redis-cli shows, by the server's clock, forgotten after 30 s."""
    Heartbeat(client, KEYS, "route-1", "route")(7)
    card = json.loads(client.get("test:heartbeat:route-1") or "")

    assert sorted(client.keys("*")) == ["test:heartbeat:route-1", "test:heartbeats"]
    assert set(card) == {"v", "role", "host", "pid", "at", "done"}
    assert (card["v"], card["role"], card["pid"], card["done"]) == (1, "route", os.getpid(), 7)
    assert datetime.fromisoformat(card["at"]).tzinfo is not None
    assert 0 < client.ttl("test:heartbeat:route-1") <= 30


def test_a_heartbeat_is_written_at_most_once_a_second(client: redis.Redis) -> None:
    """A busy loop must not drown the server in signs of life."""
    now = [100.0]
    beat = Heartbeat(client, KEYS, "route-1", "route", monotonic=lambda: now[0])

    def done_after(moment: float, done: int) -> int:
        now[0] = moment
        beat(done)
        return int(json.loads(client.get("test:heartbeat:route-1") or "")["done"])

    assert [done_after(100.0, 1), done_after(100.99, 2), done_after(101.0, 3)] == [1, 1, 3]


PROGRAM = """
import sys
import workers.process
from workers.process import run_process
from workers.stop import Stop
workers.process.MAX_INTERVAL_S = 3600
def step():
    print("turn", flush=True)
    return 0
sys.exit(run_process("t", step, heartbeat=lambda done: None, interval=3600, stop=Stop().listen()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_waiting_process_at_once_with_0(number: signal.Signals) -> None:
    """The wait of an hour is cut short."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    while process.stdout.readline() != b"turn\n":
        pass
    process.send_signal(number)

    assert process.wait(timeout=120) == 0
    process.stdout.close()


@pytest.fixture
def listening() -> Iterator[Stop]:
    """A wish that listens; the process's own handlers come back after the test."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    yield Stop().listen()
    signal.set_wakeup_fd(-1)
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_signal_just_before_the_wait_is_not_slept_over(listening: Stop) -> None:
    """Its handler runs only after the wait has begun: 2 in 100 such signals were lost before they rang by themselves.

    2,000 alarms at 2 to 60 us hit the few instructions around the wait many times over.
    """
    signal.signal(signal.SIGALRM, lambda *_: listening.set())
    slept_over = 0
    for turn in range(2_000):
        listening._set = False
        while select.select([listening._reader], [], [], 0)[0]:
            os.read(listening._reader, 64)
        signal.setitimer(signal.ITIMER_REAL, 2e-6 + turn % 59 * 1e-6)
        slept_over += not listening.wait(2)

    assert slept_over == 0


def test_a_signal_that_is_no_wish_to_end_does_not_cut_a_wait_short(listening: Stop) -> None:
    """It wakes the wait, which goes on with what is left of it."""
    heard = list[int]()
    signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    began = time.monotonic()

    assert not listening.wait(0.1)
    assert heard == [signal.SIGALRM]
    assert time.monotonic() - began >= 0.1


def test_the_wish_to_end_can_be_wished_twice_and_waited_for_after() -> None:
    """A wish stays."""
    stop = Stop()

    assert not stop.wait(0)
    stop.set()
    stop.set()
    assert stop.wait(60)
    assert stop.is_set()

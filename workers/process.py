"""The loop every process of the fleet turns in: it alone knows signals, pauses, heartbeats and back-off."""

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import redis
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_when_event_set, wait_random_exponential

from pipeline.errors import TransientError
from workers.adapters.connection import require_server
from workers.adapters.keys import HEARTBEAT_TTL_S, Keys, to_ms
from workers.adapters.redis_edge import is_away
from workers.liveness import Liveness
from workers.measures import DELAYS, DONE, TURNS
from workers.stop import Stop

MAX_INTERVAL_S: Final = HEARTBEAT_TTL_S / 3
BEAT_EVERY_S: Final = 1.0
FORGOTTEN_AFTER_MS: Final = 3_600_000
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LONGEST_S: Final = 5.0  # so long at most a process stays away once Redis is back

log = structlog.get_logger()


def is_transient(error: BaseException) -> bool:
    """Whether the same turn may work later. A refused login is a ConnectionError to redis-py, but it stays refused."""
    return isinstance(error, TransientError) or is_away(error)


class Heartbeat:
    """A process's sign of life in Redis, written at most once a second, forgotten after 30 s; names after an hour."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        name: str,
        role: str,
        monotonic: Callable[[], float] = time.monotonic,
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._name = name
        self._keys = keys
        self._card = {"v": 1, "role": role, "host": socket.gethostname(), "pid": os.getpid()}
        self._monotonic = monotonic
        self._pulse = pulse
        self._next = float("-inf")

    def __call__(self, done: int) -> None:
        """Say that the process lives and has done so much since its start."""
        now = self._monotonic()
        if now < self._next:
            return
        at = _server_time(self._client)
        pipe = self._client.pipeline()
        pipe.set(self._keys.heartbeat(self._name), json.dumps(self._card | {"at": at.isoformat(), "done": done}))
        pipe.expire(self._keys.heartbeat(self._name), HEARTBEAT_TTL_S)
        pipe.zadd(self._keys.heartbeats(), {self._name: to_ms(at)})
        pipe.zremrangebyscore(self._keys.heartbeats(), "-inf", to_ms(at) - FORGOTTEN_AFTER_MS)
        pipe.execute()
        self._pulse()
        self._next = now + BEAT_EVERY_S


def _server_time(client: redis.Redis) -> datetime:
    """Redis's clock, the one clock all hosts share."""
    seconds, micros = client.time()
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def process_name(role: str) -> str:
    """A name no other process has at this time: role, host and process id."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def run_process(
    name: str,
    step: Callable[[], int],
    *,
    heartbeat: Callable[[int], None],
    interval: float,
    stop: Stop,
    liveness: Liveness | None = None,
    finish: Callable[[], None] | None = None,
) -> int:
    """Turn `step` until `stop`, then `finish` what is in hand; the exit code: 0 stopped, 1 failed.

    The supervisor restarts one that failed.
    `step` does one turn and returns the units of work done. A turn that found work is followed at once; an idle
    one by what is left of `interval` seconds (0..10) since the turn began. TransientError and lost connections
    repeat the turn after a growing, jittered pause; anything else ends the process. `liveness` is marked at each try.
    """
    if not 0 <= interval <= MAX_INTERVAL_S:
        raise ValueError(f"interval = {interval}; valid: 0..{MAX_INTERVAL_S} s, below the heartbeat's life")
    log.info("process.started", process=name, pid=os.getpid())
    try:
        done = _turn_until(_Measured(name.split("-", maxsplit=1)[0], step, liveness), heartbeat, interval, stop)
        if finish is not None:
            finish()
    except Exception as error:
        if stop.is_set() and is_transient(error):
            return 0
        log.critical("process.failed", process=name, error=type(error).__name__, exc_info=True)
        return 1
    log.info("process.stopped", process=name, done=done)
    return 0


class _Measured:
    """A step whose turns are counted and marked as signs of life."""

    def __init__(self, role: str, step: Callable[[], int], liveness: Liveness | None) -> None:
        self._role = role
        self._step = step
        self._liveness = liveness or Liveness()

    def __call__(self) -> int:
        """One turn; only one that found work is measured, an idle one may have waited."""
        began = time.monotonic()
        worked = self._step()
        if worked:
            TURNS.labels(self._role).observe(time.monotonic() - began)
            DONE.labels(self._role).inc(worked)
        self._liveness.mark()
        return worked

    def delayed(self, state: RetryCallState) -> None:
        """A turn failed for a passing reason: one line for each pause."""
        error = state.outcome.exception() if state.outcome else None
        pause, kind = state.next_action.sleep if state.next_action else 0.0, type(error).__name__
        DELAYS.labels(self._role, kind).inc()
        self._liveness.mark(kind)
        log.warning("turn.delayed", error=kind, attempt=state.attempt_number, pause_s=round(pause, 3))


def await_server(client: redis.Redis, role: str, stop: Stop, liveness: Liveness | None = None) -> None:
    """Wait until Redis serves, or for the wish to end. Raises SettingsError for a server the fleet cannot run on."""
    waiting = _Measured(role, lambda: 0, liveness)
    _patiently(stop, waiting.delayed)(require_server, client)


def _turn_until(step: _Measured, heartbeat: Callable[[int], None], interval: float, stop: Stop) -> int:
    """Turns until the wish to end; the units of work done."""
    done = 0

    def turn() -> int:
        """One turn and its sign of life."""
        worked = step()
        heartbeat(done + worked)
        return worked

    while not stop.is_set():
        began = time.monotonic()
        worked = _patiently(stop, step.delayed)(turn)
        done += worked
        if not worked:
            stop.wait(began + interval - time.monotonic())
    return done


def _patiently(stop: Stop, delayed: Callable[[RetryCallState], None]) -> Retrying:
    """Repeats of a turn that failed for a passing reason, until the wish to end."""

    def pause(seconds: float) -> None:
        """A pause that the wish to end cuts short."""
        stop.wait(seconds)

    return Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=BACKOFF_FIRST_S, max=BACKOFF_LONGEST_S, min=BACKOFF_FIRST_S / 2),
        stop=stop_when_event_set(stop),  # type: ignore[arg-type] # anything with is_set() will do
        sleep=pause,
        before_sleep=delayed,
        reraise=True,
    )

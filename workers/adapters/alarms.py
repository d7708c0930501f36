"""Alarms: what a person must know now. Each is told once (a log line, a stream entry) and shown while it is true."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from threading import RLock
from typing import Any, Protocol

import redis
import structlog

from workers.adapters.keys import HISTORY_MAXLEN, Keys
from workers.adapters.redis_edge import asking_redis
from workers.adapters.wire import dump, load

log = structlog.get_logger()

# Raise an alarm: it is in the stream once, however often it is raised while it stays open.
# KEYS: 1 open alarms, 2 alarms
# ARGV: 1 name, 2 alarm (JSON), 3 code, 4 subject, 5 detail, 6 at (ISO), 7 bound of the stream
# Returns: 1 when it was not open before. Cost: O(1).
SOUND = """
local fresh = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if fresh == 1 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', 'code', ARGV[3], 'subject', ARGV[4], 'detail', ARGV[5],
    'at', ARGV[6])
end
return fresh
"""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`code` is stable, for counting and paging; `subject` what it is about (a symbol, an order), '' for the whole."""

    code: str
    subject: str
    detail: str
    at: datetime

    @property
    def name(self) -> str:
        """Code and subject: one alarm of a name is open at a time."""
        return f"{self.code}:{self.subject}" if self.subject else self.code


class Alarms(Protocol):
    """Where alarms go."""

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        ...

    def quiet(self, code: str, still: Collection[str] = ()) -> None:
        """Close the open alarms of this code whose subject is not in `still`. Idempotent."""
        ...

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        ...


class MemoryAlarms:
    """Alarms of one process. `told`: every alarm when it was first raised."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._open: dict[str, Alarm] = {}
        self.told: list[Alarm] = []

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        with self._lock:
            if alarm.name not in self._open:
                self.told.append(alarm)
            self._open[alarm.name] = alarm

    def quiet(self, code: str, still: Collection[str] = ()) -> None:
        """Close the open alarms of this code whose subject is not in `still`."""
        with self._lock:
            for alarm in self.open():
                if alarm.code == code and alarm.subject not in still:
                    del self._open[alarm.name]

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        with self._lock:
            return tuple(alarm for _, alarm in sorted(self._open.items()))


class RedisAlarms:
    """Alarms of the whole fleet; the process that raises one first also logs it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._sound = client.register_script(SOUND)

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        words = [alarm.code, alarm.subject, alarm.detail, alarm.at.isoformat()]
        keys = [self._keys.open_alarms(), self._keys.alarms()]
        with asking_redis():
            fresh = self._sound(keys=keys, args=[alarm.name, dump(alarm), *words, HISTORY_MAXLEN])
        if fresh:
            log.error("alarm.raised", code=alarm.code, subject=alarm.subject, detail=alarm.detail)

    def quiet(self, code: str, still: Collection[str] = ()) -> None:
        """Close the open alarms of this code whose subject is not in `still`."""
        gone = [alarm.name for alarm in self.open() if alarm.code == code and alarm.subject not in still]
        if gone:
            with asking_redis():
                self._redis.hdel(self._keys.open_alarms(), *gone)
            log.info("alarm.closed", code=code, names=gone)

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        with asking_redis():
            rows = self._redis.hgetall(self._keys.open_alarms())
        return tuple(load(Alarm, text) for _, text in sorted(rows.items()))

    def history(self, limit: int) -> list[dict[str, str]]:
        """The last alarms that were raised, newest first."""
        with asking_redis():
            return [dict(fields) for _, fields in self._redis.xrevrange(self._keys.alarms(), count=limit)]

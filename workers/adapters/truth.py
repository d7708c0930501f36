"""When the broker's book was last compared with ours: without that an order would be decided on a guess."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any, Protocol

import redis

from workers.adapters.keys import Keys, to_ms
from workers.adapters.redis_edge import asking_redis

NEVER, OLD = "not since the start", "{:.0f} s ago"  # as the script says it

# Part of a script: why the broker's book counts as unknown (a text), or nil.
# `max_age` in milliseconds ('' = nobody asks). A server that was started anew has forgotten what its file did not
# hold, so only a comparison made by this very server counts.
UNTRUSTED = """
local function untrusted(key, max_age)
  if max_age == '' then return nil end
  local at, server = unpack(redis.call('HMGET', key, 'at_ms', 'server'))
  if not at or server == '' then return 'not since the start' end
  if server ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return 'before this server started' end
  local clock = redis.call('TIME')
  local age = clock[1] * 1000 + math.floor(clock[2] / 1000) - tonumber(at)
  if age <= tonumber(max_age) then return nil end
  return string.format('%.0f s ago', age / 1000)
end
"""

# Begin a comparison.
# KEYS: 1 truth. ARGV: none.
# Returns: {epoch, now (ms), server's run id, last comparison (ms; '' = none)}. Cost: O(1).
BEGIN = """
local clock = redis.call('TIME')
local epoch, at = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'at_ms'))
return {epoch or '0', string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)),
  string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'), at or ''}
"""

# Keep a comparison that ended, dated by its beginning; none that began before a start of fleet or server.
# KEYS: 1 truth. ARGV: 1 epoch, 2 at (ms), 3 server's run id.
# Returns: 1 kept, 0 not. Cost: O(1).
CONFIRM = """
if (redis.call('HGET', KEYS[1], 'epoch') or '0') ~= ARGV[1] then return 0 end
if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'at_ms', ARGV[2], 'server', ARGV[3])
return 1
"""

# Why the broker's book counts as unknown.
# KEYS: 1 truth. ARGV: 1 longest age (ms). Returns: a text, or nil. Cost: O(1).
ASK = UNTRUSTED + "return untrusted(KEYS[1], ARGV[1])"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One that began. `last`: when the last one that was kept began, None without one."""

    epoch: int
    at: datetime
    server: str
    last: datetime | None


class Truth(Protocol):
    """The memory of comparisons; `at` is the clock all processes share."""

    def begin(self) -> Comparison:
        """Begin a comparison."""
        ...

    def confirm(self, comparison: Comparison) -> bool:
        """Keep one that ended; False for one that began before the last start of the fleet or its server."""
        ...

    def distrust(self) -> None:
        """The fleet starts: what was compared before does not count any more."""
        ...


class NoTruth:
    """Where nobody asks: the simulated venue's book is the fleet's own, older or younger by nothing."""

    def begin(self) -> Comparison:
        """Begin a comparison."""
        return Comparison(0, datetime.fromtimestamp(0, UTC), "", None)

    def confirm(self, comparison: Comparison) -> bool:  # noqa: ARG002 - there is no memory
        """Every comparison counts."""
        return True

    def distrust(self) -> None:
        """Nothing to forget."""


class MemoryTruth:
    """Comparisons of one process. `max_age`: how long one counts; None: nobody asks."""

    def __init__(self, now: Callable[[], datetime], max_age: timedelta | None = None) -> None:
        self._lock = RLock()
        self._now = now
        self._max_age = max_age
        self._epoch = 0
        self._last: datetime | None = None
        self._trusted = False

    def begin(self) -> Comparison:
        """Begin a comparison."""
        with self._lock:
            return Comparison(self._epoch, self._now(), "", self._last)

    def confirm(self, comparison: Comparison) -> bool:
        """Keep one that ended, unless the fleet was started meanwhile."""
        with self._lock:
            if comparison.epoch != self._epoch:
                return False
            self._last, self._trusted = comparison.at, True
            return True

    def distrust(self) -> None:
        """The fleet starts."""
        with self._lock:
            self._epoch, self._trusted = self._epoch + 1, False

    def untrusted(self) -> str | None:
        """Why the broker's book counts as unknown, None when it does not or nobody asks."""
        with self._lock:
            if self._max_age is None:
                return None
            if self._last is None or not self._trusted:
                return NEVER
            age = self._now() - self._last
            return None if age <= self._max_age else OLD.format(age.total_seconds())


class RedisTruth:
    """Comparisons of the whole fleet."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._key = keys.truth()
        self._begin = client.register_script(BEGIN)
        self._confirm = client.register_script(CONFIRM)
        self._ask = client.register_script(ASK)

    def begin(self) -> Comparison:
        """Begin a comparison."""
        with asking_redis():
            epoch, now, server, last = self._begin(keys=[self._key])
        return Comparison(int(epoch), _moment(now), server, _moment(last) if last else None)

    def confirm(self, comparison: Comparison) -> bool:
        """Keep one that ended; none that began before the last start of the fleet or its server."""
        with asking_redis():
            return bool(
                self._confirm(keys=[self._key], args=[comparison.epoch, to_ms(comparison.at), comparison.server])
            )

    def distrust(self) -> None:
        """The fleet starts."""
        with asking_redis():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hincrby(self._key, "epoch", 1)
            pipe.hset(self._key, "server", "")
            pipe.execute()

    def untrusted(self, max_age_s: float) -> str | None:
        """Why the broker's book counts as unknown, None when it does not."""
        with asking_redis():
            why: str | None = self._ask(keys=[self._key], args=[round(max_age_s * 1000)])
        return why


def _moment(epoch_ms: str) -> datetime:
    return datetime.fromtimestamp(int(epoch_ms) / 1000, UTC)

"""The breaker of the whole fleet: kept in Redis, on Redis's clock."""

from typing import Any

import redis

from config.venue import BreakerSettings
from pipeline.errors import TransientError
from pipeline.models import Refusal
from workers.adapters.breaker_memory import BreakerState, ms, refusal, state_of
from workers.adapters.keys import Keys
from workers.adapters.redis_edge import RedisAwayError

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local opened = tonumber(redis.call('HGET', KEYS[1], 'opened_ms'))
"""

# May an entry be sent? Half open: one trial at a time.
# KEYS: 1 breaker. ARGV: 1 cool-down (ms), 2 life of a trial (ms).
# Returns the milliseconds to wait, 0 = now. Cost: O(1).
PERMIT = f"""{_NOW}
if not opened then return 0 end
local wait = opened + ARGV[1] - now
if wait > 0 then return wait end
local trial = tonumber(redis.call('HGET', KEYS[1], 'trial_ms'))
if trial and trial + ARGV[2] > now then return trial + ARGV[2] - now end
redis.call('HSET', KEYS[1], 'trial_ms', now)
return 0
"""

# A call failed: count it, open at the limit; while half open start the cool-down again. Told twice it counts twice,
# which opens sooner.
# KEYS: 1 breaker, 2 failures. ARGV: 1 limit, 2 window (ms), 3 cool-down (ms).
# Returns 1 when it opened. Cost: O(log n), n < limit.
FAILED = f"""{_NOW}
if opened then
  if now < opened + ARGV[3] then return 0 end
  redis.call('HSET', KEYS[1], 'opened_ms', now)
  redis.call('HDEL', KEYS[1], 'trial_ms')
  return 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[2], now, time[1] .. '.' .. time[2] .. '-' .. redis.call('ZCARD', KEYS[2]))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
if redis.call('ZCARD', KEYS[2]) < tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'opened_ms', now)
return 1
"""

# An order got a definite answer: closes when half open.
# KEYS: 1 breaker. ARGV: 1 cool-down (ms). Returns 1 when it closed. Cost: O(1).
SUCCEEDED = f"""{_NOW}
if not opened or now < opened + ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""

# What is kept. KEYS: 1 breaker, 2 failures. ARGV: 1 window (ms).
# Returns {now, opened or -1, recent failures}. Cost: O(log n).
STATE = f"""{_NOW}
return {{now, opened or -1, redis.call('ZCOUNT', KEYS[2], '(' .. (now - ARGV[1]), '+inf')}}
"""


class RedisBreaker:
    """The breaker for any number of processes. Raises TransientError when Redis does not answer."""

    def __init__(self, client: redis.Redis, keys: Keys, settings: BreakerSettings) -> None:
        self._settings = settings
        self._keys = [keys.breaker(), keys.breaker_failures()]
        self._permit = client.register_script(PERMIT)
        self._failed = client.register_script(FAILED)
        self._succeeded = client.register_script(SUCCEEDED)
        self._state = client.register_script(STATE)

    def permit(self) -> Refusal | None:
        """None when an entry may be sent; half open: one, until it answered or its time is over."""
        wait = int(self._run(self._permit, 1, ms(self._settings.cool_down_s), ms(self._settings.probe_s)))
        return refusal(wait, self._settings) if wait else None

    def failed(self) -> None:
        """Count; the last one allowed opens. A failure while half open starts the cool-down again."""
        settings = self._settings
        self._run(self._failed, 2, settings.failures, ms(settings.window_s), ms(settings.cool_down_s))

    def succeeded(self) -> None:
        """Closes when half open; recent failures still count while closed."""
        self._run(self._succeeded, 1, ms(self._settings.cool_down_s))

    def state(self) -> BreakerState:
        """How it stands. One round trip."""
        now, opened, failures = map(int, self._run(self._state, 2, ms(self._settings.window_s)))
        return state_of(now, None if opened < 0 else opened, failures, self._settings)

    def _run(self, script: Any, keys: int, *args: int) -> Any:
        try:
            return script(keys=self._keys[:keys], args=args)
        except RedisAwayError:
            raise
        except redis.RedisError as error:
            raise TransientError(f"the breaker cannot be asked: {type(error).__name__}: {error}") from error

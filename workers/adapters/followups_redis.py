"""Work that has to be tried again later: signals that met a busy symbol; strikes of jobs that do not end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import redis
from rq.defaults import RQ_KEY_PREFIX

from workers.adapters.keys import Keys, to_ms

STRIKES_TTL_S = 86_400

# Forget a follow-up, unless it was moved to another time since it was read.
# KEYS: 1 follow-ups. ARGV: 1 member, 2 the time it was read with (ms). Returns 1 when it is gone. Cost: O(log n).
DONE = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
"""


# What is begun under another name has died so often already; a job that is known keeps its own count.
# KEYS: per job its counter of starts and its hash. ARGV: 1 deaths, 2 TTL (s). Returns nothing. Cost: O(jobs).
CARRY = """
for i = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then redis.call('SET', KEYS[i], ARGV[1], 'EX', ARGV[2]) end
end
"""

# Take a start back. KEYS: 1 counter of starts. Returns nothing. Cost: O(1).
TAKE_BACK = """
if tonumber(redis.call('GET', KEYS[1]) or 0) <= 1 then redis.call('DEL', KEYS[1]) else redis.call('DECR', KEYS[1]) end
"""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A job to be queued once `due_ms` (event time) has come. `raw` is its member in the zset."""

    job: str
    queue: str
    args: tuple[object, ...]
    due_ms: int
    raw: str


class RedisFollowUps:
    """The zset `fleet:followups`: member = the job, score = when."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._done = client.register_script(DONE)

    def add(self, queue: str, job: str, args: Sequence[object], due: datetime) -> None:
        """Ask for the job at `due`; asking again moves it later, never back.

        A run that stood still asks for a moment whose job has run already, and would be asked for in vain.
        """
        member = orjson.dumps({"v": 1, "queue": queue, "job": job, "args": list(args)}).decode()
        self._redis.zadd(self._keys.followups(), {member: to_ms(due)}, gt=True)

    def due(self, now: datetime, at_most: int = 500) -> list[FollowUp]:
        """Those whose time has come, oldest first; they stay until `done`."""
        found = self._redis.zrangebyscore(
            self._keys.followups(), "-inf", to_ms(now), start=0, num=at_most, withscores=True
        )
        return [_follow_up(raw, score) for raw, score in found]

    def done(self, follow_up: FollowUp) -> None:
        """Forget it: its job is queued. If that job has asked for a later time meanwhile, this stays."""
        self._done(keys=[self._keys.followups()], args=[follow_up.raw, follow_up.due_ms])

    def claim_ids(self) -> frozenset[str]:
        """Claims that wait for their follow-up."""
        waiting = [_follow_up(raw, 0) for raw in self._redis.zrange(self._keys.followups(), 0, -1)]
        return frozenset(str(name) for one in waiting if one.job == "consensus" for name in one.args[0])  # type: ignore[attr-defined]

    def message_ids(self) -> frozenset[str]:
        """Messages of urgent legs that wait."""
        waiting = [_follow_up(raw, 0) for raw in self._redis.zrange(self._keys.followups(), 0, -1)]
        return frozenset(str(one.args[0]) for one in waiting if one.job == "trade")

    def next_due_ms(self) -> int | None:
        """When the earliest is due, in event milliseconds."""
        first = self._redis.zrange(self._keys.followups(), 0, 0, withscores=True)
        return int(first[0][1]) if first else None


class RedisStrikes:
    """Starts of a job that did not end, counted before the work begins."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._take_back = client.register_script(TAKE_BACK)
        self._carry = client.register_script(CARRY)

    def begin(self, job_id: str) -> int:
        """Count a start; answers how many there were, this one included."""
        pipe = self._redis.pipeline()
        pipe.incr(self._keys.strikes(job_id))
        pipe.expire(self._keys.strikes(job_id), STRIKES_TTL_S)
        return int(pipe.execute()[0])

    def look(self, job_id: str) -> int:
        """Starts that were counted and did not end."""
        return int(self._redis.get(self._keys.strikes(job_id)) or 0)

    def take_back(self, job_id: str) -> None:
        """The start did not count."""
        self._take_back(keys=[self._keys.strikes(job_id)])

    def carry(self, job_ids: Sequence[str], deaths: int) -> None:
        """Jobs that are queued next begin with the deaths of the one they were a part of."""
        keys = [key for job_id in job_ids for key in (self._keys.strikes(job_id), f"{RQ_KEY_PREFIX}:job:{job_id}")]
        self._carry(keys=keys, args=[deaths, STRIKES_TTL_S])

    def end(self, job_id: str) -> None:
        """The job came to its end."""
        self.forget([job_id])

    def forget(self, job_ids: Iterable[str]) -> None:
        """These jobs are not started again."""
        keys = [self._keys.strikes(job_id) for job_id in job_ids]
        if keys:
            self._redis.delete(*keys)


def _follow_up(raw: str, score: float) -> FollowUp:
    spec = orjson.loads(raw)
    return FollowUp(spec["job"], spec["queue"], tuple(spec["args"]), int(score), raw)

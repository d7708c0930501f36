"""Work that ended with its third strike: what it was, why, and its one way back, by a person's word."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import redis

from workers.adapters.keys import DEAD_CLAIM_TTL_S, Keys
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.wire import dump, load

# Set a claim that is given up aside: its votes stay for a while, nobody decides them.
# KEYS: 1 claim, 2 claim set aside, 3 claims. ARGV: 1 claim id, 2 TTL (s). Returns nothing. Cost: O(1).
SET_ASIDE: Final = """
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
"""

# Open the decisions that three strikes ended, and their legs, once more; votes are a claim again, the job is queued.
# KEYS: 1 tally, 2 dead work, 3 claim set aside, 4 claim, 5 claims, 6 RQ's list of the queue, 7 RQ's set of queues,
#       8 the job's hash, then per decision its outcome and its execution, then the outcomes of legs
# ARGV: 1 id, 2 claim (0/1), 3 work with its new attempt (JSON), 4 lease (ms), 5 number of decisions, 6 job id,
#       7 the job's data, 8... its fields
# Returns '' when it is done, else why not. Cost: O(decisions + legs).
REOPEN: Final = """
local many = tonumber(ARGV[5])
local function struck(key)
  local state, rule = unpack(redis.call('HMGET', key, 'state', 'rule'))
  return state == 'error' and rule == 'three_strikes'
end
local function count(name) redis.call('HINCRBY', KEYS[1], name, -1) end
local dead = 0
for i = 9, 8 + 2 * many, 2 do
  if redis.call('HEXISTS', KEYS[i + 1], 'sent') == 1 then return 'an order of it was sent' end
  if struck(KEYS[i]) then dead = dead + 1 end
end
if dead == 0 then return 'it did not end with three strikes' end
if ARGV[2] == '1' and redis.call('EXISTS', KEYS[3]) == 0 then return 'its votes are no longer kept' end
if redis.call('EXISTS', KEYS[8]) == 1 then return 'its job is known already' end
for i = 9, 8 + 2 * many, 2 do
  if struck(KEYS[i]) then
    for _, name in ipairs({'decision:error', 'decision-state:error', 'rule:error:three_strikes'}) do count(name) end
    if ARGV[2] == '1' then redis.call('DEL', KEYS[i]) end
  end
end
for i = 9 + 2 * many, #KEYS do
  if struck(KEYS[i]) then
    redis.call('HSET', KEYS[i], 'state', 'buffered', 'stage', '', 'rule', 'requeued', 'observed', '', 'limit', '')
    count('leg:error')
  end
end
if ARGV[2] == '1' then
  local clock = redis.call('TIME')
  redis.call('RENAME', KEYS[3], KEYS[4])
  redis.call('PERSIST', KEYS[4])
  redis.call('ZADD', KEYS[5], clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[4]), ARGV[1])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('SADD', KEYS[7], KEYS[6])
redis.call('HSET', KEYS[8], 'data', ARGV[7], unpack(ARGV, 8))
redis.call('RPUSH', KEYS[6], ARGV[6])
return ''
"""


@dataclass(frozen=True, slots=True)
class DeadWork:
    """A leg or a claim that was given up: its decisions, the job that struck, which attempt that was.

    `open`: it was not requeued since.
    """

    id: str
    kind: Literal["leg", "claim"]
    decisions: tuple[str, ...]
    job_id: str
    reason: str
    at: datetime
    attempt: int = 1
    open: bool = True


class RedisDeadWork:
    """The hash `fleet:dead-work` and claims that were set aside."""

    def __init__(self, client: redis.Redis, keys: Keys, lease_s: float = 60) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._lease_ms = int(lease_s * 1000)
        self._set_aside = client.register_script(SET_ASIDE)
        self._reopen = client.register_script(REOPEN)

    def keep(self, work: DeadWork) -> None:
        """Remember it, before it ends; its attempt is the one it was requeued for."""
        known = self.find(work.id)
        attempt = known.attempt if known else 1
        self._redis.hset(self._keys.dead_work(), work.id, dump(replace(work, attempt=attempt)))

    def find(self, name: str) -> DeadWork | None:
        """What is known of it."""
        text = self._redis.hget(self._keys.dead_work(), name)
        return load(DeadWork, text) if text else None

    def all(self) -> list[DeadWork]:
        """Everything that is remembered, oldest first."""
        found = [load(DeadWork, text) for text in self._redis.hvals(self._keys.dead_work())]
        return sorted(found, key=lambda work: (work.at, work.id))

    def forget(self, names: Iterable[str]) -> None:
        """These cannot be requeued any more."""
        if wanted := list(names):
            self._redis.hdel(self._keys.dead_work(), *wanted)

    def set_aside(self, claim_id: str) -> None:
        """The claim is given up; its votes wait for a requeue. Idempotent."""
        keys = [self._keys.claim(claim_id), self._keys.dead_claim(claim_id), self._keys.claims()]
        self._set_aside(keys=keys, args=[claim_id, DEAD_CLAIM_TTL_S])

    def votes(self, claim_id: str) -> list[str]:
        """Votes of a claim that was set aside, as they are written."""
        return [str(vote) for vote in self._redis.lrange(self._keys.dead_claim(claim_id), 0, -1)]

    def reopen(self, work: DeadWork, legs: Iterable[str], line: Line, job: PackedJob) -> str:
        """Queue the job of the next attempt and open what three strikes ended, in one step; '' or why it is refused."""
        keys, name = self._keys, work.id
        places = [keys.tally(), keys.dead_work(), keys.dead_claim(name), keys.claim(name), keys.claims()]
        places += [line.key, line.queues, job.key]
        places += [key for one in work.decisions for key in (keys.outcome(one), keys.execution(one))]
        places += [keys.outcome(leg) for leg in legs]
        again = replace(work, job_id=job.job_id, attempt=work.attempt + 1, open=False)
        words: list[Any] = [name, int(work.kind == "claim"), dump(again), self._lease_ms, len(work.decisions)]
        return str(self._reopen(keys=places, args=[*words, job.job_id, job.data, *job.words]))

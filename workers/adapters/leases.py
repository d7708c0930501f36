"""Leases on running jobs, and the one script that takes over what dead workers had in hand.

RQ notices a dead worker after a minute at best. A worker of ours holds a lease on each execution, by the server's
clock, and renews it every second; jobs that were taken and never begun are given the same time from when they were
first seen. Whoever looks (the scheduler, every second; the parent of a dead worker at once) puts back what nobody holds
any more. The old worker is fenced: its execution is gone, so it can neither begin, renew nor finish it.
"""

import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
import structlog
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.utils import now, utcformat

from workers.adapters.keys import Keys

RENEW_EVERY_S: Final = 1.0
MOST_A_LOOK: Final = 500
ABANDONED: Final = "its worker was lost more often than the job is started again"

log = structlog.get_logger()

# Put back what nobody holds any more: executions past their lease, jobs taken and never begun, jobs that are nowhere.
# Time in which nobody looked (the server was away, its clock was set) counts a third of a lease at most, so that living
# workers renew before they are judged.
# KEYS: 1 last look, 2 RQ's set of queues; then per queue: 3 queue, 4 taken jobs, 5 started, 6 failed, 7 leases
# ARGV: 1 lease (ms), 2 RQ's prefix, 3 now as text, 4 now (s), 5 most to put back, 6 end of a dead worker's name or '',
#       7 reason as RQ keeps it, 8 number of suspects, suspects (taken by a dead worker), then jobs that may be nowhere
# Returns {what, queue's number, job id, ...}; what: again, failed, gone. Cost: O(leases + taken + queue per orphan).
TAKE_OVER: Final = """
local clock = redis.call('TIME')
local now, lease, rq = clock[1] * 1000 + math.floor(clock[2] / 1000), tonumber(ARGV[1]), ARGV[2]
local last = tonumber(redis.call('GET', KEYS[1]) or now)
redis.call('SET', KEYS[1], string.format('%.0f', now))
local gap = now - last
local shift = gap - math.max(0, math.min(gap, lease / 3))
local found, left = {}, tonumber(ARGV[5])
local queue, taken, started, failed, leases, number
local function tell(what, id)
  found[#found + 1], found[#found + 2], found[#found + 3] = what, number, id
  left = left - 1
end
local function runs(id)
  for _, one in ipairs(redis.call('ZRANGE', rq .. ':executions:' .. id, 0, -1)) do
    if redis.call('ZSCORE', started, id .. ':' .. one) then return true end
  end
  return false
end
local function give_up(id)
  local job, results = rq .. ':job:' .. id, rq .. ':results:' .. id
  local life = math.floor(tonumber(redis.call('HGET', job, 'failure_ttl')) or 0)
  if not (life >= 60 and life <= 2592000) then life = 86400 end
  redis.call('HSET', job, 'status', 'failed', 'ended_at', ARGV[3])
  redis.call('EXPIRE', job, life)
  redis.call('ZADD', failed, math.floor(tonumber(ARGV[4])) + life, id)
  redis.call('XADD', results, 'MAXLEN', '~', 10, '*', 'type', '2', 'worker_name', '', 'exc_string', ARGV[7])
  redis.call('EXPIRE', results, life)
  tell('failed', id)
end
local function back(id)
  redis.call('LREM', taken, 0, id)
  local job = rq .. ':job:' .. id
  if redis.pcall('HEXISTS', job, 'data') ~= 1 then return tell('gone', id) end
  local status, retries = unpack(redis.call('HMGET', job, 'status', 'retries_left'))
  retries = tonumber(retries) or 0
  if (status ~= 'started' and status ~= 'queued') or runs(id) then return end
  redis.call('LREM', queue, 0, id)
  if not (retries >= 1) then return give_up(id) end
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[3], 'retries_left', retries - 1)
  redis.call('PERSIST', job)
  redis.call('SADD', KEYS[2], queue)
  redis.call('LPUSH', queue, id)
  tell('again', id)
end
local function ended(member, worker)
  local id, execution = string.match(member, '^([^:]*):(.*)$')
  redis.call('ZREM', leases, member)
  if redis.call('ZREM', started, member) == 0 then return end
  redis.call('DEL', rq .. ':execution:' .. member)
  redis.call('ZREM', rq .. ':executions:' .. id, execution)
  if worker then redis.call('SREM', rq .. ':worker:' .. worker .. ':executions', member) end
  back(id)
end
local function worker_of(member) return redis.call('HGET', rq .. ':execution:' .. member, 'worker_name') end
local suspects, orphans = {}, {}
for at = 9, 8 + tonumber(ARGV[8]) do suspects[ARGV[at]] = true end
for at = 9 + tonumber(ARGV[8]), #ARGV do
  local origin = redis.pcall('HGET', rq .. ':job:' .. ARGV[at], 'origin')
  if type(origin) == 'string' then
    local name = rq .. ':queue:' .. origin
    orphans[name] = orphans[name] or {}
    table.insert(orphans[name], ARGV[at])
  end
end
for first = 3, #KEYS, 5 do
  queue, taken, started, failed, leases = unpack(KEYS, first, first + 4)
  number = (first - 3) / 5
  if shift ~= 0 then
    for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do redis.call('ZINCRBY', leases, shift, member) end
  end
  local waits = {}
  for _, id in ipairs(redis.call('LRANGE', taken, 0, -1)) do
    waits[id] = true
    if not redis.call('ZSCORE', leases, id) then redis.call('ZADD', leases, now + lease, id) end
  end
  local held = redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES')
  for at = 1, #held, 2 do
    local member, over = held[at], tonumber(held[at + 1]) <= now
    if left <= 0 then break end
    if string.find(member, ':', 1, true) then
      if over then ended(member, worker_of(member)) end
    elseif not waits[member] then
      redis.call('ZREM', leases, member)
    elseif over or suspects[member] then
      redis.call('ZREM', leases, member)
      if not runs(member) then back(member) end
    end
  end
  for _, member in ipairs(ARGV[6] == '' and {} or redis.call('ZRANGE', started, 0, -1)) do
    local worker = worker_of(member)
    if worker and string.sub(worker, -#ARGV[6]) == ARGV[6] then ended(member, worker) end
  end
  for _, id in ipairs(orphans[queue] or {}) do
    local status = redis.call('HGET', rq .. ':job:' .. id, 'status')
    local lies = redis.call('LPOS', queue, id) or redis.call('LPOS', taken, id)
    if left > 0 and (status == 'queued' or status == 'started') and not lies and not runs(id) then back(id) end
  end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a job that nobody held: `again` it is first in line, `failed` it is started no more, `gone`."""

    what: str
    queue: str
    job_id: str


class Leases:
    """Who holds which job, of all queues; `lease_s` seconds without a sign of life end it."""

    def __init__(self, connection: redis.Redis, keys: Keys, queues: Mapping[str, Queue], lease_s: float) -> None:
        self._connection: Any = connection  # speaks bytes, which the stubs cannot say
        self._keys = keys
        self._queues = queues
        self.lease_ms = round(lease_s * 1000)
        self._take_over = connection.register_script(TAKE_OVER)
        self._cursor = 0

    def key(self, queue_name: str) -> str:
        """Where the leases of a queue's jobs are."""
        return self._keys.leases(queue_name)

    def take_over(
        self, *, dead: str = "", suspects: Sequence[str] = (), orphans: Sequence[str] = ()
    ) -> list[Recovered]:
        """Put back what nobody holds; with it, at once, what a worker whose name ends with `dead` had begun.

        `suspects`: jobs that a dead worker had taken. `orphans`: jobs that may be in no list at all. Repeating it is
        harmless, also from many processes at a time. One round trip.
        """
        names = list(self._queues)
        keys = [self._keys.lease_look(), next(iter(self._queues.values())).redis_queues_keys]
        for name, queue in self._queues.items():
            registries = (StartedJobRegistry, FailedJobRegistry)
            keys += [queue.key, queue.intermediate_queue_key]
            keys += [*(one.key_template.format(name) for one in registries), self.key(name)]
        moment = now()
        words: list[Any] = [self.lease_ms, RQ_KEY_PREFIX, utcformat(moment), moment.timestamp(), MOST_A_LOOK, dead]
        words += [_PACKED_REASON, len(suspects), *suspects, *orphans]
        flat = self._take_over(keys=keys, args=words)
        found = [
            Recovered(what.decode(), names[int(number)], job_id.decode(errors="replace"))
            for what, number, job_id in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]
        for one in found:
            log.warning("job.recovered", what=one.what, queue=one.queue, job_id=one.job_id)
        return found

    def jobs_here(self, steps: int, count: int = 1000) -> list[str]:
        """The ids of the jobs among the next `steps` x `count` keys of the server; call after call comes to all."""
        pattern, found = f"{RQ_KEY_PREFIX}:job:*", []
        for _ in range(steps):
            self._cursor, names = self._connection.scan(self._cursor, match=pattern, count=count, _type="hash")
            found += [name.decode(errors="replace").removeprefix(pattern[:-1]) for name in names]
            if self._cursor == 0:
                break
        return found


_PACKED_REASON: Final = b64encode(zlib.compress(ABANDONED.encode())).decode()

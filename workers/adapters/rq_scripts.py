"""RQ's bookkeeping of a job as scripts of one round trip each, with RQ 3's keys and fields.

Each bears being sent twice (a lost reply), and none touches a job that was taken from its worker meanwhile.
"""

from base64 import b64encode
from typing import Any, Final

import redis
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat

from workers.adapters.leases import Leases

# Begin a job that this worker has taken: it leaves the list of taken jobs, its execution is registered and leased.
# KEYS: 1 job, 2 taken jobs, 3 started registry, 4 execution, 5 executions of the job, 6 worker, 7 its executions,
#       8 leases
# ARGV: 1 job id, 2 execution id, 3 job:execution, 4 worker's name, 5 now as text, 6 now (s), 7 life of a heartbeat,
#       8 lease (ms)
# Returns 1; 0 when the job is not ours any more: somebody put it back, or deleted it. Cost: O(taken jobs).
START: Final = """
local mine = redis.call('ZSCORE', KEYS[3], ARGV[3])
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 and not mine then return 0 end
if redis.call('HEXISTS', KEYS[1], 'data') == 0 then return 0 end
local life, clock = tonumber(ARGV[7]), redis.call('TIME')
redis.call('HSET', KEYS[4], 'id', ARGV[2], 'job_id', ARGV[1], 'created_at', ARGV[6], 'last_heartbeat', ARGV[6],
  'worker_name', ARGV[4])
redis.call('EXPIRE', KEYS[4], life)
redis.call('ZADD', KEYS[5], clock[1] + life + 60, ARGV[2])
redis.call('EXPIRE', KEYS[5], life + 60)
redis.call('ZADD', KEYS[3], clock[1] + life, ARGV[3])
redis.call('SADD', KEYS[7], ARGV[3])
redis.call('EXPIRE', KEYS[7], life + 60)
redis.call('HSET', KEYS[6], 'state', 'busy', 'last_heartbeat', ARGV[5])
redis.call('EXPIRE', KEYS[6], life)
redis.call('HSET', KEYS[1], 'status', 'started', 'started_at', ARGV[5], 'last_heartbeat', ARGV[5],
  'worker_name', ARGV[4])
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[8], ARGV[1])
redis.call('ZADD', KEYS[8], clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[8]), ARGV[3])
return 1
"""

# A running job and its worker are alive: the lease and RQ's own signs of it. Their ends are by the server's clock.
# KEYS: 1 leases, 2 started registry, 3 execution, 4 executions of the job, 5 worker, 6 job
# ARGV: 1 job:execution, 2 execution id, 3 lease (ms), 4 life of a heartbeat (s), 5 now as text
# Returns 1; 0 when the execution was taken over. Cost: O(log leases).
RENEW: Final = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local clock, life = redis.call('TIME'), tonumber(ARGV[4])
redis.call('ZADD', KEYS[1], clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3]), ARGV[1])
redis.call('ZADD', KEYS[2], 'XX', clock[1] + life, ARGV[1])
redis.call('HSET', KEYS[3], 'last_heartbeat', clock[1])
redis.call('EXPIRE', KEYS[3], life)
redis.call('ZADD', KEYS[4], 'XX', clock[1] + life + 60, ARGV[2])
redis.call('EXPIRE', KEYS[4], life + 60)
redis.call('HSET', KEYS[5], 'last_heartbeat', ARGV[5])
redis.call('EXPIRE', KEYS[5], life)
if redis.call('EXISTS', KEYS[6]) == 1 then redis.call('HSET', KEYS[6], 'last_heartbeat', ARGV[5]) end
return 1
"""

# End a job that returned: its result, registries and counters. Then the worker is free: if it may, it takes the next.
# KEYS: 1 job, 2 started registry, 3 execution, 4 executions of the job, 5 worker, 6 its executions, 7 results,
#       8 finished registry, 9 dependents, 10 dependencies, 11 queue, 12 taken jobs, 13 suspension, 14 leases
# ARGV: 1 job id, 2 execution id, 3 job:execution, 4 now as text, 5 now (s), 6 life of the result (s), 7 seconds worked,
#       8 life of the worker (s), 9 whether to take the next, 10 prefix of job keys, 11... fields of the result
# Returns {1 when the job was ours, dependents, suspended, next job's id, {its fields}}. Cost: O(log registries).
FINISH: Final = """
local ours, dependents, turn, life = redis.call('ZREM', KEYS[2], ARGV[3]), 0, ARGV[2], tonumber(ARGV[6])
redis.call('ZREM', KEYS[14], ARGV[3])
if ours == 1 then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('SREM', KEYS[6], ARGV[3])
  redis.call('HINCRBY', KEYS[5], 'successful_job_count', 1)
  redis.call('HINCRBYFLOAT', KEYS[5], 'total_working_time', ARGV[7])
  redis.call('HSET', KEYS[1], 'status', 'finished', 'ended_at', ARGV[4], 'last_heartbeat', ARGV[4])
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', 10, '*', unpack(ARGV, 11))
  redis.call('EXPIRE', KEYS[7], life)
  redis.call('ZADD', KEYS[8], math.floor(tonumber(ARGV[5])) + life, ARGV[1])
  for place = 9, 10 do redis.call('EXPIRE', KEYS[place], life) end
  redis.call('EXPIRE', KEYS[1], life)
  dependents = redis.call('EXISTS', KEYS[9])
end
redis.call('HSET', KEYS[5], 'state', 'idle', 'last_heartbeat', ARGV[4])
redis.call('EXPIRE', KEYS[5], tonumber(ARGV[8]))
local suspended = redis.call('EXISTS', KEYS[13])
if ARGV[9] ~= '1' or suspended == 1 then return {ours, dependents, suspended} end
local before, found = redis.call('HGET', KEYS[5], 'taken'), nil
if before and string.sub(before, 1, #turn + 1) == turn .. ' ' then
  found = string.sub(before, #turn + 2)
else
  found = redis.call('LMOVE', KEYS[11], KEYS[12], 'LEFT', 'RIGHT')
  if not found then return {ours, dependents, suspended} end
  redis.call('HSET', KEYS[5], 'taken', turn .. ' ' .. found)
end
local fields = redis.pcall('HGETALL', ARGV[10] .. found)
if fields.err then fields = {} end
return {ours, dependents, suspended, found, fields}
"""

# Put a job back first in line that was taken and not begun.
# KEYS: 1 taken jobs, 2 queue. ARGV: 1 job id. Returns 1 when it was still there. Cost: O(taken jobs).
GIVE_BACK: Final = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
return redis.call('LPUSH', KEYS[2], ARGV[1])
"""


class Finished:
    """What ended with a job: whether it was still ours, what waits for it, and what comes next."""

    __slots__ = ("dependents", "fields", "ours", "suspended", "taken")

    def __init__(self, reply: list[Any]) -> None:
        self.ours, self.dependents, self.suspended = bool(reply[0]), bool(reply[1]), bool(reply[2])
        self.taken: bytes | None = reply[3] if len(reply) > 3 else None  # noqa: PLR2004 - see the script
        flat = reply[4] if self.taken is not None else []
        self.fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))


class JobBooks:
    """RQ's books of one worker on one queue. Raises redis errors; nothing is written by halves."""

    def __init__(
        self, connection: redis.Redis, queue: Queue, worker_key: str, worker_name: str, leases: Leases
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._leases = leases
        self._worker_key = worker_key
        self._worker_name = worker_name
        self._started = queue.started_job_registry.key
        self._finished = FinishedJobRegistry.key_template.format(queue.name)
        self._start: Any = connection.register_script(START)
        self._renew: Any = connection.register_script(RENEW)
        self._finish: Any = connection.register_script(FINISH)
        self._give_back: Any = connection.register_script(GIVE_BACK)

    def start(self, job: Job, execution: Execution, life_s: int) -> bool:
        """The job is begun; False when it is not ours to begin any more."""
        keys = [
            job.key,
            self._queue.intermediate_queue_key,
            self._started,
            execution.key,
            ExecutionRegistry.key_template.format(job.id),
            self._worker_key,
            execution.worker_executions_key,
            self._leases.key(self._queue.name),
        ]
        moment = execution.created_at
        args = [job.id, execution.id, execution.composite_key, self._worker_name]
        times = [utcformat(moment), moment.timestamp(), life_s, self._leases.lease_ms]
        return bool(self._start(keys=keys, args=[*args, *times]))

    def renew(self, job: Job, execution: Execution, life_s: int) -> bool:
        """The job goes on, and its worker lives, by the server's clock; False when it was taken over."""
        keys = [
            self._leases.key(self._queue.name),
            self._started,
            execution.key,
            ExecutionRegistry.key_template.format(job.id),
            self._worker_key,
            job.key,
        ]
        args = [execution.composite_key, execution.id, self._leases.lease_ms, life_s, utcformat(now())]
        return bool(self._renew(keys=keys, args=args))

    def release(self, execution: Execution, pipeline: Any) -> None:
        """With the execution's other traces goes its lease."""
        pipeline.zrem(self._leases.key(self._queue.name), execution.composite_key)

    def finish(
        self, job: Job, execution: Execution, value: bytes | None, ttl_s: int, worker_life_s: int, *, take: bool
    ) -> Finished:
        """The job returned `value` (JSON, None for nothing); `take`: if one waits, it is this worker's next."""
        keys = [
            job.key,
            self._started,
            execution.key,
            ExecutionRegistry.key_template.format(job.id),
            self._worker_key,
            execution.worker_executions_key,
            Result.get_key(job.id),  # type: ignore[no-untyped-call]
            self._finished,
            job.dependents_key,
            job.dependencies_key,
            self._queue.key,
            self._queue.intermediate_queue_key,
            WORKERS_SUSPENDED,
            self._leases.key(self._queue.name),
        ]
        ended = now()
        worked = (ended - execution.created_at).total_seconds()
        about = [job.id, execution.id, execution.composite_key, utcformat(ended), ended.timestamp(), ttl_s, worked]
        kept: list[Any] = ["type", Result.Type.SUCCESSFUL.value, "worker_name", self._worker_name]
        kept += ["return_value", b64encode(value)] if value is not None else []
        kept += ["execution_id", execution.id, "execution_started_at", execution.created_at.timestamp()]
        kept += ["execution_ended_at", ended.timestamp()]
        args = [*about, worker_life_s, int(take), RQ_KEY_PREFIX + ":job:", *kept]
        return Finished(self._finish(keys=keys, args=args))

    def owns(self, execution: Execution) -> bool:
        """Whether the execution still counts: nobody has declared it abandoned."""
        return self._connection.zscore(self._started, execution.composite_key) is not None

    def give_back(self, job: Job) -> bool:
        """It is first in line again; False when somebody else has put it back already."""
        return bool(self._give_back(keys=[self._queue.intermediate_queue_key, self._queue.key], args=[job.id]))

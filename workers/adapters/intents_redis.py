"""The memory of what was asked of the broker, in Redis: every change of state is one compare-and-set script."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import redis

from pipeline.models import BracketOrder, OrderReport, Refusal
from pipeline.ports import Execution, Intent
from workers.adapters.executions import taken_over
from workers.adapters.intents_memory import sending_refusal
from workers.adapters.keys import CLOSING_TTL_S, EXECUTION_TTL_S, OUTCOME_TTL_S, Keys, to_ms
from workers.adapters.redis_edge import asking_redis
from workers.adapters.truth import UNTRUSTED as _UNTRUSTED
from workers.adapters.wire import dump, load_frozen

# Begin a run of a decision: the server's clock in microseconds, or one more than the last run's id. The clock makes
# ids grow even when a crashed server forgot the last second's runs.
# KEYS: 1 execution
# ARGV: 1 TTL (s)
# Returns: {execution id, client order id sent before ('' = none)}. Cost: O(1).
BEGIN = """
local clock = redis.call('TIME')
local last = tonumber(redis.call('HGET', KEYS[1], 'id') or 0)
local id = string.format('%.0f', math.max(last + 1, clock[1] * 1000000 + clock[2]))
redis.call('HSET', KEYS[1], 'id', id)
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {id, redis.call('HGET', KEYS[1], 'sent') or ''}
"""

# Write NEW unless the intent exists. A NEW intent that nobody sends is forgotten after its TTL, and with the next one
# of its decision: an earlier run may have met another position, and meant an entry where this one closes.
# KEYS: 1 intent, 2 execution
# ARGV: 1 decision id, 2 symbol, 3 order (JSON), 4 reduce only (0/1), 5 TTL (s), 6 execution id ('' = any),
#       7 client order id, 8 prefix
# Returns: HGETALL of the intent, {} for an old execution. Cost: O(1).
CREATE = """
if ARGV[6] ~= '' then
  local id, other = unpack(redis.call('HMGET', KEYS[2], 'id', 'intent'))
  if id ~= ARGV[6] then return {} end
  local key = ARGV[8] .. ':intent:' .. (other or '')
  if other ~= ARGV[7] and redis.call('HGET', key, 'state') == 'NEW' then redis.call('DEL', key) end
  redis.call('HSET', KEYS[2], 'intent', ARGV[7])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'v', 1, 'state', 'NEW', 'decision', ARGV[1], 'symbol', ARGV[2], 'order', ARGV[3],
    'reduce_only', ARGV[4], 'fills', 0, 'closed', 0, 'booked', 0, 'settled', 0)
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return redis.call('HGETALL', KEYS[1])
"""

# NEW -> SENT, the last step before the request: execution, outcome, trading state and age are asked here. A refused
# intent is forgotten, unless a newer execution may be about to send it.
# KEYS: 1 intent, 2 open intents, 3 control, 4 tally, 5 truth (the decision's execution and outcome are
#       `<ARGV[7]>:...:<id>`)
# ARGV: 1 client order id, 2 now (ms, event time; '' = the server's clock), 3 expires at (ms), 4 under halt (0/1),
#       5 execution id ('' = any), 6 TTL of the execution (s), 7 prefix, 8 longest age of a comparison with the broker
#       (ms; '' = not asked)
# Returns: {} when SENT is written, else {rule, observed, limit}. Cost: O(1).
MARK_SENT = (
    _UNTRUSTED
    + """
local state, reduce_only, decision = unpack(redis.call('HMGET', KEYS[1], 'state', 'reduce_only', 'decision'))
if not state then return {'intent_missing', 'missing', 'NEW'} end
if state ~= 'NEW' then return {'already_sent', state, 'NEW'} end
local execution = ARGV[7] .. ':execution:' .. decision
if ARGV[5] ~= '' and redis.call('HGET', execution, 'id') ~= ARGV[5] then
  return {'taken_over', 'an older execution', "the decision's newest execution"}
end
local function refused(rule, observed, limit)
  redis.call('DEL', KEYS[1])
  return {rule, observed, limit}
end
local outcome = redis.call('HGET', ARGV[7] .. ':outcome:' .. decision, 'state')
if outcome and not ({buffered = true, held = true, submitted = true})[outcome] then
  return refused('already_ended', 'a terminal outcome', 'no outcome yet')
end
local trading = redis.call('HGET', KEYS[3], 'trading_state') or 'HALTED'
local reducing = trading == 'REDUCING' and reduce_only == '1'
if ARGV[4] ~= '1' and trading ~= 'ACTIVE' and not reducing then return refused('trading_state', trading, 'ACTIVE') end
local unknown = ARGV[4] ~= '1' and reduce_only == '0' and untrusted(KEYS[5], ARGV[8])
if unknown then return refused('unreconciled', unknown, 'lately') end
local now = ARGV[2]
if now == '' then
  local clock = redis.call('TIME')
  now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
end
if tonumber(now) > tonumber(ARGV[3]) then return refused('max_age', now, ARGV[3]) end
redis.call('HSET', KEYS[1], 'state', 'SENT')
redis.call('PERSIST', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[4], 'orders', 1)
redis.call('HSET', execution, 'sent', ARGV[1])
redis.call('EXPIRE', execution, ARGV[6])
return {}
"""
)

# Forget the NEW intent of a decision.
# KEYS: 1 execution (its intent is `<ARGV[2]>:intent:<name>`)
# ARGV: 1 execution id, 2 prefix
# Returns: nothing. Cost: O(1).
DISCARD = """
local id, name = unpack(redis.call('HMGET', KEYS[1], 'id', 'intent'))
if id ~= ARGV[1] or not name then return end
local key = ARGV[2] .. ':intent:' .. name
if redis.call('HGET', key, 'state') ~= 'NEW' then return end
redis.call('DEL', key)
"""

# Take up an order of the venue that is not known here as sent (what we only meant to send, NEW, is not), or that ended
# here without a fill. Ours: its decision sent it and stands as submitted, in its own leg too, unless more is known.
# KEYS: 1 intent, 2 open intents, 3 tally (the decision's execution and outcome are `<ARGV[10]>:...:<id>`)
# ARGV: 1 client order id, 2 decision id, 3 symbol, 4 order (JSON), 5 reduce only (0/1), 6 report (JSON),
#       7 fills in it, 8 closed (0/1), 9 ours (0/1), 10 prefix, 11 TTL of the execution (s), 12 TTL of the outcome (s),
#       13 submitted at (ISO), 14 counts as an own leg (0/1)
# Returns: 1 taken up, 0 known. Cost: O(1).
ADOPT = """
local state, fills = unpack(redis.call('HMGET', KEYS[1], 'state', 'fills'))
if state and state ~= 'NEW' and not (state == 'DONE' and fills == '0') then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'v', 1, 'state', 'SENT', 'decision', ARGV[2], 'symbol', ARGV[3], 'order', ARGV[4],
  'reduce_only', ARGV[5], 'fills', ARGV[7], 'closed', ARGV[8], 'booked', 0, 'settled', ARGV[9] == '1' and 0 or 1,
  'report', ARGV[6])
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[9] ~= '1' then return 1 end
if state ~= 'DONE' then redis.call('HINCRBY', KEYS[3], 'orders', 1) end
local execution, outcome = ARGV[10] .. ':execution:' .. ARGV[2], ARGV[10] .. ':outcome:' .. ARGV[2]
redis.call('HSET', execution, 'sent', ARGV[1])
redis.call('EXPIRE', execution, ARGV[11])
if redis.call('EXISTS', outcome) == 1 or ARGV[14] ~= '1' then return 1 end
redis.call('HSET', outcome, 'state', 'submitted', 'stage', 'executor', 'rule', 'restored', 'observed', ARGV[1],
  'limit', '', 'at', ARGV[13], 'decision', ARGV[2])
redis.call('EXPIRE', outcome, ARGV[12])
redis.call('HINCRBY', KEYS[3], 'legs', 1)
return 1
"""

# Keep an answer that says at least as much as the known one; with `booked` its fills are in the ledger.
# KEYS: 1 intent, 2 open intents
# ARGV: 1 client order id, 2 report (JSON; '' = no definite answer), 3 fills in it, 4 closed (0/1), 5 booked (0/1),
#       6 TTL (s)
# Returns: nothing. Cost: O(1).
RECORD = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'NEW' or state == 'DONE' then return end
if ARGV[2] == '' then
  if redis.call('HEXISTS', KEYS[1], 'report') == 1 then return end
  redis.call('HSET', KEYS[1], 'state', 'UNKNOWN')
  return
end
local known, closed = unpack(redis.call('HMGET', KEYS[1], 'fills', 'closed'))
if tonumber(ARGV[3]) < tonumber(known) or (closed == '1' and ARGV[4] == '0') then return end
local done = ARGV[4] == '1' and ARGV[5] == '1'
redis.call('HSET', KEYS[1], 'state', done and 'DONE' or 'SENT', 'report', ARGV[2], 'fills', ARGV[3], 'closed', ARGV[4])
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'booked', ARGV[3]) end
if done and redis.call('HGET', KEYS[1], 'settled') == '1' then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[6])
end
"""

# The entry's outcome is written; with DONE nothing of the intent is open any more.
# KEYS: 1 intent, 2 open intents
# ARGV: 1 client order id, 2 TTL (s)
# Returns: nothing. Cost: O(1).
ACKNOWLEDGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], 'settled', 1)
if redis.call('HGET', KEYS[1], 'state') == 'DONE' then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""

# What was sent and is not both DONE and acknowledged.
# KEYS: 1 open intents. ARGV: 1 prefix
# Returns: name, HGETALL of its intent, ... Cost: O(open).
OPEN = """
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  found[#found + 1] = name
  found[#found + 1] = redis.call('HGETALL', ARGV[1] .. ':intent:' .. name)
end
return found
"""


class RedisIntents:
    """Intents of the whole fleet.

    `clock`: the age is asked of the event's time or of the server's clock (live). `truth_max_age_s`: seconds a
    comparison with the broker counts for an entry; None: nobody asks.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, clock: Literal["event", "live"], truth_max_age_s: float | None = None
    ) -> None:
        self._truth_max_age_ms: str | int = "" if truth_max_age_s is None else round(truth_max_age_s * 1000)
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._clock = clock
        self._begin = client.register_script(BEGIN)
        self._discard = client.register_script(DISCARD)
        self._adopt = client.register_script(ADOPT)
        self._create = client.register_script(CREATE)
        self._mark_sent = client.register_script(MARK_SENT)
        self._record = client.register_script(RECORD)
        self._acknowledge = client.register_script(ACKNOWLEDGE)
        self._open = client.register_script(OPEN)

    def begin(self, decision_id: str) -> Execution:
        """Start a run of the decision; every earlier run is taken over."""
        with asking_redis():
            newest, sent = self._begin(keys=[self._keys.execution(decision_id)], args=[EXECUTION_TTL_S])
        return Execution(decision_id, int(newest), sent or None)

    def create(self, order: BracketOrder, execution: int | None = None) -> Intent:
        """Write NEW, or answer the intent that is already there. Raises TakenOverError for an older execution."""
        name, decision = order.client_order_id, order.decision_id
        life = CLOSING_TTL_S if execution is None else OUTCOME_TTL_S
        facts: list[str | int] = [decision, order.symbol, dump(order), int(order.reduce_only), life]
        with asking_redis():
            keys = [self._keys.intent(name), self._keys.execution(decision)]
            flat = self._create(keys=keys, args=[*facts, _id(execution), name, self._keys.prefix])
        if not flat:
            raise taken_over(decision)
        return _intent(order.client_order_id, dict(zip(flat[::2], flat[1::2], strict=True)))

    def discard(self, decision_id: str, execution: int) -> None:
        """Forget a NEW intent of the decision; nothing for an older execution or when it was sent."""
        with asking_redis():
            self._discard(keys=[self._keys.execution(decision_id)], args=[execution, self._keys.prefix])

    def adopt(self, order: BracketOrder, report: OrderReport, *, ours: bool) -> bool:
        """Take up an order of the venue that is not known here as sent; False when it is."""
        name, decision = order.client_order_id, order.decision_id
        facts: list[str | int] = [name, decision, order.symbol, dump(order), int(order.reduce_only)]
        told: list[str | int] = [dump(report), len(report.fills), int(report.closed), int(ours)]
        lives: list[str | int] = [self._keys.prefix, EXECUTION_TTL_S, OUTCOME_TTL_S]
        keys = [self._keys.intent(name), self._keys.open_intents(), self._keys.tally()]
        args = [*facts, *told, *lives, order.submitted_at.isoformat(), int(":" in decision)]
        with asking_redis():
            return bool(self._adopt(keys=keys, args=args))

    def mark_sent(
        self,
        client_order_id: str,
        now: datetime,
        expires_at: datetime,
        *,
        under_halt: bool = False,
        execution: int | None = None,
    ) -> Refusal | None:
        """NEW -> SENT, asking execution, outcome, trading state and age last; None means SENT."""
        names = self._keys
        keys = [names.intent(client_order_id), names.open_intents(), names.control(), names.tally(), names.truth()]
        asked: int | str = to_ms(now) if self._clock == "event" else ""
        asks = [client_order_id, asked, to_ms(expires_at), int(under_halt), _id(execution)]
        with asking_redis():
            words = self._mark_sent(keys=keys, args=[*asks, EXECUTION_TTL_S, names.prefix, self._truth_max_age_ms])
        return sending_refusal(*words) if words else None

    def record(self, client_order_id: str, report: OrderReport | None) -> None:
        """Keep the broker's answer; None = UNKNOWN. An older answer never replaces a newer."""
        self._keep(client_order_id, report, booked=False)

    def booked(self, client_order_id: str, report: OrderReport) -> None:
        """Keep a report whose fills are all in the ledger; a closed one makes the intent DONE."""
        self._keep(client_order_id, report, booked=True)

    def acknowledge(self, client_order_ids: Sequence[str]) -> None:
        """The entries' outcomes are written. Idempotent."""
        for name in client_order_ids:
            with asking_redis():
                self._acknowledge(keys=[self._keys.intent(name), self._keys.open_intents()], args=[name, OUTCOME_TTL_S])

    def open(self) -> tuple[Intent, ...]:
        """Intents that were sent and are not yet both DONE and acknowledged, by client order id. One round trip."""
        with asking_redis():
            flat = self._open(keys=[self._keys.open_intents()], args=[self._keys.prefix])
        return tuple(
            _intent(name, dict(zip(row[::2], row[1::2], strict=True)))
            for name, row in sorted(zip(flat[::2], flat[1::2], strict=True))
            if row
        )

    def get(self, client_order_id: str) -> Intent | None:
        """One intent."""
        with asking_redis():
            row = self._redis.hgetall(self._keys.intent(client_order_id))
        return _intent(client_order_id, row) if row else None

    def _keep(self, client_order_id: str, report: OrderReport | None, *, booked: bool) -> None:
        words: list[str | int] = ["", 0, 0] if report is None else [dump(report), len(report.fills), int(report.closed)]
        keys = [self._keys.intent(client_order_id), self._keys.open_intents()]
        with asking_redis():
            self._record(keys=keys, args=[client_order_id, *words, int(booked), OUTCOME_TTL_S])


def _id(execution: int | None) -> int | str:
    """An execution id for a script; '' when nobody is asked."""
    return "" if execution is None else execution


def _intent(client_order_id: str, row: dict[str, str]) -> Intent:
    """The hash as an intent."""
    report = row.get("report")
    return Intent(
        client_order_id=client_order_id,
        decision_id=row["decision"],
        symbol=row["symbol"],
        state=row["state"],
        order=load_frozen(BracketOrder, row["order"]),
        report=load_frozen(OrderReport, report) if report else None,
        booked=int(row["booked"]),
        entry_settled=row["settled"] == "1",
    )

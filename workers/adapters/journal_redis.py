"""Where every leg and decision ends, in Redis: compare-and-set from an interim state, counted in the same step."""

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from pipeline.models import Outcome, ProcessResult, Refusal
from workers.adapters.codec import result_json
from workers.adapters.journal_memory import became_signal
from workers.adapters.keys import OUTCOME_TTL_S, WINDOW_TTL_S, Keys, to_ms

# Record how a decision and its legs stand.
# Once the decision's order is SENT only the order's own fate is a word: any other leaves what is recorded.
# With its end the order that a dead run wrote (NEW) and nobody sent is forgotten.
# KEYS: 1 decision's outcome, 2 decision's documents, 3 decision's legs, 4 decisions stream, 5 tally, 6 used votes,
#       7 execution.
# ARGV: 1 prefix, 2 decision id, 3 state, 4 stage, 5 rule, 6 observed, 7 limit, 8 at (ISO), 9 document, 10 TTL (s),
#       11 symbol, 12 at (ms), 13 window TTL (s), 14 number of legs, legs, then the message ids to mark as used.
# Returns 1 when the decision's state changed, else 0. Cost: O(legs + used).
RECORD = """
local prefix, id, state = ARGV[1], ARGV[2], ARGV[3]
local rank = {buffered = 1, held = 2, submitted = 3}
local fates = {submitted = true, executed = true, unfilled = true, broker_rejected = true}
if not fates[state] and redis.call('HEXISTS', KEYS[7], 'sent') == 1 then
  local known = redis.call('HGET', KEYS[1], 'state')
  state = (not known or rank[known]) and 'submitted' or known
end
local function put(key)
  local current = redis.call('HGET', key, 'state')
  if current and (rank[state] or 9) <= (rank[current] or 9) then return false end
  redis.call('HSET', key, 'state', state, 'stage', ARGV[4], 'rule', ARGV[5], 'observed', ARGV[6],
             'limit', ARGV[7], 'at', ARGV[8], 'decision', id)
  redis.call('EXPIRE', key, ARGV[10])
  return true
end
local count = tonumber(ARGV[14])
for i = 15 + count, #ARGV do redis.call('ZADD', KEYS[6], ARGV[12], ARGV[i]) end
if #ARGV >= 15 + count then
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', ARGV[12] - ARGV[13] * 1000)
  redis.call('EXPIRE', KEYS[6], ARGV[13])
end
local changed = put(KEYS[1])
if changed then
  if ARGV[9] ~= '' then
    redis.call('RPUSH', KEYS[2], ARGV[9])
    redis.call('EXPIRE', KEYS[2], ARGV[10])
  end
  redis.call('HINCRBY', KEYS[5], 'decision-state:' .. state, 1)
  if not rank[state] then
    local unsent = redis.call('HGET', KEYS[7], 'intent')
    if unsent and redis.call('HGET', prefix .. ':intent:' .. unsent, 'state') == 'NEW' then
      redis.call('DEL', prefix .. ':intent:' .. unsent)
    end
    redis.call('HINCRBY', KEYS[5], 'decision:' .. state, 1)
    if ARGV[5] ~= '' then redis.call('HINCRBY', KEYS[5], 'rule:' .. state .. ':' .. ARGV[5], 1) end
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', 1000000, '*', 'id', id, 'symbol', ARGV[11], 'outcome', state,
               'rule', ARGV[5], 'at', ARGV[8])
  end
end
local first = redis.call('HMGET', KEYS[1], 'state', 'stage', 'rule', 'observed', 'limit', 'at')
if not changed and not rank[first[1]] then
  -- the decision ended before its legs were known: they end as it did
  state = first[1]
  for i = 2, 6 do ARGV[i + 2] = first[i] end
end
local legs, listed, ended = redis.call('SMEMBERS', KEYS[3]), {}, 0
for _, leg in ipairs(legs) do listed[leg] = true end
for i = 15, 14 + count do
  if not listed[ARGV[i]] then legs[#legs + 1] = ARGV[i] end
end
for _, leg in ipairs(legs) do
  local over = changed
  if leg ~= id then over = put(prefix .. ':outcome:' .. leg) end
  if over and not rank[state] then ended = ended + 1 end
end
if ended > 0 then redis.call('HINCRBY', KEYS[5], 'leg:' .. state, ended) end
if rank[state] then
  for i = 1, #legs, 1000 do redis.call('SADD', KEYS[3], unpack(legs, i, math.min(i + 999, #legs))) end
  redis.call('EXPIRE', KEYS[3], ARGV[10])
else
  redis.call('DEL', KEYS[3])
end
return changed and 1 or 0
"""


class RedisJournal:
    """Implements `Journal`; `settle` ends decisions whose order became definite."""

    def __init__(self, client: redis.Redis, keys: Keys, settings: str = "") -> None:
        """`settings`: the fingerprint kept with every decision."""
        self._settings = settings
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._sha = client.register_script(RECORD).sha

    def record(self, results: Sequence[tuple[ProcessResult, tuple[str, ...]]]) -> None:
        """As the port says; one round trip for all of them."""
        if not results:
            return
        try:
            self._record(results)
        except NoScriptError:
            self._redis.script_load(RECORD)
            self._record(results)

    def outcome(self, leg_or_decision_id: str) -> Outcome | None:
        """As the port says."""
        state = self._redis.hget(self._keys.outcome(leg_or_decision_id), "state")
        return Outcome(str(state)) if state is not None else None

    def outcomes(self, ids: Sequence[str]) -> list[Outcome | None]:
        """Several outcomes in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for one in ids:
            pipe.hget(self._keys.outcome(one), "state")
        return [Outcome(str(state)) if state is not None else None for state in pipe.execute()]

    def ends(self) -> list[dict[str, str]]:
        """Every final decision that is still kept: id, symbol, outcome, rule and time, oldest first."""
        return [dict(fields) for _, fields in self._redis.xrange(self._keys.decisions())]

    def tally(self) -> dict[str, int]:
        """Every counter: legs, `leg:<outcome>`, `decision:<outcome>`, `rule:<outcome>:<rule>`, `refused:<reason>`."""
        return {str(name): int(value) for name, value in self._redis.hgetall(self._keys.tally()).items()}

    def _record(self, results: Sequence[tuple[ProcessResult, tuple[str, ...]]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for result, legs in results:
            self._queue_record(pipe, result, legs)
        pipe.execute()

    def _queue_record(self, pipe: "redis.client.Pipeline", result: ProcessResult, legs: tuple[str, ...]) -> None:
        if result.decision_id is None:
            raise ValueError("result.decision_id is None; valid: the id of a leg or of a batch decision")
        keys, refusal = self._keys, result.refusal or Refusal(stage="", rule="")  # type: ignore[arg-type]
        aggregate = result.aggregate
        used = aggregate.message_ids if aggregate and became_signal(result) else ()
        words: list[Any] = [
            *(
                keys.outcome(result.decision_id),
                keys.decision(result.decision_id),
                keys.decision_legs(result.decision_id),
                keys.decisions(),
                keys.tally(),
                keys.used(result.symbol or "-"),
                keys.execution(result.decision_id),
            ),
            *(
                keys.prefix,
                result.decision_id,
                result.outcome,
                refusal.stage,
                refusal.rule,
                refusal.observed,
                refusal.limit,
                result.timestamp.isoformat(),
                result_json(result, self._settings),
                OUTCOME_TTL_S,
                result.symbol or "",
                to_ms(result.timestamp),
                WINDOW_TTL_S,
                len(legs),
                *legs,
                *used,
            ),
        ]
        pipe.evalsha(self._sha, 7, *words)

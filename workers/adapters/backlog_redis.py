"""Per-symbol lists of votes, immutable claims, recent votes and the memory of texts, in Redis."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import redis

from pipeline.models import AnalyzedMessage, Outcome, Vote
from pipeline.ports import Claim
from pipeline.router import Fate, Leg, end_as_duplicate, first_leg_id, leg_id, remembers_text
from workers.adapters.keys import OUTCOME_TTL_S, WINDOW_TTL_S, Keys, to_ms

RECENT_WINDOW_MS = 86_400_000

# Open a message's legs and append its votes, once; find near-duplicates.
# KEYS: 1 seen texts, 2 seen owners, 3 tally, 4 batches, 5 outcome of the null leg, 6 outcome of the first leg,
#       7 outcome of the primary's leg.
# ARGV: 1 prefix, 2 message id, 3 fingerprint, 4 at (ms), 5 duplicate window (ms), 6 remember text (1/0),
#       7 outcome TTL (s), 8 window TTL (s), 9 recent window (ms), 10 at (ISO), then eight per leg:
#       leg id, symbol, vote JSON ('' = at its end), outcome, rule, observed, limit, urgent (1/0).
# Returns 'again' (routed before), 'again-urgent' (and its urgent leg is still open), 'duplicate:<first message id>'
#       or 'opened'.
# Cost: O(legs * log n).
ROUTE = """
local prefix, id, fp, at = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local window, ttl, wttl = tonumber(ARGV[5]), ARGV[7], ARGV[8]
if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then
  local primary = redis.call('HMGET', KEYS[7], 'urgent', 'state')
  return primary[1] == '1' and primary[2] == 'buffered' and 'again-urgent' or 'again'
end
local function open(leg, state, rule, observed, limit)
  local key = prefix .. ':outcome:' .. leg
  redis.call('HSET', key, 'state', state, 'stage', 'router', 'rule', rule,
             'observed', observed, 'limit', limit, 'at', ARGV[10])
  redis.call('EXPIRE', key, ttl)
  redis.call('HINCRBY', KEYS[3], 'legs', 1)
  if state ~= 'buffered' then
    redis.call('HINCRBY', KEYS[3], 'leg:' .. state, 1)
    redis.call('HINCRBY', KEYS[3], 'rule:' .. state .. ':' .. rule, 1)
  end
end
if ARGV[6] == '1' then
  local owner, last = redis.call('HGET', KEYS[2], fp), tonumber(redis.call('ZSCORE', KEYS[1], fp))
  local known = owner and owner ~= id and last and math.abs(at - last) < window
  redis.call('ZADD', KEYS[1], 'GT', at, fp)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at - window, 'LIMIT', 0, 4)) do
    redis.call('ZREM', KEYS[1], old)
    redis.call('HDEL', KEYS[2], old)
  end
  if known then
    open(id .. ':-', 'duplicate', 'near_duplicate', owner, 'a text of its own within the window')
    return 'duplicate:' .. owner
  end
  redis.call('HSET', KEYS[2], fp, id)
end
for i = 11, #ARGV, 8 do
  local leg, symbol, vote = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if vote == '' then
    open(leg, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  else
    open(leg, 'buffered', '', '', '')
    if ARGV[i + 7] == '1' then redis.call('HSET', prefix .. ':outcome:' .. leg, 'urgent', 1) end
    redis.call('RPUSH', prefix .. ':batch:' .. symbol, vote)
    redis.call('ZADD', KEYS[4], 'NX', at, symbol)
    redis.call('HINCRBY', KEYS[3], 'buffered', 1)
    local recent = prefix .. ':recent:' .. symbol
    redis.call('ZADD', recent, at, vote)
    redis.call('ZREMRANGEBYSCORE', recent, '-inf', at - tonumber(ARGV[9]))
    redis.call('EXPIRE', recent, wttl)
  end
end
return 'opened'
"""

# Take whole lists as claims. A list whose claim's name is taken waits for the next turn, under the next number.
# KEYS: 1 batches, 2 claims, 3 claim sequence, 4 tally. ARGV: 1 prefix, 2 lease (ms), then symbols.
# Returns the new claim ids. Cost: O(symbols * log n); lists are renamed, not copied.
CLAIM = """
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
local taken = {}
for i = 3, #ARGV do
  local symbol = ARGV[i]
  local list = ARGV[1] .. ':batch:' .. symbol
  local size = redis.call('LLEN', list)
  if size == 0 then
    redis.call('ZREM', KEYS[1], symbol)
  else
    local id = symbol .. '-' .. redis.call('HINCRBY', KEYS[3], symbol, 1)
    if redis.call('RENAMENX', list, ARGV[1] .. ':claim:' .. id) == 1 then
      redis.call('ZREM', KEYS[1], symbol)
      redis.call('ZADD', KEYS[2], deadline, id)
      redis.call('HINCRBY', KEYS[4], 'buffered', -size)
      taken[#taken + 1] = id
    end
  end
end
return taken
"""

# Push the deadlines of overdue claims and answer them, so that one janitor at a time re-enqueues them.
# KEYS: 1 claims. ARGV: 1 lease (ms), 2 at most. Returns pairs claim id, old deadline. Cost: O(n log n) of those found.
OVERDUE = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do redis.call('ZADD', KEYS[1], 'XX', ms + tonumber(ARGV[1]), found[i]) end
return found
"""


class RedisBacklog:
    """Implements `Backlog` and `VoteHistory` on Redis; every write is one idempotent script."""

    def __init__(
        self, client: redis.Redis, keys: Keys, *, duplicate_window_s: float = 86_400, lease_s: float = 60
    ) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._window_ms = int(duplicate_window_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self._route = client.register_script(ROUTE)
        self._claim = client.register_script(CLAIM)
        self._overdue = client.register_script(OVERDUE)

    # ---- Backlog ----

    def accept(self, routed: Sequence[tuple[AnalyzedMessage, tuple[Leg, ...]]]) -> list[tuple[Leg, ...]]:
        """As the port says, but an urgent leg that was opened before and is not decided is answered again.

        Its router may have died before it queued the job. One round trip for all of them.
        """
        if not routed:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for message, legs in routed:
            self._queue_route(pipe, message, legs)
        answers = pipe.execute()
        return [
            _as_answered(message, legs, str(answer)) for (message, legs), answer in zip(routed, answers, strict=True)
        ]

    def end_unreadable(self, message_id: str, reason: str, at: datetime) -> bool:
        """End an accepted message that cannot be read: one null leg, `error`. False when it was routed before."""
        keys, leg = self._keys, leg_id(message_id, None)
        answer = self._route(
            keys=[keys.seen_texts(), keys.seen_owners(), keys.tally(), keys.batches(), *[keys.outcome(leg)] * 3],
            args=[
                *(keys.prefix, message_id, "", to_ms(at), self._window_ms, 0, OUTCOME_TTL_S, WINDOW_TTL_S),
                *(RECENT_WINDOW_MS, at.isoformat()),
                *(leg, "", "", Outcome.ERROR, reason, message_id, "a message of this version"),
            ],
        )
        return str(answer) == "opened"

    def claim(self, symbols: Sequence[str] | None = None) -> tuple[str, ...]:
        """As the port says; lists come from the index, never from a scan."""
        wanted = sorted(self._redis.zrange(self._keys.batches(), 0, -1) if symbols is None else symbols)
        taken: list[str] = []
        for start in range(0, len(wanted), 500):
            keys = [self._keys.batches(), self._keys.claims(), self._keys.claim_sequence(), self._keys.tally()]
            args = [self._keys.prefix, self._lease_ms, *wanted[start : start + 500]]
            taken.extend(self._claim(keys=keys, args=args))
        return tuple(taken)

    def claimed(self, claim_id: str) -> Claim | None:
        """As the port says."""
        return self.claimed_many([claim_id])[0]

    def claimed_many(self, claim_ids: Sequence[str]) -> list[Claim | None]:
        """Several claims in one round trip, None for each that was finished."""
        pipe = self._redis.pipeline(transaction=False)
        for claim_id in claim_ids:
            pipe.lrange(self._keys.claim(claim_id), 0, -1)
        return [_claim_of(claim_id, raw) for claim_id, raw in zip(claim_ids, pipe.execute(), strict=True)]

    def raw(self, claim_id: str) -> list[str]:
        """A claim's votes as they are written."""
        return [str(vote) for vote in self._redis.lrange(self._keys.claim(claim_id), 0, -1)]

    def finish(self, claim_id: str) -> None:
        """As the port says."""
        self.finish_many([claim_id])

    def finish_many(self, claim_ids: Sequence[str]) -> None:
        """Forget several claims in one round trip."""
        if not claim_ids:
            return
        pipe = self._redis.pipeline()
        pipe.delete(*(self._keys.claim(claim_id) for claim_id in claim_ids))
        pipe.zrem(self._keys.claims(), *claim_ids)
        pipe.execute()

    def unfinished(self) -> list[str]:
        """Every claim that is not finished, by id."""
        return sorted(str(claim_id) for claim_id in self._redis.zrange(self._keys.claims(), 0, -1))

    def overdue(self, at_most: int = 200) -> list[tuple[str, int]]:
        """Claims past their deadline, with the old deadline (ms); each is answered once per lease."""
        found = self._overdue(keys=[self._keys.claims()], args=[self._lease_ms, at_most])
        return [(str(found[i]), int(float(found[i + 1]))) for i in range(0, len(found), 2)]

    def sizes(self) -> dict[str, int]:
        """As the port says."""
        symbols = sorted(str(symbol) for symbol in self._redis.zrange(self._keys.batches(), 0, -1))
        return self.sizes_of(symbols)

    def sizes_of(self, symbols: Iterable[str]) -> dict[str, int]:
        """Votes waiting for these symbols, without empty ones."""
        wanted = list(symbols)
        pipe = self._redis.pipeline(transaction=False)
        for symbol in wanted:
            pipe.llen(self._keys.batch(symbol))
        return {symbol: int(size) for symbol, size in zip(wanted, pipe.execute(), strict=True) if size}

    def buffered(self) -> int:
        """Votes waiting in all lists together."""
        return int(self._redis.hget(self._keys.tally(), "buffered") or 0)

    # ---- VoteHistory ----

    def votes(self, symbol: str, since: datetime, until: datetime) -> tuple[Vote, ...]:
        """As the port says."""
        raw = self._redis.zrangebyscore(self._keys.recent(symbol), f"({to_ms(since)}", to_ms(until))
        found = (Vote.model_validate_json(vote) for vote in raw)
        return tuple(sorted(found, key=lambda vote: (vote.at, vote.id)))

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """As the port says."""
        if not ids:
            return frozenset()
        scores = self._redis.zmscore(self._keys.used(symbol), list(ids))
        return frozenset(i for i, score in zip(ids, scores, strict=True) if score is not None)

    # ---- inside ----

    def _queue_route(self, pipe: "redis.client.Pipeline", message: AnalyzedMessage, legs: tuple[Leg, ...]) -> None:
        keys = self._keys
        voting = next((leg.vote for leg in legs if leg.vote is not None), None)
        at = voting.at if voting else message.message.received_at
        self._route(
            keys=[
                keys.seen_texts(),
                keys.seen_owners(),
                keys.tally(),
                keys.batches(),
                keys.outcome(leg_id(message.message_id, None)),
                keys.outcome(first_leg_id(message)),
                keys.outcome(leg_id(message.message_id, message.tickers.primary)),
            ],
            args=[
                keys.prefix,
                message.message_id,
                message.fingerprint,
                to_ms(at),
                self._window_ms,
                int(remembers_text(legs)),
                OUTCOME_TTL_S,
                WINDOW_TTL_S,
                RECENT_WINDOW_MS,
                at.isoformat(),
                *(word for leg in legs for word in _leg_words(leg)),
            ],
            client=pipe,
        )


def _leg_words(leg: Leg) -> tuple[str, ...]:
    refusal = leg.refusal
    return (
        leg.leg_id,
        leg.symbol or "",
        leg.vote.model_dump_json() if leg.vote else "",
        leg.outcome or "",
        refusal.rule if refusal else "",
        refusal.observed if refusal else "",
        refusal.limit if refusal else "",
        str(int(leg.fate is Fate.URGENT)),
    )


def _as_answered(message: AnalyzedMessage, legs: tuple[Leg, ...], answer: str) -> tuple[Leg, ...]:
    if answer.startswith("duplicate:"):
        return end_as_duplicate(message, answer.removeprefix("duplicate:"))
    if answer == "again-urgent":
        primary = message.tickers.primary
        return (Leg(leg_id(message.message_id, primary), message.message_id, primary, Fate.URGENT),)
    return () if answer == "again" else legs


def _claim_of(claim_id: str, raw: Sequence[str]) -> Claim | None:
    if not raw:
        return None
    votes = tuple(Vote.model_validate_json(vote) for vote in raw)
    return Claim(claim_id, claim_id.rsplit("-", 1)[0], votes)

"""Per-symbol lists of votes, immutable claims, recent votes and the memory of texts, in Redis."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import redis

from pipeline.models import Vote
from pipeline.ports import Claim
from pipeline.router import Fate, Leg, Routable, end_as_duplicate, leg_id
from workers.adapters.keys import Keys, to_ms
from workers.adapters.packed_jobs import Line
from workers.adapters.route_script import (
    AGAIN_URGENT,
    DUPLICATE,
    MOST_A_SCRIPT,
    RECENT_WINDOW_MS,
    Chunk,
    RouteScript,
    Turn,
)
from workers.adapters.sent_script import nothing
from workers.adapters.wire_votes import votes_of

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
# A deadline is never further away than a lease: what was set before the server's clock went back is brought near.
# KEYS: 1 claims. ARGV: 1 lease (ms), 2 at most. Returns pairs claim id, old deadline. Cost: O(n log n) of those found.
OVERDUE = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local latest = ms + tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. latest, '+inf', 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', KEYS[1], latest, id)
end
for i = 1, #found, 2 do redis.call('ZADD', KEYS[1], 'XX', latest, found[i]) end
return found
"""


class RedisBacklog:
    """Implements `Backlog` and `VoteHistory` on Redis; every write is one idempotent script."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        duplicate_window_s: float = 86_400,
        lease_s: float = 60,
        most_votes: int = 5_000,
        recent_s: int = RECENT_WINDOW_MS // 1000,
    ) -> None:
        """`most_votes` of a symbol are read at a time, the newest: so many posts cost a decision no more memory.

        `recent_s`: seconds, by the votes' own time, that a vote can be looked back on; no look-back is longer.
        """
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._window_ms = int(duplicate_window_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self.most_votes, self.recent_s = most_votes, recent_s
        self._route = RouteScript(client, keys, self._window_ms, recent_s * 1000)
        self._claim = client.register_script(CLAIM)
        self._overdue = client.register_script(OVERDUE)

    # ---- Backlog ----

    def accept(self, routed: Sequence[tuple[Routable, tuple[Leg, ...]]]) -> list[tuple[Leg, ...]]:
        """As the port says, but an urgent leg that was opened before and is not decided is answered again.

        Its router may have died before it queued the job. One round trip for 500 messages.
        """
        answers: list[tuple[Leg, ...]] = []
        for start in range(0, len(routed), MOST_A_SCRIPT):
            chunk = Chunk()
            for message, legs in routed[start : start + MOST_A_SCRIPT]:
                chunk.add(Turn(message, legs))
            answers += self.accept_chunk(chunk)[0]
        return answers

    def accept_chunk(
        self,
        chunk: Chunk,
        line: Line | None = None,
        full: int = 2**53,
        meanwhile: Callable[[], None] = nothing,
    ) -> tuple[list[tuple[Leg, ...]], list[str]]:
        """The same for messages that come from the stream, which is forgotten in the same step.

        Their urgent jobs are queued on `line`, those that cannot be read end and are kept as dead letters. Answers
        the legs as they go now, and the symbols with `full` votes or more. An urgent leg that is answered again still
        needs its job, and its entry is not forgotten. `meanwhile` is done once, while the server writes.
        """
        answers, full_lists = self._route.run(chunk, line or self._nowhere(), full, meanwhile)
        return [_as_answered(turn, answers.get(number)) for number, turn in enumerate(chunk.turns)], full_lists

    def _nowhere(self) -> Line:
        return Line(f"{self._keys.prefix}:no-queue", f"{self._keys.prefix}:no-queues")

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
        wanted = sorted(str(symbol) for symbol in self._redis.zrange(self._keys.batches(), 0, -1))
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
        span = (to_ms(until), f"({to_ms(since)}")
        raw = self._redis.zrevrangebyscore(self._keys.recent(symbol), *span, start=0, num=self.most_votes)
        return tuple(sorted(votes_of(raw), key=lambda vote: (vote.at, vote.id)))

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """As the port says."""
        if not ids:
            return frozenset()
        scores = self._redis.zmscore(self._keys.used(symbol), list(ids))
        return frozenset(i for i, score in zip(ids, scores, strict=True) if score is not None)


def _as_answered(turn: Turn, answer: str | None) -> tuple[Leg, ...]:
    if answer is None:
        return turn.legs
    if answer.startswith(DUPLICATE):
        return end_as_duplicate(turn.message, answer.removeprefix(DUPLICATE))
    if answer == AGAIN_URGENT:
        name, primary = turn.message.message_id, turn.message.tickers.primary
        return (Leg(leg_id(name, primary), name, primary, Fate.URGENT),)
    return ()


def _claim_of(claim_id: str, raw: Sequence[str]) -> Claim | None:
    if not raw:
        return None
    return Claim(claim_id, claim_id.rsplit("-", 1)[0], tuple(votes_of(raw)))

"""Recent votes of many symbols read in one round trip, for the length of one job."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import redis

from pipeline.models import Vote
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.keys import Keys, to_ms
from workers.adapters.wire_votes import votes_of


class CachedVotes:
    """Implements `VoteHistory` over `RedisBacklog`: what was loaded is served from memory, the rest is asked."""

    def __init__(self, client: redis.Redis, keys: Keys, backlog: RedisBacklog) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._backlog = backlog
        self._loaded: dict[str, tuple[datetime, datetime, tuple[Vote, ...]]] = {}
        self._used: dict[str, frozenset[str]] = {}

    def load(self, spans: Mapping[str, tuple[datetime, datetime]]) -> None:
        """Read each symbol's votes with `since < at <= until`, and which are used. One round trip.

        Where more are used than are read at a time, they are asked for by name.
        """
        most = self._backlog.most_votes
        pipe = self._redis.pipeline(transaction=False)
        for symbol, (since, until) in spans.items():
            pipe.zrevrangebyscore(self._keys.recent(symbol), to_ms(until), f"({to_ms(since)}", start=0, num=most)
            pipe.zrange(self._keys.used(symbol), 0, most)
        answers = pipe.execute()
        for index, (symbol, (since, until)) in enumerate(spans.items()):
            votes = votes_of(answers[2 * index])
            self._loaded[symbol] = (since, until, tuple(sorted(votes, key=lambda vote: (vote.at, vote.id))))
            if len(answers[2 * index + 1]) <= most:
                self._used[symbol] = frozenset(answers[2 * index + 1])

    def forget(self, symbol: str | None = None) -> None:
        """Ask Redis again for this symbol, or for all."""
        if symbol is None:
            self._loaded.clear()
            self._used.clear()
        else:
            self._loaded.pop(symbol, None)
            self._used.pop(symbol, None)

    def votes(self, symbol: str, since: datetime, until: datetime) -> tuple[Vote, ...]:
        """As the port says."""
        span = self._loaded.get(symbol)
        if span is None or since < span[0] or until > span[1]:
            return self._backlog.votes(symbol, since, until)
        if len(span[2]) >= self._backlog.most_votes and until < span[1]:
            return self._backlog.votes(symbol, since, until)
        return tuple(vote for vote in span[2] if since < vote.at <= until)

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """As the port says."""
        known = self._used.get(symbol)
        return self._backlog.used(symbol, ids) if known is None else known & frozenset(ids)

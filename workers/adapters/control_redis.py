"""The control port in Redis: trading state and deny-lists of the whole fleet."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import redis

from pipeline.errors import TransientError
from pipeline.models import TradingState
from pipeline.router import DenyList
from workers.adapters.control_memory import Order, known_kind
from workers.adapters.keys import Keys
from workers.adapters.wire import dump, load

# Lower ACTIVE to REDUCING; no other state is touched, so a halt is never softened.
# KEYS: 1 control
# ARGV: 1 by, 2 reason, 3 at (ISO)
# Returns: 1 when it was lowered, else 0. Cost: O(1).
REDUCE = """
if redis.call('HGET', KEYS[1], 'trading_state') ~= 'ACTIVE' then return 0 end
redis.call('HSET', KEYS[1], 'trading_state', 'REDUCING', 'by', ARGV[1], 'reason', ARGV[2], 'at', ARGV[3])
return 1
"""


class RedisControl:
    """Control for any number of processes. A missing key or an unknown word means HALTED."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._reduce = client.register_script(REDUCE)

    def trading_state(self) -> TradingState:
        """The state. Raises TransientError when it cannot be asked."""
        with _asking():
            word = self._redis.hget(self._keys.control(), "trading_state")
        return TradingState(word) if word in set(TradingState) else TradingState.HALTED

    def why(self) -> Order | None:
        """Who set the trading state, None when nobody did."""
        with _asking():
            by, reason, at = self._redis.hmget(self._keys.control(), ["by", "reason", "at"])
        return Order(by or "", reason or "", datetime.fromisoformat(at)) if at else None

    def set(self, state: TradingState, by: str, reason: str, at: datetime) -> None:
        """Set the trading state."""
        fields = {"trading_state": str(state), "by": by, "reason": reason, "at": at.isoformat()}
        with _asking():
            self._redis.hset(self._keys.control(), mapping=fields)

    def reduce(self, by: str, reason: str, at: datetime) -> None:
        """ACTIVE -> REDUCING in one step; any other state stays."""
        with _asking():
            self._reduce(keys=[self._keys.control()], args=[by, reason, at.isoformat()])

    def deny(self, kind: str, name: str, by: str, reason: str, at: datetime) -> None:
        """Put a symbol, author or source on its deny-list."""
        with _asking():
            self._redis.hset(self._keys.deny(known_kind(kind)), name, dump(Order(by, reason, at)))

    def allow(self, kind: str, name: str) -> None:
        """Take a name off its deny-list. Idempotent."""
        with _asking():
            self._redis.hdel(self._keys.deny(known_kind(kind)), name)

    def denials(self, kind: str) -> dict[str, Order]:
        """A deny-list, by name."""
        with _asking():
            entries = self._redis.hgetall(self._keys.deny(known_kind(kind)))
        return {name: load(Order, text) for name, text in sorted(entries.items())}

    def deny_list(self) -> DenyList:
        """Every name that people forbade. One round trip. Raises TransientError."""
        with _asking():
            pipe = self._redis.pipeline(transaction=False)
            for kind in ("symbol", "author", "source"):
                pipe.hkeys(self._keys.deny(kind))
            symbols, authors, sources = pipe.execute()
        return DenyList(frozenset(symbols), frozenset(authors), frozenset(sources))

    def denied(self, symbol: str, authors: frozenset[str]) -> str | None:
        """The first entry that forbids this trade: the symbol, then the authors in order. One round trip."""
        names = sorted(authors)
        with _asking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hexists(self._keys.deny("symbol"), symbol)
            for name in names:
                pipe.hexists(self._keys.deny("author"), name)
            by_symbol, *by_author = pipe.execute()
        if by_symbol:
            return f"symbol:{symbol}"
        return next((f"author:{name}" for name, found in zip(names, by_author, strict=True) if found), None)


@contextmanager
def _asking() -> Iterator[None]:
    """Whatever keeps the state from being known is the same answer: it cannot be asked."""
    try:
        yield
    except redis.RedisError as error:
        raise TransientError(f"the control keys cannot be asked: {type(error).__name__}: {error}") from error

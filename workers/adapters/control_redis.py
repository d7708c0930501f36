"""The control port in Redis: trading state and deny-lists of the whole fleet."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import redis

from pipeline.errors import TransientError
from pipeline.models import TradingState
from pipeline.router import DenyList
from workers.adapters.control_memory import Act, Order, known_kind
from workers.adapters.keys import HISTORY_MAXLEN, Keys
from workers.adapters.redis_edge import RedisAwayError
from workers.adapters.wire import dump, load

# Set the trading state and keep the act; with "only from" given no other state is touched.
# KEYS: 1 control, 2 control history
# ARGV: 1 state, 2 by, 3 reason, 4 at (ISO), 5 only from this state ('' = any), 6 bound of the history
# Returns: 1 when it was set, else 0. Cost: O(1).
SET = """
if ARGV[5] ~= '' and redis.call('HGET', KEYS[1], 'trading_state') ~= ARGV[5] then return 0 end
redis.call('HSET', KEYS[1], 'trading_state', ARGV[1], 'by', ARGV[2], 'reason', ARGV[3], 'at', ARGV[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'what', ARGV[1], 'by', ARGV[2], 'reason', ARGV[3],
  'at', ARGV[4])
return 1
"""


class RedisControl:
    """Control for any number of processes. A missing key or an unknown word means HALTED."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._set = client.register_script(SET)

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
        self._put(Act(state, by, reason, at), only_from="")

    def reduce(self, by: str, reason: str, at: datetime) -> None:
        """ACTIVE -> REDUCING in one step; any other state stays."""
        self._put(Act(TradingState.REDUCING, by, reason, at), only_from=TradingState.ACTIVE)

    def _put(self, act: Act, only_from: str) -> None:
        keys = [self._keys.control(), self._keys.control_history()]
        with _asking():
            self._set(keys=keys, args=[act.what, act.by, act.reason, act.at.isoformat(), only_from, HISTORY_MAXLEN])

    def deny(self, kind: str, name: str, by: str, reason: str, at: datetime) -> None:
        """Put a symbol, author or source on its deny-list."""
        with _asking():
            self._redis.hset(self._keys.deny(known_kind(kind)), name, dump(Order(by, reason, at)))
        self.note(Act(f"deny {kind} {name}", by, reason, at))

    def allow(self, kind: str, name: str, by: str, reason: str, at: datetime) -> None:
        """Take a name off its deny-list. Idempotent."""
        with _asking():
            self._redis.hdel(self._keys.deny(known_kind(kind)), name)
        self.note(Act(f"allow {kind} {name}", by, reason, at))

    def note(self, act: Act) -> None:
        """Keep an act that changed no control key, such as `flatten`."""
        fields = {"what": act.what, "by": act.by, "reason": act.reason, "at": act.at.isoformat()}
        with _asking():
            self._redis.xadd(self._keys.control_history(), fields, maxlen=HISTORY_MAXLEN, approximate=True)

    def history(self, limit: int) -> tuple[Act, ...]:
        """The last acts, newest first."""
        with _asking():
            rows = [fields for _, fields in self._redis.xrevrange(self._keys.control_history(), count=limit)]
        return tuple(Act(r["what"], r["by"], r["reason"], datetime.fromisoformat(r["at"])) for r in rows)

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
    except RedisAwayError:
        raise
    except redis.RedisError as error:
        raise TransientError(f"the control keys cannot be asked: {type(error).__name__}: {error}") from error

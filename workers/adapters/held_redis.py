"""When the next held signals are due."""

from typing import Any

import redis

from workers.adapters.keys import Keys


class HeldClock:
    """Reads the zset `fleet:held` that the ledger writes."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys

    def next_open_ms(self) -> int | None:
        """The earliest open a signal is held for, in event milliseconds."""
        first = self._redis.zrange(self._keys.held(), 0, 0, withscores=True)
        return int(first[0][1]) if first else None

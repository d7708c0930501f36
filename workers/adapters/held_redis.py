"""When the next held signals are due."""

import redis

from workers.adapters.keys import Keys


class HeldClock:
    """Reads the zset `fleet:held` that the ledger writes."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis = client
        self._keys = keys

    def next_open_ms(self) -> int | None:
        """The earliest open a signal is held for, in event milliseconds."""
        first = self._redis.zrange(self._keys.held(), 0, 0, withscores=True)
        return int(first[0][1]) if first else None

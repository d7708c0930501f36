"""High-water marks of sources, kept after the posts before them were handed over."""

from typing import Any

import redis

from workers.adapters.keys import Keys
from workers.adapters.lines import Mark


class RedisMarks:
    """One hash per channel."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client
        self._keys = keys

    def read(self, channel: str) -> Mark | None:
        """Where the channel's last life stopped, None for a new one."""
        fields = self._redis.hgetall(self._keys.source(channel))
        return Mark(fields["identity"], int(fields["offset"])) if fields else None

    def write(self, channel: str, mark: Mark) -> None:
        """Everything before the mark was handed over."""
        self._redis.hset(self._keys.source(channel), mapping={"identity": mark.identity, "offset": mark.offset})

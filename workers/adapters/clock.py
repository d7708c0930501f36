"""The only places that ask what time it is."""

from datetime import UTC, datetime

import redis


class RedisClock:
    """The server's clock: the same on every host."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def now(self) -> datetime:
        """Redis TIME as aware UTC. One round trip."""
        seconds, micros = self._redis.time()
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=int(micros))


class HostClock:
    """This host's clock, for what never leaves it: stamps of arrival, progress, logs."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the adapter

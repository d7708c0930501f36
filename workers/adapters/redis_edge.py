"""The edge to Redis: its exceptions become ours, so that no caller knows the client library."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipeline.errors import TransientError


@contextmanager
def asking_redis() -> Iterator[None]:
    """Turns "no answer" (connection, time-out, loading, out of memory, read only) into TransientError."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError) as error:
        raise TransientError(f"redis did not answer: {type(error).__name__}: {error}") from error

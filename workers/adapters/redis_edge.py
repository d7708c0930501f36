"""The edge to Redis: its exceptions become ours, so that no caller knows the client library."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, MasterDownError, OutOfMemoryError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from pipeline.errors import TransientError

T = TypeVar("T")

#: Replies of a server that cannot serve now and will again: the client library knows only some of them as classes. In a
#: script's or a pipeline's error the word stands behind a dash or a colon.
AWAY: Final = re.compile(r"(?:^|[\s:-])(OOM|READONLY|BUSY|MISCONF|NOREPLICAS|MASTERDOWN|LOADING|TRYAGAIN|UNBLOCKED)\s")
AWAY_CLASSES: Final = (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError, MasterDownError)
FOR_GOOD: Final = (AuthenticationError, AuthorizationError)


class RedisAwayError(TransientError, RedisConnectionError):
    """Redis was asked with all the patience that was set, and cannot serve now. For the library a lost connection."""


def is_away(error: BaseException) -> bool:
    """Whether Redis cannot serve just now: no connection, no answer, no memory, no disk, no master, a long script."""
    if isinstance(error, FOR_GOOD):
        return False
    if isinstance(error, AWAY_CLASSES):
        return True
    return isinstance(error, redis.ResponseError) and AWAY.search(str(error)) is not None


class Patience(Retry):
    """Repeats whatever is worth it, a number of times or `longest_s` seconds; then raises RedisAwayError.

    That is not repeated again. A process waits so long at most before its own loop, with its signs of life, goes on.
    """

    def __init__(self, backoff: Any, retries: int, longest_s: float = 45.0) -> None:
        super().__init__(backoff, retries, supported_errors=(redis.RedisError, OSError))
        self._longest_s = longest_s

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Any,
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 - the library's signature
    ) -> T:
        """As the library does, for these errors."""
        until = time.monotonic() + self._longest_s

        def worth_it(error: Exception) -> bool:
            passing = (isinstance(error, OSError) or is_away(error)) and time.monotonic() < until
            return passing and not isinstance(error, RedisAwayError) and (is_retryable is None or is_retryable(error))

        try:
            return super().call_with_retry(do, fail, worth_it, with_failure_count)
        except (redis.RedisError, OSError) as error:
            if isinstance(error, RedisAwayError) or not (isinstance(error, OSError) or is_away(error)):
                raise
            raise RedisAwayError(f"redis cannot serve: {type(error).__name__}: {error}") from error


@contextmanager
def asking_redis() -> Iterator[None]:
    """Turns "not now" (connection, time-out, loading, out of memory, read only, busy) into RedisAwayError."""
    try:
        yield
    except redis.RedisError as error:
        if isinstance(error, RedisAwayError) or not is_away(error):
            raise
        raise RedisAwayError(f"redis did not answer: {type(error).__name__}: {error}") from error

"""What to do next about an error of Redis, in one line."""

from typing import Final

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from pipeline.errors import TransientError

HINTS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (AuthenticationError, "check user and password in FLEET_REDIS_URL or its secret file"),
    (AuthorizationError, "check user and password in FLEET_REDIS_URL or its secret file"),
    (NoPermissionError, "this account may not do it; use the account of that role"),
    (BusyLoadingError, "the server reads its file; try again when it is done"),
    (OutOfMemoryError, "Redis is full: docs/runbook.md#redis_memory"),
    (ReadOnlyError, "this is a replica; give the primary's address in FLEET_REDIS_URL"),
    (redis.TimeoutError, "the server is slow or stopped: docs/runbook.md#redis_down"),
    (redis.ConnectionError, "start the server, or give its address in FLEET_REDIS_URL: docs/runbook.md#redis_down"),
)


def hint(error: BaseException | None) -> str:
    """The next step, "" when there is none to name; of an error of ours, about its cause."""
    while isinstance(error, TransientError):
        error = error.__cause__
    return next((words for kind, words in HINTS if isinstance(error, kind)), "")

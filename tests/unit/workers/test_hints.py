"""An error of Redis says what to do next."""

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from pipeline.errors import FleetError, TransientError
from workers.verbs.hints import hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.ConnectionError("refused"), "start the server, or give its address"),
        (redis.TimeoutError("5 s"), "slow or stopped"),
        (AuthenticationError("WRONGPASS"), "user and password"),
        (NoPermissionError("NOPERM"), "the account of that role"),
        (BusyLoadingError("LOADING"), "try again"),
        (OutOfMemoryError("OOM"), "redis_memory"),
        (ReadOnlyError("READONLY"), "primary"),
    ],
)
def test_each_error_of_redis_has_its_own_next_step(error: Exception, words: str) -> None:
    """A refused login is a connection error to the library, and not to us."""
    wrapped = TransientError("redis did not answer")
    wrapped.__cause__ = error

    assert words in hint(error)
    assert hint(wrapped) == hint(error)


def test_other_errors_speak_for_themselves() -> None:
    """Ours name the valid range; those without a cause have nothing to add."""
    assert [hint(FleetError("x")), hint(TransientError("x")), hint(redis.ResponseError("x")), hint(None)] == [""] * 4

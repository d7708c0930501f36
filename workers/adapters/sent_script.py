"""A script of the server whose caller works on while the server does."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import redis

LOST: Final = object()


def nothing() -> None:
    """No work."""


class SentScript:
    """One script, which must bear being run twice: where the answer is lost it is run again, with all patience."""

    def __init__(self, client: redis.Redis, text: str) -> None:
        self._script: Any = client.register_script(text)
        self._pool: Any = client.connection_pool

    def __call__(self, keys: Sequence[Any], args: Sequence[Any], meanwhile: Callable[[], None] = nothing) -> Any:
        """The script's answer; `meanwhile` is run between sending it and waiting for that."""
        if meanwhile is nothing:
            return self._script(keys=keys, args=args)
        connection = self._send(keys, args)
        try:
            meanwhile()
        finally:
            answer = self._receive(connection)
        return self._script(keys=keys, args=args) if answer is LOST else answer

    def _send(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """The connection that waits for the answer; None: it could not be sent."""
        connection = None
        try:
            connection = self._pool.get_connection()
            connection.send_command("EVALSHA", self._script.sha, len(keys), *keys, *args)
        except (redis.RedisError, OSError):
            self._discard(connection)
            return None
        return connection

    def _receive(self, connection: Any) -> Any:
        """The answer, or LOST: no connection, an unknown script, or an error, which running it again will show."""
        if connection is None:
            return LOST
        try:
            answer = connection.read_response()
        except (redis.RedisError, OSError):
            self._discard(connection)
            return LOST
        self._pool.release(connection)
        return answer

    def _discard(self, connection: Any) -> None:
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

"""Posts sent to us over HTTP: POST /posts with a bearer token, JSON lines; answered once they are safe in Redis.

A sender that gets no 200 sends again: what was accepted before is refused as `duplicate_id`, so a post counts once.
What is more than we can hold is refused at once with 503 and Retry-After, and in the end everything while the fleet
takes nothing.
"""

import hashlib
import hmac
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
import structlog

from pipeline.errors import SettingsError
from workers.adapters.lines import Mark, RawPost, Splitter
from workers.adapters.wsgi import WsgiServer

IDENTITY: Final = "webhook"
PATH: Final = "/posts"
MOST_BODY_BYTES: Final = 1_048_576
MOST_LINES: Final = 1_000
MOST_WAITING_BYTES: Final = 8 * MOST_BODY_BYTES
SAFE_WITHIN_S: Final = 10.0
PATIENCE_S: Final = 0.2
THREADS: Final = 16
RETRY_AFTER: Final = ("Retry-After", "1")

log = structlog.get_logger()

Start = Callable[[str, list[tuple[str, str]]], object]


@dataclass(slots=True)
class _Sent:
    """One request: its lines, and whether all of them are safe."""

    lines: list[bytes]
    left: int
    safe: threading.Event = field(default_factory=threading.Event)


class _Reply(NamedTuple):
    """What a sender is told."""

    status: HTTPStatus
    words: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class WebhookSource:
    """Lines of requests, in the order of arrival. `token`: what a sender must present; at most 8 MiB wait."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host = host
        self._asked_port = port
        self._token = hashlib.sha256(token.encode()).digest()
        self._server: WsgiServer | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, _Sent]] = deque()
        self._bytes = 0
        self._given: list[_Sent] = []
        self._count = 0

    @property
    def ended(self) -> bool:
        """Never."""
        return False

    @property
    def port(self) -> int:
        """The port it listens on, once connected."""
        return self._server.port if self._server is not None else self._asked_port

    def connect(self, mark: Mark | None = None) -> None:
        """Listen. Raises SettingsError for an address that cannot be listened on."""
        self._count = mark.offset if mark is not None and mark.identity == IDENTITY else 0
        try:
            self._server = WsgiServer(
                self._answer, self._host, self._asked_port, threads=THREADS, most_body_bytes=MOST_BODY_BYTES
            )
        except OSError as error:
            raise SettingsError(f"source.host:port = {self._host}:{self._asked_port}: {error.strerror}") from error
        self._server.start()
        log.info("webhook.opened", host=self._host, port=self.port)

    def read(self, limit: int) -> list[RawPost]:
        """Up to `limit` lines, waiting at most 0.2 s for the first."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(PATIENCE_S)
            taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
            self._bytes -= sum(len(line) for line, _ in taken)
            self._given += [sent for _, sent in taken]
        self._count += len(taken)
        first = self._count - len(taken) + 1
        return [RawPost(line, Mark(IDENTITY, first + at)) for at, (line, _) in enumerate(taken)]

    def handed_over(self) -> None:
        """What was read is safe: the requests that are safe as a whole are answered."""
        given, self._given = self._given, []
        for sent in given:
            sent.left -= 1
            if sent.left == 0:
                sent.safe.set()

    def close(self) -> None:
        """Listen no more. Idempotent; requests that wait end without an answer, and are sent again."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    # ---- HTTP ----------------------------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """The WSGI application."""
        reply = self._refusal(environ) or self._take(_lines(environ["wsgi.input"].read(MOST_BODY_BYTES)))
        body = orjson.dumps(reply.words) + b"\n"
        fixed = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start(f"{reply.status.value} {reply.status.phrase}", [*fixed, *reply.headers])
        return [body]

    def _refusal(self, environ: dict[str, Any]) -> _Reply | None:
        """Why the request is not read, None when it may be."""
        if environ["PATH_INFO"] != PATH:
            return _Reply(HTTPStatus.NOT_FOUND, {"error": f"valid: POST {PATH}"})
        if environ["REQUEST_METHOD"] != "POST":
            return _Reply(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"valid: POST {PATH}"}, (("Allow", "POST"),))
        if self._is_known(environ.get("HTTP_AUTHORIZATION", "")):
            return None
        log.warning("webhook.refused", address=environ.get("REMOTE_ADDR", ""))
        words = {"error": "valid: Authorization: Bearer TOKEN"}
        return _Reply(HTTPStatus.UNAUTHORIZED, words, (("WWW-Authenticate", "Bearer"),))

    def _take(self, lines: list[bytes]) -> _Reply:
        """Let the lines be read, and wait until they are safe."""
        if not 0 < len(lines) <= MOST_LINES:
            return _Reply(HTTPStatus.BAD_REQUEST, {"error": f"{len(lines)} lines; valid: 1..{MOST_LINES} of JSON"})
        sent = _Sent(lines, len(lines))
        if not self._admit(sent):
            return _Reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too much waits; send again"}, (RETRY_AFTER,))
        if not sent.safe.wait(SAFE_WITHIN_S):
            return _Reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "not safe yet; send again"}, (RETRY_AFTER,))
        return _Reply(HTTPStatus.OK, {"received": len(lines)})

    def _is_known(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"

    def _admit(self, sent: _Sent) -> bool:
        """Let the lines wait to be read; False when too much waits already."""
        size = sum(map(len, sent.lines))
        with self._changed:
            if self._bytes + size > MOST_WAITING_BYTES:
                return False
            self._bytes += size
            self._waiting.extend((line, sent) for line in sent.lines)
            self._changed.notify()
        return True


def _lines(body: bytes) -> list[bytes]:
    """The body's lines without their ends; blank ones are no posts."""
    splitter = Splitter()
    return [line for line, _ in [*splitter.feed(body), *splitter.flush()]]

"""HTTP with a bound: a call ends within its seconds, whatever the other side does; what is sent is sent once.

Each call opens a connection of its own: an idle one that the other side has closed meanwhile would turn an order into
an open question, and a work-horse that keeps a new descriptor is replaced. Nothing is taken from the environment (no
proxy, no netrc), no redirect is followed, no compression is accepted.
"""

import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpcore
import httpx
import orjson

from config.venue import VenueSettings
from pipeline.errors import BrokerError, TransientError

MAX_BODY_BYTES: Final = 4_194_304
TOO_MANY: Final = 429
SERVER_ERROR: Final = 500

#: The moment (monotonic seconds) at which the call of this thread must be over.
_DEADLINE: ContextVar[float] = ContextVar("deadline", default=float("inf"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole, readable answer: the status, the JSON it carries, and the seconds after which to ask again (429)."""

    status: int
    body: Any
    retry_after_s: float | None = None


class NoAnswerError(BrokerError):
    """The call ended without an answer that can be read; `passing`: asking again may help."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class BoundedHttp:
    """Calls to one venue. Raises NoAnswerError (a BrokerError) for whatever is no JSON answer in time."""

    def __init__(
        self,
        settings: VenueSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if settings.base_url is None or settings.api_key is None:
            raise ValueError("venue.base_url or venue.api_key is not set; valid: both")
        self._settings = settings
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._client = httpx.Client(
            base_url=settings.base_url,
            headers={
                "Authorization": f"Bearer {settings.api_key.get_secret_value()}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
            transport=transport or BoundedTransport(monotonic),
            trust_env=False,
            follow_redirects=False,
        )

    @contextmanager
    def bound(self) -> Any:
        """Everything inside shares one bound of `call_s` seconds; an outer bound stays."""
        token = _DEADLINE.set(min(_DEADLINE.get(), self._monotonic() + self._settings.call_s))
        try:
            yield
        finally:
            _DEADLINE.reset(token)

    def ask(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """GET, repeated within the bound while there is no answer, the venue fails (5xx) or says to wait (429).

        Raises TransientError for a 429 whose wait does not fit the bound.
        """
        with self.bound():
            for attempt in range(1, self._settings.get_attempts + 1):
                last = attempt == self._settings.get_attempts
                pause = self._pause(attempt)
                try:
                    answer = self._once("GET", path, params=params)
                except NoAnswerError as error:
                    if last or not error.passing or not self._fits(pause):
                        raise
                else:
                    if answer.status != TOO_MANY:
                        return answer
                    pause = max(pause, answer.retry_after_s or 0)
                    if last or not self._fits(pause):
                        raise TransientError(f"the venue asks to wait {pause:.1f} s")
                self._sleep(pause)
        raise AssertionError("unreachable")

    def tell(self, method: str, path: str, body: object = None) -> Answer:
        """POST or DELETE, once. Raises TransientError for a 429."""
        with self.bound():
            answer = self._once(method, path, content=orjson.dumps(body) if body is not None else None)
        if answer.status == TOO_MANY:
            raise TransientError(f"the venue asks to wait {answer.retry_after_s or 0:.1f} s; nothing is sent again")
        return answer

    # ---- inside ------------------------------------------------------------------------------------------

    def _left(self) -> float:
        return _DEADLINE.get() - self._monotonic()

    def _fits(self, pause: float) -> bool:
        """Whether there would be time for another try after the pause."""
        return pause < self._left()

    def _pause(self, attempt: int) -> float:
        """Seconds before the next try: random below a bound that doubles."""
        return self._settings.retry_base_s * 2.0 ** (attempt - 1) * self._jitter()

    def _once(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        left = self._left()
        if left <= 0:
            raise NoAnswerError(f"{method} {path}: no time left of {self._settings.call_s} s")
        connect, read = min(self._settings.connect_s, left), min(self._settings.read_s, left)
        try:
            with self._client.stream(
                method,
                path,
                params=dict(params) if params else None,
                content=content,
                headers={"Content-Type": "application/json"} if content is not None else None,
                timeout=httpx.Timeout(read, connect=connect, pool=connect),
            ) as response:
                raw = self._body(response)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise NoAnswerError(f"{method} {path}: {type(error).__name__}") from error
        return self._answer(f"{method} {path}", response, raw)

    def _body(self, response: httpx.Response) -> bytes:
        """The body within time and size."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise NoAnswerError("the answer is compressed; valid: identity", passing=False)
        raw = bytearray()
        for chunk in response.iter_raw():
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                raise NoAnswerError(f"the answer has more than {MAX_BODY_BYTES} bytes", passing=False)
            if self._left() <= 0:
                raise NoAnswerError(f"the answer took more than {self._settings.call_s} s")
        return bytes(raw)

    def _answer(self, call: str, response: httpx.Response, raw: bytes) -> Answer:
        """What was said. A 5xx, a redirect or no JSON is no answer; a 429 needs no body."""
        status = response.status_code
        if status == TOO_MANY:
            return Answer(status, None, _retry_after(response.headers))
        if status >= SERVER_ERROR:
            raise NoAnswerError(f"{call}: status {status}")
        if 300 <= status < 400 or status < 200:  # noqa: PLR2004 - classes of RFC 9110
            raise NoAnswerError(f"{call}: status {status}; valid: 2xx or 4xx", passing=False)
        try:
            return Answer(status, orjson.loads(raw))
        except orjson.JSONDecodeError as error:
            raise NoAnswerError(f"{call}: status {status} without JSON") from error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After` (RFC 9110: seconds, or a date beside the answer's own); None when it says neither."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit() and len(text) < 7:  # noqa: PLR2004 - eleven days
        return float(text)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return max(wait.total_seconds(), 0.0)


# ---- the wire: no read, write or connect outlasts the call ------------------------------------------------------


def post_json(url: str, body: object, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> int | None:
    """POST once within so many seconds in all; the status, None for no answer in time. Neither says the address."""
    token = _DEADLINE.set(monotonic() + seconds)
    headers = {"Content-Type": "application/json", "Connection": "close", "User-Agent": "signal-fleet"}
    try:
        with (
            httpx.Client(transport=BoundedTransport(monotonic), trust_env=False, follow_redirects=False) as client,
            client.stream("POST", url, content=orjson.dumps(body), headers=headers, timeout=seconds) as response,
        ):
            return response.status_code
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError):
        return None
    finally:
        _DEADLINE.reset(token)


class BoundedTransport(httpx.HTTPTransport):
    """httpx's own transport over sockets that know the call's deadline: a slow drip of bytes does not extend it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_keepalive_connections=0,
            retries=0,
            network_backend=_BoundedBackend(monotonic),
        )


class _BoundedBackend(httpcore.SyncBackend):
    """Connects within the deadline, the name's look-up included."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit = _within(timeout, self._monotonic, httpcore.ConnectTimeout)
        address = _resolve(host, port, limit)
        limit = _within(timeout, self._monotonic, httpcore.ConnectTimeout)
        stream = super().connect_tcp(address, port, limit, local_address, socket_options)
        return _BoundedStream(stream, self._monotonic)


class _BoundedStream(httpcore.NetworkStream):
    """A socket whose every wait is cut at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, monotonic: Callable[[], float]) -> None:
        self._stream = stream
        self._monotonic = monotonic

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _within(timeout, self._monotonic, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _within(timeout, self._monotonic, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _within(timeout, self._monotonic, httpcore.ConnectTimeout)
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, limit), self._monotonic)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _within(timeout: float | None, monotonic: Callable[[], float], late: type[Exception]) -> float:
    """The wait, cut at the deadline. Raises `late` past it."""
    left = _DEADLINE.get() - monotonic()
    if left <= 0:
        raise late("the call's time is over")
    return left if timeout is None else min(timeout, left)


def _resolve(host: str, port: int, timeout: float) -> str:
    """The host's address; the system's resolver knows no time-out, so it is asked in a thread that may be left alone.

    Raises httpcore.ConnectTimeout and httpcore.ConnectError.
    """
    found: queue.SimpleQueue[str | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True, name="resolve").start()
    try:
        answer = found.get(timeout=timeout)
    except queue.Empty:
        raise httpcore.ConnectTimeout(f"{host} was not found in time") from None
    if isinstance(answer, OSError):
        raise httpcore.ConnectError(f"{host} is not known") from answer
    return answer

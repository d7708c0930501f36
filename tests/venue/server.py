"""The HTTP side: every request meets at most one toxic; what it does to the book and what it answers differ."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from config.venue import VenueSettings
from tests.venue.book import Book, VenueBook
from tests.venue.toxics import RandomToxics, Toxic

KEY = "venue-test-key"
NOT_MADE = frozenset({"hang", "refuse_504", "rate_limit", "deny_422", "close", "refuse", "redirect", "plain_404"})
GOOD = Toxic("none")
Reply = tuple[int, dict[str, Any]]


class LyingVenue:
    """A venue on a free loopback port. `script`: toxics used up in order; then `random` says, else all is well."""

    def __init__(
        self,
        script: Sequence[Toxic] = (),
        random: RandomToxics | None = None,
        book: VenueBook | None = None,
        port: int = 0,
        clock: Callable[[], bool] = lambda: True,
        page_size: int = 50,
    ) -> None:
        self.venue = book or VenueBook()
        self.key = KEY
        self.requests: list[tuple[str, str, str]] = []  # method, path, toxic
        self.page_size = page_size
        self._script = list(script)
        self._random = random
        self._clock = clock
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, *, hasty: bool = False, **changes: Any) -> VenueSettings:
        """Settings of a client of this venue; `hasty`: for a venue that is silent, a second of it is enough."""
        bounds = {"call_s": 2.0, "connect_s": 2.0, "read_s": 1.0} if hasty else {"connect_s": 8.0, "read_s": 8.0}
        facts: dict[str, Any] = {"retry_base_s": 0.01, **bounds, **changes}
        key = SecretStr(self.key)
        return VenueSettings(kind="http", base_url=self.url, api_key=key, sandbox=True, **facts)

    def book(self) -> Book:
        """What it really has."""
        return self.venue.copy()

    def poison(self, *toxics: Toxic) -> None:
        """Add toxics to the end of the script."""
        with self._lock:
            self._script.extend(toxics)

    def heal(self) -> None:
        """No more toxics, scripted or random."""
        with self._lock:
            self._script.clear()
            self._random = None

    def set_random(self, toxics: RandomToxics | None) -> None:
        """Throw this die from now on."""
        with self._lock:
            self._random = toxics

    def next_toxic(self, method: str) -> Toxic:
        """The toxic of this request: the first of the script that fits, else what the die says."""
        with self._lock:
            for place, toxic in enumerate(self._script):
                if toxic.method in ("", method):
                    return self._script.pop(place)
            return self._random(method) if self._random is not None else GOOD

    def wait(self, seconds: float) -> bool:
        """A pause that the end of the venue cuts short; whether it did."""
        return self._gone.wait(seconds)

    def is_open(self) -> bool:
        """The answer of /clock."""
        return self._clock()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error here."""


def _handler(venue: LyingVenue) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"venue": venue})


class _Handler(BaseHTTPRequestHandler):
    venue: ClassVar[LyingVenue]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Silent."""

    def do_GET(self) -> None:
        self._serve("GET", b"")

    def do_DELETE(self) -> None:
        self._serve("DELETE", b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/control/"):
            self._answer(*_control(self.venue, self.path, json.loads(raw or b"{}")))
            return
        self._serve("POST", raw)

    def _serve(self, method: str, raw: bytes) -> None:
        """One request: the toxic, what it does to the book, what is answered."""
        self.close_connection = True
        if self.path == "/control/book":
            self._answer(200, self.venue.venue.json())
            return
        if self.headers.get("Authorization") != f"Bearer {self.venue.key}":
            self._answer(401, {"code": "unauthorized"})
            return
        toxic = self.venue.next_toxic(method)
        self.venue.requests.append((method, self.path, toxic.kind))
        body = json.loads(raw) if raw else {}
        if method == "POST":
            self.venue.venue.asked(str(body["client_order_id"]))
        if toxic.kind == "late":
            self.venue.wait(toxic.seconds)
        reply = (0, {}) if toxic.kind in NOT_MADE else _act(self.venue, method, self.path, body, toxic)
        self._lie(toxic, *reply)

    def _lie(self, toxic: Toxic, status: int, body: dict[str, Any]) -> None:
        kind = toxic.kind
        if kind in {"delay", "accept_hang", "hang"}:
            self.venue.wait(toxic.seconds)
        if kind in {"accept_hang", "hang", "reset", "close"}:
            self._cut()
        elif kind in {"accept_504", "refuse_504"}:
            self._answer(504, {"message": "gateway time-out"})
        elif kind in {"rate_limit", "accept_429"}:
            self._answer(429, {"code": "rate_limited"}, {"Retry-After": str(int(toxic.seconds))})
        elif kind in {"accept_422", "deny_422"}:
            self._answer(422, {"code": "duplicate_client_order_id"})
        elif kind == "refuse":
            self._answer(403, {"code": "insufficient_buying_power", "message": "no"})
        elif kind == "redirect":
            self._answer(307, {}, {"Location": self.path})
        elif kind == "plain_404":
            self._answer(404, {"error": "no route"})
        else:
            self._garble(toxic, status, body)

    def _garble(self, toxic: Toxic, status: int, body: dict[str, Any]) -> None:
        """The true answer, damaged on its way."""
        if toxic.kind == "garbage":
            self._raw(200, b"\x00{not json \xff")
        elif toxic.kind == "wrong_shape":
            self._answer(200, {"ok": True})
        elif toxic.kind == "other_order":
            self._answer(status, body | {"client_order_id": "someone-else"})
        elif toxic.kind == "float_money":
            fills = [fill | {"price": 1.5} for fill in body.get("fills", [])]
            self._answer(status, body | {"fills": fills or [{}]})
        elif toxic.kind == "half_closed":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
            self.connection.shutdown(socket.SHUT_WR)
        elif toxic.kind == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self._drip(itertools.chain(json.dumps(body).encode(), itertools.repeat(32)), toxic.seconds)
        elif toxic.kind == "drip_head":
            self._drip(itertools.chain(b"HTTP/1.1 200 OK\r\nX-Padding: ", itertools.repeat(120)), toxic.seconds)
        elif toxic.kind == "huge":
            self._pour()
        else:
            self._answer(status, body)

    def _drip(self, raw: Iterable[int], seconds: float) -> None:
        """Byte after byte, without end, until the caller or the venue is gone."""
        for byte in raw:
            if self.venue.wait(seconds):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def _pour(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(200):
            self.wfile.write(b" " * 65_536)

    def _cut(self) -> None:
        """Close without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.connection.close()

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._raw(status, json.dumps(body).encode(), headers)

    def _raw(self, status: int, raw: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(raw)


def _act(venue: LyingVenue, method: str, path: str, body: dict[str, Any], toxic: Toxic) -> Reply:
    """What the request does to the book, and the true answer."""
    book, parts = venue.venue, urlsplit(path)
    name = unquote(parts.path.rsplit("/", 1)[-1])
    if method == "POST":
        fill = {"partial": toxic.quantity, "rest": 0}.get(toxic.kind)
        return book.place(body, fill, takes_stops=toxic.kind != "no_stop")
    if parts.path.startswith("/orders/"):
        found = book.cancel(name) if method == "DELETE" else book.order(name)
        return (200, found) if found is not None else (404, {"code": "unknown_order"})
    if parts.path == "/orders":
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "state" in asked:
            return 200, _listing(venue, asked, toxic.kind)
        ids = asked.get("ids", "").split(",")
        return 200, {"orders": [one for one in map(book.order, ids) if one is not None]}
    return _facts(venue, parts.path, name)


def _listing(venue: LyingVenue, asked: dict[str, str], kind: str) -> dict[str, Any]:
    after = asked.get("after")
    page = venue.venue.listing(asked.get("closed_since"), after, venue.page_size)
    if kind == "lost_page":
        page.pop("next", None)
    if kind == "same_page":
        page["next"] = after or "again"
    return page


def _facts(venue: LyingVenue, path: str, name: str) -> Reply:
    book = venue.venue
    if path == "/positions":
        return 200, {"positions": book.positions()}
    if path == "/account":
        return 200, dict(book.account())
    if path == "/clock":
        return 200, {"open": venue.is_open()}
    if path.startswith("/quotes/"):
        price = book.mark(name)
        if price is None:
            return 404, {"code": "unknown_symbol"}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return 200, {"symbol": name, "price": str(price), "at": now, "source": "venue"}
    return 404, {"code": "unknown_path"}


def _control(venue: LyingVenue, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """What a test in another process may ask for."""
    book = venue.venue
    if path == "/control/toxics":
        venue.poison(*(Toxic(**one) for one in body["script"]))
    elif path == "/control/random":
        venue.set_random(RandomToxics(**body | {"kinds": tuple(body["kinds"])}) if body else None)
    elif path == "/control/heal":
        venue.heal()
    elif path == "/control/fill":
        book.fill(**body)
    elif path == "/control/move":
        for symbol, price in body["moves"]:
            book.move(symbol, price, body["at"])
    elif path == "/control/expire":
        book.expire(**body)
    elif path == "/control/summary":
        return 200, book.summary()
    elif path == "/control/requests":
        return 200, venue.requests
    else:
        return 404, {"code": "unknown_control"}
    return 200, {}

"""`/metrics` and `/healthz` of one process, answered by a thread of it."""

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Final

import orjson
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from config.watch import MetricsSettings
from workers.liveness import Liveness

AT_ONCE: Final = 8
PATIENCE_S: Final = 5
OK, NOT_FOUND, UNAVAILABLE = 200, 404, 503

log = structlog.get_logger()


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of two pages; whoever is slow is left after 5 s."""

    timeout: ClassVar[int] = PATIENCE_S
    server: "_Server"
    server_version = "signal-fleet"
    sys_version = ""

    def do_GET(self) -> None:
        """One page."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(OK, content_type, encode(self.server.registry))
        elif path == "/healthz":
            pulse = self.server.liveness.pulse()
            body = {"alive": pulse.alive, "turned_s_ago": pulse.age_s, "failing": pulse.failing}
            self._answer(OK if pulse.alive else UNAVAILABLE, "application/json", orjson.dumps(body) + b"\n")
        else:
            self._answer(NOT_FOUND, "text/plain; charset=utf-8", b"/metrics or /healthz\n")

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Scrapes are no news."""


class _Server(socketserver.ThreadingTCPServer):
    """At most 8 conversations at once; whoever comes then is hung up on."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, liveness: Liveness) -> None:
        self.registry = registry
        self.liveness = liveness
        self._seats = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there is a seat."""
        if self._seats.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The conversation."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who hangs up is no failure of ours."""


class _Server6(_Server):
    address_family = 10  # AF_INET6


def serve(settings: MetricsSettings, registry: CollectorRegistry, liveness: Liveness) -> None:
    """Answer from now on, until the process ends; nothing without a port.

    A port that is taken keeps nobody from trading: it is told in the log, and probes of it fail.
    """
    if settings.port is None:
        return
    kind = _Server6 if ":" in settings.host else _Server
    try:
        server = kind((settings.host, settings.port), registry, liveness)
    except OSError as error:
        log.critical("metrics.not_served", host=settings.host, port=settings.port, error=error.strerror)
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics.served", host=settings.host, port=settings.port)

"""A WSGI application on waitress in a thread of its own, which ends when it is told to and leaves no socket behind."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from waitress import wasyncore
from waitress.server import create_server

LOOK_EVERY_S: Final = 0.2
ENDS_WITHIN_S: Final = 30.0
SILENT_FOR_S: Final = 30
MOST_CONNECTIONS: Final = 128
MOST_HEADER_BYTES: Final = 16_384

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class WsgiServer:
    """Listens from its making on. Raises OSError for an address that cannot be listened on."""

    def __init__(
        self, application: Application, host: str, port: int, *, threads: int, most_body_bytes: int, https: bool = False
    ) -> None:
        self._map: dict[int, Any] = {}
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "threads": threads,
            "ident": None,
            "url_scheme": "https" if https else "http",
            "connection_limit": MOST_CONNECTIONS,
            "channel_timeout": SILENT_FOR_S,
            "max_request_body_size": most_body_bytes,
            "max_request_header_size": MOST_HEADER_BYTES,
            "expose_tracebacks": False,
            "clear_untrusted_proxy_headers": True,
        }
        try:
            self._server = create_server(application, map=self._map, **options)
        except OSError:
            wasyncore.close_all(self._map, ignore_all=True)
            raise
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        several = getattr(self._server, "effective_listen", None)
        return int(several[0][1] if several else self._server.effective_port)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; what is being answered is given up. Idempotent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(ENDS_WITHIN_S)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                wasyncore.loop(timeout=LOOK_EVERY_S, map=self._map, count=1, use_poll=True)
        finally:
            self._server.task_dispatcher.shutdown(timeout=1)
            wasyncore.close_all(self._map)

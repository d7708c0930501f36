"""`fleet dashboard`: the application on waitress, a server for production, until SIGTERM."""

from threading import Thread
from typing import Final

import structlog
from pydantic import SecretStr
from waitress.server import create_server

from config.settings import Settings
from pipeline.errors import SettingsError
from workers.adapters.connection import connect
from workers.adapters.control_redis import RedisControl
from workers.dashboard.app import MOST_BODY_BYTES, build
from workers.stop import Stop
from workers.wiring import Runtime

THREADS: Final = 4
MOST_CONNECTIONS: Final = 64
MOST_HEADER_BYTES: Final = 16_384
SILENT_FOR_S: Final = 30

log = structlog.get_logger()


def serve(fleet: Runtime, stop: Stop) -> int:
    """Answer until `stop`; the exit code. Raises SettingsError without a password or for a port that is taken."""
    settings = fleet.settings.dashboard
    if settings.password is None:
        raise SettingsError("dashboard.password is not set; valid: FLEET_DASHBOARD__PASSWORD or a secret file")
    app = build(fleet, _control(fleet.settings, fleet))
    try:
        server = create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=THREADS,
            ident=None,
            url_scheme="https" if settings.https else "http",
            connection_limit=MOST_CONNECTIONS,
            channel_timeout=SILENT_FOR_S,
            max_request_body_size=MOST_BODY_BYTES,
            max_request_header_size=MOST_HEADER_BYTES,
            expose_tracebacks=False,
            clear_untrusted_proxy_headers=True,
        )
    except OSError as error:
        raise SettingsError(f"dashboard.host:port = {settings.host}:{settings.port}: {error.strerror}") from error
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    log.info("dashboard.started", host=settings.host, port=server.effective_port, acts=settings.control_url is not None)
    stop.wait(10**9)
    server.close()
    thread.join(SILENT_FOR_S)
    log.info("dashboard.stopped")
    return 0


def _control(settings: Settings, fleet: Runtime) -> RedisControl | None:
    """The account that may halt and reduce; None = the page only shows."""
    url = settings.dashboard.control_url
    if url is None:
        return None
    redis = settings.redis.model_copy(update={"url": SecretStr(url.get_secret_value())})
    return RedisControl(connect(settings.model_copy(update={"redis": redis})), fleet.keys)

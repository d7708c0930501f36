"""`fleet dashboard`: the application on waitress, a server for production, until SIGTERM."""

from typing import Final

import structlog
from pydantic import SecretStr

from config.settings import Settings
from pipeline.errors import SettingsError
from workers.adapters.connection import connect
from workers.adapters.control_redis import RedisControl
from workers.adapters.wsgi import WsgiServer
from workers.dashboard.app import MOST_BODY_BYTES, build
from workers.stop import Stop
from workers.wiring import Runtime

THREADS: Final = 4

log = structlog.get_logger()


def serve(fleet: Runtime, stop: Stop) -> int:
    """Answer until `stop`; the exit code. Raises SettingsError without a password or for a port that is taken."""
    settings = fleet.settings.dashboard
    if settings.password is None:
        raise SettingsError("dashboard.password is not set; valid: FLEET_DASHBOARD__PASSWORD or a secret file")
    app = build(fleet, _control(fleet.settings, fleet))
    try:
        server = WsgiServer(
            app,
            settings.host,
            settings.port,
            threads=THREADS,
            most_body_bytes=MOST_BODY_BYTES,
            https=settings.https,
        )
    except OSError as error:
        raise SettingsError(f"dashboard.host:port = {settings.host}:{settings.port}: {error.strerror}") from error
    server.start()
    log.info("dashboard.started", host=settings.host, port=server.port, acts=settings.control_url is not None)
    stop.wait(10**9)
    server.stop()
    log.info("dashboard.stopped")
    return 0


def _control(settings: Settings, fleet: Runtime) -> RedisControl | None:
    """The account that may halt and reduce; None = the page only shows."""
    url = settings.dashboard.control_url
    if url is None:
        return None
    redis = settings.redis.model_copy(update={"url": SecretStr(url.get_secret_value())})
    return RedisControl(connect(settings.model_copy(update={"redis": redis})), fleet.keys)

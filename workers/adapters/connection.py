"""Connections to the one Redis: text for our own keys, bytes for RQ, both with explicit patience.

Retries resend a command whose reply was lost, whole MULTI/EXEC blocks included, so everything sent through
these clients must bear being done twice. Ours does: scripts are idempotent by id, stream entries are deduplicated
by message id, a job that is queued twice finds its work done, `unique` enqueues answer DuplicateJobError.

- `connect`: few repeats; then the process loop backs off, visibly, and can still be stopped.
- `connect_bytes`: many repeats, because an RQ worker that meets an outage while busy exits at once without them.

`Redis.from_url` alone retries nothing, so the policy is always given. An address redis+sentinel:// is asked of
sentinels, again at each new connection, so that a failover is followed.
"""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from config.sections import RedisSettings, sentinels_of
from config.settings import Settings
from pipeline.errors import SettingsError
from workers.adapters.embedded import find
from workers.adapters.redis_edge import Patience

OLDEST = (6, 2)  # BLMOVE


def redis_url(settings: Settings) -> str:
    """The configured address, else that of the embedded server running in `data_dir`.

    Raises SettingsError when there is neither.
    """
    if settings.redis.url is not None:
        return settings.redis.url.get_secret_value()
    url = find(settings.data_dir)
    if url is None:
        raise SettingsError(
            f"redis.url = null and no embedded server runs in data_dir = {settings.data_dir}; "
            "set FLEET_REDIS_URL=redis://HOST:PORT/DB or start `fleet run` there"
        )
    return url


def connect(settings: Settings) -> redis.Redis:
    """A client that speaks text, for every key of ours. It connects at the first command."""
    return _client(settings, settings.redis.retry_attempts, decode=True)


def connect_bytes(settings: Settings, *, patient: bool = True) -> redis.Redis:
    """A client that speaks bytes, for RQ only: with decoded replies a worker ends without running its job.

    Not `patient`: with the few repeats of `connect`, for a process that has a back-off of its own.
    """
    attempts = settings.redis.worker_retry_attempts if patient else settings.redis.retry_attempts
    return _client(settings, attempts, decode=False)


def require_server(client: redis.Redis) -> None:
    """Refuse what the fleet cannot run on: a cluster, whose scripts may not touch keys of several slots; old servers.

    Raises SettingsError, RedisAwayError. A user without INFO is not asked: workers refuse it themselves.
    """
    try:
        server: Any = client.info("server")
    except redis.exceptions.NoPermissionError:
        return
    if "cluster" in (server.get("redis_mode"), server.get("server_mode")):  # Redis, Valkey
        raise SettingsError(
            "redis.url names a node of a Redis Cluster; valid: a single server, or redis+sentinel:// for failover. "
            "A step of the fleet touches keys of many slots at once, and RQ supports no cluster"
        )
    version = str(server.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise SettingsError(f"redis.url: the server is version {version}; valid: >= 6.2 (BLMOVE)")


def _client(settings: Settings, attempts: int, *, decode: bool) -> redis.Redis:
    """A client with the settings' patience. Time-outs are per command; a repeat starts them anew."""
    patience, url = settings.redis, redis_url(settings)
    options: dict[str, Any] = {
        "decode_responses": decode,
        "retry": _retry(patience, attempts),
        "socket_timeout": patience.socket_timeout_s,
        "socket_connect_timeout": patience.connect_timeout_s,
        "health_check_interval": patience.health_check_interval_s,
        **_tls(patience),
    }
    if urlsplit(url).scheme.endswith("+sentinel"):
        return _followed(url, patience, options)
    return redis.Redis.from_url(url, **options)


def _retry(patience: RedisSettings, attempts: int) -> Patience:
    """Repeats with growing, jittered pauses while the server cannot serve."""
    return Patience(ExponentialWithJitterBackoff(base=patience.retry_base_s, cap=patience.retry_cap_s), attempts)


# ---- sentinels ---------------------------------------------------------------------------------------------


class _Asking(SentinelManagedConnection):
    """A connection that asks the sentinels again whenever it was lost; the library would call the old master."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - as theirs
        """Send, to the present master."""
        if not self._sock:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class _AskingTls(_Asking, SentinelManagedSSLConnection):
    """The same over TLS."""


def _followed(url: str, patience: RedisSettings, options: dict[str, Any]) -> redis.Redis:
    """A client of the master that the sentinels of the address name."""
    parts, words = urlsplit(url), parse_qs(urlsplit(url).query)
    service, _, database = parts.path.strip("/").partition("/")
    asking: dict[str, Any] = {
        "socket_timeout": patience.connect_timeout_s,
        "socket_connect_timeout": patience.connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "username": words.get("sentinel_username", [None])[0],
        "password": words.get("sentinel_password", [None])[0],
    }
    tls = parts.scheme == "rediss+sentinel"
    asking |= {"ssl": True, **_tls(patience)} if tls else {}
    sentinel = Sentinel(sentinels_of(url), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    login, _, _ = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options |= {"username": unquote(user) or None, "password": unquote(password) or None, "db": int(database or 0)}
    options |= {"connection_class": _AskingTls if tls else _Asking, "ssl": tls}
    client: redis.Redis = sentinel.master_for(service, **options)  # type: ignore[no-untyped-call]
    return client


def _tls(settings: RedisSettings) -> dict[str, Any]:
    """For rediss://: the server's certificate is always asked for, and must be of its name."""
    if not settings.is_tls:
        return {}
    files = {"ssl_ca_certs": settings.tls_ca, "ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
    named = {name: str(file) for name, file in files.items() if file is not None}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **named}

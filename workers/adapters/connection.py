"""Connections to the one Redis: text for our own keys, bytes for RQ, both with explicit patience.

Retries resend a command whose reply was lost, whole MULTI/EXEC blocks included, so everything sent through
these clients must bear being done twice. Ours does: scripts are idempotent by id, stream entries are deduplicated
by message id, a job that is queued twice finds its work done, `unique` enqueues answer DuplicateJobError.

- `connect`: few repeats; then the process loop backs off, visibly, and can still be stopped.
- `connect_bytes`: many repeats, because an RQ worker that meets an outage while busy exits at once without them.

`Redis.from_url` alone retries nothing, so the policy is always given.
"""

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from config.sections import RedisSettings
from config.settings import Settings
from pipeline.errors import SettingsError
from workers.adapters.embedded import find


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


def connect_bytes(settings: Settings) -> redis.Redis:
    """A client that speaks bytes, for RQ only: with decoded replies a worker ends without running its job."""
    return _client(settings, settings.redis.worker_retry_attempts, decode=False)


def _client(settings: Settings, attempts: int, *, decode: bool) -> redis.Redis:
    """A client with the settings' patience. Time-outs are per command; a repeat starts them anew."""
    patience = settings.redis
    return redis.Redis.from_url(
        redis_url(settings),
        decode_responses=decode,
        retry=_retry(patience, attempts),
        socket_timeout=patience.socket_timeout_s,
        socket_connect_timeout=patience.connect_timeout_s,
        health_check_interval=patience.health_check_interval_s,
    )


def _retry(patience: RedisSettings, attempts: int) -> Retry:
    """Repeats on lost connections and time-outs, with growing, jittered pauses."""
    pauses = ExponentialWithJitterBackoff(base=patience.retry_base_s, cap=patience.retry_cap_s)
    return Retry(pauses, attempts, supported_errors=(redis.ConnectionError, redis.TimeoutError))

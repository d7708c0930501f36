"""Settings of the shell around the pipeline: Redis, market files, sources, workers, schedule and log."""

import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator

from pipeline.models import Frozen

SOURCE_NAME = r"^[a-z0-9_]{1,32}$"
HEARTBEAT_S = 10  # a process that turns at least this often is never taken for dead (heartbeats live 30 s)

SENTINEL_PORT = 26379
SHORTEST_ROUND_S = 60

SourceName = Annotated[str, Field(pattern=SOURCE_NAME)]


def sentinels_of(url: str) -> list[tuple[str, int]]:
    """Hosts and ports of a redis+sentinel:// address, empty when one of them is none."""
    places = urlsplit(url).netloc.rpartition("@")[2].split(",")
    found = [re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::(\d{1,5}))?", place) for place in places]
    return [(one[1].strip("[]"), int(one[2] or SENTINEL_PORT)) for one in found if one] if all(found) else []


class RedisSettings(Frozen):
    """The one server all processes share. Without a url the embedded server of `data_dir` is used."""

    url: SecretStr | None = Field(
        default=None,
        description="redis[s]://, unix:// or redis[s]+sentinel:// address; FLEET_REDIS_URL; none = the embedded server",
    )
    tls_ca: Path | None = Field(
        default=None, description="file of the authority that signed the server's certificate; none = the system's"
    )
    tls_cert: Path | None = Field(default=None, description="file of our certificate, if the server wants one")
    tls_key: Path | None = Field(default=None, description="file of that certificate's key; together with tls_cert")
    key_prefix: str = Field(
        default="fleet", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="first word of every key of ours"
    )
    socket_timeout_s: float = Field(default=5, ge=0.5, le=60, description="seconds a reply may take")
    connect_timeout_s: float = Field(default=3, ge=0.1, le=60, description="seconds a connection may take")
    block_s: float = Field(
        default=1, ge=0.05, le=30, description="seconds a blocking read waits, below socket_timeout_s"
    )
    health_check_interval_s: int = Field(default=15, ge=0, le=600, description="seconds idle before a PING comes first")
    retry_attempts: int = Field(default=3, ge=0, le=20, description="repeats of a command before the process backs off")
    worker_retry_attempts: int = Field(
        default=150, ge=0, le=1000, description="repeats inside an RQ worker, which has no back-off of its own"
    )
    retry_base_s: float = Field(
        default=0.1, ge=0.001, le=5, description="seconds before the first repeat, doubled each"
    )
    retry_cap_s: float = Field(default=2, ge=0.01, le=60, description="seconds, the longest wait between repeats")

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: SecretStr | None) -> SecretStr | None:
        """Refuse what redis-py would misread. The address is never repeated: it may hold a password."""
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme in {"redis+sentinel", "rediss+sentinel"}:
            if not sentinels_of(url.get_secret_value()) or not re.fullmatch(r"/[^/]+(/\d+)?", parts.path):
                raise ValueError("must be redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB")
        elif parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.path):
            raise ValueError("must be redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH or redis+sentinel://")
        if "decode_responses" in parts.query:
            raise ValueError("must not set decode_responses: RQ needs bytes and the fleet needs text")
        if "ssl_" in parts.query:
            raise ValueError(
                "must not set ssl_ options: certificates are always checked; files are redis.tls_ca, tls_cert, tls_key"
            )
        return url

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        """A blocking read that outlasts the socket's patience looks like a dead server."""
        if self.block_s >= self.socket_timeout_s:
            raise ValueError(f"block_s = {self.block_s} must be below socket_timeout_s = {self.socket_timeout_s}")
        if self.retry_base_s > self.retry_cap_s:
            raise ValueError(f"retry_base_s = {self.retry_base_s} must not pass retry_cap_s = {self.retry_cap_s}")
        return self

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url is not None and urlsplit(self.url.get_secret_value()).scheme.startswith("rediss")

    @model_validator(mode="after")
    def _certificates_are_for_tls(self) -> Self:
        """Who names certificates believes to be safe: a plain connection would not be."""
        named = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(self, name) is not None]
        if named and not self.is_tls:
            raise ValueError(f"{named[0]} is set, but url is not rediss://")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"tls_cert = {self.tls_cert} and tls_key = {self.tls_key}; valid: both or neither")
        return self


class MarketSettings(Frozen):
    """Where prices, volatility and the exchange's days come from."""

    bars_dir: Path | None = Field(default=None, description="folder of SYM.csv, the bars decisions are made on")
    daily_bars_dir: Path | None = Field(default=None, description="folder of daily SYM.csv; none = bars_dir")
    vix_csv: Path | None = Field(default=None, description="daily VIX file; none switches the VIX check off")
    index_symbol: str | None = Field(
        default=None, pattern=r"^[A-Z]{1,5}(\.[A-Z])?$", description="the market's own symbol; none = no index checks"
    )
    calendar: Literal["XNYS", "24/7"] = Field(
        default="XNYS",
        description="XNYS = New York's sessions; 24/7 = always open, a session is a day of UTC",
    )
    calendar_start: date = Field(
        default=date(1990, 1, 1), ge=date(1970, 1, 1), le=date(2035, 12, 31), description="first day the calendar knows"
    )
    calendar_end: date = Field(
        default=date(2035, 12, 31), ge=date(1970, 1, 2), le=date(2100, 1, 1), description="last day the calendar knows"
    )

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        """A calendar needs at least one day."""
        if self.calendar_start >= self.calendar_end:
            raise ValueError(
                f"calendar_start = {self.calendar_start} must be before calendar_end = {self.calendar_end}"
            )
        return self


class SourceSettings(Frozen):
    """Where posts come from."""

    kind: Literal["jsonl", "stdin", "webhook"] = Field(
        default="jsonl", description="a file of JSON lines, standard input, or posts sent to us over HTTP"
    )
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="address a webhook listens on")
    port: int = Field(default=8081, ge=0, le=65_535, description="port a webhook listens on; 0 = any")
    token: SecretStr | None = Field(
        default=None, min_length=16, description="what a sender must present as bearer; needed for kind webhook"
    )
    path: Path | None = Field(default=None, description="the file, .jsonl or .jsonl.gz; needed for kind jsonl")
    tail: bool = Field(default=True, description="wait for more at the end of the file, across rotation")
    channel: str = Field(
        default="posts",
        pattern=r"^[a-z0-9_-]{1,32}$",
        description="name of the feed; its high-water mark is kept by it",
    )
    known: tuple[SourceName, ...] = Field(
        default=(), description="source names a post may carry; empty = any well-formed name"
    )

    @model_validator(mode="after")
    def _a_packed_file_does_not_grow(self) -> Self:
        """A gzip file cannot be followed: its last block is unreadable until it is closed."""
        if self.tail and self.kind == "jsonl" and self.path is not None and self.path.suffix == ".gz":
            raise ValueError(f"tail = true cannot follow the packed file {self.path}; set tail = false")
        return self


class PlaybackSettings(Frozen):
    """A recorded day played over and over, its times moved to now: posts and bars alike. Without `first` it is off."""

    first: AwareDatetime | None = Field(default=None, description="the recording's moment each round begins with")
    last: AwareDatetime | None = Field(default=None, description="the recording's moment each round ends with")
    speed: int = Field(default=1, ge=1, le=60, description="recorded seconds in a second")

    @property
    def round_s(self) -> int:
        """Seconds that one round takes; 0 when nothing is played."""
        if self.first is None or self.last is None:
            return 0
        return int((self.last - self.first) / timedelta(seconds=self.speed))

    @model_validator(mode="after")
    def _a_round_has_a_length(self) -> Self:
        """Whole seconds of it, one minute at least."""
        if (self.first is None) != (self.last is None):
            raise ValueError(f"first = {self.first} and last = {self.last}; valid: both or neither")
        if self.first is None or self.last is None:
            return self
        if self.round_s < SHORTEST_ROUND_S or (self.last - self.first) % timedelta(seconds=self.speed):
            raise ValueError(
                f"first = {self.first.isoformat()} to last = {self.last.isoformat()} at speed = {self.speed} must take "
                f"whole seconds, at least {SHORTEST_ROUND_S}"
            )
        return self


class WorkersSettings(Frozen):
    """RQ workers and their jobs."""

    immediate: int = Field(default=2, ge=1, le=256, description="worker processes on the queue of urgent legs")
    consensus: int = Field(default=2, ge=1, le=256, description="worker processes on the queue of claims")
    maintenance: int = Field(default=1, ge=1, le=16, description="worker processes on the queue of housekeeping")
    job_timeout_s: int = Field(default=60, ge=1, le=3600, description="seconds until a job counts as stuck")
    aside_after_s: float = Field(
        default=2, ge=0.5, le=3600, description="seconds until a job goes on aside and its worker takes the next"
    )
    most_aside: int = Field(default=4, ge=0, le=64, description="jobs aside a worker at a time; 0: all wait for each")
    result_ttl_s: int = Field(default=3600, ge=1, le=604_800, description="seconds a finished job stays to be seen")
    failure_ttl_s: int = Field(default=86_400, ge=60, le=2_592_000, description="seconds a failed job stays to be seen")
    retry_max: int = Field(default=3, ge=1, le=10, description="repeats of a killed or failed job, without a pause")
    horse_memory_mb: int = Field(
        default=1024, ge=64, le=65_536, description="MB a job may take beyond what its process had at birth"
    )
    claims_per_job: int = Field(default=16, ge=1, le=100_000, description="symbols decided by one consensus job")
    job_lease_s: float = Field(
        default=6, ge=3, le=60, description="seconds without a sign of life until a worker's job is given to another"
    )
    claim_lease_s: float = Field(
        default=60, ge=1, le=3600, description="seconds beyond a job's time until an undecided claim is queued again"
    )

    @property
    def claim_time_s(self) -> float:
        """Seconds from a claim's making until it is queued again: the job that decides it has its whole time before."""
        return self.job_timeout_s + self.claim_lease_s


class ScheduleSettings(Frozen):
    """How often housekeeping is asked for. Every tick is one uniquely named job, so schedulers may be many."""

    settle_interval_s: int = Field(default=5, ge=1, le=3600, description="seconds between looks at orders and exits")
    janitor_interval_s: int = Field(default=15, ge=1, le=3600, description="seconds between looks for lost work")
    release_max_age_s: float = Field(
        default=120, gt=0, le=3600, description="seconds after its open until a held signal is too old to be sent"
    )
    reconcile_interval_s: int = Field(
        default=30, ge=1, le=3600, description="seconds between comparisons of our book with the broker's"
    )
    reconcile_max_age_s: float = Field(
        default=90, ge=1, le=86_400, description="seconds such a comparison counts for an entry at a venue over HTTP"
    )
    cash_tolerance_usd: Decimal = Field(
        default=Decimal(1), ge=0, le=10_000, description="dollars our cash may differ from the broker's"
    )
    reservation_bound_s: float = Field(
        default=180, ge=1, le=86_400, description="seconds until a reservation without an order counts as left behind"
    )
    busy_delay_s: float = Field(
        default=5, ge=0.1, le=60, description="seconds until a signal meets a busy symbol again"
    )

    @model_validator(mode="after")
    def _a_comparison_outlives_the_wait_for_the_next(self) -> Self:
        """Else entries would wait in every cycle."""
        if self.reconcile_max_age_s <= self.reconcile_interval_s:
            raise ValueError(
                f"reconcile_max_age_s = {self.reconcile_max_age_s:g} must be above "
                f"reconcile_interval_s = {self.reconcile_interval_s}"
            )
        return self


class LogSettings(Frozen):
    """What processes say on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least urgent line shown"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto = console on a terminal, else one JSON object a line"
    )


class DashboardSettings(Frozen):
    """The page for people: `fleet dashboard`."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="address it listens on")
    port: int = Field(default=9181, ge=0, le=65_535, description="port it listens on; 0 = any")
    password: SecretStr | None = Field(
        default=None, min_length=12, description="the login's password; without one the dashboard does not start"
    )
    session_s: int = Field(default=28_800, ge=60, le=604_800, description="seconds until a login ends")
    refresh_s: int = Field(default=5, ge=1, le=300, description="seconds between refreshes of the fleet page")
    https: bool = Field(default=False, description="people reach it over https: cookies are for https only")
    control_url: SecretStr | None = Field(
        default=None, description="Redis address of the account that may halt and reduce; none = the page only shows"
    )

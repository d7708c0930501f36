"""Settings of what people and machines are told: alarms, metrics and signs of life."""

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.models import Frozen


class ExpectedProcesses(Frozen):
    """The fewest processes of each role that should be there; 0 = nobody misses it."""

    collect: int = Field(default=1, ge=0, le=64, description="collectors; below = source_down")
    route: int = Field(default=1, ge=0, le=256, description="routers")
    schedule: int = Field(default=1, ge=0, le=16, description="schedulers")
    immediate: int = Field(default=1, ge=0, le=256, description="workers on the queue of urgent legs")
    consensus: int = Field(default=1, ge=0, le=256, description="workers on the queue of claims")
    maintenance: int = Field(default=1, ge=0, le=16, description="workers on the queue of housekeeping")


class WatchSettings(Frozen):
    """When `fleet watch` raises an alarm, and whom it tells. A limit that is reached counts."""

    url: SecretStr | None = Field(
        default=None,
        description="where alarms are sent: http(s):// gets a JSON POST, any other scheme is apprise's; "
        "FLEET_WATCH__URL or a secret file; none = log lines only",
    )
    call_s: float = Field(default=10, ge=1, le=15, description="seconds a call to url may take in all")
    retry_s: float = Field(default=15, ge=1, le=600, description="seconds before a failed call is repeated, doubled")
    retry_cap_s: float = Field(default=300, ge=1, le=3600, description="seconds, the longest wait between repeats")
    give_up_s: float = Field(default=86_400, ge=60, le=604_800, description="seconds until an untold alarm is dropped")
    runbook: str = Field(
        default="docs/runbook.md", min_length=1, max_length=200, description="page that each alarm names, with #CODE"
    )
    interval_s: float = Field(default=5, ge=0.5, le=10, description="seconds between looks at the fleet")
    recover_s: float = Field(default=30, ge=0, le=3600, description="seconds an alarm's cause is gone until it closes")
    remind_s: float | None = Field(
        default=14_400, ge=60, le=604_800, description="seconds until an alarm that is open is told again; null = never"
    )
    stream_messages: int = Field(default=5_000, ge=1, description="messages that wait for a router")
    stream_s: float = Field(default=30, ge=1, description="seconds the oldest of them waits")
    lists_s: float = Field(default=180, ge=1, description="seconds the oldest vote waits for its drain")
    queue_jobs: int = Field(default=500, ge=1, description="jobs that wait in one queue")
    queue_s: float = Field(default=60, ge=1, description="seconds the oldest of them waits")
    claims_overdue: int = Field(default=1, ge=1, description="claims two leases past their deadline")
    silent_s: float | None = Field(
        default=None, ge=1, description="seconds without a new message while RUNNING; null = a feed may be silent"
    )
    refused: int = Field(default=100, ge=1, description="posts refused within window_s")
    window_s: float = Field(default=900, ge=60, le=86_400, description="seconds dead letters and refused posts count")
    memory: float = Field(default=0.8, gt=0, le=1, description="share of Redis's memory in use")
    redis_s: float = Field(default=30, ge=1, le=3600, description="seconds without an answer of Redis")
    expected: ExpectedProcesses = ExpectedProcesses()

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: SecretStr | None) -> SecretStr | None:
        """The address is never repeated: it holds a token."""
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if not parts.scheme or not (parts.netloc or parts.path):
                raise ValueError("must be https://HOST/..., or an address apprise knows such as slack://TOKEN")
        return url

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        """The first wait is not the longest."""
        if self.retry_s > self.retry_cap_s:
            raise ValueError(f"retry_s = {self.retry_s:g} must not pass retry_cap_s = {self.retry_cap_s:g}")
        return self


class MetricsSettings(Frozen):
    """Where each process answers `/metrics` and `/healthz`."""

    port: int | None = Field(
        default=None,
        ge=1,
        le=65_000,
        description="port of /metrics and /healthz; children of one command take the ones after it; null = none",
    )
    host: str = Field(default="127.0.0.1", pattern=r"^[0-9a-fA-F:.]{2,45}$", description="address that is listened on")
    stuck_s: float = Field(
        default=60, ge=5, le=3600, description="seconds without a turn of the process's loop until /healthz fails"
    )

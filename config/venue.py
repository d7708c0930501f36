"""Settings of the venue orders go to: the simulated one, or one that is spoken to over HTTP."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.models import Frozen

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEY_MIN_CHARACTERS = 8


class BreakerSettings(Frozen):
    """When a venue that fails gets no new entries; exits always go."""

    failures: int = Field(default=5, ge=1, le=1_000, description="failed calls in window_s that stop entries")
    window_s: float = Field(default=60, ge=1, le=3_600, description="seconds a failed call counts")
    cool_down_s: float = Field(default=30, ge=0.1, le=3_600, description="seconds until one entry may try again")
    probe_s: float = Field(default=10, ge=0.1, le=60, description="seconds that one trial may take before the next")


class VenueSettings(Frozen):
    """Where orders go, and how long an answer may take."""

    kind: Literal["paper", "http"] = Field(
        default="paper", description="paper = the simulated venue; http = base_url; live needs http"
    )
    base_url: str | None = Field(
        default=None, description="address of the venue, https:// (http:// only on this machine); needed for kind http"
    )
    api_key: SecretStr | None = Field(
        default=None, description="key of the account; FLEET_VENUE__API_KEY or a secret file, never a settings file"
    )
    sandbox: bool = Field(default=False, description="base_url moves play money; without it kind http is live only")
    call_s: float = Field(default=8, ge=0.05, le=8, description="seconds a call may take in all, repeats included")
    connect_s: float = Field(default=2, ge=0.01, le=8, description="seconds a connection may take")
    read_s: float = Field(default=5, ge=0.01, le=8, description="seconds of silence an answer may have")
    get_attempts: int = Field(default=3, ge=1, le=10, description="tries of a question; orders are sent once, always")
    retry_base_s: float = Field(default=0.1, ge=0.001, le=5, description="longest first pause between tries, doubled")
    breaker: BreakerSettings = BreakerSettings()

    @field_validator("base_url")
    @classmethod
    def _base_url_is_an_address(cls, url: str | None) -> str | None:
        """Refuse what would carry the key in the clear or hide a secret in an address; it is not repeated."""
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment; the key has a parameter of its own")
        if not (parts.scheme == "https" and parts.hostname) and not (
            parts.scheme == "http" and parts.hostname in LOOPBACK
        ):
            raise ValueError("must be https://HOST[:PORT][/PATH], or http:// on 127.0.0.1")
        return url.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        """Refuse a key that is empty, short or could break out of its header. It is not repeated."""
        if key is not None:
            text = key.get_secret_value()
            if len(text) < KEY_MIN_CHARACTERS or not (text.isascii() and text.isprintable() and " " not in text):
                raise ValueError(f"must be >= {KEY_MIN_CHARACTERS} printable ASCII characters without spaces")
        return key

    @model_validator(mode="after")
    def _http_needs_an_address(self) -> Self:
        """The key is asked for where orders are sent: only who sends some should have it."""
        if self.kind == "http" and self.base_url is None:
            raise ValueError("base_url is not set; kind http needs FLEET_VENUE__BASE_URL=https://HOST")
        return self

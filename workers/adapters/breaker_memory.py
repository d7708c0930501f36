"""The breaker of one process, and the words that both breakers use."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from config.venue import BreakerSettings
from pipeline.models import Refusal, Stage

RULE = "breaker_open"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """How the breaker stands. `failures`: recent failed calls while closed. `trial_at`: when an entry may try again."""

    state: Literal["closed", "open", "half_open"]
    failures: int = 0
    opened_at: datetime | None = None
    trial_at: datetime | None = None


def state_of(now_ms: int, opened_ms: int | None, failures: int, settings: BreakerSettings) -> BreakerState:
    """The state from what is kept: open until the cool-down is over, then half open until a trial says more."""
    if opened_ms is None:
        return BreakerState("closed", failures)
    trial_ms = opened_ms + ms(settings.cool_down_s)
    word: Literal["open", "half_open"] = "half_open" if now_ms >= trial_ms else "open"
    return BreakerState(word, 0, _moment(opened_ms), _moment(trial_ms))


def refusal(wait_ms: int, settings: BreakerSettings) -> Refusal:
    """Why an entry is not sent: `wait_ms` until a trial, or until the trial under way is over."""
    limit = f"< {settings.failures} failed calls in {settings.window_s:g} s"
    return Refusal(Stage.EXECUTOR, RULE, f"the venue fails; next trial in {wait_ms / 1000:.1f} s", limit)


def ms(seconds: float) -> int:
    """Whole milliseconds."""
    return round(seconds * 1000)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


class MemoryBreaker:
    """The breaker without a server. `now`: seconds of any clock that only goes forward."""

    def __init__(self, settings: BreakerSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._failures: list[int] = []
        self._opened: int | None = None
        self._trial: int | None = None

    def permit(self) -> Refusal | None:
        """None when an entry may be sent; half open: one, until it answered or its time is over."""
        if self._opened is None:
            return None
        now = self._now_ms()
        wait = self._opened + ms(self._settings.cool_down_s) - now
        if wait <= 0 and self._trial is not None:
            wait = self._trial + ms(self._settings.probe_s) - now
        if wait > 0:
            return refusal(wait, self._settings)
        self._trial = now
        return None

    def failed(self) -> None:
        """Count; the last one allowed opens. A failure while half open starts the cool-down again."""
        now = self._now_ms()
        if self._opened is not None:
            if self._half_open(now):
                self._opened, self._trial = now, None
            return
        self._failures = [*self._recent(now), now]
        if len(self._failures) >= self._settings.failures:
            self._opened, self._failures = now, []

    def succeeded(self) -> None:
        """Closes when half open; recent failures still count while closed."""
        if self._half_open(self._now_ms()):
            self._opened, self._trial = None, None

    def state(self) -> BreakerState:
        """How it stands."""
        now = self._now_ms()
        return state_of(now, self._opened, len(self._recent(now)), self._settings)

    def _recent(self, now: int) -> list[int]:
        """Failures younger than the window."""
        return [at for at in self._failures if at > now - ms(self._settings.window_s)]

    def _half_open(self, now: int) -> bool:
        return self._opened is not None and now >= self._opened + ms(self._settings.cool_down_s)

    def _now_ms(self) -> int:
        return ms(self._now())

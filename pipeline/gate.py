"""Market gate: may the market be entered now, and at which share of the size? Every check is recorded."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Self

from pydantic import Field, model_validator

from pipeline.errors import MarketDataError
from pipeline.indicators import age_in_intervals, efficiency
from pipeline.models import Bars, Frozen, GateCheck, GateVerdict, Phase, Refusal, Signal, Stage
from pipeline.ports import MarketConditions, MarketData, Sessions

FULL = Decimal(1)


class GateSettings(Frozen):
    """Limits of the market gate. Minutes count from the session's open or to its close."""

    gate_queue: bool = Field(default=False, description="hold what only the session forbids for the next open")
    avoid_lunch: bool = Field(default=False, description="closed around noon in New York")
    lunch_start_minutes: int = Field(default=150, ge=0, le=390, description="start of lunch: 150 = 12:00 New York")
    lunch_minutes: int = Field(default=60, ge=1, le=390, description="length of lunch")
    first_minutes: int = Field(default=0, ge=0, le=390, description="minutes after the open that are closed, 0 = none")
    last_minutes: int = Field(default=0, ge=0, le=390, description="minutes before the close that are closed, 0 = none")
    vix_closed_above: Decimal = Field(default=Decimal(30), gt=0, le=200, description="a VIX above closes the gate")
    vix_reduced_from: Decimal = Field(default=Decimal(25), gt=0, le=200, description="from this VIX on size is reduced")
    vix_factor: Decimal = Field(default=Decimal("0.5"), gt=0, le=1, description="share of the size while reduced")
    min_relative_volume: float = Field(
        default=0.5, ge=0, le=10, description="least index volume relative to its own average at that minute"
    )
    efficiency_bars: int = Field(default=30, ge=2, le=1_000, description="index bars whose efficiency is measured")
    min_efficiency: float = Field(
        default=0.10, ge=0, le=1, description="least Kaufman efficiency of the index; below it the market chops"
    )
    stale_intervals: float = Field(
        default=2, gt=0, le=100, description="index bars of session time after which the last one is too old"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.vix_reduced_from > self.vix_closed_above:
            raise ValueError(
                f"vix_reduced_from is {self.vix_reduced_from}, it must not be above vix_closed_above "
                f"({self.vix_closed_above})"
            )
        if self.gate_queue and self.first_minutes:
            raise ValueError(
                f"gate_queue releases at the open, which first_minutes ({self.first_minutes}) keeps closed: "
                "set first_minutes to 0 or gate_queue to false"
            )
        return self


class MarketGate:
    """Asks the session, the whole market and the symbol, as of the signal's decision."""

    def __init__(
        self, sessions: Sessions, conditions: MarketConditions, market: MarketData, settings: GateSettings
    ) -> None:
        self._sessions = sessions
        self._conditions = conditions
        self._market = market
        self._settings = settings

    def on_error(self, error: str, *, fail_safe_closed: bool) -> GateVerdict:
        """The verdict when the gate itself failed: closed (seed), or by setting open at full size, visibly."""
        check = GateCheck("gate", passed=not fail_safe_closed, observed=error, limit="no error")
        refusal = Refusal(Stage.GATE, "error", error, "no error") if fail_safe_closed else None
        return GateVerdict(open=not fail_safe_closed, factor=FULL, checks=(check,), refusal=refusal)

    def check(self, signal: Signal) -> GateVerdict:
        """Open when no check failed. A check without data in this profile has `passed` None.

        The first failed check is the refusal. Closed by the session alone and with `gate_queue`, `hold_until` is the
        next open. A released signal is decided at an open, which is in session. Raises what its ports raise, but for
        MarketDataError of a market condition, which fails its check.
        """
        as_of = signal.decided_at
        vix, factor = self._vix(as_of)
        checks = (
            self._session(as_of),
            *self._minutes(as_of),
            vix,
            self._volume(as_of),
            self._chop(as_of),
            self._halted(signal),
        )
        failed = [check for check in checks if check.passed is False]
        return GateVerdict(
            open=not failed,
            factor=factor,
            checks=checks,
            refusal=_refusal(failed[0]) if failed else None,
            hold_until=self._hold(failed, as_of),
        )

    def _hold(self, failed: list[GateCheck], as_of: datetime) -> datetime | None:
        only_session = [check.name for check in failed] == ["session"]
        return self._sessions.next_open(as_of) if only_session and self._settings.gate_queue else None

    # ---- the session ----

    def _session(self, as_of: datetime) -> GateCheck:
        phase = self._sessions.phase(as_of)
        return GateCheck("session", phase is Phase.REGULAR, phase.value, Phase.REGULAR.value)

    def _minutes(self, as_of: datetime) -> tuple[GateCheck, ...]:
        s = self._settings
        session = self._sessions.session_of(as_of)
        since_open, to_close = as_of - session.open, session.close - as_of
        lunch_start = timedelta(minutes=s.lunch_start_minutes)
        lunch_end = lunch_start + timedelta(minutes=s.lunch_minutes)
        at_lunch = lunch_start <= since_open < lunch_end
        at_first = timedelta(0) <= since_open < timedelta(minutes=s.first_minutes)
        at_last = since_open >= timedelta(0) and to_close <= timedelta(minutes=s.last_minutes)
        return (
            _clock("lunch", s.avoid_lunch, at_lunch, since_open, f"not {lunch_start} to {lunch_end} after the open"),
            _clock("first_minutes", s.first_minutes > 0, at_first, since_open, f">= {s.first_minutes} min after open"),
            _clock("last_minutes", s.last_minutes > 0, at_last, to_close, f"> {s.last_minutes} min before close"),
        )

    # ---- the whole market ----

    def _vix(self, as_of: datetime) -> tuple[GateCheck, Decimal]:
        s = self._settings
        limit = f"<= {s.vix_closed_above}"
        try:
            vix = self._conditions.vix(as_of)
        except MarketDataError as error:
            return GateCheck("vix", passed=False, observed=f"unknown: {error}", limit=limit), FULL
        if vix is None:
            return _off("vix", limit), FULL
        if not vix.is_finite():
            return GateCheck("vix", passed=False, observed=f"unknown: {vix}", limit=limit), FULL
        factor = s.vix_factor if vix >= s.vix_reduced_from else FULL
        return GateCheck("vix", vix <= s.vix_closed_above, str(vix), limit), factor

    def _volume(self, as_of: datetime) -> GateCheck:
        least = self._settings.min_relative_volume

        def measure() -> tuple[bool, str] | None:
            relative = self._conditions.relative_index_volume(as_of)
            return None if relative is None else (relative >= least, f"{relative:.4f}")

        return _measured("index_volume", f">= {least:g}", measure)

    def _chop(self, as_of: datetime) -> GateCheck:
        s = self._settings

        def measure() -> tuple[bool, str] | None:
            bars = self._conditions.index_bars(as_of, s.efficiency_bars + 1)
            return None if bars is None else self._judge_chop(bars, as_of)

        return _measured("chop", f">= {s.min_efficiency:g} over {s.efficiency_bars} bars", measure)

    def _judge_chop(self, bars: Bars, as_of: datetime) -> tuple[bool, str]:
        s = self._settings
        if len(bars) <= s.efficiency_bars:
            return False, f"unknown: {len(bars)} of {s.efficiency_bars + 1} bars"
        age = age_in_intervals(bars, as_of, self._sessions)
        if age > s.stale_intervals:
            return False, f"unknown: a last bar {age:.2f} bars old"
        value = efficiency(bars.close)
        return value >= s.min_efficiency, f"{value:.4f}"

    # ---- the symbol ----

    def _halted(self, signal: Signal) -> GateCheck:
        halted = self._market.halted(signal.symbol, signal.decided_at)
        if halted is None:
            return _off("halted", "not halted")
        return GateCheck("halted", not halted, "halted" if halted else "trading", "not halted")


def _measured(name: str, limit: str, measure: Callable[[], tuple[bool, str] | None]) -> GateCheck:
    """A check of market data: off without data in this profile, failed when the data is unknown."""
    try:
        found = measure()
    except MarketDataError as error:
        return GateCheck(name, passed=False, observed=f"unknown: {error}", limit=limit)
    return _off(name, limit) if found is None else GateCheck(name, found[0], found[1], limit)


def _clock(name: str, configured: bool, within: bool, distance: timedelta, limit: str) -> GateCheck:  # noqa: FBT001
    """A check of the clock; outside the session it passes, the session check speaks for it."""
    if not configured:
        return GateCheck(name, passed=None, observed="off by setting", limit=limit)
    return GateCheck(name, not within, str(distance), limit)


def _off(name: str, limit: str) -> GateCheck:
    return GateCheck(name, passed=None, observed="no data in this profile", limit=limit)


def _refusal(check: GateCheck) -> Refusal:
    return Refusal(Stage.GATE, check.name, check.observed, check.limit)

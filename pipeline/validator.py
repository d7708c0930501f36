"""Technical validator: does the chart contradict the signal? Every rule that fires is listed."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from pipeline.indicators import IndicatorSettings, age_in_intervals, insufficient, read
from pipeline.models import (
    Bars,
    Direction,
    Frozen,
    Indicators,
    Refusal,
    Signal,
    Stage,
    Validation,
    ValidationStatus,
)
from pipeline.ports import MarketData, Sessions


class RuleAction(StrEnum):
    """What follows when a rule fires."""

    VETO = "veto"
    WARN = "warn"
    OFF = "off"

    @classmethod
    def _missing_(cls, value: object) -> "RuleAction | None":
        """YAML reads an unquoted `off` as false; it means OFF all the same."""
        return cls.OFF if value is False else None


class ValidatorSettings(Frozen):
    """Limits of the technical rules; all are strict, the limit itself passes. RSI and ADX in [0, 100]."""

    indicators: IndicatorSettings = Field(default=IndicatorSettings(), description="periods of the readings")
    stale_intervals: float = Field(
        default=2, gt=0, le=100, description="bars of session time after which the last bar is too old"
    )
    veto_mode: bool = Field(default=True, description="false turns every rule's veto into a warning")
    adx_no_trend: float = Field(default=15, ge=0, le=100, description="an ADX below has no trend")
    adx_weak_trend: float = Field(default=20, ge=0, le=100, description="an ADX below, but not without trend, is weak")
    adx_breakout: float = Field(
        default=40, ge=0, le=101, description="from this ADX on an RSI veto only warns: a breakout (101 = never)"
    )
    rsi_overbought: float = Field(default=70, ge=50, le=100, description="an RSI above forbids a long")
    rsi_oversold: float = Field(default=30, ge=0, le=50, description="an RSI below forbids a short")
    no_trend: RuleAction = Field(default=RuleAction.VETO, description="rule: ADX below adx_no_trend")
    weak_trend: RuleAction = Field(default=RuleAction.WARN, description="rule: ADX from adx_no_trend to adx_weak_trend")
    rsi: RuleAction = Field(default=RuleAction.VETO, description="rule: overbought long, oversold short")
    divergence: RuleAction = Field(default=RuleAction.VETO, description="rule: divergence against the direction")
    histogram: RuleAction = Field(
        default=RuleAction.WARN, description="rule: histogram falling below 0 (long), rising above 0 (short)"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.adx_weak_trend < self.adx_no_trend:
            raise ValueError(
                f"adx_weak_trend is {self.adx_weak_trend}, it must be at least adx_no_trend ({self.adx_no_trend})"
            )
        return self


class TechnicalValidator:
    """Validates signals against the chart as it stood when they were decided."""

    def __init__(self, market: MarketData, sessions: Sessions, settings: ValidatorSettings) -> None:
        self._market = market
        self._sessions = sessions
        self._settings = settings
        self._readings: dict[str, tuple[tuple[int, int], Indicators | Refusal]] = {}

    def validate(self, signal: Signal) -> Validation:
        """PASS, WARN or VETO with every rule that fired. Raises MarketDataError when the bars cannot be had.

        Want of data (`insufficient_data`) is a veto whatever `veto_mode` says.
        """
        bars = self._market.bars(signal.symbol, signal.decided_at, self._settings.indicators.bars)
        reading = self._stale(bars, signal) or self._read(bars)
        if isinstance(reading, Refusal):
            return Validation(ValidationStatus.VETO, vetoes=(reading,))
        return judge(signal.direction, reading, self._settings)

    def _stale(self, bars: Bars, signal: Signal) -> Refusal | None:
        age = age_in_intervals(bars, signal.decided_at, self._sessions)
        limit = self._settings.stale_intervals
        if len(bars) == 0 or age <= limit:
            return None
        return insufficient(f"a last bar {age:.2f} bars old", f"<= {limit:g} bars of session time")

    def _read(self, bars: Bars) -> Indicators | Refusal:
        """The reading of these bars, remembered per symbol until its next bar."""
        version = (int(bars.end[-1]), len(bars)) if len(bars) else (0, 0)
        known = self._readings.get(bars.symbol)
        if known is not None and known[0] == version:
            return known[1]
        reading = read(bars, self._settings.indicators)
        self._readings[bars.symbol] = (version, reading)
        return reading


def judge(direction: Direction, reading: Indicators, settings: ValidatorSettings) -> Validation:
    """What the rules say of a reading."""
    fired = [(action, refusal) for action, refusal in _rules(direction, reading, settings) if action != RuleAction.OFF]
    vetoes = tuple(refusal for action, refusal in fired if action is RuleAction.VETO and settings.veto_mode)
    warnings = tuple(refusal for action, refusal in fired if action is RuleAction.WARN or not settings.veto_mode)
    without_veto = ValidationStatus.WARN if warnings else ValidationStatus.PASS
    status = ValidationStatus.VETO if vetoes else without_veto
    return Validation(status, vetoes=vetoes, warnings=warnings, indicators=reading)


# ---- the rules: each yields at most one finding ------------------------------------------------------

Finding = tuple[RuleAction, Refusal]


def _rules(direction: Direction, reading: Indicators, s: ValidatorSettings) -> Iterator[Finding]:
    yield from _trend(reading, s)
    yield from _rsi(direction, reading, s)
    yield from _divergence(direction, reading, s)
    yield from _histogram(direction, reading, s)


def _trend(reading: Indicators, s: ValidatorSettings) -> Iterator[Finding]:
    if reading.adx < s.adx_no_trend:
        yield _finding(s.no_trend, "adx_no_trend", f"ADX {reading.adx:.4f}", f">= {s.adx_no_trend:g}")
    elif reading.adx < s.adx_weak_trend:
        yield _finding(s.weak_trend, "adx_weak_trend", f"ADX {reading.adx:.4f}", f">= {s.adx_weak_trend:g}")


def _rsi(direction: Direction, reading: Indicators, s: ValidatorSettings) -> Iterator[Finding]:
    breakout = s.rsi is RuleAction.VETO and reading.adx >= s.adx_breakout
    action = RuleAction.WARN if breakout else s.rsi
    if direction is Direction.LONG and reading.rsi > s.rsi_overbought:
        yield _finding(action, "rsi_overbought", f"RSI {reading.rsi:.4f}", f"<= {s.rsi_overbought:g}")
    if direction is Direction.SHORT and reading.rsi < s.rsi_oversold:
        yield _finding(action, "rsi_oversold", f"RSI {reading.rsi:.4f}", f">= {s.rsi_oversold:g}")


def _divergence(direction: Direction, reading: Indicators, s: ValidatorSettings) -> Iterator[Finding]:
    if reading.divergence in {direction.opposite, "both"}:
        rule = "bearish_divergence" if direction is Direction.LONG else "bullish_divergence"
        yield _finding(s.divergence, rule, rule.replace("_", " "), "none")


def _histogram(direction: Direction, reading: Indicators, s: ValidatorSettings) -> Iterator[Finding]:
    value, trend = reading.macd_histogram, reading.histogram_trend
    if direction is Direction.LONG and trend == "falling" and value < 0:
        yield _finding(s.histogram, "histogram_falling", f"{value:.6f} falling", ">= 0 or not falling")
    if direction is Direction.SHORT and trend == "rising" and value > 0:
        yield _finding(s.histogram, "histogram_rising", f"{value:.6f} rising", "<= 0 or not rising")


def _finding(action: RuleAction, rule: str, observed: str, limit: str) -> Finding:
    return action, Refusal(Stage.VALIDATOR, rule, observed, limit)

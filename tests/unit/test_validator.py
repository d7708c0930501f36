"""Technical validator: every rule of STAGES 4 with the values beside its limit."""

import math
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError
from pipeline.models import Bars, Direction, Indicators, Signal, ValidationStatus
from pipeline.validator import RuleAction, TechnicalValidator, ValidatorSettings, judge
from tests.market_builders import a_reading, a_signal, a_walk, at, some_bars, with_value, xnys
from workers.adapters.market_memory import MemoryMarketData

LONG, SHORT = Direction.LONG, Direction.SHORT
PASS, WARN, VETO = ValidationStatus.PASS, ValidationStatus.WARN, ValidationStatus.VETO
SETTINGS = ValidatorSettings()


def above(value: float) -> float:
    """The next float up."""
    return math.nextafter(value, math.inf)


def below(value: float) -> float:
    """The next float down."""
    return math.nextafter(value, -math.inf)


RULES: list[tuple[Direction, dict[str, Any], ValidationStatus, tuple[str, ...]]] = [
    (LONG, {}, PASS, ()),
    (SHORT, {}, PASS, ()),
    # ADX: below 15 no trend, 15 to below 20 weak
    (LONG, {"adx": 15.0}, WARN, ("adx_weak_trend",)),
    (LONG, {"adx": below(15)}, VETO, ("adx_no_trend",)),
    (SHORT, {"adx": 15.0}, WARN, ("adx_weak_trend",)),
    (SHORT, {"adx": below(15)}, VETO, ("adx_no_trend",)),
    (LONG, {"adx": below(20)}, WARN, ("adx_weak_trend",)),
    (LONG, {"adx": 20.0}, PASS, ()),
    (SHORT, {"adx": below(20)}, WARN, ("adx_weak_trend",)),
    (SHORT, {"adx": 20.0}, PASS, ()),
    # RSI: above 70 forbids a long, below 30 a short
    (LONG, {"rsi": 70.0}, PASS, ()),
    (LONG, {"rsi": above(70)}, VETO, ("rsi_overbought",)),
    (SHORT, {"rsi": above(70)}, PASS, ()),
    (SHORT, {"rsi": 30.0}, PASS, ()),
    (SHORT, {"rsi": below(30)}, VETO, ("rsi_oversold",)),
    (LONG, {"rsi": below(30)}, PASS, ()),
    # a breakout: from ADX 40 on an RSI veto only warns
    (LONG, {"rsi": 80.0, "adx": below(40)}, VETO, ("rsi_overbought",)),
    (LONG, {"rsi": 80.0, "adx": 40.0}, WARN, ("rsi_overbought",)),
    (SHORT, {"rsi": 20.0, "adx": below(40)}, VETO, ("rsi_oversold",)),
    (SHORT, {"rsi": 20.0, "adx": 40.0}, WARN, ("rsi_oversold",)),
    # divergence against the direction
    (LONG, {"divergence": SHORT}, VETO, ("bearish_divergence",)),
    (LONG, {"divergence": LONG}, PASS, ()),
    (SHORT, {"divergence": LONG}, VETO, ("bullish_divergence",)),
    (SHORT, {"divergence": SHORT}, PASS, ()),
    (LONG, {"divergence": "both"}, VETO, ("bearish_divergence",)),
    (SHORT, {"divergence": "both"}, VETO, ("bullish_divergence",)),
    # histogram: warns when it falls below zero (long), rises above zero (short)
    (LONG, {"histogram_trend": "falling", "macd_histogram": below(0)}, WARN, ("histogram_falling",)),
    (LONG, {"histogram_trend": "falling", "macd_histogram": 0.0}, PASS, ()),
    (LONG, {"histogram_trend": "flat", "macd_histogram": -1.0}, PASS, ()),
    (LONG, {"histogram_trend": "rising", "macd_histogram": 1.0}, PASS, ()),
    (SHORT, {"histogram_trend": "rising", "macd_histogram": above(0)}, WARN, ("histogram_rising",)),
    (SHORT, {"histogram_trend": "rising", "macd_histogram": 0.0}, PASS, ()),
    (SHORT, {"histogram_trend": "flat", "macd_histogram": 1.0}, PASS, ()),
    (SHORT, {"histogram_trend": "falling", "macd_histogram": -1.0}, PASS, ()),
]


@pytest.mark.parametrize(("direction", "reading", "status", "rules"), RULES)
def test_each_rule_is_strict_at_its_limit(
    direction: Direction, reading: dict[str, Any], status: ValidationStatus, rules: tuple[str, ...]
) -> None:
    """The limit itself passes; the next float beyond fires; the other direction is the mirror image."""
    validation = judge(direction, a_reading(**reading), SETTINGS)

    assert validation.status is status
    assert tuple(refusal.rule for refusal in validation.vetoes + validation.warnings) == rules


def test_every_rule_that_fires_is_listed() -> None:
    """No rule hides behind another."""
    reading = a_reading(adx=10.0, rsi=75.0, divergence=SHORT, histogram_trend="falling", macd_histogram=-1.0)

    validation = judge(LONG, reading, SETTINGS)

    assert [refusal.rule for refusal in validation.vetoes] == ["adx_no_trend", "rsi_overbought", "bearish_divergence"]
    assert [refusal.rule for refusal in validation.warnings] == ["histogram_falling"]


def test_a_refusal_names_what_was_observed_and_the_limit() -> None:
    """So that a trace can explain it."""
    (veto,) = judge(LONG, a_reading(rsi=70.25), SETTINGS).vetoes

    assert (veto.stage, veto.observed, veto.limit) == ("validator", "RSI 70.2500", "<= 70")


def test_veto_mode_off_turns_every_veto_into_a_warning() -> None:
    """`veto_mode: false` warns only."""
    reading = a_reading(adx=10.0, rsi=75.0, divergence=SHORT)

    validation = judge(LONG, reading, ValidatorSettings(veto_mode=False))

    assert validation.status is WARN
    assert validation.vetoes == ()
    assert len(validation.warnings) == 3


@pytest.mark.parametrize(
    ("rule", "reading"),
    [
        ("no_trend", {"adx": 10.0}),
        ("weak_trend", {"adx": 17.0}),
        ("rsi", {"rsi": 75.0}),
        ("divergence", {"divergence": SHORT}),
        ("histogram", {"histogram_trend": "falling", "macd_histogram": -1.0}),
    ],
)
@pytest.mark.parametrize(("action", "status"), [("veto", VETO), ("warn", WARN), ("off", PASS)])
def test_each_rule_is_veto_warn_or_off_by_setting(
    rule: str, reading: dict[str, Any], action: str, status: ValidationStatus
) -> None:
    """Every rule has its own switch."""
    settings = ValidatorSettings.model_validate({rule: action})

    assert judge(LONG, a_reading(**reading), settings).status is status


def test_a_rule_switched_off_without_quotes_in_yaml_is_off() -> None:
    """YAML 1.1 turns an unquoted off into false; true is no action."""
    assert ValidatorSettings.model_validate({"rsi": False}).rsi is RuleAction.OFF
    with pytest.raises(ValidationError, match="rsi"):
        ValidatorSettings.model_validate({"rsi": True})


def test_an_rsi_rule_that_is_off_stays_off_in_a_breakout() -> None:
    """ADX 40 softens a veto, it does not wake a rule."""
    settings = ValidatorSettings.model_validate({"rsi": "off"})

    assert judge(LONG, a_reading(rsi=80.0, adx=45.0), settings).status is PASS


# ---- with market data --------------------------------------------------------------------------------


def a_validator(bars: Bars, settings: ValidatorSettings = SETTINGS) -> TechnicalValidator:
    """A validator over one symbol's bars."""
    return TechnicalValidator(MemoryMarketData({"AAPL": bars}, sessions=xnys()), xnys(), settings)


def observed(bars: Bars, signal: Signal, settings: ValidatorSettings = SETTINGS) -> tuple[ValidationStatus, str]:
    """The status, and what the first veto observed."""
    validation = a_validator(bars, settings).validate(signal)
    return validation.status, validation.vetoes[0].rule if validation.vetoes else ""


def test_a_validation_carries_the_reading_it_judged() -> None:
    """The trace shows every number."""
    assert isinstance(a_validator(some_bars()).validate(a_signal()).indicators, Indicators)


@pytest.mark.parametrize("veto_mode", [True, False])
def test_want_of_data_is_a_veto_also_without_veto_mode(*, veto_mode: bool) -> None:
    """Too few bars are never a neutral reading."""
    settings = ValidatorSettings(veto_mode=veto_mode)

    assert observed(some_bars(a_walk(149)), a_signal(), settings) == (VETO, "insufficient_data")
    assert observed(some_bars([]), a_signal(), settings) == (VETO, "insufficient_data")
    assert observed(with_value(some_bars(), "close", 140, math.nan), a_signal(), settings) == (
        VETO,
        "insufficient_data",
    )


@pytest.mark.parametrize(
    ("decided_at", "stale"),
    [
        ("2014-07-09 16:00", False),
        ("2014-07-10 20:00", False),  # exactly two sessions after Tuesday's close
        ("2014-07-11 13:30", False),  # still no more session time
        ("2014-07-11 13:31", True),
    ],
)
def test_bars_older_than_two_intervals_of_session_time_are_stale(decided_at: str, *, stale: bool) -> None:
    """The last bar ends on Tuesday 2014-07-08; two daily intervals are the sessions of Wednesday and Thursday."""
    validation = a_validator(some_bars(last_day=date(2014, 7, 8))).validate(a_signal(decided_at=at(decided_at)))

    assert any("bars old" in veto.observed for veto in validation.vetoes) is stale
    assert all(veto.rule == "insufficient_data" for veto in validation.vetoes if "old" in veto.observed)


def test_a_symbol_without_bars_raises_and_is_no_veto() -> None:
    """Only an exception makes `unvalidated`; the orchestrator turns it."""
    with pytest.raises(MarketDataError, match="MSFT"):
        a_validator(some_bars()).validate(a_signal(symbol="MSFT"))


def test_a_validator_remembers_a_reading_only_until_the_next_bar() -> None:
    """Validations in any order equal those of fresh validators."""
    bars = some_bars(a_walk(155))
    moments = [at("2014-07-08 16:00"), at("2014-07-09 16:00"), at("2014-07-08 16:00"), at("2014-07-03 16:00")]
    shared = a_validator(bars)

    def alone(moment: datetime) -> object:
        return a_validator(bars).validate(a_signal(decided_at=moment))

    assert [shared.validate(a_signal(decided_at=moment)) for moment in moments] == [alone(m) for m in moments]


def test_the_reading_ends_with_the_last_bar_complete_at_the_decision() -> None:
    """A daily bar ends at its session's close: one second earlier it is unknown."""
    bars = some_bars(a_walk(151))
    changed = replace(bars, close=bars.close.copy())
    changed.close[-1] += 0.25
    close = at("2014-07-08 20:00")

    before = a_signal(decided_at=at("2014-07-08 19:59:59"))
    assert a_validator(bars).validate(before) == a_validator(changed).validate(before)
    after = a_signal(decided_at=close)
    assert a_validator(bars).validate(after) != a_validator(changed).validate(after)


def test_limits_out_of_order_are_refused() -> None:
    """Wrong settings stop the fleet at start."""
    with pytest.raises(ValidationError, match="adx_weak_trend"):
        ValidatorSettings(adx_no_trend=21)

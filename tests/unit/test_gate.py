"""Market gate: every check of STAGES 7 at its limit, recorded, and closed when in doubt."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError
from pipeline.gate import GateSettings
from tests.gates import QUEUE, SETTINGS, UnknownConditions, failed, the_check, verdict_of
from tests.market_builders import a_signal, at, some_bars
from workers.adapters.market_memory import MemoryConditions


def test_a_calm_market_in_session_is_open_at_full_size() -> None:
    """Nothing to refuse."""
    verdict = verdict_of()

    assert verdict.open
    assert verdict.factor == 1
    assert verdict.refusal is None
    assert verdict.hold_until is None


def test_every_check_is_recorded_also_those_that_are_off() -> None:
    """A check without data in this profile is off, visibly."""
    verdict = verdict_of(conditions=MemoryConditions(), halted={"MSFT": True})

    assert verdict.open
    assert [check.name for check in verdict.checks] == [
        "session",
        "lunch",
        "first_minutes",
        "last_minutes",
        "vix",
        "index_volume",
        "chop",
        "halted",
    ]
    assert [check.passed for check in verdict.checks] == [True, *[None] * 7]


@pytest.mark.parametrize(
    ("vix", "is_open", "factor"),
    [
        ("24.99", True, "1"),
        ("25", True, "0.5"),
        ("30", True, "0.5"),
        ("30.01", False, "0.5"),
        ("NaN", False, "1"),
        ("Infinity", False, "1"),
    ],
)
def test_a_vix_above_30_is_closed_and_from_25_half_size(vix: str, *, is_open: bool, factor: str) -> None:
    """Both limits belong to the half size; what is no number is unknown."""
    verdict = verdict_of(conditions=MemoryConditions(vix=Decimal(vix)))

    assert verdict.open is is_open
    assert verdict.factor == Decimal(factor)
    assert failed(verdict) == ([] if is_open else ["vix"])


def test_configured_and_unknown_is_closed() -> None:
    """Fail closed: VIX, volume and index, each on its own."""
    verdict = verdict_of(conditions=UnknownConditions())

    assert failed(verdict) == ["vix", "index_volume", "chop"]
    assert verdict.refusal is not None
    assert (verdict.refusal.rule, verdict.refusal.observed) == ("vix", "unknown: no VIX is known at 16:00")


@pytest.mark.parametrize(
    ("relative", "is_open"), [(0.5, True), (0.4999, False), (3.0, True), (0.0, False), (float("nan"), False)]
)
def test_the_index_must_trade_half_its_usual_volume(relative: float, *, is_open: bool) -> None:
    """0.5 itself is enough."""
    assert verdict_of(conditions=MemoryConditions(relative_volume=relative)).open is is_open


def an_index_with(changes: list[float]) -> MemoryConditions:
    """Conditions whose index made these changes and nothing else."""
    closes = 100 + np.cumsum([0.0, *changes])
    return MemoryConditions(index=some_bars(closes, symbol="SPY"))


CANCELLED = [1.0] * 13 + [-1.0] * 13  # 26 changes: 26 walked, net 0


@pytest.mark.parametrize(
    ("changes", "shown", "is_open"),
    [
        ([1.0, 1.0, 1.0, 1.0], "0.1333", True),  # net 4 of 30
        ([1.0, 1.5, 1.0, -0.5], "0.1000", True),  # net 3 of 30, the limit itself
        ([1.0, 1.5, 1.0, -0.53125], "0.0989", False),  # net 2.96875 of 30.03125
        ([-1.0, -1.5, -1.0, 0.5], "0.1000", True),  # the mirror image
        ([1.0, -1.0, 1.0, -1.0], "0.0000", False),
        ([9.0, 1.0, -1.0, 1.0, -1.0], "0.0000", False),  # the change before the last 30 does not count
    ],
)
def test_an_index_with_an_efficiency_below_a_tenth_chops(changes: list[float], shown: str, *, is_open: bool) -> None:
    """Kaufman efficiency of the last 30 changes: net / walked >= 0.10."""
    verdict = verdict_of(conditions=an_index_with([changes[0], *CANCELLED, *changes[1:]]))

    assert the_check(verdict, "chop").observed == shown
    assert verdict.open is is_open


@pytest.mark.parametrize(("bars", "is_open"), [(31, True), (30, False), (0, False)])
def test_too_few_index_bars_are_closed(bars: int, *, is_open: bool) -> None:
    """30 changes need 31 closes."""
    index = some_bars(np.arange(100.0, 100.0 + bars), symbol="SPY")

    assert verdict_of(conditions=MemoryConditions(index=index)).open is is_open


@pytest.mark.parametrize(("last_day", "is_open"), [(date(2014, 7, 7), True), (date(2014, 7, 3), False)])
def test_an_old_index_is_closed(last_day: date, *, is_open: bool) -> None:
    """At Wednesday noon Monday's bar is 1.4 sessions old; Thursday's before the long weekend is 2.4."""
    index = some_bars(np.arange(100.0, 131.0), symbol="SPY", last_day=last_day)

    assert verdict_of(conditions=MemoryConditions(index=index)).open is is_open


@pytest.mark.parametrize(
    ("decided_at", "is_open", "phase"),
    [
        ("2014-07-09 13:29:59", False, "pre_market"),
        ("2014-07-09 13:30", True, "regular"),
        ("2014-07-09 19:59:59", True, "regular"),
        ("2014-07-09 20:00", False, "after_hours"),
        ("2014-07-04 16:00", False, "closed"),  # Independence Day
        ("2014-07-03 16:59:59", True, "regular"),  # half day until 13:00 New York
        ("2014-07-03 17:00", False, "after_hours"),
        ("2014-03-07 14:00", False, "pre_market"),  # Friday before the clocks change: open at 14:30 UTC
        ("2014-03-10 13:30", True, "regular"),  # Monday after: 13:30 UTC
    ],
)
def test_only_the_regular_session_is_open(decided_at: str, *, is_open: bool, phase: str) -> None:
    """Holidays, half days and daylight saving by the exchange's calendar."""
    verdict = verdict_of(a_signal(decided_at=at(decided_at)), MemoryConditions())

    assert verdict.open is is_open
    assert the_check(verdict, "session").observed == phase


@pytest.mark.parametrize(
    ("decided_at", "hold_until"),
    [
        ("2014-07-09 12:00", "2014-07-09 13:30"),
        ("2014-07-09 20:00", "2014-07-10 13:30"),
        ("2014-07-03 17:00", "2014-07-07 13:30"),  # over the long weekend
        ("2014-03-08 12:00", "2014-03-10 13:30"),  # over the change of the clocks
    ],
)
def test_with_gate_queue_what_only_the_session_forbids_is_held_for_the_next_open(
    decided_at: str, hold_until: str
) -> None:
    """The verdict stays closed and says until when a hold would last."""
    verdict = verdict_of(a_signal(decided_at=at(decided_at)), MemoryConditions(vix=Decimal(15)), QUEUE)

    assert not verdict.open
    assert verdict.hold_until == at(hold_until)


def test_without_gate_queue_nothing_is_held() -> None:
    """The default."""
    assert verdict_of(a_signal(decided_at=at("2014-07-09 12:00")), MemoryConditions()).hold_until is None


def test_what_another_check_forbids_too_is_not_held() -> None:
    """Only the session alone holds."""
    verdict = verdict_of(a_signal(decided_at=at("2014-07-09 12:00")), MemoryConditions(vix=Decimal(31)), QUEUE)

    assert failed(verdict) == ["session", "vix"]
    assert verdict.refusal is not None
    assert verdict.refusal.rule == "session"
    assert verdict.hold_until is None


def test_an_open_gate_holds_nothing() -> None:
    """In session there is nothing to wait for."""
    assert verdict_of(settings=QUEUE).hold_until is None


def test_a_released_signal_is_in_session() -> None:
    """It is decided again at exactly the open."""
    assert verdict_of(a_signal(decided_at=at("2014-07-09 13:30"), released=True), settings=QUEUE).open


@pytest.mark.parametrize(
    ("decided_at", "is_open"),
    [
        ("2014-07-09 15:59:59", True),
        ("2014-07-09 16:00", False),  # 12:00 New York
        ("2014-07-09 16:59:59", False),
        ("2014-07-09 17:00", True),
        ("2014-12-10 16:59:59", True),  # winter: noon is 17:00 UTC
        ("2014-12-10 17:00", False),
    ],
)
def test_lunch_is_avoided_from_noon_to_one_by_setting(decided_at: str, *, is_open: bool) -> None:
    """150 to 210 minutes after the open, in winter as in summer."""
    signal = a_signal(decided_at=at(decided_at))

    assert verdict_of(signal, MemoryConditions(), GateSettings(avoid_lunch=True)).open is is_open
    assert verdict_of(signal, MemoryConditions(), SETTINGS).open


@pytest.mark.parametrize(
    ("decided_at", "fails"),
    [
        ("2014-07-09 13:30", ["first_minutes"]),
        ("2014-07-09 13:34:59", ["first_minutes"]),
        ("2014-07-09 13:35", []),
        ("2014-07-09 19:49:59", []),
        ("2014-07-09 19:50", ["last_minutes"]),
        ("2014-07-03 16:50", ["last_minutes"]),  # half day
        ("2014-07-09 12:00", ["session"]),  # before the open only the session speaks
        ("2014-07-09 20:30", ["session"]),
    ],
)
def test_first_and_last_minutes_are_closed_by_setting(decided_at: str, fails: list[str]) -> None:
    """5 minutes after the open, 10 before the close."""
    settings = GateSettings(first_minutes=5, last_minutes=10)

    assert failed(verdict_of(a_signal(decided_at=at(decided_at)), MemoryConditions(), settings)) == fails


@pytest.mark.parametrize(("halted", "passed"), [({"AAPL": True}, False), ({"AAPL": False}, True)])
def test_a_halted_symbol_is_closed(halted: dict[str, bool], *, passed: bool) -> None:
    """A symbol the source does not know is off, not open by proof."""
    assert the_check(verdict_of(halted=halted), "halted").passed is passed
    assert the_check(verdict_of(halted={"MSFT": True}), "halted").passed is None


def test_an_error_of_the_symbol_or_the_session_is_raised() -> None:
    """The orchestrator closes the gate then (gate_fail_safe_closed)."""
    with pytest.raises(MarketDataError, match="symbol is"):
        verdict_of(a_signal(symbol="../x"))
    with pytest.raises(MarketDataError, match="beyond the calendar"):
        verdict_of(a_signal(decided_at=at("2024-07-09 16:00")))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"vix_reduced_from": 31}, "vix_reduced_from"),
        ({"gate_queue": True, "first_minutes": 5}, "gate_queue releases at the open"),
        ({"vix_factor": 0}, "vix_factor"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], word: str) -> None:
    """Wrong settings stop the fleet at start."""
    with pytest.raises(ValidationError, match=word):
        GateSettings.model_validate(changes)

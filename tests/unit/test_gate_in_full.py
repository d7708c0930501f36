"""Market gate: what every check records, on, off and unknown, and what a failed gate says."""

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest

from pipeline.gate import GateSettings, MarketGate
from pipeline.models import GateCheck, GateVerdict, Refusal, Stage
from pipeline.ports import MarketConditions
from tests.gates import FINE, SETTINGS, Record, UnknownConditions, failed, records, the_check, verdict_of
from tests.market_builders import a_signal, at, some_bars, xnys
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData


def test_a_market_that_passes_every_check_records_what_was_seen() -> None:
    """Noon in New York is 2:30 after the open and 4:00 before the close."""
    settings = GateSettings(
        avoid_lunch=True, lunch_start_minutes=60, lunch_minutes=30, first_minutes=5, last_minutes=10
    )

    assert records(verdict_of(settings=settings)) == [
        ("session", True, "regular", "regular"),
        ("lunch", True, "2:30:00", "not 1:00:00 to 1:30:00 after the open"),
        ("first_minutes", True, "2:30:00", ">= 5 min after open"),
        ("last_minutes", True, "4:00:00", "> 10 min before close"),
        ("vix", True, "15", "<= 30"),
        ("index_volume", True, "1.0000", ">= 0.5"),
        ("chop", True, "1.0000", ">= 0.1 over 30 bars"),
        ("halted", True, "trading", "not halted"),
    ]


def test_a_profile_without_market_data_records_why_each_check_is_off() -> None:
    """By setting, or for want of data."""
    by_setting, no_data = "off by setting", "no data in this profile"

    assert records(verdict_of(conditions=MemoryConditions(), halted={"MSFT": True})) == [
        ("session", True, "regular", "regular"),
        ("lunch", None, by_setting, "not 2:30:00 to 3:30:00 after the open"),
        ("first_minutes", None, by_setting, ">= 0 min after open"),
        ("last_minutes", None, by_setting, "> 0 min before close"),
        ("vix", None, no_data, "<= 30"),
        ("index_volume", None, no_data, ">= 0.5"),
        ("chop", None, no_data, ">= 0.1 over 30 bars"),
        ("halted", None, no_data, "not halted"),
    ]


UNKNOWN = UnknownConditions()
SHORT_INDEX = MemoryConditions(index=some_bars(np.arange(100.0, 130.0), symbol="SPY"))


@pytest.mark.parametrize(
    ("conditions", "record"),
    [
        (UNKNOWN, ("vix", False, "unknown: no VIX is known at 16:00", "<= 30")),
        (UNKNOWN, ("index_volume", False, "unknown: no volume at 16:00", ">= 0.5")),
        (UNKNOWN, ("chop", False, "unknown: no index: 31 bars asked at 16:00", ">= 0.1 over 30 bars")),
        (MemoryConditions(vix=Decimal("NaN")), ("vix", False, "unknown: NaN", "<= 30")),
        (SHORT_INDEX, ("chop", False, "unknown: 30 of 31 bars", ">= 0.1 over 30 bars")),
    ],
)
def test_what_is_configured_and_unknown_records_why(conditions: MarketConditions, record: Record) -> None:
    """In the words of the data's error; 30 changes need 31 closes."""
    assert record in records(verdict_of(conditions=conditions))


def test_an_index_exactly_two_bars_old_is_still_good() -> None:
    """At Wednesday's close Monday's bar is two sessions old, the limit itself."""
    index = some_bars(np.arange(100.0, 131.0), symbol="SPY", last_day=date(2014, 7, 7))
    verdict = verdict_of(a_signal(decided_at=at("2014-07-09 20:00")), MemoryConditions(index=index))

    assert the_check(verdict, "chop").passed is True


@pytest.mark.parametrize(
    ("settings", "decided_at", "fails"),
    [
        (GateSettings(first_minutes=1), "2014-07-09 13:30", ["first_minutes"]),
        (GateSettings(last_minutes=1), "2014-07-09 19:59", ["last_minutes"]),
        (GateSettings(last_minutes=390), "2014-07-09 13:30", ["last_minutes"]),  # the whole session, open included
    ],
)
def test_one_minute_is_a_setting_and_so_is_the_whole_session(
    settings: GateSettings, decided_at: str, fails: list[str]
) -> None:
    """The smallest and the largest value."""
    assert failed(verdict_of(a_signal(decided_at=at(decided_at)), MemoryConditions(), settings)) == fails


def test_a_halt_is_refused_in_words_and_asked_as_of_the_decision() -> None:
    """For the signal's symbol, at the signal's moment."""
    asked: list[tuple[str, datetime]] = []

    class Halted(MemoryMarketData):
        def halted(self, symbol: str, as_of: datetime) -> bool | None:
            asked.append((symbol, as_of))
            return True

    signal = a_signal()
    verdict = MarketGate(xnys(), FINE, Halted({}, sessions=xnys()), SETTINGS).check(signal)

    assert verdict.refusal == Refusal(Stage.GATE, "halted", "halted", "not halted")
    assert asked == [("AAPL", signal.decided_at)]


@pytest.mark.parametrize("closed", [True, False])
def test_a_gate_that_failed_is_closed_or_visibly_open_by_setting(closed: bool) -> None:  # noqa: FBT001
    """Rule: `gate_fail_safe_closed` (seed: true)."""
    verdict = MarketGate(xnys(), FINE, MemoryMarketData({}, sessions=xnys()), SETTINGS).on_error(
        "ValueError: broken", fail_safe_closed=closed
    )

    assert verdict == GateVerdict(
        open=not closed,
        factor=Decimal(1),
        checks=(GateCheck("gate", not closed, "ValueError: broken", "no error"),),
        refusal=Refusal(Stage.GATE, "error", "ValueError: broken", "no error") if closed else None,
    )

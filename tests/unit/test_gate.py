"""Market gate: every check of STAGES 7 at its limit, recorded, and closed when in doubt."""

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError
from pipeline.gate import GateSettings, MarketGate
from pipeline.models import Bars, GateCheck, GateVerdict, Refusal, Signal, Stage
from pipeline.ports import MarketConditions
from tests.market_builders import a_signal, at, some_bars, xnys
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData

SETTINGS = GateSettings()
QUEUE = GateSettings(gate_queue=True)
STEADY = some_bars(np.arange(100.0, 131.0), symbol="SPY")  # 31 closes, 30 changes, all up: efficiency 1
FINE = MemoryConditions(vix=Decimal(15), index=STEADY, relative_volume=1.0)


class UnknownConditions:
    """Everything is configured and nothing is known."""

    def vix(self, as_of: datetime) -> Decimal | None:
        raise MarketDataError(f"no VIX is known at {as_of:%H:%M}")

    def index_bars(self, as_of: datetime, count: int) -> Bars | None:
        raise MarketDataError(f"no index: {count} bars asked at {as_of:%H:%M}")

    def relative_index_volume(self, as_of: datetime) -> float | None:
        raise MarketDataError(f"no volume at {as_of:%H:%M}")


def verdict_of(
    signal: Signal | None = None,
    conditions: MarketConditions = FINE,
    settings: GateSettings = SETTINGS,
    halted: dict[str, bool] | None = None,
) -> GateVerdict:
    """The verdict on a signal, by default at Wednesday noon in a calm market."""
    market = MemoryMarketData({"AAPL": some_bars()}, sessions=xnys(), halted=halted or {"AAPL": False})
    return MarketGate(xnys(), conditions, market, settings).check(signal or a_signal())


def the_check(verdict: GateVerdict, name: str) -> GateCheck:
    """One recorded check."""
    return next(check for check in verdict.checks if check.name == name)


Record = tuple[str, bool | None, str, str]


def records(verdict: GateVerdict) -> list[Record]:
    """Every check: its name, whether it passed (None: off), what was seen, what is allowed."""
    return [(check.name, check.passed, check.observed, check.limit) for check in verdict.checks]


def failed(verdict: GateVerdict) -> list[str]:
    """The names of the checks that failed."""
    return [check.name for check in verdict.checks if check.passed is False]


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


# ---- in full -----------------------------------------------------------------------------------------


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

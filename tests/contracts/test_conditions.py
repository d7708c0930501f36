"""Conditions of the whole market: the VIX when it was known, the index against its own past."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import MarketDataError
from pipeline.models import Bars
from tests.market_builders import at, minute_bars, some_bars, xnys
from workers.adapters.conditions_csv import CsvConditions
from workers.adapters.market_memory import MemoryMarketData

DAILY_VIX = "date,open,high,low,close\n2014-07-02,1,1,1,10.82\n2014-07-03,1,1,1,10.32\n2014-07-07,1,1,1,11.33\n"
TIMED_VIX = "timestamp,close\n2014-07-07T13:31:00Z,11.5\n2014-07-07T13:32:00Z,11.75\n"


def with_vix(folder: Path, text: str, max_age: timedelta | None = None) -> CsvConditions:
    """Conditions that know a VIX file and no index."""
    path = folder / "vix.csv"
    path.write_text(text)
    return CsvConditions(MemoryMarketData({}, sessions=xnys()), xnys(), vix_csv=path, vix_max_age=max_age)


def with_index(bars: Bars) -> CsvConditions:
    """Conditions that know an index and no VIX."""
    return CsvConditions(MemoryMarketData({"SPY": bars}, sessions=xnys()), xnys(), index_symbol="SPY")


@pytest.mark.parametrize(
    ("as_of", "vix"),
    [
        ("2014-07-02 20:00", "10.82"),
        ("2014-07-03 16:59:59", "10.82"),
        ("2014-07-03 17:00", "10.32"),  # half day: known at 13:00 New York
        ("2014-07-07 19:59:59", "10.32"),
        ("2014-07-07 20:00", "11.33"),
        ("2014-07-09 20:00", "11.33"),  # two sessions old
    ],
)
def test_a_days_vix_is_known_at_that_days_close(tmp_path: Path, as_of: str, vix: str) -> None:
    """Exactly as the file says it."""
    assert with_vix(tmp_path, DAILY_VIX).vix(at(as_of)) == Decimal(vix)


@pytest.mark.parametrize("as_of", ["2014-07-02 19:59:59", "2014-07-10 13:30:01"])
def test_a_vix_that_is_not_yet_known_or_too_old_is_unknown(tmp_path: Path, as_of: str) -> None:
    """Configured and unknown: the gate closes."""
    with pytest.raises(MarketDataError, match=r"vix\.csv"):
        with_vix(tmp_path, DAILY_VIX).vix(at(as_of))


def test_an_intraday_vix_is_known_at_its_time_for_half_an_hour(tmp_path: Path) -> None:
    """Of session time."""
    conditions = with_vix(tmp_path, TIMED_VIX)

    assert conditions.vix(at("2014-07-07 13:31:59")) == Decimal("11.5")
    assert conditions.vix(at("2014-07-07 13:32")) == Decimal("11.75")
    assert conditions.vix(at("2014-07-07 14:02")) == Decimal("11.75")
    with pytest.raises(MarketDataError, match="old, limit 0:30:00"):
        conditions.vix(at("2014-07-07 14:02:01"))


def test_the_age_limit_of_the_vix_can_be_given(tmp_path: Path) -> None:
    """In session time."""
    with pytest.raises(MarketDataError, match="limit 1:00:00"):
        with_vix(tmp_path, DAILY_VIX, timedelta(hours=1)).vix(at("2014-07-08 14:30:01"))


def test_what_is_not_configured_is_none() -> None:
    """The gate's checks are off then."""
    conditions = CsvConditions(MemoryMarketData({}, sessions=xnys()), xnys())
    moment = at("2014-07-07 16:00")

    assert conditions.vix(moment) is None
    assert conditions.index_bars(moment, 31) is None
    assert conditions.relative_index_volume(moment) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: the file has no header"),
        ("date,open\n2014-07-02,1\n", "line 1: no column close"),
        ("close\n1\n", "line 1: expected one of the columns date and timestamp"),
        ("date,close\n2014-07-03,1\n2014-07-02,1\n", "line 3: date is 2014-07-02 after 2014-07-03"),
        ("date,close\n2014-07-02,NaN\n", "line 2: close is NaN, it must be a finite number above 0"),
        ("date,close\n2014-07-02,0\n", "line 2: close is 0"),
    ],
)
def test_a_wrong_vix_file_is_refused_at_once(tmp_path: Path, text: str, named: str) -> None:
    """At start, by file, line and valid range."""
    with pytest.raises(MarketDataError, match=r"vix\.csv") as caught:
        with_vix(tmp_path, text)

    assert named in str(caught.value)


def test_index_bars_are_those_completed() -> None:
    """Never a younger one."""
    conditions = with_index(some_bars([1, 2, 3], symbol="SPY", spread=0.0))
    bars = conditions.index_bars(at("2014-07-08 19:00"), 2)

    assert bars is not None
    assert bars.close.tolist() == [1, 2]


def daily_index(volumes: list[float]) -> Bars:
    """Daily index bars with these volumes, the last on 2014-07-08."""
    bars = some_bars(np.arange(100.0, 100.0 + len(volumes)), symbol="SPY")
    return replace(bars, volume=np.asarray(volumes))


def test_a_daily_index_compares_its_last_bar_with_the_20_before() -> None:
    """150 / mean(50 x 10 and 150 x 10) = 150 / 100."""
    conditions = with_index(daily_index([9_999.0, *[50.0] * 10, *[150.0] * 10, 150.0]))

    assert conditions.relative_index_volume(at("2014-07-09 16:00")) == pytest.approx(1.5)


@pytest.mark.parametrize("volumes", [[100.0] * 20, [0.0] * 20 + [100.0], []])
def test_an_index_without_20_sessions_or_without_volume_is_unknown(volumes: list[float]) -> None:
    """A ratio to nothing is none."""
    with pytest.raises(MarketDataError, match="SPY"):
        with_index(daily_index(volumes)).relative_index_volume(at("2014-07-09 16:00"))


def test_an_index_that_stopped_is_unknown() -> None:
    """Its last bar is 2.5 sessions old."""
    with pytest.raises(MarketDataError, match=r"SPY: the last bar is 2\.50 bars old"):
        with_index(daily_index([100.0] * 30)).relative_index_volume(at("2014-07-11 16:45"))


def minute_index(days: int = 21) -> Bars:
    """Minute bars of the index: 21 sessions up to 2014-07-08, 10 shares a minute, on the last day 5."""
    found: list[date] = []
    day = date(2014, 7, 8)
    while len(found) < days:
        if xnys().session(day) is not None:
            found.append(day)
        day -= timedelta(days=1)
    bars = minute_bars(sorted(found), symbol="SPY", minutes=5)
    volume = bars.volume.copy()
    volume[bars.start >= at("2014-07-08 13:30").timestamp()] = 5.0
    return replace(bars, volume=volume)


@pytest.mark.parametrize(
    ("as_of", "ratio"),
    [
        ("2014-07-08 13:35", 0.5),  # the first 5 minutes
        ("2014-07-08 16:00", 0.5),
        # at the close the half day of 2014-07-03 had only 42 of 78 bars: 78 x 5 / ((19 x 780 + 420) / 20 = 762)
        ("2014-07-08 20:00", 390 / 762),
        ("2014-07-09 12:00", 390 / 762),  # before the next session's first bar, the last session as a whole
    ],
)
def test_an_intraday_index_compares_the_session_so_far_with_the_same_minutes(as_of: str, ratio: float) -> None:
    """5 shares where the 20 sessions before had 10, up to the same minute."""
    assert with_index(minute_index()).relative_index_volume(at(as_of)) == pytest.approx(ratio)


def test_before_a_sessions_first_bar_the_session_before_counts_as_a_whole() -> None:
    """At the open of 2014-07-08: Monday's 780 against 20 sessions before it with one half day (762)."""
    assert with_index(minute_index(22)).relative_index_volume(at("2014-07-08 13:30")) == pytest.approx(780 / 762)


def test_bars_outside_sessions_are_no_volume_of_the_index() -> None:
    """An index with pre-market bars only has no session to compare."""
    bars = minute_index()
    early = replace(bars, start=bars.start - 43_200, end=bars.end - 43_200)

    with pytest.raises(MarketDataError, match="no bar lies in a session"):
        with_index(early).relative_index_volume(at("2014-07-08 13:31"))


def test_the_ratio_is_remembered_only_until_the_next_bar() -> None:
    """Asked in any order, it is that of the moment."""
    conditions = with_index(minute_index())
    moments = [at("2014-07-08 20:00"), at("2014-07-08 13:35"), at("2014-07-08 20:00")]

    assert [conditions.relative_index_volume(moment) for moment in moments] == pytest.approx(
        [390 / 762, 0.5, 390 / 762]
    )


def test_a_vix_of_a_day_without_a_session_is_known_from_the_midnight_after(tmp_path: Path) -> None:
    """The index has values on a few days on which the exchange is closed: they are used, never early."""
    path = tmp_path / "vix.csv"
    path.write_text("date,close\n2014-07-03,10.32\n2014-07-04,11.50\n")
    conditions = CsvConditions(MemoryMarketData({}, sessions=xnys()), xnys(), vix_csv=path)

    assert conditions.vix(datetime(2014, 7, 5, 3, 59, tzinfo=UTC)) == Decimal("10.32")
    assert conditions.vix(datetime(2014, 7, 5, 4, 0, tzinfo=UTC)) == Decimal("11.50")


def test_a_vix_file_that_grows_is_followed(tmp_path: Path) -> None:
    """A live fleet reads the new day without a restart."""
    path = tmp_path / "vix.csv"
    path.write_text("date,close\n2014-07-02,10.82\n")
    conditions = CsvConditions(MemoryMarketData({}, sessions=xnys()), xnys(), vix_csv=path)
    before = conditions.vix(datetime(2014, 7, 3, 18, 0, tzinfo=UTC))
    path.write_text("date,close\n2014-07-02,10.82\n2014-07-03,10.32\n")

    assert before == Decimal("10.82")
    assert conditions.vix(datetime(2014, 7, 3, 18, 0, tzinfo=UTC)) == Decimal("10.32")

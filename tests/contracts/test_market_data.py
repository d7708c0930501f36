"""Market data: the same questions to CSV files and to the in-memory twin."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import MarketDataError
from pipeline.models import Bars, Quote
from tests.csv_files import write_bars
from tests.market_builders import a_walk, at, minute_bars, some_bars, xnys
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.market_memory import MemoryMarketData
from workers.adapters.series import SeriesMarketData

Build = Callable[..., SeriesMarketData]
DAYS = [date(2014, 7, 2), date(2014, 7, 3), date(2014, 7, 7)]  # whole day, half day, whole day


@pytest.fixture(params=["csv", "memory"])
def market_of(request: pytest.FixtureRequest, tmp_path: Path) -> Build:
    """Builds either adapter over the same series."""

    def build(*series: Bars, daily: tuple[Bars, ...] = ()) -> SeriesMarketData:
        if request.param == "memory":
            by_symbol = {bars.symbol: bars for bars in daily} or None
            return MemoryMarketData({bars.symbol: bars for bars in series}, sessions=xnys(), daily=by_symbol)
        (tmp_path / "bars").mkdir()
        for bars in series:
            write_bars(tmp_path / "bars", bars)
        for bars in daily:
            write_bars(tmp_path / "daily", bars)
        return CsvMarketData(tmp_path / "bars", sessions=xnys(), daily_folder=tmp_path / "daily" if daily else None)

    return build


def same(one: Bars, other: Bars) -> bool:
    """Whether two series are equal, value by value."""
    names = ("start", "end", "open", "high", "low", "close", "volume")
    return (one.symbol, one.interval) == (other.symbol, other.interval) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def test_a_whole_series_comes_back_exactly(market_of: Build) -> None:
    """Not one bit of a price is lost on the way through a file."""
    daily, minutes = some_bars(a_walk(30) + 0.1), minute_bars(DAYS, symbol="MSFT")

    market = market_of(daily, minutes)

    assert same(market.bars("AAPL", at("2014-07-08 20:00"), 99), daily)
    assert same(market.bars("MSFT", at("2014-07-07 20:00"), 9_999), minutes)


@pytest.mark.parametrize(
    ("as_of", "known"),
    [
        ("2014-07-08 19:59:59.999999", 29),
        ("2014-07-08 20:00", 30),  # complete at the session's close, not at midnight
        ("2014-07-07 20:00", 29),
        ("2014-07-03 16:59:59", 27),
        ("2014-07-03 17:00", 28),  # half day
        ("2013-01-02 20:00", 0),
    ],
)
def test_a_daily_bar_is_known_from_its_sessions_close(market_of: Build, as_of: str, known: int) -> None:
    """Only bars with `end <= as_of`."""
    assert len(market_of(some_bars(a_walk(30))).bars("AAPL", at(as_of), 99)) == known


def test_the_last_bars_are_answered_oldest_first(market_of: Build) -> None:
    """As many as asked, or fewer."""
    market = market_of(some_bars([1, 2, 3, 4, 5], spread=0.0))

    assert market.bars("AAPL", at("2014-07-08 20:00"), 2).close.tolist() == [4, 5]
    assert market.bars("AAPL", at("2014-07-07 20:00"), 2).close.tolist() == [3, 4]
    assert market.bars("AAPL", at("2014-07-08 20:00"), 0).close.tolist() == []


def test_the_quote_is_the_last_completed_close_with_its_own_time(market_of: Build) -> None:
    """Visibly a daily close, a night old."""
    market = market_of(some_bars([9.5, 10.25]))

    assert market.quote("AAPL", at("2014-07-09 13:00")) == Quote(
        "AAPL", Decimal("10.25"), at("2014-07-08 20:00"), "daily close"
    )
    assert market.quote("AAPL", at("2014-07-08 19:00")) == Quote(
        "AAPL", Decimal("9.5"), at("2014-07-07 20:00"), "daily close"
    )
    assert market.quote("AAPL", at("2014-07-07 19:00")) is None


def test_the_quote_of_shorter_bars_is_a_bar_close(market_of: Build) -> None:
    """One minute after the open the first bar's close is known."""
    bars = minute_bars(DAYS)
    quote = market_of(bars).quote("AAPL", at("2014-07-02 13:31:30"))

    assert quote == Quote("AAPL", Decimal(str(float(bars.close[0]))), at("2014-07-02 13:31"), "bar close")


@pytest.mark.parametrize(
    ("start", "end", "closes"),
    [
        ("2014-07-07 20:00", "2014-07-08 20:00", [3.0]),  # start is excluded, end included
        ("2014-07-07 19:59:59", "2014-07-08 20:00", [2.0, 3.0]),
        ("2014-07-07 20:00", "2014-07-08 19:59:59", []),
        ("2014-01-02 00:00", "2014-12-01 00:00", [1.0, 2.0, 3.0]),
        ("2014-12-01 00:00", "2014-01-02 00:00", []),
    ],
)
def test_bars_between_are_those_that_ended_since(market_of: Build, start: str, end: str, closes: list[float]) -> None:
    """The paper venue lives through every bar exactly once."""
    market = market_of(some_bars([1, 2, 3], spread=0.0))

    assert market.bars_between("AAPL", at(start), at(end)).close.tolist() == closes


def test_without_a_daily_series_shorter_bars_are_gathered_by_session(market_of: Build) -> None:
    """Open of the first, highest high, lowest low, close of the last, all the volume; a half day ends early."""
    bars = minute_bars(DAYS)
    half_day = slice(390, 390 + 210)

    daily = market_of(bars).daily_bars("AAPL", at("2014-07-07 20:00"), 99)

    assert daily.interval == timedelta(days=1)
    assert daily.end.tolist() == [at(f"2014-07-{end}").timestamp() for end in ("02 20:00", "03 17:00", "07 20:00")]
    assert daily.open[1] == bars.open[390]
    assert daily.high[1] == bars.high[half_day].max()
    assert daily.low[1] == bars.low[half_day].min()
    assert daily.close[1] == bars.close[599]
    assert daily.volume.tolist() == [3900.0, 2100.0, 3900.0]


def test_a_gathered_day_is_known_only_from_its_close(market_of: Build) -> None:
    """During the session yesterday is the last daily bar."""
    market = market_of(minute_bars(DAYS))

    assert len(market.daily_bars("AAPL", at("2014-07-03 16:59:59"), 99)) == 1
    assert len(market.daily_bars("AAPL", at("2014-07-03 17:00"), 99)) == 2


def test_a_daily_series_of_its_own_is_preferred(market_of: Build) -> None:
    """Analysis on minutes, ATR on days."""
    daily = some_bars(a_walk(30))
    market = market_of(minute_bars(DAYS), daily=(daily,))

    assert same(market.daily_bars("AAPL", at("2014-07-08 20:00"), 99), daily)
    assert market.bars("AAPL", at("2014-07-08 20:00"), 1).interval == timedelta(minutes=1)


def test_daily_bars_are_their_own_daily_series(market_of: Build) -> None:
    """Nothing to gather."""
    daily = some_bars(a_walk(30))

    assert same(market_of(daily).daily_bars("AAPL", at("2014-07-08 20:00"), 99), daily)


@pytest.mark.parametrize(
    "symbol",
    ["../x", "..", "$$$", "aapl", "", "TOOLONG", "BRK-B", "BRK.", "A/B", "AAPL\n", "BRK.BCD", "C:X", "A\x00", "ＡＢ"],
)
def test_what_is_no_symbol_never_reaches_a_file(market_of: Build, symbol: str) -> None:
    """Refused before a path is built."""
    market = market_of(some_bars())
    moment = at("2014-07-08 20:00")
    asked: list[Callable[[], object]] = [
        lambda: market.bars(symbol, moment, 1),
        lambda: market.daily_bars(symbol, moment, 1),
        lambda: market.quote(symbol, moment),
        lambda: market.bars_between(symbol, moment, moment),
        lambda: market.halted(symbol, moment),
    ]

    for question in asked:
        with pytest.raises(MarketDataError, match="symbol is"):
            question()


def test_a_symbol_without_a_series_is_a_failure_that_names_it(market_of: Build) -> None:
    """Not an empty series."""
    with pytest.raises(MarketDataError, match="MSFT"):
        market_of(some_bars()).bars("MSFT", at("2014-07-08 20:00"), 1)


def test_a_class_share_has_its_own_series(market_of: Build) -> None:
    """BRK.B is in BRK-B.csv."""
    market = market_of(some_bars([5, 6], symbol="BRK.B", spread=0.0), some_bars([7, 8], symbol="BRK.A", spread=0.0))

    assert market.bars("BRK.B", at("2014-07-08 20:00"), 1).close.tolist() == [6]


def test_bars_do_not_tell_whether_a_symbol_is_halted(market_of: Build) -> None:
    """None: the gate's check is off, visibly."""
    assert market_of(some_bars()).halted("AAPL", at("2014-07-08 20:00")) is None


def test_answers_cannot_be_written_to(market_of: Build) -> None:
    """Views of the series, which nobody may change."""
    bars = market_of(some_bars()).bars("AAPL", at("2014-07-08 20:00"), 5)

    with pytest.raises(ValueError, match="read-only"):
        bars.close[0] = 1.0


def test_a_naive_time_is_a_mistake(market_of: Build) -> None:
    """A time without zone would mean the machine's."""
    with pytest.raises(ValueError, match="no time zone"):
        market_of(some_bars()).bars("AAPL", datetime(2014, 7, 8, 20), 1)  # noqa: DTZ001 - the point

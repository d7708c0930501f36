"""CSV files as they come: what is accepted, and how what is wrong is named with its file, line and valid range."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import MarketDataError
from pipeline.models import Bars
from tests.csv_files import write_bars
from tests.market_builders import at, minute_bars, some_bars, xnys
from workers.adapters.bars_csv import CsvMarketData, read_bars

DAILY = "date,open,high,low,close,volume\n"
TIMED = "timestamp,open,high,low,close,volume\n"
GOOD = "2014-07-07,10,11,9,10.5,100\n"
FIRST_MINUTE = "2014-07-07T13:30:00Z,10,11,9,10.5,100\n"
SECOND_MINUTE = "2014-07-07T13:31:00Z,10,11,9,10.5,100\n"


def bars_of(folder: Path, text: str | bytes) -> Bars:
    """The bars of a file with this content."""
    path = folder / "AAPL.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_bars(path, "AAPL", xnys())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "line 1: the file has no header"),
        ("\n", "line 1: the file has no header"),
        (DAILY, "no rows below the header"),
        ("hello\nworld\n", "line 1: no column open, high, low, close, volume"),
        ("date,open,high,low,close\n", "no rows below the header"),
        ("date,open,high,low,close\n2014-07-07,1,1,1,1\n", "line 1: no column volume"),
        ("open,high,low,close,volume\n1,1,1,1,1\n", "line 1: expected one of the columns date"),
        ("date,timestamp,open,high,low,close,volume\n1,1,1,1,1,1,1\n", "line 1: expected one of the columns date"),
        ("date,open,open,low,close,volume\n" + GOOD, "line 1: columns repeat"),
        (DAILY + GOOD + "2014-07-08,10,11,9,10.5\n", "line 3: 5 values, expected 6"),
        (DAILY + GOOD + "\n2014-07-08,10,11\n", "line 4: 3 values, expected 6"),
        (DAILY + "2014-07-07,10,11,9,nan,100\n", "line 2: close is nan, it must be a finite number above 0"),
        (DAILY + "2014-07-07,10,inf,9,10,100\n", "line 2: high is inf, it must be a finite number above 0"),
        (DAILY + "2014-07-07,10,1e999,9,10,100\n", "line 2: high is 1e999"),
        (DAILY + "2014-07-07,-10,11,9,10,100\n", "line 2: open is -10, it must be a finite number above 0"),
        (DAILY + "2014-07-07,10,11,0,10,100\n", "line 2: low is 0, it must be a finite number above 0"),
        (DAILY + "2014-07-07,abc,11,9,10,100\n", "line 2: open is 'abc', it must be a finite number above 0"),
        (DAILY + "2014-07-07,1_0,11,9,10,100\n", "line 2: open is '1_0'"),
        (DAILY + "2014-07-07,,11,9,10,100\n", "line 2: open is ''"),
        (DAILY + "2014-07-07,10,11,9,10,-1\n", "line 2: volume is -1, it must be a finite number of 0 or more"),
        (DAILY + "2014-07-07,10,11,9,10,nan\n", "line 2: volume is nan"),
        (DAILY + "2014-07-07,10,9,11,10,100\n", "line 2: open 10, high 9, low 11, close 10: open and close must lie"),
        (DAILY + "2014-07-07,10,11,9,11.5,100\n", "open and close must lie from low to high"),
        (DAILY + "2014-07-07,8,11,9,10,100\n", "open and close must lie from low to high"),
        (DAILY + "2014-07-08,10,11,9,10,1\n" + GOOD, "line 3: date is 2014-07-07 after 2014-07-08, rows must rise"),
        (DAILY + GOOD + GOOD, "line 3: date is 2014-07-07 after 2014-07-07, rows must rise without repeats"),
        (DAILY + "2014-07-04,10,11,9,10,100\n", "line 2: date is 2014-07-04, the exchange was closed that day"),
        (DAILY + "1901-07-05,10,11,9,10,100\n", "line 2: date is 1901-07-05 is beyond the calendar"),
        (DAILY + "07/07/2014,10,11,9,10,100\n", "line 2: date is '07/07/2014', it must be a date such as"),
        (TIMED + FIRST_MINUTE, "line 2: a single bar has no interval"),
        (TIMED + SECOND_MINUTE + FIRST_MINUTE, "line 3: timestamp is 2014-07-07T13:30:00Z after 2014-07-07T13:31"),
        (TIMED + FIRST_MINUTE + FIRST_MINUTE, "line 3: timestamp is"),
        (TIMED + "1901-07-07T13:30:00Z,9,9,9,9,1\n" + FIRST_MINUTE, "timestamp 1901-07-07T13:30:00+00:00 is beyond"),
        (TIMED + "noon,10,11,9,10,100\n", "line 2: timestamp is 'noon', it must be an ISO time in whole seconds"),
        (TIMED + "2014-07-07T13:30:00.5Z,10,11,9,10,100\n", "in whole seconds"),
        (
            TIMED + FIRST_MINUTE + SECOND_MINUTE + "2014-07-07T13:32:00Z,9,9,9,9,1\n2014-07-07T13:32:30Z,9,9,9,9,1\n",
            "line 5: timestamp is 30 s after the row before, bars are 60 s long",
        ),
        (
            TIMED + FIRST_MINUTE + SECOND_MINUTE + "2014-07-07T13:32:00Z,9,9,9,9,1\n2014-07-07T13:33:30Z,9,9,9,9,1\n",
            "line 5: timestamp is 90 s after the row before, bars are 60 s long",
        ),
        (b"\xff\xfe\x00\x01", "cannot be read as CSV"),
        (DAILY + '2014-07-07,"10,11,9,10,100\n', "cannot be read as CSV"),
        (DAILY.encode() + b"2014-07-07,10,11,9,\xc3\x28,100\n", "cannot be read as CSV"),
    ],
)
def test_a_wrong_file_is_refused_as_a_whole_by_file_line_and_valid_range(
    tmp_path: Path, content: str | bytes, named: str
) -> None:
    """Corrupt data counts as worse than none."""
    with pytest.raises(MarketDataError) as caught:
        bars_of(tmp_path, content)

    assert "AAPL.csv" in str(caught.value)
    assert named in str(caught.value)


def test_gaps_further_columns_and_blank_lines_are_allowed(tmp_path: Path) -> None:
    """A missing day is no error; adj_close is ignored; Windows line ends and a byte order mark are read."""
    header = "Date, Open,High,Low,Close,Adj_Close,Volume\r\n"
    text = header + "2014-07-01,10,11,9,10.5,5.25,100\r\n\r\n2014-07-08,10,11,9,10.75,5.30,0\r\n"

    bars = bars_of(tmp_path, b"\xef\xbb\xbf" + text.encode())

    assert bars.close.tolist() == [10.5, 10.75]
    assert bars.volume.tolist() == [100, 0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2014-07-07T13:30:00", "2014-07-07T13:35:00"),  # naive is UTC
        ("2014-07-07T13:30:00Z", "2014-07-07T13:35:00Z"),
        ("2014-07-07 09:30:00-04:00", "2014-07-07 09:35:00-04:00"),
    ],
)
def test_a_timestamp_is_a_bars_start_in_any_zone(tmp_path: Path, first: str, second: str) -> None:
    """The interval is found in the data."""
    bars = bars_of(tmp_path, f"{TIMED}{first},10,11,9,10,1\n{second},10,11,9,10,1\n")

    assert bars.interval == timedelta(minutes=5)
    assert [datetime.fromtimestamp(end, tz=UTC) for end in bars.end.tolist()] == [
        at("2014-07-07 13:35"),
        at("2014-07-07 13:40"),
    ]


def test_the_last_bar_of_a_session_ends_at_its_close(tmp_path: Path) -> None:
    """Hourly bars from 09:30: the seventh is half an hour long, and the night between sessions is no error."""
    bars = read_bars(
        write_bars(tmp_path, minute_bars([date(2014, 7, 7), date(2014, 7, 8)], minutes=60)), "AAPL", xnys()
    )

    assert bars.interval == timedelta(hours=1)
    assert len(bars) == 14
    assert bars.end[6] == at("2014-07-07 20:00").timestamp()
    assert bars.end[6] - bars.start[6] == 1_800


def test_extended_hours_are_read_and_do_not_enter_daily_bars(tmp_path: Path) -> None:
    """A pre-market bar is a bar, the day opens at 09:30."""
    text = TIMED + "2014-07-07T13:29:00Z,5,5,5,5,7\n" + FIRST_MINUTE + "2014-07-07T20:00:00Z,50,50,50,50,7\n"
    (tmp_path / "AAPL.csv").write_text(text)
    market = CsvMarketData(tmp_path, sessions=xnys())

    assert len(market.bars("AAPL", at("2014-07-08 00:00"), 9)) == 3
    daily = market.daily_bars("AAPL", at("2014-07-08 00:00"), 9)
    assert (daily.open[0], daily.high[0], daily.low[0], daily.volume[0]) == (10, 11, 9, 100)


def test_a_symbol_with_bars_only_outside_sessions_has_no_daily_bars(tmp_path: Path) -> None:
    """Nothing to gather."""
    text = TIMED + "2014-07-07T12:00:00Z,5,5,5,5,7\n2014-07-07T12:01:00Z,5,5,5,5,7\n"
    (tmp_path / "AAPL.csv").write_text(text)

    assert len(CsvMarketData(tmp_path, sessions=xnys()).daily_bars("AAPL", at("2014-07-08 00:00"), 9)) == 0


def test_the_universe_is_the_symbols_that_have_a_file(tmp_path: Path) -> None:
    """Canonical and sorted; what is no symbol is not in it."""
    for name in ("MSFT.csv", "BRK-B.csv", "aapl.csv", "notes.txt", "TOO-LONG-NAME.csv", "A.csv"):
        (tmp_path / name).write_text(DAILY + GOOD)

    assert CsvMarketData(tmp_path, sessions=xnys()).universe() == ("A", "BRK.B", "MSFT")


def test_check_lists_every_file_that_cannot_be_used(tmp_path: Path) -> None:
    """One line each; good files are silent."""
    bars, daily = tmp_path / "bars", tmp_path / "daily"
    write_bars(bars, minute_bars([date(2014, 7, 7)], symbol="GOOD"))
    write_bars(bars, minute_bars([date(2014, 7, 7)], symbol="FINE"))
    write_bars(bars, some_bars(symbol="DAY"))
    (bars / "BAD.csv").write_text(DAILY)
    (bars / "what ever.csv").write_text(DAILY)
    write_bars(daily, minute_bars([date(2014, 7, 7)], symbol="GOOD"))

    problems = CsvMarketData(bars, sessions=xnys(), daily_folder=daily).check()

    assert [problem.removeprefix(f"{tmp_path}/") for problem in problems] == [
        "bars/BAD.csv: no rows below the header",
        "bars/what ever.csv: the name is no symbol; it must look like AAPL.csv or BRK-B.csv",
        "bars/DAY.csv: bars of 1 day, 0:00:00, expected 0:01:00",
        "daily/GOOD.csv: bars of 0:01:00, expected 1 day, 0:00:00",
    ]


def test_a_broken_file_harms_only_its_symbol(tmp_path: Path) -> None:
    """The others go on; the broken one fails at every question."""
    (tmp_path / "BAD.csv").write_text(DAILY)
    (tmp_path / "AAPL.csv").write_text(DAILY + GOOD)
    market = CsvMarketData(tmp_path, sessions=xnys())

    for _ in range(2):
        with pytest.raises(MarketDataError, match=r"BAD\.csv"):
            market.quote("BAD", at("2014-07-08 00:00"))
    assert market.quote("AAPL", at("2014-07-08 00:00")) is not None


def test_a_daily_folder_must_hold_daily_bars(tmp_path: Path) -> None:
    """An ATR of minutes would put stops a few cents away."""
    write_bars(tmp_path / "bars", minute_bars([date(2014, 7, 7)]))
    market = CsvMarketData(tmp_path / "bars", sessions=xnys(), daily_folder=tmp_path / "bars")

    with pytest.raises(MarketDataError, match="they must be daily"):
        market.daily_bars("AAPL", at("2014-07-08 00:00"), 9)


def test_a_missing_folder_is_named_at_once(tmp_path: Path) -> None:
    """Not only when the first symbol is asked for."""
    with pytest.raises(MarketDataError, match="nowhere: no such folder of bars"):
        CsvMarketData(tmp_path / "nowhere", sessions=xnys())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """File and reason."""
    with pytest.raises(MarketDataError, match=r"MSFT\.csv: cannot be read as CSV"):
        CsvMarketData(tmp_path, sessions=xnys()).bars("MSFT", at("2014-07-08 00:00"), 1)


def test_a_file_that_grows_is_followed(tmp_path: Path) -> None:
    """Bars appended while the fleet runs are known at the next question, not after a restart."""
    path = tmp_path / "AAPL.csv"
    path.write_text(TIMED + FIRST_MINUTE + SECOND_MINUTE)
    market = CsvMarketData(tmp_path, sessions=xnys())
    as_of = datetime(2014, 7, 7, 13, 33, tzinfo=UTC)
    before = len(market.bars("AAPL", as_of, 10))
    path.write_text(TIMED + FIRST_MINUTE + SECOND_MINUTE + "2014-07-07T13:32:00Z,10,11,9,10.75,100\n")

    assert before == 2
    assert len(market.bars("AAPL", as_of, 10)) == 3
    quote = market.quote("AAPL", as_of)
    assert quote is not None
    assert str(quote.price) == "10.75"


def test_what_was_read_ahead_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two good files; a broken one is left to whom it is asked of. Without time nothing is read."""
    for name, text in (("AAPL", DAILY + GOOD), ("MSFT", DAILY + GOOD), ("TSLA", "broken")):
        (tmp_path / f"{name}.csv").write_text(text)
    market = CsvMarketData(tmp_path, sessions=xnys())

    assert market.preload(0) == 0
    assert market.preload(3600) == 2
    monkeypatch.setattr(CsvMarketData, "load", lambda _self, symbol: pytest.fail(f"{symbol} is read again"))
    assert len(market.bars("MSFT", datetime(2014, 7, 8, tzinfo=UTC), 10)) == 1
    assert len(market.daily_bars("AAPL", datetime(2014, 7, 8, tzinfo=UTC), 10)) == 1

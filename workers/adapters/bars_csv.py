"""Market data from a folder of CSV files, one per symbol: daily bars or bars of any shorter interval."""

import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.models import Bars, IntArray, Quote
from pipeline.tickers import file_name as stem_of
from workers.adapters.calendar import SessionTable
from workers.adapters.csv_table import Table, file_version, read_table
from workers.adapters.series import ONE_DAY, SYMBOL, SeriesMarketData, checked

PRICES = ("open", "high", "low", "close")


class CsvMarketData(SeriesMarketData):
    """`MarketData` and `BarHistory` over `folder`; BRK.B is in BRK-B.csv.

    Files are read when first asked for, and again when they changed, so a folder that is written to is followed.

    Daily files have the columns `date, open, high, low, close, volume`, others `timestamp` (a bar's start in ISO,
    without zone UTC) instead of `date`; further columns are ignored. Rows rise; gaps are allowed; one wrong row
    refuses the whole file. Without `daily_folder` shorter bars are gathered into daily ones, session by session.
    """

    def __init__(self, folder: Path, *, sessions: SessionTable, daily_folder: Path | None = None) -> None:
        super().__init__(sessions)
        self._folder = _existing(folder)
        self._daily_folder = None if daily_folder is None else _existing(daily_folder)
        self._versions: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, tuple[Path, ...]] = {}

    def bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """As the port says, of the files as they are now."""
        self._follow(symbol)
        return super().bars(symbol, as_of, count)

    def daily_bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """As the port says, of the files as they are now."""
        self._follow(symbol)
        return super().daily_bars(symbol, as_of, count)

    def bars_between(self, symbol: str, start: datetime, end: datetime) -> Bars:
        """As the port says, of the files as they are now."""
        self._follow(symbol)
        return super().bars_between(symbol, start, end)

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """As the port says, of the files as they are now."""
        self._follow(symbol)
        return super().quote(symbol, as_of)

    def load(self, symbol: str) -> Bars:
        """The bars of the symbol's file."""
        return read_bars(self._folder / file_name(symbol), symbol, self._sessions)

    def load_daily(self, symbol: str) -> Bars:
        """The bars of the symbol's file in the daily folder, else those of `folder` as daily bars."""
        if self._daily_folder is None:
            return super().load_daily(symbol)
        path = self._daily_folder / file_name(symbol)
        bars = read_bars(path, symbol, self._sessions)
        if bars.interval < ONE_DAY:
            raise MarketDataError(f"{path}: bars of {bars.interval} in the daily folder, they must be daily")
        return bars

    def preload(self, seconds: float) -> int:
        """Read files before they are asked for, for so long at most; of how many symbols. What is broken waits."""
        deadline, read = time.monotonic() + seconds, 0
        for symbol in self.universe():
            if time.monotonic() >= deadline:
                break
            with suppress(MarketDataError):
                self._follow(symbol)
                self._whole(symbol)
                self._daily_whole(symbol)
                read += 1
        return read

    def universe(self) -> tuple[str, ...]:
        """The canonical symbols that have a file, sorted."""
        return tuple(sorted(filter(SYMBOL.fullmatch, map(symbol_of, self._folder.glob("*.csv")))))

    def check(self) -> tuple[str, ...]:
        """Every problem of every file, for a person; empty when all can be used. Reads everything."""
        folders = [self._folder] if self._daily_folder is None else [self._folder, self._daily_folder]
        return tuple(problem for folder in folders for problem in self._problems(folder))

    def _follow(self, symbol: str) -> None:
        """Forget what was read of files that changed since: two system calls, no reading."""
        files = self._files.get(symbol) or self._files_of(symbol)
        version = tuple(part for file in files for part in file_version(file))
        if self._versions.get(symbol) != version:
            self.forget(symbol)
            self._versions[symbol] = version

    def _files_of(self, symbol: str) -> tuple[Path, ...]:
        name = file_name(checked(symbol))
        folders = (self._folder,) if self._daily_folder is None else (self._folder, self._daily_folder)
        files = self._files[symbol] = tuple(folder / name for folder in folders)
        return files

    def _problems(self, folder: Path) -> list[str]:
        problems: list[str] = []
        intervals: dict[Path, timedelta] = {}
        for path in sorted(folder.glob("*.csv")):
            symbol = symbol_of(path)
            if not SYMBOL.fullmatch(symbol):
                problems.append(f"{path}: the name is no symbol; it must look like AAPL.csv or BRK-B.csv")
                continue
            try:
                intervals[path] = read_bars(path, symbol, self._sessions).interval
            except MarketDataError as error:
                problems.append(str(error))
        return problems + _odd_intervals(intervals, ONE_DAY if folder == self._daily_folder else None)


def file_name(symbol: str) -> str:
    """The file of a canonical symbol."""
    return f"{stem_of(symbol)}.csv"


def symbol_of(path: Path) -> str:
    """The symbol of a file name; whether it is canonical is not said."""
    return path.stem.replace("-", ".")


def read_bars(path: Path, symbol: str, sessions: SessionTable) -> Bars:
    """The bars of one file. Raises MarketDataError naming file, line and valid range."""
    table = read_table(path)
    table.require((*PRICES, "volume"))
    if ("date" in table.columns) == ("timestamp" in table.columns):
        raise MarketDataError(f"{path}: line 1: expected one of the columns date (daily) and timestamp (shorter)")
    start, end, interval = (_daily_times if "date" in table.columns else _times)(table, sessions)
    open_, high, low, close = (table.prices(name) for name in PRICES)
    outside = np.flatnonzero((high < np.maximum(open_, close)) | (low > np.minimum(open_, close)))
    if outside.size:
        row = int(outside[0])
        shown = ", ".join(f"{name} {table.columns[name][row]}" for name in PRICES)
        raise table.fault(row, f"{shown}: open and close must lie from low to high")
    return Bars(symbol, interval, start, end, open_, high, low, close, table.amounts("volume"))


def _daily_times(table: Table, sessions: SessionTable) -> tuple[IntArray, IntArray, timedelta]:
    found = []
    for row, day in enumerate(table.days("date")):
        try:
            session = sessions.session(day)
        except MarketDataError as error:
            raise table.fault(row, f"date is {error}") from error
        if session is None:
            raise table.fault(row, f"date is {day}, the exchange was closed that day")
        found.append(session)
    start = np.asarray([session.open.timestamp() for session in found], dtype=np.int64)
    table.rising(start, "date")
    end = np.asarray([session.close.timestamp() for session in found], dtype=np.int64)
    return start, end, ONE_DAY


def _times(table: Table, sessions: SessionTable) -> tuple[IntArray, IntArray, timedelta]:
    """Starts and ends of bars shorter than a day: a bar ends where its session closes, if that comes first."""
    start = table.moments("timestamp")
    table.rising(start, "timestamp")
    numbers = _session_numbers(table, start, sessions)
    interval = _interval(table, start, numbers)
    close = np.where(numbers >= 0, sessions.closes[numbers], np.iinfo(np.int64).max)
    return start, np.minimum(start + interval, close), timedelta(seconds=interval)


def _session_numbers(table: Table, start: IntArray, sessions: SessionTable) -> IntArray:
    try:
        return sessions.numbers(start)
    except MarketDataError as error:
        raise MarketDataError(f"{table.path}: timestamp {error}") from error


def _interval(table: Table, start: IntArray, numbers: IntArray) -> int:
    """Seconds from a bar to the next, the most frequent distance; others within a session must be multiples of it."""
    steps = np.diff(start)
    if steps.size == 0:
        raise table.fault(0, "a single bar has no interval; at least two bars are needed")
    values, counts = np.unique(steps, return_counts=True)
    interval = int(values[np.argmax(counts)])
    same_session = (numbers[1:] == numbers[:-1]) & (numbers[1:] >= 0)
    off_grid = np.flatnonzero((steps < interval) | (same_session & (steps % interval != 0)))
    if off_grid.size:
        row = int(off_grid[0]) + 1
        raise table.fault(row, f"timestamp is {steps[row - 1]} s after the row before, bars are {interval} s long")
    return interval


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise MarketDataError(f"{folder}: no such folder of bars")
    return folder


def _odd_intervals(intervals: dict[Path, timedelta], expected: timedelta | None) -> list[str]:
    """Files whose bars are longer or shorter than expected (default: than those of most files)."""
    if not intervals:
        return []
    usual = expected or Counter(intervals.values()).most_common(1)[0][0]
    return [f"{path}: bars of {found}, expected {usual}" for path, found in intervals.items() if found != usual]

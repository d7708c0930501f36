"""Reads CSV tables of market data; whatever is wrong is named with its file, its line and the valid range."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.models import FloatArray, IntArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of one file by column; `lines` has each row's line number in the file."""

    path: Path
    lines: tuple[int, ...]
    columns: dict[str, tuple[str, ...]]

    def require(self, names: Iterable[str]) -> None:
        """Raises MarketDataError for columns the file does not have."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise MarketDataError(f"{self.path}: line 1: no column {', '.join(missing)}; found {list(self.columns)}")

    def prices(self, name: str) -> FloatArray:
        """A column of finite numbers above 0, shape (n_rows,)."""
        values = self._parsed(name, _number, "a finite number above 0")
        return self._checked(name, np.asarray(values, dtype=np.float64), above=0.0)

    def amounts(self, name: str) -> FloatArray:
        """A column of finite numbers of 0 or more, shape (n_rows,)."""
        values = self._parsed(name, _number, "a finite number of 0 or more")
        return self._checked(name, np.asarray(values, dtype=np.float64), above=None)

    def days(self, name: str) -> list[date]:
        """A column of dates."""
        return self._parsed(name, date.fromisoformat, "a date such as 2014-01-31")

    def moments(self, name: str) -> IntArray:
        """A column of times in epoch seconds, shape (n_rows,); a time without a zone is UTC."""
        return np.asarray(self._parsed(name, _epoch, "an ISO time in whole seconds"), dtype=np.int64)

    def rising(self, values: IntArray, name: str) -> None:
        """Raises MarketDataError where a row is not later than the one before."""
        stuck = np.flatnonzero(np.diff(values) <= 0)
        if stuck.size:
            row = int(stuck[0]) + 1
            before, here = self.columns[name][row - 1], self.columns[name][row]
            raise self.fault(row, f"{name} is {here} after {before}, rows must rise without repeats")

    def fault(self, row: int, text: str) -> MarketDataError:
        """The error that names the line of row number `row` (from 0)."""
        return MarketDataError(f"{self.path}: line {self.lines[row]}: {text}")

    def _parsed(self, name: str, parse: Callable[[str], T], valid: str) -> list[T]:
        parsed: list[T] = []
        try:
            parsed.extend(map(parse, self.columns[name]))
        except (ValueError, OverflowError) as error:
            row = len(parsed)
            raise self.fault(row, f"{name} is {self.columns[name][row][:40]!r}, it must be {valid}") from error
        return parsed

    def _checked(self, name: str, values: FloatArray, above: float | None) -> FloatArray:
        low_enough = values < 0 if above is None else values <= above
        wrong = np.flatnonzero(~np.isfinite(values) | low_enough)
        if wrong.size:
            row, valid = int(wrong[0]), "of 0 or more" if above is None else f"above {above:g}"
            raise self.fault(row, f"{name} is {self.columns[name][row]}, it must be a finite number {valid}")
        return values


def read_table(path: Path) -> Table:
    """The file as a table with at least one row. Raises MarketDataError naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MarketDataError(f"{path}: cannot be read as CSV: {error}") from error


def _read(path: Path, lines: Iterable[str]) -> Table:
    reader = csv.reader(lines, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    if not any(header):
        raise MarketDataError(f"{path}: line 1: the file has no header")
    if len(set(header)) != len(header):
        raise MarketDataError(f"{path}: line 1: columns repeat in the header {header}")
    rows: list[list[str]] = []
    numbers: list[int] = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise MarketDataError(f"{path}: line {reader.line_num}: {len(row)} values, expected {len(header)}")
        rows.append(row)
        numbers.append(reader.line_num)
    if not rows:
        raise MarketDataError(f"{path}: no rows below the header")
    columns = zip(*rows, strict=True)
    return Table(path, tuple(numbers), dict(zip(header, columns, strict=True)))


def _number(text: str) -> float:
    if "_" in text:
        raise ValueError(text)  # float() would read 1_0 as 10
    return float(text)


def _epoch(text: str) -> int:
    moment = datetime.fromisoformat(text)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if aware.microsecond:
        raise ValueError(text)
    return int(aware.timestamp())


def file_version(path: Path) -> tuple[int, int]:
    """What changes when the file does; nothing of a missing one, which reading reports."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size

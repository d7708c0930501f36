"""The recorded day that ships: its files are what the generator writes, and they fit together."""

import csv
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tools.demo_stories import INDEX, STORIES
from tests.tools.make_demo_bars import DAMAGED, SESSION, demo_files

DEMO = Path(__file__).parents[2] / "config" / "demo"
PREVIOUS = "2025-09-16"
LISTED_TODAY = "AVNK"
HEALTHY = [story.symbol for story in (INDEX, *STORIES) if story.symbol != DAMAGED]


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def refuse(word: str) -> float:
    """NaN and infinities are no JSON."""
    raise ValueError(word)


def posts() -> list[dict[str, object]]:
    """The well-formed posts of the day, as the parser of a strict reader sees them."""
    found = []
    for line in (DEMO / "posts.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            post = json.loads(line, parse_constant=refuse)
        except ValueError:
            continue
        if {"id", "created_at", "source", "author", "text"} <= post.keys():
            found.append(post)
    return found


def test_the_shipped_prices_are_what_the_generator_writes() -> None:
    """Rule: every price file is reproducible, byte for byte, and none is written by hand."""
    shipped = {str(path.relative_to(DEMO)): path.read_bytes() for path in DEMO.rglob("*.csv")}

    assert {name: text.encode() for name, text in demo_files().items()} == shipped


def test_the_day_fits_into_a_clone() -> None:
    """Rule: at most 2.5 MB."""
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 2_500_000


@pytest.mark.parametrize("symbol", HEALTHY)
def test_bars_are_possible_and_in_order(symbol: str) -> None:
    """Rule: low <= open, close <= high, volume > 0, one row per moment, oldest first."""
    for name, key in (("bars", "timestamp"), ("daily", "date")):
        rows = rows_of(DEMO / name / f"{symbol}.csv")
        assert all(a[key] < b[key] for a, b in pairwise(rows))
        for row in rows:
            first, high, low, last = (float(row[field]) for field in ("open", "high", "low", "close"))
            assert 0 < low <= min(first, last) <= max(first, last) <= high
            assert int(row["volume"]) > 0


@pytest.mark.parametrize("symbol", HEALTHY)
def test_a_day_is_the_sum_of_its_minutes(symbol: str) -> None:
    """Rule: first open, highest high, lowest low, last close, all shares, for both days that have minutes."""
    daily = {row["date"]: row for row in rows_of(DEMO / "daily" / f"{symbol}.csv")}
    rows = rows_of(DEMO / "bars" / f"{symbol}.csv")
    for date in {row["timestamp"][:10] for row in rows}:
        minutes = [row for row in rows if row["timestamp"].startswith(date)]

        assert daily[date] == {
            "date": date,
            "open": minutes[0]["open"],
            "high": max((row["high"] for row in minutes), key=float),
            "low": min((row["low"] for row in minutes), key=float),
            "close": minutes[-1]["close"],
            "volume": str(sum(int(row["volume"]) for row in minutes)),
        }


def test_a_chart_is_complete_at_the_open() -> None:
    """Rule: 150 completed bars from the open on, but for the company that was listed this morning."""
    for story in STORIES:
        if story.symbol != DAMAGED:
            rows = rows_of(DEMO / "bars" / f"{story.symbol}.csv")
            before = sum(row["timestamp"].startswith(PREVIOUS) for row in rows)

            assert before == (390 if story.symbol != LISTED_TODAY else 0)


def test_exactly_one_file_is_damaged() -> None:
    """Rule: one torn row, in one small file, so that one symbol's failure can be watched."""
    torn = [
        (path.stem, number)
        for path in sorted((DEMO / "bars").glob("*.csv"))
        for number, row in enumerate(rows_of(path), start=2)
        if not row["volume"]
    ]

    assert torn == [(DAMAGED, 7)]


def test_posts_are_one_day_in_order_with_ids_of_their_own() -> None:
    """Rule: 320 to 420 posts of the recorded session's date, sorted by time, no id twice."""
    day = posts()

    assert 320 <= len(day) <= 420
    assert max(Counter(post["id"] for post in day).values()) == 1
    times = [str(post["created_at"]) for post in day if post["created_at"] != "yesterday-ish"]
    assert all(time.startswith(str(SESSION)) for time in times)
    assert times == sorted(times)


def test_real_feeds_have_broken_lines_and_so_has_this_one() -> None:
    """Rule: two lines that are no JSON, one NaN, one without an author, one without a time."""
    lines = (DEMO / "posts.jsonl").read_text(encoding="utf-8").splitlines()

    assert len(lines) - len(posts()) == 4
    assert sum("yesterday-ish" in line for line in lines) == 1

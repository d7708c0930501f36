"""A recording made up for tests: a few weeks of daily bars and some hundred posts of invented people about them."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.csv_files import write_bars
from tests.market_builders import some_bars, xnys

SYMBOLS = ("ALFA", "BRVO", "CHRL", "DLTA", "FXTR", "GOLF", "HTEL", "INDY")
FIRST, LAST = date(2014, 5, 5), date(2014, 5, 16)
URGENT_UP = "${} beats estimates by {} percent, upgraded to strong buy, raises guidance, shares surge"
URGENT_DOWN = "${} misses estimates by {} percent, downgraded to sell, cuts guidance, shares plunge"
VOTE_UP = "${} upside from here I think {}"
VOTE_DOWN = "${} likely lower by friday {}"
CHATTER = "${} is on my list today {}"

Post = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """Files of one recording."""

    posts: Path
    bars: Path
    vix: Path
    count: int


def write_recording(folder: Path, posts: int = 300, extra: Sequence[bytes] = ()) -> Recording:
    """Posts of two weeks, bars of the year before and of the weeks, a calm VIX; `extra` lines go in between."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, symbol in enumerate(SYMBOLS):
        write_bars(folder / "bars", some_bars(_prices(number), symbol=symbol, last_day=date(2014, 5, 30), spread=0.6))
    lines = [json.dumps(post).encode() for post in _posts(posts)]
    for number, line in enumerate(extra):
        lines.insert((number + 1) * len(lines) // (len(extra) + 1), line)
    path, vix = folder / "posts.jsonl", folder / "vix.csv"
    path.write_bytes(b"\n".join([*lines, b""]))
    days = list(_days(date(2014, 3, 3), date(2014, 5, 30)))
    vix.write_text("\n".join(["date,open,high,low,close", *(f"{day},14,15,13,14" for day in days), ""]))
    return Recording(path, folder / "bars", vix, len(lines))


def _prices(seed: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """250 closes around 60 dollars that lean up or down and pull back."""
    noise = np.random.default_rng(seed)
    lean = 0.12 if seed % 2 else -0.1
    steps = noise.normal(lean, 0.55, 250) + 0.35 * np.sin(np.arange(250) / 6 + seed)
    return np.asarray(np.round(60 + np.cumsum(steps) * 0.6, 2), dtype=np.float64)


def _days(first: date, last: date) -> Iterator[date]:
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        if xnys().session(day) is not None:
            yield day


def _posts(count: int) -> list[Post]:
    """Posts in order of time: urgent ones, pairs that agree within a minute, and chatter."""
    dice = random.Random(20140505)
    days = list(_days(FIRST, LAST))
    posts: list[Post] = []
    while len(posts) < count:
        day, symbol = dice.choice(days), dice.choice(SYMBOLS)
        at = datetime.combine(day, time(13, 35), UTC) + timedelta(seconds=dice.randrange(0, 22_500))
        up = dice.random() < 0.6
        kind = dice.random()
        if kind < 0.15:
            posts.append(_post(len(posts), at, symbol, URGENT_UP if up else URGENT_DOWN))
        elif kind < 0.5:
            for second in (0, dice.randrange(1, 50)):
                text = VOTE_UP if up else VOTE_DOWN
                posts.append(_post(len(posts), at + timedelta(seconds=second), symbol, text))
        else:
            posts.append(_post(len(posts), at, symbol, CHATTER))
    return sorted(posts[:count], key=lambda post: (post["created_at"], post["id"]))


def _post(number: int, at: datetime, symbol: str, text: str) -> Post:
    return {
        "id": f"p{number}",
        "created_at": at.isoformat(),
        "source": "test",
        "author": f"author{number % 37}",
        "followers": number,
        "text": text.format(symbol, number),
    }


# ---- the command -----------------------------------------------------------------------------------------


def clean_environ(**variables: str) -> dict[str, str]:
    """This process's variables without any of the fleet's, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "RQ_"))}
    short = {"FLEET_MARKET__CALENDAR_START": "2013-01-02", "FLEET_MARKET__CALENDAR_END": "2015-12-31"}
    return kept | short | variables


def fleet(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """One `fleet` command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *words],
        env=clean_environ(**variables),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def replay_words(recording: Recording, *more: str) -> tuple[str, ...]:
    """The words of a replay of this recording with a JSON summary."""
    files = ("--bars", str(recording.bars), "--vix", str(recording.vix))
    return ("replay", str(recording.posts), *files, "--json", *more)


def replayed(recording: Recording, data_dir: Path, *more: str, **variables: str) -> dict[str, Any]:
    """The summary of a replay that must succeed."""
    done = fleet(*replay_words(recording, *more), FLEET_DATA_DIR=str(data_dir), **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@contextmanager
def running(*words: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
    """A `fleet` command in the background, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *words],
        env=clean_environ(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def children_of(pid: int, which: Callable[[str], bool] = lambda _line: True) -> dict[int, str]:
    """Living children of a process whose command line `which` accepts, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and line and which(line):
            found[int(folder.name)] = line
    return found

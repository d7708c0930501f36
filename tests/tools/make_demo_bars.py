"""Makes the prices of the demo's recorded day: `python -m tests.tools.make_demo_bars [FOLDER]`.

Only `random.Random.random` and the four basic operations are used, so every platform writes the same bytes.
Prices are invented. A symbol's day is a story: waypoints (minute, percent from the previous close) joined by
lines, with pullbacks and mean-reverting noise around them.
"""

import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

from tests.tools.demo_stories import INDEX, STORIES, Points, Story

SESSION = date(2025, 9, 17)
HOLIDAYS = frozenset({date(2025, 6, 19), date(2025, 7, 4), date(2025, 9, 1)})
OPEN = time(13, 30, tzinfo=UTC)  # 09:30 in New York, daylight saving time
MINUTES = 390
DAILY_BARS = 60
INDEX_SESSIONS = 20  # as many as the gate's mean of the index's volume looks back
MINUTE_HEADER = "timestamp,open,high,low,close,volume"
DAILY_HEADER = "date,open,high,low,close,volume"
DAMAGED = "KLDR"
DAMAGED_ROW = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar in dollars and shares; `minute` counts from the open."""

    minute: int
    open: float
    high: float
    low: float
    close: float
    volume: int


@dataclass(slots=True)
class Noise:
    """Seeded randomness of one symbol and the mean-reverting distance from the story's line, in percent."""

    rng: random.Random
    reversion: float
    level: float = field(default=0.0)

    def swing(self) -> float:
        """A triangular random number in (-1, 1)."""
        return self.rng.random() - self.rng.random()

    def step(self, size: float) -> float:
        """The next distance from the line, in percent."""
        self.level = self.reversion * self.level + size * self.swing()
        return self.level


def sessions_before(day: date, count: int) -> list[date]:
    """The `count` trading days before `day`, oldest first."""
    days: list[date] = []
    while len(days) < count:
        day -= timedelta(days=1)
        if day.weekday() < 5 and day not in HOLIDAYS:  # Monday to Friday
            days.append(day)
    return days[::-1]


def on_line(points: Points, minute: int) -> float:
    """The story's percent at a minute, on straight lines between its waypoints, flat beyond them."""
    if minute <= points[0][0]:
        return points[0][1]
    for (m0, p0), (m1, p1) in pairwise(points):
        if minute <= m1:
            return p0 + (p1 - p0) * (minute - m0) / (m1 - m0)
    return points[-1][1]


def pullback(minute: int, period: int, depth: float) -> float:
    """A saw-tooth in percent: two thirds of each period rise to +depth/2, one third falls back to -depth/2."""
    phase = minute % period / period
    rising = phase / (2 / 3) if phase < 2 / 3 else (1 - phase) / (1 / 3)
    return depth * (rising - 0.5)


def busy(minute: int) -> float:
    """How busy a minute is: 1 at noon, about 3 at the open and at the close (the usual U)."""
    distance = abs(minute - MINUTES / 2) / (MINUTES / 2)
    return 1 + 2 * distance * distance * distance


def minute_bars(story: Story, points: Points, base: float, noise: Noise, *, today: bool) -> list[Bar]:
    """One session of a story around `base` dollars. The first price is the first waypoint; pauses have no bar."""
    bars: list[Bar] = []
    last = base * (1 + points[0][1] / 100)
    for minute in range(MINUTES):
        percent = on_line(points, minute + 1) + story.lean * pullback(minute, story.period, story.depth)
        close = base * (1 + (percent + noise.step(story.noise)) / 100)
        if today and not story.trades_at(minute):
            last = close if minute in story.reopens else last
            continue
        first, last = round(last, 2), round(close, 2)
        wick = base * story.wick / 100
        high = round(max(first, last) + wick * noise.rng.random(), 2)
        low = round(min(first, last) - wick * noise.rng.random(), 2)
        crowd = story.crowd(minute) if today else 1.0
        volume = int(story.volume * busy(minute) * crowd * (0.7 + 0.6 * noise.rng.random()))
        bars.append(Bar(minute, first, high, low, last, volume))
    return bars


def daily_of(bars: list[Bar]) -> Bar:
    """The session's one daily bar: first open, highest high, lowest low, last close, all shares."""
    high, low = max(bar.high for bar in bars), min(bar.low for bar in bars)
    return Bar(0, bars[0].open, high, low, bars[-1].close, sum(bar.volume for bar in bars))


def earlier_days(last: Bar, story: Story, noise: Noise) -> list[Bar]:
    """The daily bars before `last`, oldest first; each ends where the next begins, give or take a small gap."""
    bars: list[Bar] = []
    close = last.open
    for _ in range(DAILY_BARS - 1):
        close = round(close * (1 + 0.1 * story.daily_range / 100 * noise.swing()), 2)
        first = round(close * (1 - 0.6 * story.daily_range / 100 * noise.swing()), 2)
        spare = max(story.daily_range / 100 * close - abs(close - first), 0.0)
        high = round(max(first, close) + spare * 0.5 * (0.8 + 0.4 * noise.rng.random()), 2)
        low = round(min(first, close) - spare * 0.5 * (0.8 + 0.4 * noise.rng.random()), 2)
        bars.append(Bar(0, first, high, low, close, int(last.volume * (0.8 + 0.4 * noise.rng.random()))))
        close = first
    return bars[::-1]


def prices(bar: Bar) -> str:
    """Open to volume as CSV fields, prices with cents."""
    return f"{bar.open:.2f},{bar.high:.2f},{bar.low:.2f},{bar.close:.2f},{bar.volume}"


def minute_rows(day: date, bars: list[Bar]) -> list[str]:
    """CSV rows stamped with each bar's start."""
    start = datetime.combine(day, OPEN)
    return [f"{start + timedelta(minutes=bar.minute):%Y-%m-%dT%H:%M:%SZ},{prices(bar)}" for bar in bars]


def past_sessions(story: Story, noise: Noise) -> list[list[Bar]]:
    """The minutes of the sessions before the recorded one, oldest first; each opens about where the last closed."""
    if not story.before:
        return []
    count = INDEX_SESSIONS if story is INDEX else 1
    per_day = 1 + story.before[0][1] / 100
    bases = [story.price * per_day**back for back in range(count)]
    return [minute_bars(story, story.before, base, noise, today=False) for base in reversed(bases)]


def symbol_files(story: Story) -> dict[str, str]:
    """A symbol's files: name within the demo's folder -> text. Daily bars reach to the recorded day itself."""
    noise = Noise(random.Random(f"{story.symbol}/{story.seed}"), story.reversion)
    past = past_sessions(story, noise)
    noise.level = 0.0
    sessions = [*past, minute_bars(story, story.today, story.price, noise, today=True)]
    days = [*sessions_before(SESSION, DAILY_BARS), SESSION]
    dated = zip(days[-len(sessions) :], sessions, strict=True)
    minutes = [row for day, bars in dated for row in minute_rows(day, bars)]
    whole = [daily_of(bars) for bars in sessions]
    daily = [*earlier_days(whole[0], story, noise), *whole][-len(days) :] if past else whole
    rows = [f"{day},{prices(bar)}" for day, bar in zip(days[-len(daily) :], daily, strict=True)]
    if story.symbol == DAMAGED:
        minutes = damaged(minutes)
    return {
        f"bars/{story.symbol}.csv": "\n".join([MINUTE_HEADER, *minutes, ""]),
        f"daily/{story.symbol}.csv": "\n".join([DAILY_HEADER, *rows, ""]),
    }


def damaged(rows: list[str]) -> list[str]:
    """A short file with one torn row, as a disk that ran full leaves behind."""
    return [*rows[:DAMAGED_ROW], rows[DAMAGED_ROW][:31] + "###", *rows[DAMAGED_ROW + 1 : 2 * DAMAGED_ROW]]


def vix_file() -> str:
    """Calm volatility, about 14 to 19, for the daily bars' sessions and the recorded day."""
    noise = Noise(random.Random("vix"), 0.9)
    rows = []
    close = 16.4
    for day in [*sessions_before(SESSION, DAILY_BARS), SESSION]:
        first, close = close, round(16.4 + noise.step(1.5), 2)
        high, low = round(max(first, close) + noise.rng.random(), 2), round(min(first, close) - noise.rng.random(), 2)
        rows.append(f"{day},{first:.2f},{high:.2f},{low:.2f},{close:.2f}")
    return "\n".join(["date,open,high,low,close", *rows, ""])


def demo_files() -> dict[str, str]:
    """Every price file of the demo: name -> text."""
    files = {"vix.csv": vix_file()}
    for story in (INDEX, *STORIES):
        files |= symbol_files(story)
    return files


def main(folder: Path) -> None:
    """Write the files below `folder`."""
    for name, text in demo_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "config" / "demo")

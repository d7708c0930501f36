"""Families of drills by name: `python -m tests.chaos --only NAME`, with `--short` a short one."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos.drill import Drill, Times, table
from tests.chaos.report import Plan

#: Module and classes of the long and the short form; imported when asked for.
FAMILIES: Final = {
    "takeover": ("TakeOver", "ShortTakeOver"),
    "outages": ("Outages", "ShortOutages"),
    "shutdown": ("Shutdown", "ShortShutdown"),
    "poison": ("Poison", "ShortPoison"),
    "pressure": ("Pressure", "ShortPressure"),
    "soak": ("Soak", "ShortSoak"),
    "sample": ("Sample", "ShortSample"),
}
ALL: Final = tuple(name for name in FAMILIES if name != "sample")  # which has a little of each
SHOWN: Final = 50


@dataclass
class Found:
    """What one fleet found, or several side by side together."""

    seed: int
    fleets: int
    seconds: float
    legs: int
    orders: int
    load: float  # of the machine over the last minute, at the end
    times: list[Times]
    facts: list[str]
    broken: list[str]
    day: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")  # noqa: TID251 - a fact of the run

    def text(self) -> str:
        """Times and verdict as markdown."""
        side = f"{self.fleets} fleets side by side, " if self.fleets > 1 else ""
        where = f"on {self.day}, load {self.load:.1f} on {os.cpu_count()} cores"
        told = f"Seed {self.seed}, {side}{self.seconds:.0f} s, {self.legs:,} legs, {self.orders:,} orders, {where}"
        lines = [table(self.times), "", *self.facts, *([""] if self.facts else [])]
        lines += [f"{told}, {len(self.broken)} promises broken."]
        return "\n".join([*lines, *(f"BROKEN {fault}" for fault in self.broken[:SHOWN])])

    def json(self) -> str:
        """For the one who started it."""
        return json.dumps(asdict(self))


def drill(
    name: str, folder: Path, seed: int, say: Callable[[str], None], *, short: bool, part: tuple[int, int] = (0, 1)
) -> Found:
    """Run the family, or one fleet's part of it.

    A short form is not judged by times: it runs on machines that do other things too.
    """
    kind = _kind(name, short=short)
    one = kind(folder, Plan(seed=seed, min_s=0, max_s=0, part=part[0], parts=part[1]), say)
    one.timed = not short
    report = one.run()
    return Found(
        seed,
        1,
        report.seconds,
        sum(report.legs.values()),
        report.orders,
        os.getloadavg()[0],
        list(one.times.values()),
        one.facts,
        report.broken,
    )


def side_by_side(name: str, folder: Path, seed: int, say: Callable[[str], None]) -> Found:
    """The long form of a family: by one fleet, or by several that share the work, each in a process of its own."""
    fleets = _kind(name, short=False).side_by_side
    if fleets == 1:
        return drill(name, folder, seed, say, short=False)
    folder.mkdir(parents=True, exist_ok=True)
    began, running = time.monotonic(), []
    for part in range(fleets):
        words = ["--only", name, "--seed", str(seed + part), "--part", f"{part}/{fleets}"]
        words += ["--keep", str(folder / str(part)), "--json", str(folder / f"{part}.json")]
        running.append(subprocess.Popen([sys.executable, "-m", "tests.chaos", *words]))
    codes = [one.wait() for one in running]
    files = [folder / f"{part}.json" for part in range(fleets)]
    parts = [_read(file) for file in files if file.exists()]
    broken = [f"fleet {n} ended with {code}" for n, code in enumerate(codes) if not files[n].exists()]
    return Found(
        seed,
        fleets,
        time.monotonic() - began,
        sum(one.legs for one in parts),
        sum(one.orders for one in parts),
        max((one.load for one in parts), default=0.0),
        _together(times for one in parts for times in one.times),
        [fact for one in parts for fact in one.facts],
        [*broken, *(fault for one in parts for fault in one.broken)],
    )


def into(page: Path, name: str, text: str) -> None:
    """Put the family's table between its marks of the page."""
    begin, end = f"<!-- {name}: written by `make chaos`, not by hand -->", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def _kind(name: str, *, short: bool) -> type[Drill]:
    found: type[Drill] = getattr(importlib.import_module(f"tests.chaos.{name}"), FAMILIES[name][short])
    return found


def _read(file: Path) -> Found:
    facts = json.loads(file.read_text())
    return Found(**facts | {"times": [Times(**one) for one in facts["times"]]})


def _together(all_times: Iterable[Times]) -> list[Times]:
    """What several fleets measured of the same case is one row; cases in order of their names."""
    rows: dict[str, Times] = {}
    for one in all_times:
        row = rows.setdefault(one.case, Times(one.case, one.promised_s))
        row.found += one.found
        for part, seconds in one.parts.items():
            row.parts.setdefault(part, []).extend(seconds)
    return [rows[case] for case in sorted(rows)]

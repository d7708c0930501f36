"""Families of drills by name: `python -m tests.chaos --only NAME`, with `--short` a short one."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.chaos.drill import Drill, table
from tests.chaos.report import Plan

#: Module and classes of the long and the short form; imported when asked for.
FAMILIES: Final = {
    "takeover": ("TakeOver", "ShortTakeOver"),
    "outages": ("Outages", "ShortOutages"),
    "poison": ("Poison", "ShortPoison"),
    "pressure": ("Pressure", "ShortPressure"),
    "soak": ("Soak", "ShortSoak"),
    "sample": ("Sample", "ShortSample"),
}
ALL: Final = tuple(name for name in FAMILIES if name != "sample")  # which has a little of each


def drill(name: str, folder: Path, seed: int, say: Callable[[str], None], *, short: bool = False) -> tuple[str, bool]:
    """Run the family; its table of times and verdict as markdown, and whether every promise held.

    A short form is not judged by times: it runs on machines that do other things too.
    """
    kind: type[Drill] = getattr(importlib.import_module(f"tests.chaos.{name}"), FAMILIES[name][short])
    one = kind(folder, Plan(seed=seed, min_s=0, max_s=0), say)
    one.timed = not short
    report = one.run()
    facts = f"Seed {seed}, {report.seconds:.0f} s, {sum(report.legs.values()):,} legs, {report.orders:,} orders"
    lines = [
        table(one.times.values()),
        "",
        f"{facts}, {len(report.broken)} promises broken.",
        *(f"BROKEN {fault}" for fault in report.broken[:50]),
    ]
    return "\n".join(lines), not report.broken


def into(page: Path, name: str, text: str) -> None:
    """Put the family's table between its marks of the page."""
    begin, end = f"<!-- {name}: written by `make chaos`, not by hand -->", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")

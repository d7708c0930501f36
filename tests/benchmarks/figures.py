"""Measured numbers beside their targets: many rounds become one table, which is also a part of docs/performance.md."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- bench -->\n"
END: Final = "<!-- /bench -->"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one round.

    `ratios`: by reference, how many times the reference of the same round it is. `cpu_us`: microseconds of processor
    time a piece, ours and the server's.
    """

    part: str
    name: str
    value: float
    ratios: Mapping[str, float] = field(default_factory=dict)
    cpu_us: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a number shall be: at least, or at most."""

    limit: float
    at_most: bool = True

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:,g}"

    def holds(self, value: float) -> bool:
        """Whether it is met."""
        return value <= self.limit if self.at_most else value >= self.limit


def at_least(limit: float) -> Target:
    """More is better."""
    return Target(limit, at_most=False)


def table(figures: Sequence[Figure], targets: Mapping[str, Target]) -> str:
    """Medians and ranges by name, in the order they were measured first."""
    lines = [
        "| part | what | median (range) | × reference of the same round | CPU µs a piece, ours + server | target | |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    by_name: dict[str, list[Figure]] = {}
    for one in figures:
        by_name.setdefault(one.name, []).append(one)
    lines += [_row(mine, targets.get(name)) for name, mine in by_name.items()]
    return "\n".join(lines)


def _row(mine: Sequence[Figure], target: Target | None) -> str:
    median = statistics.median(one.value for one in mine)
    cells = [
        mine[0].part,
        mine[0].name,
        spread([one.value for one in mine]),
        ", ".join(f"{shown(_median_of(mine, name))} × {name}" for name in mine[0].ratios) or "-",
        _cpu(mine),
        str(target or "-"),
        "" if target is None else "met" if target.holds(median) else "**missed**",
    ]
    return f"| {' | '.join(cells)} |"


def _median_of(mine: Sequence[Figure], reference: str) -> float:
    return statistics.median(one.ratios[reference] for one in mine)


def _cpu(mine: Iterable[Figure]) -> str:
    pairs = [one.cpu_us for one in mine if one.cpu_us is not None]
    return " + ".join(shown(statistics.median(side)) for side in zip(*pairs, strict=True)) if pairs else "-"


def spread(values: Sequence[float]) -> str:
    """Median (least to most); one value alone."""
    median = shown(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({shown(min(values))} to {shown(max(values))})"


def shown(value: float) -> str:
    """Three digits that mean something; whole numbers from a hundred on."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def fill(page: Path, text: str) -> None:
    """Replace what stands between the page's markers. Raises ValueError for a page without them."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} ... {END}; valid: a page with both")
    page.write_text(f"{before}{BEGIN}{text}\n{END}{after}", encoding="utf-8")


def as_json(figures: Sequence[Figure], about: Mapping[str, Any]) -> dict[str, Any]:
    """Every sample of every round, and what is known of the machine."""
    return {**about, "figures": [asdict(one) for one in figures]}

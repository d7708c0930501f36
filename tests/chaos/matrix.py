"""The matrix: every call of every process, how often it was made, and how often a process died before and after it."""

from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.chaos.points import AFTER, BEFORE, Count, Point
from tests.chaos.report import Report

BEGIN: Final = "<!-- matrix: written by `make chaos`, not by hand -->"
END: Final = "<!-- end of matrix -->"


def into(page: Path, report: Report, command: str) -> None:
    """Put the run's figures and its matrix between the marks of the page."""
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{figures(report, command)}\n{matrix(report)}\n{END}{after}")


def figures(report: Report, command: str) -> str:
    """What the run did, as a table."""
    rows = {
        "command": f"`{command}`",
        "seed": report.seed,
        "time": f"{report.seconds:.0f} s",
        "posts, delivered 1 to 3 times": f"{report.posts:,}, {report.deliveries:,} deliveries",
        "legs, each with one terminal outcome": f"{sum(report.legs.values()):,}",
        "orders at the broker, each an intent settled": f"{report.orders:,}",
        "requests for an order that reached the broker": f"{report.asked:,}",
        "symbols that stood at their limit": len(report.at_limit),
        "deaths by SIGKILL": f"{report.kills:,} at {len(report.points)} points",
        "processes started": f"{report.lives:,}",
        "legs lost, orders doubled, limits passed, things left behind": len(report.broken),
        "points reached and not killed at": len(report.untested),
        **{f"legs that ended `{name}`": f"{count:,}" for name, count in sorted(report.legs.items())},
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def matrix(report: Report) -> str:
    """A markdown table per process."""
    rows: dict[str, dict[tuple[str, str], dict[str, Count]]] = defaultdict(lambda: defaultdict(dict))
    for point, count in report.points.items():
        rows[point.role][(_short(point), point.call)][point.phase] = count
    parts: list[str] = []
    for role in sorted(rows):
        parts += [f"\n### {role}\n", "| caller | call | made | killed before | killed after |", "|---|---|---|---|---|"]
        parts += [_row(place, phases) for place, phases in sorted(rows[role].items())]
    return "\n".join([*parts, ""])


def _row(place: tuple[str, str], phases: dict[str, Count]) -> str:
    caller, call = place
    before, after = phases.get(BEFORE, Count(0, 0)), phases.get(AFTER, Count(0, 0))
    return f"| {caller} | {call} | {before.reached} | {before.killed} | {after.killed} |"


def _short(point: Point) -> str:
    return point.caller.removeprefix("workers/adapters/").removeprefix("workers/")

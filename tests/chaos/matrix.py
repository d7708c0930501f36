"""The matrix: every call of every process, how often it was made, and how often a process died before and after it."""

from collections import defaultdict

from tests.chaos.points import AFTER, BEFORE, Count, Point
from tests.chaos.run import Report


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

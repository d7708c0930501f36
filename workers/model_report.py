"""How a model measured up: a table with intervals, and a reliability plot as one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from pipeline.calibration import BINS, Bin, Interval, Judged, intervals, reliability
from pipeline.errors import SettingsError

HEADS = ("accuracy", "macro_f1", "direction", "ece", "precision", "coverage", "wrong_direction")
BEGIN = "<!-- measured: written by `fleet model evaluate --page`, not by hand -->"
END = "<!-- end of measured -->"
_SIZE, _EDGE, _RIGHT = 220, 30, 10
_PLOT = _SIZE - _EDGE - _RIGHT


class Measured(NamedTuple):
    """One row of the report."""

    name: str
    posts: int
    measures: dict[str, Interval]
    bins: list[Bin]

    def document(self) -> dict[str, Any]:
        """The row as JSON; nan becomes null."""
        return {
            "name": self.name,
            "posts": self.posts,
            "measures": {name: list(interval) for name, interval in self.measures.items()},
            "bins": [list(bar) for bar in self.bins],
        }


def measured(name: str, judged: Judged, seed: int = 7) -> Measured:
    """Every measure of labelled posts, with bootstrap intervals from a seed."""
    return Measured(name, len(judged.y), intervals(judged, seed), reliability(judged))


class Part(NamedTuple):
    """Posts read one after the other, and the processor time they took in seconds (> 0)."""

    posts: int
    seconds: float


def rate(parts: Sequence[Part], seed: int = 7, rounds: int = 500) -> Interval:
    """Posts a second, with the 95 % percentile interval over `rounds` resamples of the parts."""
    counted = np.array(parts, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(counted), (rounds, len(counted)))
    sums = counted[drawn].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5]).tolist()
    return Interval(float(counted[:, 0].sum() / counted[:, 1].sum()), low, high)


def rates_as_text(rates: Mapping[str, Interval]) -> str:
    """One line for each source."""
    return "\n".join(
        f"throughput {source}: {found.value:,.0f} posts/s [{found.low:,.0f}, {found.high:,.0f}]"
        for source, found in rates.items()
    )


def table(rows: Sequence[Measured]) -> list[list[str]]:
    """Cells: a head, then one line per row; `value [low, high]` in shares of one."""
    head = ["source", "posts", *HEADS]
    return [head, *([row.name, str(row.posts), *(_cell(row.measures[name]) for name in HEADS)] for row in rows)]


def _cell(found: Interval) -> str:
    if found.value != found.value:  # nan is the only one unequal to itself
        return "none"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def as_text(cells: Sequence[Sequence[str]]) -> str:
    """The cells as a Markdown table."""
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def into_page(page: str, words: str) -> str:
    """The Markdown page with the words between its marks. Raises SettingsError for a page without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SettingsError(f"--page: valid: a page with the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{words}\n\n{END}{after}"


def as_html(rows: Sequence[Measured]) -> str:
    """A page with one reliability plot per row, drawn in SVG; it loads nothing."""
    cells = table(rows)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in cells[1:])
    plots = "".join(f"<figure><figcaption>{escape(row.name)}</figcaption>{_plot(row.bins)}</figure>" for row in rows)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Reliability of the stage-1 model</title>'
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .6em;"
        "border-bottom:1px solid #ccc;text-align:left}figure{display:inline-block;margin:1em}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
        "<h1>Reliability of the stage-1 model</h1><p>Circles: how often posts of that confidence were right; the area "
        f"shows how many. {BINS} bins of equal width. On the line, 0.85 means 0.85.</p>{plots}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>\n"
    )


def _plot(bins: Sequence[Bin]) -> str:
    most = max((bar.posts for bar in bins), default=1)
    dots = "".join(
        f'<circle cx="{_x(bar.confidence):.1f}" cy="{_y(bar.right):.1f}" r="{2 + 8 * (bar.posts / most) ** 0.5:.1f}">'
        f"<title>said {bar.confidence:.2f}, right {bar.right:.2f}, {bar.posts} posts</title></circle>"
        for bar in bins
    )
    marks = "".join(
        f'<text x="{_x(at):.0f}" y="{_SIZE - 8}" text-anchor="middle">{at:g}</text>'
        f'<text x="{_EDGE - 4}" y="{_y(at) + 4:.0f}" text-anchor="end">{at:g}</text>'
        for at in (0.0, 0.5, 0.85, 1.0)
    )
    return (
        f'<svg width="{_SIZE}" height="{_SIZE}" role="img" font-size="10" fill="currentColor">'
        f'<rect x="{_EDGE}" y="{_RIGHT}" width="{_PLOT}" height="{_PLOT}" fill="none" stroke="currentColor"/>'
        f'<line x1="{_x(0):.0f}" y1="{_y(0):.0f}" x2="{_x(1):.0f}" y2="{_y(1):.0f}" stroke="#888"/>'
        f'<line x1="{_x(0.85):.0f}" y1="{_y(0):.0f}" x2="{_x(0.85):.0f}" y2="{_y(1):.0f}" stroke="#888" '
        f'stroke-dasharray="3"/>{marks}<g fill="#2a78d6" fill-opacity="0.7">{dots}</g></svg>'
    )


def _x(share: float) -> float:
    return _EDGE + share * _PLOT


def _y(share: float) -> float:
    return _RIGHT + (1 - share) * _PLOT

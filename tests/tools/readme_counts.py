"""Fills the README's table of refusal rules: `python -m tests.tools.readme_counts REPLAY.json DEMO.json`.

Both are summaries of `fleet replay ... --json` and `fleet run --demo --json`. Rows that refused nothing show 0; several
rules of one row show a count each. Raises ValueError for a rule that refused and has no row.
"""

import json
import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
ROW = re.compile(r"^\| (?:`(\w+)`)? ?\| (.*?) \| (.*?) \|[^|]*\|[^|]*\|$")
Rules = dict[str, int]


def fill(page: str, replay: Rules, demo: Rules) -> str:
    """The page with both columns of counts between the markers. `Rules`: `outcome:rule` -> how many."""
    before, table = page.split("<!-- counts -->\n")
    table, after = table.split("<!-- /counts -->")
    lines, outcome, shown = [], "", set[str]()
    for line in table.splitlines():
        row = ROW.match(line)
        if row is None:
            lines.append(line)
            continue
        named, rules, refuses = row.groups()
        outcome = named or outcome
        names = _names(outcome, rules, replay | demo)
        shown |= {name for group in names for name in group}
        counts = [_count(names, run) for run in (replay, demo)]
        lines.append(f"| {f'`{named}`' if named else ''} | {rules} | {refuses} | {counts[0]} | {counts[1]} |")
    if missing := sorted((replay | demo).keys() - shown):
        raise ValueError(f"rules without a row in the README: {', '.join(missing)}")
    return f"{before}<!-- counts -->\n" + "\n".join(lines) + f"\n<!-- /counts -->{after}"


def _names(outcome: str, rules: str, known: Rules) -> list[list[str]]:
    """The counters of a row, one group for each count it shows; every rule of `error` is one group."""
    if outcome == "error":
        return [sorted(name for name in known if name.startswith("error:"))]
    return [[f"{outcome}:{rule}"] for rule in re.findall(r"`(\w+)`", rules)]


def _count(names: list[list[str]], run: Rules) -> str:
    """A count for each group, one 0 when nothing was refused."""
    counts = [sum(run.get(name, 0) for name in group) for group in names]
    return " / ".join(map(str, counts)) if any(counts) else "0"


def main(replay: str, demo: str) -> int:
    """Write the README; the exit code."""
    found = [json.loads(Path(file).read_text("utf-8"))["rules"] for file in (replay, demo)]
    README.write_text(fill(README.read_text("utf-8"), *found), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

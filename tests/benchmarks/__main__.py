"""Every bench, in interleaved rounds, as one table: `python -m tests.benchmarks [--quick] [--only PART ...]`.

`--page FILE` writes the table between the page's markers, `--json FILE` keeps every sample.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks import (
    bench_chain,
    bench_collect,
    bench_decide,
    bench_drain,
    bench_idle,
    bench_memory,
    bench_replay,
    bench_router,
    bench_worker,
)
from tests.benchmarks.figures import Figure, as_json, fill, table
from tests.benchmarks.plan import Plan, Rounds, asked, conditions, told
from tests.benchmarks.targets import TARGETS
from workers.adapters.clock import HostClock

#: What is measured, and in how many rounds at most: sizes do not vary.
PARTS: Final[dict[str, tuple[Rounds, int]]] = {
    "worker": (bench_worker.rounds, 3),
    "router": (bench_router.rounds, 5),
    "drain": (bench_drain.rounds, 3),
    "collector": (bench_collect.rounds, 5),
    "decision": (bench_decide.rounds, 3),
    "chain": (bench_chain.rounds, 3),
    "replay": (bench_replay.rounds, 2),
    "fleet": (bench_idle.rounds, 2),
    "memory": (bench_memory.rounds, 1),
}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default all)")
    parser.add_argument("--page", type=Path, help="a page whose table is replaced")
    parser.add_argument("--json", type=Path, help="where every sample is written")
    plan, words = asked(__doc__, parser)
    began, loads = time.monotonic(), [os.getloadavg()[0]]
    figures = list(measured(plan, words.only, loads))
    order = {part: number for number, part in enumerate(PARTS)}
    figures.sort(key=lambda one: order[one.part])
    about = f"Measured {HostClock().now():%Y-%m-%d}, {plan.rounds} rounds, {conditions(loads)}."
    text = f"{about}\n\n{table(figures, TARGETS)}"
    print(text)  # noqa: T201 # a bench prints
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201 # progress is for people
    if words.page and not plan.quick and set(words.only) == set(PARTS):
        fill(words.page, text)
    if words.json:
        words.json.parent.mkdir(parents=True, exist_ok=True)
        kept = as_json(figures, {"about": about, "loads": loads})
        words.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def measured(plan: Plan, parts: list[str], loads: list[float]) -> Iterator[Figure]:
    """Round by round through all parts, so that whatever else the machine does meets all of them."""
    for number in range(max(plan.rounds, 1)):
        for part in parts:
            rounds, most = PARTS[part]
            if number < most:
                yield from told(rounds(plan), f"round {number + 1}")
                loads.append(os.getloadavg()[0])


if __name__ == "__main__":
    main()

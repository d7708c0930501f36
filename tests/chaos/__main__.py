"""`python -m tests.chaos [--short] [--seed N] ...`: runs the harness and prints the matrix; exit 1 if a promise broke."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.matrix import matrix
from tests.chaos.run import Plan, Report, chaos


def main() -> int:
    """Run, print, judge."""
    said = _words().parse_args()
    folder = Path(said.keep or tempfile.mkdtemp(prefix="fleet-chaos-"))
    print(f"chaos in {folder}, seed {said.seed}", flush=True)
    report = chaos(folder, _plan(said), lambda line: print(line, flush=True))
    if said.json:
        Path(said.json).write_text(report.json())
    print(matrix(report) if said.matrix else "", end="")
    print(_verdict(report))
    return 1 if report.broken or report.untested else 0


def _words() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    words.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="posts, lies and dice")
    words.add_argument("--short", action="store_true", help="every point once, no counts to reach")
    words.add_argument("--legs", type=int, default=10_000, help="legs to reach in the long form")
    words.add_argument("--orders", type=int, default=2_000, help="orders at the broker to reach in the long form")
    words.add_argument("--max-seconds", type=float, default=1_800.0, help="when a run gives up")
    words.add_argument("--json", help="a file for the whole report")
    words.add_argument("--keep", help="a folder for everything the run leaves")
    words.add_argument("--no-matrix", dest="matrix", action="store_false", help="the verdict only")
    return words


def _plan(said: argparse.Namespace) -> Plan:
    if said.short:
        return Plan(seed=said.seed, min_s=15, max_s=min(said.max_seconds, 75), every_s=0.2)
    return Plan(
        seed=said.seed,
        min_s=60,
        max_s=said.max_seconds,
        legs=said.legs,
        orders=said.orders,
        every_s=0.5,
        again=0.002,
        toxics=0.01,
    )


def _verdict(report: Report) -> str:
    lines = [
        f"{report.seconds:g} s, seed {report.seed}: {report.posts} posts delivered {report.deliveries} times, "
        f"{sum(report.legs.values())} legs, {report.orders} orders, {report.kills} kills at {len(report.points)} points, "
        f"{report.lives} lives, at their limit: {len(report.at_limit)} symbols",
        f"ends: {dict(sorted(report.legs.items()))}",
        *(f"UNTESTED {point}" for point in report.untested),
        *(f"BROKEN {fault}" for fault in report.broken[:50]),
        f"{len(report.broken)} promises broken, {len(report.untested)} points untested",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.chaos [--short] [--seed N] ...`: the harness and its matrix; exit 1 when a promise was broken."""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos import families
from tests.chaos.matrix import into, matrix
from tests.chaos.report import Plan, Report
from tests.chaos.run import chaos
from tests.chaos.sabotage import ACTS

SHOWN = 50


def main() -> int:
    """Run, print, judge."""
    said = _words().parse_args()
    if said.sabotage == "all":
        return _each_sabotage(said.seed)
    folder = Path(said.keep or tempfile.mkdtemp(prefix="fleet-chaos-"))
    if said.only:
        return _drills(said, folder)
    _say(f"chaos with seed {said.seed}; what it leaves is in {folder}")
    if said.sabotage:
        ACTS[said.sabotage]()
    report = chaos(folder, _plan(said), _say)
    if said.json:
        Path(said.json).write_text(report.json())
    if said.page:
        into(Path(said.page), report, f"python -m tests.chaos --seed {said.seed}")
    if said.matrix:
        _say(matrix(report))
    _say(_verdict(report))
    return int(not report.proves(sabotaged=bool(said.sabotage)))


def _drills(said: argparse.Namespace, folder: Path) -> int:
    """One family, or all of them; 1 when a promise was broken in one."""
    os.environ.pop("FLEET_PROFILE", None)
    failed = False
    for name in families.ALL if said.only == "all" else [said.only]:
        found = _family(said, name, folder)
        if said.json:
            Path(said.json).write_text(found.json())
        if not said.part:
            _say(found.text())
        failed = failed or bool(found.broken)
        if said.page:
            families.into(Path(said.page), name, found.text())
    return int(failed)


def _family(said: argparse.Namespace, name: str, folder: Path) -> families.Found:
    if said.part:
        part, parts = map(int, said.part.split("/"))
        return families.drill(
            name, folder, said.seed, lambda line: _say(f"{part} {line}"), short=False, part=(part, parts)
        )
    _say(f"{name} with seed {said.seed}; what it leaves is in {folder / name}")
    if said.short:
        return families.drill(name, folder / name, said.seed, _say, short=True)
    return families.side_by_side(name, folder / name, said.seed, _say)


def _each_sabotage(seed: int) -> int:
    """One run for each way of breaking the protocol; 1 when one of them went unnoticed."""
    missed = []
    for name in sorted(ACTS):
        words = ["--sabotage", name, "--seed", str(seed), "--no-matrix"]
        run = subprocess.run([sys.executable, "-m", "tests.chaos", *words], capture_output=True, text=True, check=False)
        found = [line for line in run.stdout.splitlines() if line.startswith("BROKEN")]
        _say(f"{name}: {found[0] if found else 'NOT NOTICED'}")
        missed += [name] if run.returncode else []
    return int(bool(missed))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _words() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    words.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(100_000), help="posts, lies and dice"
    )
    words.add_argument("--only", choices=[*families.FAMILIES, "all"], help="a family of drills instead, or all")
    words.add_argument("--part", help="of a family, what one of several fleets does: PART/PARTS")
    words.add_argument("--short", action="store_true", help="every point once, and a few hundred legs")
    words.add_argument("--legs", type=int, default=10_000, help="legs to reach in the long form")
    words.add_argument("--orders", type=int, default=2_300, help="orders at the venue to reach in the long form")
    words.add_argument("--max-seconds", type=float, default=1_800.0, help="when a run gives up")
    words.add_argument("--json", help="a file for the whole report")
    words.add_argument("--sabotage", choices=[*sorted(ACTS), "all"], help="break the protocol so; the run must notice")
    words.add_argument("--keep", help="a folder for everything the run leaves")
    words.add_argument("--page", help="a markdown page that the figures and the matrix are written into")
    words.add_argument("--no-matrix", dest="matrix", action="store_false", help="the verdict only")
    return words


def _plan(said: argparse.Namespace) -> Plan:
    if said.sabotage:
        return Plan(seed=said.seed, min_s=45, max_s=45, every_s=0.4, again=0.002)
    if said.short:
        most_s = min(said.max_seconds, 240)
        return Plan(seed=said.seed, min_s=45, max_s=most_s, legs=200, orders=10, every_s=0.2, again=0.002)
    return Plan(
        seed=said.seed,
        min_s=60,
        max_s=said.max_seconds,
        legs=said.legs,
        orders=said.orders,
        at_limit=3,
        strict=True,
        every_s=0.8,
        again=0.002,
        toxics=0.01,
    )


def _verdict(report: Report) -> str:
    lines = [
        f"seed {report.seed}, {report.seconds:g} s",
        f"{report.posts} posts delivered {report.deliveries} times: {sum(report.legs.values())} legs",
        f"ends: {dict(sorted(report.legs.items()))}",
        f"{report.asked} requests reached the broker, {report.orders} orders were made",
        f"{len(report.at_limit)} symbols at their limit",
        f"{report.kills} kills at {len(report.points)} points, {report.lives} lives",
        *(f"UNTESTED {point}" for point in report.untested),
        *(f"TOO FEW {fault}" for fault in report.short_of),
        *(f"BROKEN {fault}" for fault in report.broken[:SHOWN]),
        f"{len(report.broken)} promises broken, {len(report.untested)} points untested",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

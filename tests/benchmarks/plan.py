"""What a bench is asked for, and its command line."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.figures import Figure, table
from tests.benchmarks.targets import TARGETS

#: Where a recording of one's own is: its lines, its bars, its volatility.
RECORDING: Final = ("FLEET_BENCH_RECORDING", "FLEET_BENCH_BARS", "FLEET_BENCH_VIX")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to be replayed, with its folder of bars and perhaps a VIX file."""

    posts: Path
    bars: Path
    vix: Path | None


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `quick`: a tenth, to see that everything works; its figures mean little."""

    quick: bool = False
    rounds: int = 3
    recording: Recording | None = None


Rounds = Callable[[Plan], Iterator[Figure]]


def asked(about: str | None, parser: argparse.ArgumentParser | None = None) -> tuple[Plan, argparse.Namespace]:
    """The plan on the command line, and whatever else is there."""
    parser = parser or argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth: does everything work?")
    words = parser.parse_args()
    return Plan(words.quick, 1 if words.quick else words.rounds, _recording()), words


def alone(about: str | None, rounds: Rounds) -> None:
    """One bench by itself: its rounds and its table."""
    plan, _ = asked(about)
    figures = [one for number in range(plan.rounds) for one in told(rounds(plan), f"round {number + 1}")]
    print(f"{conditions()}\n\n{table(figures, TARGETS)}")  # noqa: T201 # a bench prints


def told(figures: Iterator[Figure], where: str) -> Iterator[Figure]:
    """The same figures, each said on standard error when it is there."""
    began = time.monotonic()
    for one in figures:
        print(f"{where}, {time.monotonic() - began:.0f} s: {one.name} {one.value:,.2f}", file=sys.stderr, flush=True)  # noqa: T201 # progress is for people
        yield one


def conditions(loads: Sequence[float] = ()) -> str:
    """Machine and load, in a sentence."""
    seen = [*loads, os.getloadavg()[0]]
    low, high = min(seen), max(seen)
    cores, version = os.cpu_count(), ".".join(map(str, sys.version_info[:3]))
    return f"{cores} cores, Python {version}, load average {low:.1f} to {high:.1f}"


def _recording() -> Recording | None:
    posts, bars, vix = (os.environ.get(name) for name in RECORDING)
    if posts is None:
        return None
    if bars is None:
        raise SystemExit(f"{RECORDING[1]} is not set; valid: the folder of bars of {RECORDING[0]}")
    return Recording(Path(posts), Path(bars), Path(vix) if vix else None)

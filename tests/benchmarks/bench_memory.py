"""What a buffered vote costs in Redis: its list, recent votes, its leg's outcome and the memory of its text.

The message's body, which waits there for seven days whether its legs wait or not, is told beside it. How it grows: 10
to 10,000 symbols, 1,000 votes to a million. `python -m tests.benchmarks.bench_memory [--most N] [--json FILE]` prints
a markdown table.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.router import DenyList, RouterSettings, route
from tests.benchmarks.rates import a_fleet, posts
from tests.delivery import NOON
from workers.adapters.keys import MESSAGE_TTL_S
from workers.wiring import Runtime

CASES: Final = ((1_000, 10), (10_000, 10), (100_000, 10), (100_000, 1_000), (100_000, 10_000), (1_000_000, 1_000))
CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Size:
    """One case: bytes of Redis' memory a vote, and a body."""

    votes: int
    symbols: int
    bytes_per_vote: float
    bytes_per_body: float


def measure(fleet: Runtime, votes: int, symbols: int) -> Size:
    """Fill the empty server."""
    fleet.client.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call] # the other way the memory is freed later
    empty = used(fleet)
    for start in range(0, votes, CHUNK):
        waiting = posts(start, symbols, count=min(CHUNK, votes - start))
        fleet.backlog.accept([(one, route(one, NOON, DenyList(), RouterSettings(), 0.85)) for one in waiting])
    buffered = used(fleet)
    bodies = posts(0, symbols, count=1_000)
    pipe = fleet.client.pipeline(transaction=False)
    for one in bodies:
        pipe.set(fleet.keys.message(one.message_id), one.model_dump_json(), ex=MESSAGE_TTL_S)
    pipe.execute()
    return Size(votes, symbols, (buffered - empty) / votes, (used(fleet) - buffered) / len(bodies))


def used(fleet: Runtime) -> int:
    """Bytes of the data set, without buffers of clients and of the append-only file."""
    facts: Any = fleet.client.info("memory")
    return int(facts["used_memory_dataset"])


def main() -> None:
    """Measure, print the table, keep the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="votes in the largest case (default 1,000,000)")
    parser.add_argument("--json", type=Path, help="where the sizes are written")
    wanted = parser.parse_args()
    with a_fleet() as fleet:
        sizes = [measure(fleet, votes, symbols) for votes, symbols in CASES if votes <= wanted.most]
    lines = ["| votes | symbols | bytes a vote | bytes a body |", "|---:|---:|---:|---:|"]
    lines += [f"| {s.votes:,} | {s.symbols:,} | {s.bytes_per_vote:.0f} | {s.bytes_per_body:.0f} |" for s in sizes]
    print("\n".join(lines))  # noqa: T201 # a bench prints
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(size) for size in sizes], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a buffered vote costs in Redis: its list, recent votes, its leg's outcome and the memory of its text.

The message's body, which waits there for seven days whether its legs wait or not, is told beside it. How it grows: 10
to 10,000 symbols, 1,000 votes to a million. `python -m tests.benchmarks.bench_memory [--quick]` prints a table.
"""

from collections.abc import Iterator
from typing import Any, Final

from pipeline.router import DenyList, RouterSettings, route
from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.rates import a_fleet, posts
from tests.delivery import NOON
from workers.adapters.keys import MESSAGE_TTL_S
from workers.wiring import Runtime

CASES: Final = ((1_000, 10), (10_000, 10), (100_000, 10), (100_000, 1_000), (100_000, 10_000), (1_000_000, 1_000))
CHUNK: Final = 5_000


def measure(fleet: Runtime, votes: int, symbols: int) -> tuple[float, float]:
    """Fill the empty server: bytes of its memory a vote, and a body."""
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
    return (buffered - empty) / votes, (used(fleet) - buffered) / len(bodies)


def used(fleet: Runtime) -> int:
    """Bytes of the data set, without buffers of clients and of the append-only file."""
    facts: Any = fleet.client.info("memory")
    return int(facts["used_memory_dataset"])


def rounds(plan: Plan) -> Iterator[Figure]:
    """Each case once: sizes do not vary."""
    with a_fleet() as fleet:
        for votes, symbols in CASES[:2] if plan.quick else CASES:
            votes_each, body = measure(fleet, votes, symbols)
            yield Figure("memory", f"{votes:,} votes on {symbols:,} symbols, bytes a vote", votes_each)
        yield Figure("memory", "a message's body beside them, bytes", body)


if __name__ == "__main__":
    alone(__doc__, rounds)

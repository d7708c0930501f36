"""What a drain costs: claiming 1,000 symbols with 100 votes each, queueing the claims, deciding them.

Two thirds of the votes are divided, so every batch ends without consensus: that is what a drain mostly does. How it
grows: 10 to 10,000 symbols. `python -m tests.benchmarks.bench_drain [--rounds N] [--quick]` prints a markdown table.
"""

from collections.abc import Iterator
from typing import Final

from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.rates import Sample, a_fleet, figure_ms, measured, posts, reference
from tests.delivery import NOON, later
from workers.wiring import Runtime

SYMBOLS: Final = 1_000
VOTES: Final = 100
GROWTH: Final = ((10, 100), (100, 100), (10_000, 10))
ROOM: Final = {"FLEET_ORCHESTRATOR__MAX_BUFFER_SIZE": "1000000", "FLEET_ORCHESTRATOR__MAX_BUFFERED_TOTAL": "1000000"}


def rounds(plan: Plan) -> Iterator[Figure]:
    """The reference, then the three parts of one drain, then other sizes of it."""
    with a_fleet(**ROOM) as fleet:
        base = reference(fleet.client)
        votes = VOTES // 10 if plan.quick else VOTES
        claimed, queued, decided = drained(fleet, SYMBOLS, votes)
        size = f"{SYMBOLS:,} symbols x {votes} votes"
        yield figure_ms("drain", f"drain: claim {size}, ms", claimed, base)
        yield figure_ms("drain", "drain: queue their jobs, ms", queued, base)
        yield figure_ms("drain", "drain: decide them all, ms", decided, base)
        for symbols, each in GROWTH if not plan.quick else GROWTH[:1]:
            fleet.client.flushall()
            fleet.initialise_if_empty("bench", NOON)
            claimed, _, decided = drained(fleet, symbols, each)
            size = f"{symbols:,} symbols x {each} votes"
            yield figure_ms("drain", f"drain: claim {size}, ms", claimed, base)
            yield figure_ms("drain", f"drain: decide {size}, ms", decided, base)


def drained(fleet: Runtime, symbols: int, votes: int) -> tuple[Sample, Sample, Sample]:
    """Claimed, queued, decided; pieces are symbols."""
    fill(fleet, symbols, votes)
    claims: list[str] = []
    claimed = measured("claim", symbols, fleet.client, lambda: claims.extend(fleet.backlog.claim()))
    queued = measured("queue", symbols, fleet.client, lambda: fleet.scheduler.enqueue_claims(claims))
    decided = measured("decide", symbols, fleet.client, lambda: decide(fleet, claims))
    if fleet.backlog.unfinished() or len(claims) != symbols:
        raise RuntimeError(f"{len(claims)} claims, {len(fleet.backlog.unfinished())} are left; valid: {symbols}, 0")
    return claimed, queued, decided


def fill(fleet: Runtime, symbols: int, votes: int) -> None:
    """Lists as a router leaves them."""
    waiting = posts(0, symbols, count=symbols * votes)
    router = fleet.router("bench")
    router.now, router.block_ms = lambda: NOON, 1
    for start in range(0, len(waiting), 5_000):
        fleet.inbox.append(waiting[start : start + 5_000])
        while router.step():
            pass


def decide(fleet: Runtime, claims: list[str]) -> None:
    """As many a job as the settings say."""
    size = fleet.scheduler.claims_per_job
    for start in range(0, len(claims), size):
        fleet.decider.claims(claims[start : start + size], later(1))


if __name__ == "__main__":
    alone(__doc__, rounds)

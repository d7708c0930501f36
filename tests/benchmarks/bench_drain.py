"""What a drain costs: claiming 1,000 symbols with 100 votes each, queueing the claims, deciding them all.

Two thirds of the votes are divided, so every batch ends without consensus: that is what a drain mostly does. `python -m
tests.benchmarks.bench_drain [--rounds N] [--json FILE]` prints a markdown table.
"""

from typing import Final

from tests.benchmarks.rates import Sample, a_fleet, measured, posts, reference, run
from tests.delivery import NOON, later
from workers.wiring import Runtime

SYMBOLS: Final = 1_000
VOTES: Final = 100


def one_round() -> list[Sample]:
    """The reference, then the three parts of one drain."""
    with a_fleet(FLEET_ORCHESTRATOR__MAX_BUFFER_SIZE="1000000", FLEET_ORCHESTRATOR__MAX_BUFFERED_TOTAL="1000000") as f:
        samples = [reference(f.client)]
        fill(f)
        claims: list[str] = []
        samples.append(measured("claim", SYMBOLS, f.client, lambda: claims.extend(f.backlog.claim())))
        samples.append(measured("queue", SYMBOLS, f.client, lambda: f.scheduler.enqueue_claims(claims)))
        samples.append(measured("decide", SYMBOLS, f.client, lambda: decide(f, claims)))
        if f.backlog.unfinished():
            raise RuntimeError(f"{len(f.backlog.unfinished())} claims are left; valid: 0")
    return samples


def fill(fleet: Runtime) -> None:
    """Lists as a router leaves them."""
    waiting = posts(0, SYMBOLS, count=SYMBOLS * VOTES)
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
    run(__doc__, "symbols", one_round)

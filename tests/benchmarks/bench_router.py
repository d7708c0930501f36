"""What routing a message costs: chunks of 500, votes only and with every tenth urgent, over few and many symbols.

`python -m tests.benchmarks.bench_router [--rounds N] [--quick]` prints a markdown table.
"""

from collections.abc import Iterator
from typing import Final

from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.rates import Sample, a_fleet, figure, measured, posts, reference
from tests.delivery import NOON
from workers.wiring import Runtime

MESSAGES: Final = 20_000
#: Symbols, and every how many messages are urgent (0: none).
CASES: Final = {
    "router: votes, messages/s": (10, 0),
    "router: 10 % urgent, messages/s": (1_000, 10),
    "router: votes on 1,000 symbols, messages/s": (1_000, 0),
    "router: votes on 10,000 symbols, messages/s": (10_000, 0),
}


def rounds(plan: Plan) -> Iterator[Figure]:
    """The reference, then every case on the empty server."""
    count = MESSAGES // 10 if plan.quick else MESSAGES
    with a_fleet(FLEET_ORCHESTRATOR__MAX_BUFFER_SIZE="1000000") as fleet:
        base = reference(fleet.client)
        for name, (symbols, urgent_every) in CASES.items():
            fleet.client.flushall()
            fleet.initialise_if_empty("bench", NOON)
            yield figure("router", name, routed(fleet, count, symbols, urgent_every), base)


def routed(fleet: Runtime, count: int, symbols: int, urgent_every: int) -> Sample:
    """Messages that wait in the stream, routed by one process."""
    waiting = posts(0, symbols, urgent_every, count=count)
    for start in range(0, count, 1_000):
        fleet.inbox.append(waiting[start : start + 1_000])
    router = fleet.router("bench")
    router.now, router.block_ms = lambda: waiting[0].message.received_at, 1

    def work() -> None:
        while router.step():
            pass

    sample = measured("routed", count, fleet.client, work)
    if fleet.backlog.buffered() != count:
        raise RuntimeError(f"buffered {fleet.backlog.buffered()}; valid: {count}")
    return sample


if __name__ == "__main__":
    alone(__doc__, rounds)

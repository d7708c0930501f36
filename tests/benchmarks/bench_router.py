"""What routing a message costs: chunks of 500, votes only and with every tenth urgent, over few and many symbols.

`python -m tests.benchmarks.bench_router [--rounds N] [--json FILE]` prints a markdown table.
"""

from typing import Final

from tests.benchmarks.rates import Sample, a_fleet, measured, posts, reference, run
from tests.delivery import NOON
from workers.wiring import Runtime

MESSAGES: Final = 20_000
CASES: Final = {
    "votes, 10 symbols": (10, 0),
    "votes, 1,000 symbols": (1_000, 0),
    "10 % urgent, 1,000 symbols": (1_000, 10),
}


def one_round() -> list[Sample]:
    """The reference, then every case on the empty server."""
    with a_fleet(FLEET_ORCHESTRATOR__MAX_BUFFER_SIZE="1000000") as fleet:
        samples = [reference(fleet.client)]
        for name, (symbols, urgent_every) in CASES.items():
            fleet.client.flushall()
            fleet.initialise_if_empty("bench", NOON)
            samples.append(routed(fleet, name, symbols, urgent_every))
    return samples


def routed(fleet: Runtime, name: str, symbols: int, urgent_every: int) -> Sample:
    """Messages that wait in the stream, routed by one process."""
    waiting = posts(0, symbols, urgent_every, count=MESSAGES)
    for start in range(0, MESSAGES, 1_000):
        fleet.inbox.append(waiting[start : start + 1_000])
    router = fleet.router("bench")
    router.now, router.block_ms = lambda: waiting[0].message.received_at, 1

    def work() -> None:
        while router.step():
            pass

    sample = measured(name, MESSAGES, fleet.client, work)
    if fleet.backlog.buffered() != MESSAGES:
        raise RuntimeError(f"buffered {fleet.backlog.buffered()}; valid: {MESSAGES}")
    return sample


if __name__ == "__main__":
    run(__doc__, "messages", one_round)

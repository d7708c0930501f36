"""What one urgent decision costs: 150 bars, indicators, score, reservation, gate, intent, order at the paper broker.

In one process, in event time, so the orders that work are lived through before each decision: with few and with many of
them. `python -m tests.benchmarks.bench_decide [--rounds N] [--quick]` prints a markdown table.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from redis.connection import AbstractConnection

from pipeline.models import AnalyzedMessage
from tests.benchmarks.figures import Figure
from tests.benchmarks.market import AT, many_symbols, symbols
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.rates import a_fleet, measured, reference
from tests.delivery import a_message
from workers.wiring import Runtime

#: How many orders work when the measured ones come, and how many are measured.
CASES: Final = ((1, 20), (100, 20))


def rounds(plan: Plan) -> Iterator[Figure]:
    """The reference, then decisions that become orders, with few and many orders that work; then refused ones."""
    most = 1 + sum(count for case in CASES for count in case)
    with tempfile.TemporaryDirectory() as folder, a_fleet(**many_symbols(Path(folder), most), FLEET_CLOCK="event") as f:
        base = reference(f.client)
        names = symbols(most)
        waiting = [a_message(f"m{n}", symbols=(name,), confidence=0.93, at=AT) for n, name in enumerate(names)]
        f.inbox.append(waiting)
        left = iter(waiting)
        for working, count in CASES[:1] if plan.quick else CASES:
            decide(f, [next(left) for _ in range(working)], "submitted")
            made = len(f.intents.open())
            chosen = [next(left) for _ in range(count)]
            for one in chosen:
                f.market.bars(one.tickers.symbols[0], AT, 1)  # a worker that ran a while has read the files
            yield from figures(f, chosen, "submitted", f"an order, {made} and more at work", base)
        again = [a_message(f"r{n}", symbols=(names[0],), confidence=0.93, at=AT) for n in range(20)]
        f.inbox.append(again)
        yield from figures(f, again, "busy", "refused by a busy symbol", base)


def figures(
    fleet: Runtime, messages: Sequence[AnalyzedMessage], word: str, name: str, base: Mapping[str, float]
) -> Iterator[Figure]:
    """Milliseconds and round trips a decision."""
    with counted() as trips:
        sample = measured("decide", len(messages), fleet.client, lambda: decide(fleet, messages, word))
    each = sample.seconds / sample.count
    ratios = {one: rate * each for one, rate in base.items()}
    yield Figure("decision", f"decision: {name}, ms", each * 1000, ratios, sample.cpu_us)
    trips_of_measuring = 2
    yield Figure("decision", f"decision: {name}, round trips", (len(trips) - trips_of_measuring) / len(messages))


def decide(fleet: Runtime, messages: Sequence[AnalyzedMessage], word: str) -> None:
    """As the job does."""
    for message in messages:
        answer = fleet.decider.urgent(message.message_id, message.tickers.symbols[0], AT)
        if answer != word:
            raise RuntimeError(f"{message.message_id} ended {answer}; valid: {word}")


class counted:  # noqa: N801 # a context manager used like a function
    """How often this process sent something and waited: one entry a round trip."""

    def __enter__(self) -> list[int]:
        trips: list[int] = []
        self._send = send = AbstractConnection.send_packed_command

        def counting(connection: Any, command: Any, **options: Any) -> Any:
            trips.append(1)
            return send(connection, command, **options)  # type: ignore[no-untyped-call]

        AbstractConnection.send_packed_command = counting  # type: ignore[method-assign, assignment]
        return trips

    def __exit__(self, *_: object) -> None:
        AbstractConnection.send_packed_command = self._send  # type: ignore[method-assign]


if __name__ == "__main__":
    alone(__doc__, rounds)

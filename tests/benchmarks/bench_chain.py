"""From a post in the collector's file to its order at the paper broker, through every process of a whole fleet.

200 posts a second, every tenth urgent and on a symbol of its own, so that each becomes an order. The first ten are
longs that go on working, as many as the shipped limit lets a fleet hold; the others are shorts that the venue answers
at once (nobody lends them), so that no more pile up. The clock is the posts' own (bars are of a recorded day): what
works is lived through before each decision, which live is a job of its own. The scheduler turns as it does live:
drains, follow-ups, janitor. The reference is a bare round trip to the same server in the same round.

`python -m tests.benchmarks.bench_chain [--rounds N] [--quick]` prints a markdown table.
"""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import orjson
import redis

from tests.benchmarks.bench_worker import percentile
from tests.benchmarks.figures import Figure
from tests.benchmarks.market import bearish, bullish, chatter, many_symbols, moment, symbols
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.processes import await_ready, processor_seconds, running

RATE: Final = 200
URGENT_EVERY: Final = 10
SECONDS: Final = 12
LEAD_IN_S: Final = 2.0  # not counted: files of bars are read for the first time
WORKERS: Final = 3
AT_WORK: Final = 10
PATIENCE_S: Final = 60.0


def rounds(plan: Plan) -> Iterator[Figure]:
    """One fleet, one feed."""
    seconds = 4 if plan.quick else SECONDS
    count = RATE * seconds
    urgent = symbols(count // URGENT_EVERY)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "posts.jsonl"
        source.touch()
        variables = many_symbols(Path(folder), len(urgent)) | {
            "FLEET_PROFILE": "demo",
            "FLEET_SOURCE__PATH": str(source),
            "FLEET_SOURCE__TAIL": "true",
            "FLEET_PAPER__HARD_TO_BORROW": json.dumps(urgent[AT_WORK:]),
            "FLEET_SCHEDULE__SETTLE_INTERVAL_S": "3600",  # in the posts' time each decision settles what came before it
            "FLEET_SCHEDULE__RECONCILE_INTERVAL_S": "3000",
            "FLEET_SCHEDULE__RECONCILE_MAX_AGE_S": "3600",
            "FLEET_DATA_DIR": str(Path(folder) / "data"),
        }
        with running("run", **variables) as process:
            client: Any = await_ready(process, Path(folder) / "data", "demo", WORKERS)
            hop = round_trip_ms(client)
            spent, began = processor_seconds(process.pid), time.perf_counter()
            with Orders(client) as orders:
                written = feed(source, count, urgent)
                orders.await_all(len(urgent))
            share = (processor_seconds(process.pid) - spent) / (time.perf_counter() - began)
            waits = [(orders.seen[name] - written[name]) / 1e6 for name in written if name in orders.seen]
            late = waits[int(LEAD_IN_S * RATE / URGENT_EVERY) :]
            client.close()
    for percent in (50, 99):
        value = percentile(late, percent)
        yield Figure("chain", f"post to order: p{percent} at 200/s, 10 % urgent, ms", value, {"PING": value / hop})
    yield Figure("chain", "post to order: every process and the server, % of a core", 100 * share)


def feed(source: Path, count: int, urgent: list[str]) -> dict[str, int]:
    """Write the posts at their rate; when each urgent one was written (ns), by its symbol."""
    written: dict[str, int] = {}
    began = time.perf_counter()
    with source.open("ab", buffering=0) as file:
        for number in range(count):
            symbol = urgent[number // URGENT_EVERY]
            is_urgent = number % URGENT_EVERY == 0
            text = _urgent_words(number, symbol) if is_urgent else chatter(number, urgent[number % len(urgent)])
            post = {
                "id": str(number),
                "created_at": moment(number, RATE),
                "source": "demo",
                "author": f"author{number}",
            }
            line = orjson.dumps(post | {"text": text}) + b"\n"
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            if is_urgent:
                written[symbol] = time.time_ns()
            file.write(line)
    return written


def _urgent_words(number: int, symbol: str) -> str:
    return (bullish if number < AT_WORK * URGENT_EVERY else bearish)(number, symbol)


class Orders:
    """When each symbol's order was at the broker first (ns), told by the server's own notifications."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.seen: dict[str, int] = {}
        self._ended = False
        self._pubsub: Any = client.pubsub()  # type: ignore[no-untyped-call]
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._client.config_set("notify-keyspace-events", "K$")
        self._pubsub.psubscribe("__keyspace@0__:demo:paper:order:*")
        self._pubsub.get_message(timeout=5)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._pubsub.close()

    def _listen(self) -> None:
        while not self._ended:
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None and message["type"] == "pmessage":
                name = message["channel"].rpartition(":")[2]
                self.seen.setdefault(name.split("-")[1], time.time_ns())

    def await_all(self, count: int) -> None:
        """Until there are so many, or nine tenths and no more come: a model to come may find a few less urgent.

        Raises RuntimeError when fewer come: something refuses them.
        """
        known, deadline = 0, time.monotonic() + PATIENCE_S
        while (seen := len(self.seen)) < count:
            if seen > known:
                known, deadline = seen, time.monotonic() + PATIENCE_S / (6 if seen >= 0.9 * count else 1)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if len(self.seen) < 0.9 * count:
            raise RuntimeError(f"{len(self.seen)} orders of {count}; `fleet inspect decisions` of such a run says why")


def round_trip_ms(client: redis.Redis) -> float:
    """A PING, the median of many."""
    found = []
    for _ in range(500):
        began = time.perf_counter()
        client.ping()
        found.append(time.perf_counter() - began)
    return statistics.median(found) * 1000


if __name__ == "__main__":
    alone(__doc__, rounds)

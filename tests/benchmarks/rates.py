"""What the benches of bulk work share: a server with its append-only file, and a reference beside each figure.

A busy machine slows everything: read the ratios and the processor time, not the rates of one run. The references are a
pipelined RPUSH of 100 from one Python client, which is what this interpreter and this server can do at best, and
that of redis-benchmark, the best of the server alone (Debian: sudo apt-get install redis-tools).
"""

import csv
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import redis
import structlog

from config.settings import load_settings
from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading
from tests.benchmarks.figures import Figure
from tests.delivery import NOON, QUICK
from workers.adapters.embedded import EmbeddedServer
from workers.wiring import Runtime

REFERENCE: Final = 20_000
PIPELINE: Final = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured piece of work: how many of what, in how long, with how much processor time of both sides (s)."""

    name: str
    count: int
    seconds: float
    client_cpu: float
    server_cpu: float

    @property
    def rate(self) -> float:
        """Pieces a second as it was."""
        return self.count / self.seconds

    @property
    def cpu_us(self) -> tuple[float, float]:
        """Microseconds of processor time a piece, ours and the server's."""
        return self.client_cpu / self.count * 1e6, self.server_cpu / self.count * 1e6


def measured(name: str, count: int, client: Any, work: Callable[[], object]) -> Sample:
    """The work's time and processor time."""
    before, began, mine = _server_cpu(client), time.perf_counter(), time.process_time()
    work()
    seconds, spent = time.perf_counter() - began, time.process_time() - mine
    return Sample(name, count, seconds, spent, _server_cpu(client) - before)


def reference(client: Any) -> dict[str, float]:
    """RPUSH a second by hundreds a round trip: by one Python client, and by redis-benchmark where it is installed."""
    return {"RPUSH by hundreds": _pushed(client).rate} | _by_redis_benchmark(client)


def _by_redis_benchmark(client: Any) -> dict[str, float]:
    """What the server can do at best, with its fifty clients in C."""
    tool = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if tool is None:
        return {}
    place = client.connection_pool.connection_kwargs
    asked = ["-t", "rpush", "-n", str(5 * REFERENCE), "-P", str(PIPELINE), "--csv"]
    words = [tool, "-h", place["host"], "-p", str(place["port"]), *asked]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    client.delete("mylist")
    return {"redis-benchmark": next(float(row[1]) for row in csv.reader(said.splitlines()) if row[0] == "RPUSH")}


def _pushed(client: Any) -> Sample:
    def push() -> None:
        for _ in range(REFERENCE // PIPELINE):
            pipe = client.pipeline(transaction=False)
            for _ in range(PIPELINE):
                pipe.rpush("reference", "a word")
            pipe.execute()
        client.delete("reference")

    return measured("RPUSH by hundreds", REFERENCE, client, push)


@contextmanager
def a_fleet(**variables: str) -> Iterator[Runtime]:
    """A live fleet of the demo's market on a server of its own with an append-only file, synced every second."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        environ = {"FLEET_REDIS_URL": server.url, "FLEET_DATA_DIR": folder, "FLEET_CLOCK": "live", **QUICK, **variables}
        fleet = Runtime(load_settings("demo", environ=environ))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        fleet.initialise_if_empty("bench", NOON)
        yield fleet


def posts(first: int, symbols: int, urgent_every: int = 0, *, count: int) -> list[AnalyzedMessage]:
    """Posts of different authors and texts, a tenth of a millisecond apart, spread over the symbols in turn."""
    return [
        a_post(n, _symbol(n % symbols), urgent_every, NOON + timedelta(microseconds=100 * n))
        for n in range(first, first + count)
    ]


def a_post(number: int, symbol: str, urgent_every: int, at: datetime) -> AnalyzedMessage:
    """One post of 140 characters; every so many are urgent (0: none)."""
    label = (Label.BULLISH, Label.BEARISH, Label.NEUTRAL)[number % 3]
    urgent = urgent_every and number % urgent_every == 0
    return AnalyzedMessage(
        message=SocialMessage(
            message_id=f"stocktwits-{100_000_000 + number}",
            source="stocktwits",
            source_id=str(100_000_000 + number),
            created_at=at,
            received_at=at,
            author=f"author{number % 50_000}",
            followers=120,
            text=f"${symbol} " + "what people say about it today goes on " * 3,
        ),
        sentiment=Sentiment(
            label=Label.BULLISH if urgent else label,
            score=(0.52, -0.48, 0.0)[number % 3],
            confidence=0.95 if urgent else 0.71,
            model="stage1-1-0123456789ab",
        ),
        tickers=TickerReading(symbols=(symbol,), primary=symbol, cashtags=1),
        fingerprint=f"{number:020x}",
    )


def _symbol(number: int) -> str:
    """AAAA, AAAB, ..., 26^4 of them."""
    letters = []
    for _ in range(4):
        number, letter = divmod(number, 26)
        letters.append(chr(65 + letter))
    return "".join(reversed(letters))


def figure(part: str, name: str, sample: Sample, base: Mapping[str, float]) -> Figure:
    """Pieces a second, as a ratio to each reference of the same round."""
    return Figure(part, name, sample.rate, _ratios(sample, base), sample.cpu_us)


def figure_ms(part: str, name: str, sample: Sample, base: Mapping[str, float]) -> Figure:
    """Milliseconds for all of it; the ratio is that of its pieces a second."""
    return Figure(part, name, sample.seconds * 1000, _ratios(sample, base), sample.cpu_us)


def _ratios(sample: Sample, base: Mapping[str, float]) -> dict[str, float]:
    return {name: sample.rate / rate for name, rate in base.items()}


def _server_cpu(client: redis.Redis) -> float:
    facts: Any = client.info("cpu")
    return float(facts["used_cpu_user"] + facts["used_cpu_sys"])

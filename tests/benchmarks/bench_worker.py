"""What a job costs: the warm worker beside RQ's two, in the same run, on a server with its append-only file.

`python -m tests.benchmarks.bench_worker [--rounds N] [--json FILE]` prints a markdown table. Rounds are interleaved, so
that whatever else the machine does meets all three; read the ratios, not the figures of a busy machine.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.warm import Play, until, warm_worker
from workers.adapters.embedded import EmbeddedServer

KINDS: Final = ("warm", "simple", "fork")
NAMES: Final = {"warm": "warm worker", "simple": "RQ SimpleWorker", "fork": "RQ Worker (forks)"}
JOBS: Final = {"warm": 3000, "simple": 1000, "fork": 150}
RATE: Final = {"warm": 200, "simple": 200, "fork": 20}  # jobs/s; RQ's Worker drowns at more
LATENCY_S: Final = 5.0
DEATHS: Final = 20
LEAD_IN: Final = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One worker in one round."""

    kind: str
    jobs_per_s: float
    p50_ms: float
    p99_ms: float
    after_death_ms: float | None


def measure(url: str, kind: str) -> Sample:
    """One round of one worker on the empty server."""
    play = Play(url, retry_max=1)
    play.client.flushall()
    speed = throughput(play, url, kind)
    with running(play, url, kind):
        starts = latencies(play, RATE[kind])
        gap = None if kind == "simple" else statistics.median(gaps(play))  # a SimpleWorker dies with its job
    return Sample(kind, speed, percentile(starts, 50), percentile(starts, 99), gap)


def throughput(play: Play, url: str, kind: str) -> float:
    """No-op jobs a second that wait in a row, without the first few."""
    for _ in range(JOBS[kind]):
        play.put("noop", "QUIET")
    finished = play.queue.finished_job_registry.key
    with warm_worker(url, {"kind": kind}):
        until(lambda: play.client.zcard(finished) >= LEAD_IN)
        began, done = time.perf_counter(), play.client.zcard(finished)
        until(lambda: play.client.zcard(finished) >= JOBS[kind], seconds=600)
        return float((JOBS[kind] - done) / (time.perf_counter() - began))


@contextmanager
def running(play: Play, url: str, kind: str) -> Iterator[None]:
    """A worker that has run its first job."""
    with warm_worker(url, {"kind": kind}):
        play.run("noop")
        yield


def latencies(play: Play, rate: int) -> list[float]:
    """Milliseconds from queueing a job to its first line, at so many jobs a second."""
    began, queued = time.perf_counter(), {}
    for number in range(int(rate * LATENCY_S)):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        moment = time.time_ns()  # the jobs answer in the same clock
        queued[play.put("at", "QUIET")] = moment
    play.end_of(next(reversed(queued)))
    return [(play.end_of(job_id).return_value() - moment) / 1e6 for job_id, moment in queued.items()]


def gaps(play: Play) -> list[float]:
    """Milliseconds from the start of a job that ends its process at once to the start of the job behind it."""
    found = []
    for _ in range(DEATHS):
        death, behind = play.put("exit-3"), play.put("at", "QUIET")
        started = play.end_of(behind).return_value()
        play.end_of(death)  # its repetition comes after
        found.append((started - play.starts(death)[0][1]) / 1e6)
    return found


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def table(samples: Sequence[Sample]) -> str:
    """Medians and ranges of all rounds; speed also as a ratio to RQ's two."""
    lines = [
        "| worker | jobs/s | x forking | x simple | start p50 ms | start p99 ms | next start after a death ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    speeds = {kind: statistics.median(one.jobs_per_s for one in samples if one.kind == kind) for kind in KINDS}
    for kind in KINDS:
        mine = [one for one in samples if one.kind == kind]
        cells = [
            f"{NAMES[kind]}, at {RATE[kind]}/s",
            spread([one.jobs_per_s for one in mine], 0),
            f"{speeds[kind] / speeds['fork']:.1f}",
            f"{speeds[kind] / speeds['simple']:.1f}",
            spread([one.p50_ms for one in mine], 2),
            spread([one.p99_ms for one in mine], 2),
            spread([one.after_death_ms for one in mine if one.after_death_ms is not None], 1),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least to most)."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Measure, print the table, keep the samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all three workers (default 3)")
    parser.add_argument("--json", type=Path, help="where the samples are written")
    wanted = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        samples = [measure(server.url, kind) for _ in range(wanted.rounds) for kind in KINDS]
    print(f"{wanted.rounds} rounds, {os.cpu_count()} cores, load average {load:.1f} before\n\n{table(samples)}")  # noqa: T201 # a bench prints
    if wanted.json:
        kept: dict[str, Any] = {"cores": os.cpu_count(), "load": load, "samples": [asdict(one) for one in samples]}
        wanted.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

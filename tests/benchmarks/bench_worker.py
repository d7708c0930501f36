"""What a job costs: the warm worker beside RQ's two, in the same round, on a server with its append-only file.

Jobs in a row, jobs at a rate, the next start after a job's death of each kind, and how it grows from 1 to 8 workers.
`python -m tests.benchmarks.bench_worker [--rounds N] [--quick]` prints a markdown table.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, alone
from tests.warm import Play, is_alive, spoken, until, warm_worker
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.rq_factory import IMMEDIATE

NAMES: Final = {"warm": "warm worker", "simple": "RQ SimpleWorker", "fork": "RQ Worker (forks)"}
JOBS: Final = {"warm": 3000, "simple": 1000, "fork": 150}
RATE: Final = {"warm": 200, "simple": 200, "fork": 20}  # jobs/s; RQ's Worker drowns at more
LATENCY_S: Final = 5.0
LEAD_IN: Final = 20
CREWS: Final = (2, 4, 8)
DEATHS: Final = {
    "exit": "exit-3",
    "raise": "raise-x",
    "SIGKILL": "kill",
    "segfault": "segfault",
    "out of memory": "eat",
}
DEATHS_EACH: Final = 5
HANGS: Final = 2


def rounds(plan: Plan) -> Iterator[Figure]:
    """Rows, rates, deaths, crews."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        part = 10 if plan.quick else 1
        yield from in_a_row(server.url, {kind: jobs // part for kind, jobs in JOBS.items()})
        yield from at_a_rate(server.url, LATENCY_S / part)
        yield from after_deaths(server.url, DEATHS_EACH // part or 1, HANGS // part or 1)
        alone_speed = throughput(server.url, "warm", JOBS["warm"] // part)
        for crew in CREWS[:1] if plan.quick else CREWS:
            speed = throughput(server.url, "warm", JOBS["warm"] // part, crew)
            yield Figure("worker", f"{crew} warm workers: no-op jobs/s", speed, {"one": speed / alone_speed})


# ---- jobs in a row ---------------------------------------------------------------------------------------


def in_a_row(url: str, jobs: dict[str, int]) -> Iterator[Figure]:
    """Speeds of the three, and how often the warm worker asks the server for a job."""
    speeds = {kind: throughput(url, kind, count) for kind, count in jobs.items()}
    for kind, name in NAMES.items():
        others = {NAMES[one]: speeds[kind] / speed for one, speed in speeds.items() if one not in ("warm", kind)}
        yield Figure("worker", f"{name}: no-op jobs/s", speeds[kind], others)
    play = fresh(url)
    with warm_worker(url) as process:
        play.run("noop")
        yield Figure("worker", "warm worker: round trips a job, in a row", round_trips(play, process.pid, 200))
        single = statistics.median(round_trips(play, process.pid, 1) for _ in range(5))
        yield Figure("worker", "warm worker: round trips a job, alone", single)


def throughput(url: str, kind: str, jobs: int, crew: int = 1) -> float:
    """No-op jobs a second that wait in a row, without the first few."""
    play = fresh(url)
    for _ in range(jobs):
        play.put("noop", "QUIET")
    finished = play.queue.finished_job_registry.key
    with ExitStack() as workers:
        for _ in range(crew):
            workers.enter_context(warm_worker(url, {"kind": kind}))
        until(lambda: play.client.zcard(finished) >= min(LEAD_IN, jobs // 2))
        began, done = time.perf_counter(), play.client.zcard(finished)
        until(lambda: play.client.zcard(finished) >= jobs, seconds=600)
        return float((jobs - done) / (time.perf_counter() - began))


def round_trips(play: Play, worker: int, jobs: int) -> float:
    """What the worker sends a job, a transaction as one; without the pops that wait for a job in vain."""
    names = [f"noop-{time.time_ns()}-{number}" for number in range(jobs)]

    def run_them() -> None:
        queued = [play.queues.pack(IMMEDIATE, "trade", name, ("noop", "QUIET"), "noop") for name in names]
        play.queues.enqueue_many(IMMEDIATE, queued)
        play.end_of(names[-1])

    words = spoken(play.client, worker, run_them)
    begun = words.index("HGETALL")  # the pop that brought the first job was sent before it came
    return (1 + sum(word in {"HGETALL", "EVALSHA", "EXEC"} for word in words[begun:])) / jobs


# ---- jobs at a rate --------------------------------------------------------------------------------------


def at_a_rate(url: str, seconds: float) -> Iterator[Figure]:
    """From queueing a job to its first line, for each of the three at its rate."""
    found = {}
    for kind in NAMES:
        play = fresh(url)
        with running(play, url, kind):
            starts = latencies(play, RATE[kind], seconds)
        found[kind] = percentile(starts, 50), percentile(starts, 99)
    for kind, name in NAMES.items():
        for index, percent in enumerate(("p50", "p99")):
            mine = found[kind][index]
            others = {NAMES[one]: mine / found[one][index] for one in ("fork", "simple") if kind == "warm"}
            yield Figure("worker", f"{name}: start {percent} at {RATE[kind]}/s, ms", mine, others)


@contextmanager
def running(play: Play, url: str, kind: str) -> Iterator[None]:
    """A worker that has run its first job."""
    with warm_worker(url, {"kind": kind}):
        play.run("noop")
        yield


def latencies(play: Play, rate: int, seconds: float) -> list[float]:
    """Milliseconds from queueing a job to its first line, at so many jobs a second."""
    began, queued = time.perf_counter(), {}
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        moment = time.time_ns()  # the jobs answer in the same clock
        queued[play.put("at", "QUIET")] = moment
    play.end_of(next(reversed(queued)))
    return [(play.end_of(job_id).return_value() - moment) / 1e6 for job_id, moment in queued.items()]


# ---- deaths ----------------------------------------------------------------------------------------------


def after_deaths(url: str, each: int, hangs: int) -> Iterator[Figure]:
    """From a job's death to the start of the job behind it, for each way to die; RQ's own worker dies once, by exit."""
    play = fresh(url)
    with running(play, url, "fork"):
        forked = statistics.median(gaps(play, DEATHS["exit"], each))
    play = fresh(url)
    with running(play, url, "warm"):
        for name, act in DEATHS.items():
            gap = statistics.median(gaps(play, act, each))
            yield Figure("worker", f"next start after {name}, ms", gap, {NAMES["fork"]: gap / forked})
    play = fresh(url, timeout_s=1)
    with running(play, url, "warm"):
        gap = statistics.median(after_hang(play) for _ in range(hangs))
        yield Figure("worker", "next start after a hang in C, ms", gap, {NAMES["fork"]: gap / forked})


def gaps(play: Play, act: str, count: int) -> list[float]:
    """Milliseconds from the start of a job that ends its process at once to the start of the job behind it."""
    found = []
    for _ in range(count):
        death, behind = play.put(act), play.put("at", "QUIET")
        started = play.end_of(behind).return_value()
        play.end_of(death)  # its repetition comes after
        found.append((started - play.starts(death)[0][1]) / 1e6)
    return found


def after_hang(play: Play) -> float:
    """Milliseconds from the moment its process is seen dead, killed by the worker for its time-out."""
    hung = play.put("hang")
    horse = play.began(hung)
    behind = play.put("at", "QUIET")
    while is_alive(horse):
        time.sleep(0.0002)
    died = time.time_ns()
    started: int = play.end_of(behind).return_value()
    play.end_of(hung)
    return (started - died) / 1e6


def fresh(url: str, timeout_s: int = 20) -> Play:
    """Jobs on an empty server."""
    play = Play(url, retry_max=1, timeout_s=timeout_s)
    play.client.flushall()
    return play


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


if __name__ == "__main__":
    alone(__doc__, rounds)

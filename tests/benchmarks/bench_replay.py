"""How fast a recording is replayed, ordered and unordered, through the real fleet.

The recording is that of FLEET_BENCH_RECORDING (with FLEET_BENCH_BARS and FLEET_BENCH_VIX); without one, 10,000 posts
are made. The reference is how fast one process analyzes posts of it. `python -m tests.benchmarks.bench_replay [--rounds
N] [--quick]` prints a markdown table.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from config.settings import load_settings
from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, Recording, alone
from tests.benchmarks.processes import ROOT, environ
from tests.e2e.recording import write_recording
from workers.ahead import FEW, Ahead
from workers.replay_run import read_lines
from workers.wiring import Runtime

MADE: Final = 10_000
QUICK: Final = 500


def rounds(plan: Plan) -> Iterator[Figure]:
    """One process that only analyzes, then both ways."""
    with tempfile.TemporaryDirectory() as folder:
        recording = plan.recording or a_recording(Path(folder), QUICK if plan.quick else MADE)
        if plan.quick:
            recording = Recording(first_lines(recording.posts, Path(folder)), recording.bars, recording.vix)
        rate, cpu = analyzing(recording)
        yield Figure("replay", "one process that only analyzes, posts/s", rate, cpu_us=(cpu, 0.0))
        for name, word in (("ordered", "--ordered"), ("unordered", "--no-ordered")):
            summary, spent = replayed(recording, Path(folder) / name, word)
            speed, count = summary["messages_per_second"], summary["messages_read"]
            ratios = {"analyzing": speed / rate}
            yield Figure("replay", f"replay, {name}, messages/s", speed, ratios, (spent / count * 1e6, 0.0))


def a_recording(folder: Path, posts: int) -> Recording:
    """Made posts on made daily bars."""
    made = write_recording(folder / "made", posts)
    return Recording(made.posts, made.bars, None)


def first_lines(posts: Path, folder: Path) -> Path:
    """A short one."""
    short = folder / "short.jsonl"
    short.write_bytes(b"\n".join(islice(read_lines(posts), QUICK)))
    return short


def analyzing(recording: Recording) -> tuple[float, float]:
    """Posts a second that this process parses, analyzes and writes, and microseconds of processor time a post."""
    fleet = Runtime(load_settings("replay", environ={"FLEET_MARKET__BARS_DIR": str(recording.bars)}))
    lines = list(islice(read_lines(recording.posts), FEW - 1))
    with Ahead(fleet.settings, fleet.analyzer).bodies(lines[:100]) as answers:
        list(answers)
    began, spent = perf_counter(), process_time()
    with Ahead(fleet.settings, fleet.analyzer).bodies(lines) as answers:
        list(answers)
    return len(lines) / (perf_counter() - began), (process_time() - spent) / len(lines) * 1e6


def replayed(recording: Recording, data_dir: Path, word: str) -> tuple[dict[str, Any], float]:
    """The summary, and the processor time of all processes (s), their start included."""
    import resource  # noqa: PLC0415 # not on every system

    options = ["--bars", str(recording.bars), "--gate-queue", "--json", word]
    options += ["--vix", str(recording.vix)] if recording.vix is not None else []
    command = [sys.executable, "-m", "workers.cli", "replay", str(recording.posts), *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=ROOT, env=environ(FLEET_DATA_DIR=str(data_dir)), capture_output=True, check=False, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"the replay ended with {done.returncode}: {done.stderr[-500:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return dict(json.loads(done.stdout)), spent


if __name__ == "__main__":
    alone(__doc__, rounds)

"""The short form: every call of every process is a place to die at, and nothing is lost, doubled or left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(1_200)
def test_no_promise_breaks_wherever_a_process_is_killed(tmp_path: Path) -> None:
    """A death right before and one right after each call of collector, router, scheduler, watcher, worker and horse."""
    words = [
        "--short",
        "--seed",
        "20141122",
        "--no-matrix",
        "--keep",
        str(tmp_path),
        "--json",
        str(tmp_path / "r.json"),
    ]
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["untested"], report["broken"]) == ([], [])
    assert {point["role"] for point in report["points"]} == {"collect", "route", "schedule", "worker", "horse", "watch"}
    assert report["legs"]["executed"] > 0

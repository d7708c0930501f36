"""The short form of the drills: one fleet, one thing of each family done to it, every promise kept."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_a_fleet_recovers_from_one_thing_of_each_family_without_hands(tmp_path: Path) -> None:
    """Rule: lost jobs, a lost worker of housekeeping, a killed server, a post that kills: nothing lost, all at work."""
    words = ["--only", "sample", "--short", "--seed", "20141122", "--keep", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert ", 0 promises broken." in run.stdout

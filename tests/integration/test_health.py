"""Container health: a file that is as old as the process's last turn."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from workers import health
from workers.adapters.keys import Keys
from workers.adapters.pulse import Pulse, is_fresh
from workers.process import Heartbeat

ROOT = Path(__file__).parents[2]


def test_a_process_is_healthy_while_its_pulse_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 s is too old; a near-miss: another role's pulse says nothing about this one."""
    monkeypatch.setenv("FLEET_DATA_DIR", str(tmp_path))
    assert health.main("route") == 1
    Pulse(tmp_path, "route")()

    assert health.main("route") == 0
    assert health.main("collect") == 1
    old = time.time() - 30  # noqa: TID251
    os.utime(tmp_path / "pulse" / "route", (old, old))
    assert not is_fresh(tmp_path, "route")
    os.utime(tmp_path / "pulse" / "route", (old + 10, old + 10))
    assert is_fresh(tmp_path, "route")


def test_a_turn_counts_once_its_heartbeat_is_in_redis(tmp_path: Path, redis_client: redis.Redis) -> None:
    """A process that cannot reach Redis does not trade: it is not healthy."""
    gone = redis.Redis(port=1)
    with pytest.raises(redis.ConnectionError):
        Heartbeat(gone, Keys(), "route-h-1", "route", pulse=Pulse(tmp_path, "route"))(0)
    assert not is_fresh(tmp_path, "route")
    Heartbeat(redis_client, Keys(), "route-h-1", "route", pulse=Pulse(tmp_path, "route"))(0)

    assert is_fresh(tmp_path, "route")


def test_a_folder_that_cannot_be_written_is_said_and_harms_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process trades on; its healthcheck fails."""
    (tmp_path / "pulse").write_text("a file, not a folder")
    pulse = Pulse(tmp_path, "route")
    pulse()
    pulse()

    assert capsys.readouterr().err.count("no pulse") == 1


def test_the_healthcheck_imports_nothing_heavy() -> None:
    """It runs in every container every few seconds."""
    heavy = "{'redis', 'rq', 'numpy', 'pydantic', 'structlog'}"
    code = f"import sys, workers.health; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

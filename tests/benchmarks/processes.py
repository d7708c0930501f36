"""A whole fleet as processes, as people run it: started, seen to be ready, its processor time, ended."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from workers.adapters.embedded import find

ROOT: Final = Path(__file__).parents[2]
READY_WITHIN_S: Final = 120.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
ROLES: Final = ("collect", "route", "schedule")


def environ(**variables: str) -> dict[str, str]:
    """This process's variables without the fleet's, and these."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "RQ_"))}
    return mine | variables


@contextmanager
def running(*words: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`fleet WORDS`, ended with the block."""
    command = [sys.executable, "-m", "workers.cli", *words]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environ(**variables), stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def await_ready(process: "subprocess.Popen[bytes]", data_dir: Path, prefix: str, workers: int) -> redis.Redis:
    """A client of the run's own server once every process of it has given a sign of life.

    Raises RuntimeError after 2 min, and when the fleet has ended.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        url = find(data_dir)
        if url is not None and _is_ready(url, prefix, workers):
            return redis.Redis.from_url(url, decode_responses=True)
        time.sleep(0.01)
    raise RuntimeError(f"the fleet in {data_dir} was not ready within {READY_WITHIN_S:g} s, or ended")


def _is_ready(url: str, prefix: str, workers: int) -> bool:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        try:
            beating: Mapping[str, float] = dict(client.zrange(f"{prefix}:heartbeats", 0, -1, withscores=True))
            registered = client.scard("rq:workers" if prefix == "fleet" else f"{prefix}:rq:workers")
        except redis.RedisError:
            return False
    return registered == workers and all(any(name.startswith(role) for name in beating) for role in ROLES)


def processor_seconds(pid: int) -> float:
    """User and system time that the process and all its living descendants have used."""
    rows = {one: row for one in _pids() if (row := _stat(one)) is not None}
    family, before = {pid}, 0
    while len(family) > before:
        before = len(family)
        family |= {one for one, row in rows.items() if int(row[1]) in family}
    return sum(int(rows[one][11]) + int(rows[one][12]) for one in family if one in rows) / TICKS


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None

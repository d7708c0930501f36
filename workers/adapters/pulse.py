"""A process's sign of life for its own machine: the age of a file. It needs no account and costs next to nothing."""

import os
import sys
import time
from pathlib import Path
from typing import Final

FOLDER: Final = "pulse"
FRESH_S: Final = 30.0
BEAT_EVERY_S: Final = 1.0


class Pulse:
    """Touches `data_dir`/pulse/ROLE, at most once a second. Processes of one role on one machine share it.

    A folder that cannot be written to is said once, on standard error: the process is worth more than its pulse.
    """

    def __init__(self, data_dir: Path, role: str) -> None:
        self._file = data_dir / FOLDER / role
        self._next = float("-inf")

    def __call__(self) -> None:
        """The process has just done a turn."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + BEAT_EVERY_S
        try:
            self._touch()
        except OSError as error:
            self._next = float("inf")
            sys.stderr.write(f"fleet: no pulse: {self._file}: {error.strerror}; healthchecks will fail\n")

    def _touch(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        os.utime(self._file)


def is_fresh(data_dir: Path, role: str) -> bool:
    """Whether a process of the role did a turn in the last 30 s."""
    try:
        touched = (data_dir / FOLDER / role).stat().st_mtime
    except FileNotFoundError:
        return False
    return abs(time.time() - touched) < FRESH_S  # noqa: TID251  # the adapter

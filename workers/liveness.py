"""Whether a process's loop turns: the sign of life that a thread of the same process cannot give for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pulse:
    """`age_s`: seconds since the loop last turned; `failing`: what its turns end with, "" while they succeed."""

    age_s: float
    alive: bool
    failing: str


class Liveness:
    """Marked by the loop at each turn, failed ones too: who waits for Redis lives. Asked by anybody."""

    def __init__(self, stuck_s: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stuck_s = stuck_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last = monotonic()
        self._failing = ""

    def mark(self, failing: str = "") -> None:
        """The loop turns. `failing`: the name of the error that its turn ended with."""
        with self._lock:
            self._last, self._failing = self._monotonic(), failing

    def pulse(self) -> Pulse:
        """How it is."""
        with self._lock:
            age, failing = self._monotonic() - self._last, self._failing
        return Pulse(round(age, 3), age < self._stuck_s, failing)

"""What a job must leave as it found it: facts of a process that the next job would inherit, compared cheaply.

Kept clean otherwise: context variables (each job runs in a copy of the first context) and the random generators, which
get a new seed after each job.
"""

import _signal  # type: ignore[import-not-found]  # signal.getsignal makes an enum of each answer: sixty times the price
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LIMITS: Final = tuple(
    getattr(resource, name)
    for name in (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_STACK",
    )
)
SIGNALS: Final = tuple(sorted(int(number) for number in signal.valid_signals()))
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
NO_TIMER: Final = (0.0, 0.0)
SEED_BYTES: Final = 16
LOOKS_AGAIN: Final = 4
LOOK_AGAIN_S: Final = 0.005
ON_LINUX: Final = sys.platform == "linux"
OPEN_FILES: Final = Path("/proc/self/fd" if ON_LINUX else "/dev/fd")
TASKS: Final = Path("/proc/self/task")


class Residue:
    """The state of this process as it is now; `found` says later what is no longer so."""

    def __init__(self) -> None:
        self._facts = {name: look() for name, look in LOOKS.items()}

    def found(self) -> list[str]:
        """Names of the facts that changed. A thread that is just ending gets a moment to be gone."""
        changed = self._changed()
        for _ in range(LOOKS_AGAIN):
            if changed != ["threads"]:
                break
            time.sleep(LOOK_AGAIN_S)
            changed = self._changed()
        return changed

    def _changed(self) -> list[str]:
        return [name for name, look in LOOKS.items() if look() != self._facts[name]]


def reseed() -> None:
    """New randomness for Python's generator, and for numpy's when a job has loaded it."""
    seed = int.from_bytes(os.urandom(SEED_BYTES))
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed & 0xFFFF_FFFF)


def _descriptors() -> tuple[int, int]:
    """How many are open, and the lowest that is free: a new one takes the lowest place there is."""
    free = os.dup(0)
    os.close(free)
    return OPEN_FILES.stat().st_size or len(os.listdir(OPEN_FILES)), free  # noqa: PTH208 - the size, from Linux 6.2


def _threads() -> int:
    """Threads of this process; on Linux also those that Python does not know."""
    return TASKS.stat().st_nlink if ON_LINUX else threading.active_count()


def _children() -> bool:
    """Whether the process has children."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _environment() -> dict[Any, Any]:
    return dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001 - decoding it costs ten times as much


LOOKS: Final[dict[str, Callable[[], object]]] = {
    "environment": _environment,
    "working directory": os.getcwd,
    "umask": _umask,
    "signal handlers": lambda: [_signal.getsignal(number) for number in SIGNALS],
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    "timers": lambda: all(signal.getitimer(timer) == NO_TIMER for timer in TIMERS),
    "limits": lambda: [resource.getrlimit(limit) for limit in LIMITS],
    "threads": _threads,
    "descriptors": _descriptors,
    "children": _children,
    "import path": lambda: tuple(sys.path),
}

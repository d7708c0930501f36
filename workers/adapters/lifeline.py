"""Children that die with their parent, also when it is killed -9.

On Linux the kernel does it (PR_SET_PDEATHSIG); elsewhere a small watchdog process holds the read end of a
pipe and ends the child when the parent's end closes.

The kernel watches the *thread* that started the child: start children from a thread that lives as long as
the process, which is the main one.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1
ON_LINUX: Final = sys.platform == "linux"
WATCHDOG: Final = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.read(0, 1) == b"":
    try:
        os.kill(int(sys.argv[1]), signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """What to call first in a child (`preexec_fn`); `number` is what the kernel sends it at our end.

    None where the kernel has no such service and a `Watchdog` is needed.
    """
    if not ON_LINUX:
        return None
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def before_exec() -> None:
        """Ask for the signal at the parent's death, and leave if it came before we asked."""
        if libc.prctl(PR_SET_PDEATHSIG, number) != 0 or os.getppid() != parent:
            os._exit(1)

    return before_exec


class Watchdog:
    """A process that ends `pid` (SIGTERM) once this process is gone, however it went."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHDOG, str(pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def dismiss(self) -> None:
        """The child has ended in good order: nothing is left to watch."""
        self._process.communicate(b".")


def watchdog_for(pid: int) -> Watchdog | None:
    """A watchdog where the kernel does not do its work."""
    return None if ON_LINUX else Watchdog(pid)

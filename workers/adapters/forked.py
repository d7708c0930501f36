"""Children forked from a process that has loaded the code: each begins in milliseconds and shares what was loaded.

A fork also copies descriptors, signal handlers and the state of random numbers. The child gives all of that back before
it runs, so it stands as a program of its own does: its own session, environment, output and randomness.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from typing import Final

from workers.adapters.lifeline import ON_LINUX, die_with_parent
from workers.adapters.residue import reseed

FIRST_FREE: Final = 3  # descriptors below are standard input, output and error
ENDINGS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


class Forked:
    """A child as its supervisor sees it, in the words of `subprocess.Popen`."""

    def __init__(self, process: ForkProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, the negative signal that killed it, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it; nothing to one that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def may_fork() -> bool:
    """Whether a copy of this process is whole: threads would be missing in it, and macOS forbids its libraries."""
    return ON_LINUX and threading.active_count() == 1


def fork(main: Callable[[], object], env: Mapping[str, str], output: int | None) -> Forked:
    """A child that runs `main`, with this environment, without input, and with `output` as both of its outputs.

    SystemExit is its exit code. It dies with this process, as `die_with_parent` says.
    """
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that it shares
    tie = die_with_parent()
    process = get_context("fork").Process(target=_live, args=(main, dict(env), output, tie))
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # the child must not hear with our handlers
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    return Forked(process)


def _live(
    main: Callable[[], object], env: dict[str, str], output: int | None, tie: Callable[[], None] | None
) -> object:
    """The child's life; it never returns to what its parent was doing."""
    if tie is not None:
        tie()
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    _own_streams(output)
    os.environ.clear()
    os.environ.update(env)
    reseed()
    return main()


def _own_streams(output: int | None) -> None:
    """No input, our output, and nothing else of the parent's open."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
    os.closerange(FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # line by line

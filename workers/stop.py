"""The wish to end, raised by a signal and waited for without a race."""

import os
import select
import signal
import time
from types import FrameType
from typing import Self


class Stop:
    """A flag that a signal handler may set at any instruction.

    threading.Event takes a lock in `set`; a handler that runs while the main thread holds that lock would wait
    for ever. A byte in a pipe needs no lock. A signal that arrives just before the wait begins does not interrupt it,
    and Python runs the handler only after it: so the interpreter's own handler writes a byte too
    (`signal.set_wakeup_fd`). The names are threading.Event's, so that tenacity can use it.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._set = False

    def set(self) -> None:
        """Wish the end. Idempotent, safe in a signal handler."""
        if not self._set:
            self._set = True
            os.write(self._writer, b".")

    def is_set(self) -> bool:
        """Whether the end is wished."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds (>= 0) for the wish; whether it came."""
        deadline = time.monotonic() + timeout
        while not self._set and (left := deadline - time.monotonic()) > 0:
            if select.select([self._reader], [], [], left)[0] and not self._set:
                os.read(self._reader, 1)  # some signal woke us: its handler runs now, the wish writes a byte of its own
        return self._set

    def listen(self) -> Self:
        """Set the flag on SIGTERM and SIGINT from now on. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """The handler."""
        self.set()

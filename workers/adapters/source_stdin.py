"""Posts from standard input, one JSON line each. What was read and not handed over is lost with the process."""

import os
import select
import sys
from collections import deque
from typing import Final

from workers.adapters.lines import CHUNK_BYTES, Mark, RawPost, Splitter

PATIENCE_S: Final = 0.5
IDENTITY: Final = "stdin"


class StdinSource:
    """Lines of a pipe or terminal. A pipe cannot be read again, so a mark is taken note of and not used."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._splitter = Splitter()
        self._ready: deque[RawPost] = deque()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the writer has closed its end and everything was read."""
        return self._ended and not self._ready

    def connect(self, mark: Mark | None = None) -> None:
        """Nothing to open; the offset counts from this process's first byte."""

    def close(self) -> None:
        """Nothing to let go of: the descriptor is the shell's."""

    def read(self, limit: int) -> list[RawPost]:
        """Up to `limit` complete lines, waiting at most 0.5 s for the first."""
        patience = PATIENCE_S
        while len(self._ready) < limit and not self._ended and self._readable(patience):
            self._fill()
            patience = 0.0
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _readable(self, patience: float) -> bool:
        """Whether bytes or the end are there."""
        return bool(select.select([self._descriptor], [], [], patience)[0])

    def _fill(self) -> None:
        """Read one chunk."""
        chunk = os.read(self._descriptor, CHUNK_BYTES)
        lines = self._splitter.feed(chunk) if chunk else self._splitter.flush()
        self._ready.extend(RawPost(line, Mark(IDENTITY, offset)) for line, offset in lines)
        self._ended = not chunk

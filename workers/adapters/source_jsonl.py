"""A file of JSON lines, plain or gzip: read once to its end, or followed across rotation and truncation."""

import gzip
import hashlib
import os
import time
import zlib
from collections import deque
from io import FileIO
from pathlib import Path
from typing import Final

from pipeline.errors import SettingsError, TransientError
from workers.adapters.lines import CHUNK_BYTES, Mark, RawPost, SourceError, Splitter

HEAD_BYTES: Final = 1024
FIRST_PAUSE_S: Final = 0.001  # a feed of 200 posts a second waits a millisecond, a lone post 50
LONGEST_PAUSE_S: Final = 0.05

Content = FileIO | gzip.GzipFile


class JsonlSource:
    """Lines of one file, oldest first. `tail`: wait for more at its end, a half-written last line included.

    A rotated file (renamed or deleted, a new one under the old name) is read to its end before the new one is begun.
    A file that became shorter than what was read, or whose beginning changed, is begun anew.
    """

    def __init__(self, path: Path, *, tail: bool, patience_s: float = 0.0) -> None:
        """`patience_s`: how long `read` waits for the first line of a file that is followed."""
        self._path = path
        self._patience_s = patience_s
        self._tail = tail
        self._packed = path.suffix == ".gz"
        if tail and self._packed:
            raise SettingsError(f"source.tail = true cannot follow the packed file {path}; valid: false")
        self._file: Content | None = None
        self._splitter = Splitter()
        self._head = b""
        self._ready: deque[RawPost] = deque()
        self._ended = False
        self._pause = FIRST_PAUSE_S  # grows from look to look, until a line comes

    @property
    def ended(self) -> bool:
        """Whether the file was read to its end and is not followed."""
        return self._ended and not self._ready

    def connect(self, mark: Mark | None = None) -> None:
        """Open the file after `mark`, or at its beginning when the mark is of other content.

        Raises SettingsError when it can never be read; TransientError when it is to be followed and not there yet.
        """
        self.close()
        self._file = self._open()
        self._ended = False
        self._begin(mark.offset if mark is not None and self._is_of(mark) else 0)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._ready.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, limit: int) -> list[RawPost]:
        """Up to `limit` lines that are complete now. Raises SourceError for a damaged gzip file."""
        deadline = time.monotonic() + self._patience_s
        while not self._gather(limit) and self._tail and (left := deadline - time.monotonic()) > 0:
            while not self._has_grown() and (left := deadline - time.monotonic()) > 0:
                time.sleep(min(self._pause, left))
                self._pause = min(self._pause * 1.2, LONGEST_PAUSE_S)
        if self._ready:
            self._pause = FIRST_PAUSE_S
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _gather(self, limit: int) -> bool:
        """Read what is there; whether a line is."""
        while len(self._ready) < limit and not self._ended and self._fill():
            pass
        return bool(self._ready)

    def _fill(self) -> bool:
        """Read one chunk; whether there may be more at once."""
        if self._tail and self._was_rewritten():
            self._begin(0)
        chunk = self._chunk()
        if chunk:
            self._keep(chunk)
            return True
        if self._tail:
            return self._was_rotated() and self._move_on()
        self._deliver(self._splitter.flush())
        self._ended = True
        return False

    def _has_grown(self) -> bool:
        """Whether there is more to read; one system call. A rotation is seen by the next turn."""
        return os.fstat(self._opened().fileno()).st_size > self._splitter.position

    def _was_rewritten(self) -> bool:
        """Whether the file is shorter than what was read, or (grown past it again) begins otherwise."""
        descriptor = self._opened().fileno()
        shorter = os.fstat(descriptor).st_size < self._splitter.position
        return shorter or os.pread(descriptor, len(self._head), 0) != self._head

    def _was_rotated(self) -> bool:
        """Whether another file has our name; not while there is none."""
        try:
            there, here = self._path.stat(), os.fstat(self._opened().fileno())
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _move_on(self) -> bool:
        """Finish the old file, which may have grown until it was renamed, and open the new one under its name."""
        if last := self._chunk():
            self._keep(last)
            return True
        successor = self._open()
        self._deliver(self._splitter.flush())
        self._opened().close()
        self._file = successor
        self._begin(0)
        return True

    def _keep(self, chunk: bytes) -> None:
        """Split the chunk and remember the file's first bytes."""
        if len(self._head) < HEAD_BYTES and self._splitter.position == len(self._head):
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        self._deliver(self._splitter.feed(chunk))

    def _deliver(self, lines: list[tuple[bytes, int]]) -> None:
        """Make posts of lines."""
        identity = _identity(self._head)
        self._ready.extend(RawPost(line, Mark(identity, offset)) for line, offset in lines)

    def _begin(self, offset: int) -> None:
        """Go to `offset` of the decompressed bytes."""
        file = self._opened()
        file.seek(0)
        self._head = file.read(min(HEAD_BYTES, offset))
        file.seek(offset)
        self._splitter = Splitter(offset)

    def _is_of(self, mark: Mark) -> bool:
        """Whether the mark was made on this content, which still reaches so far."""
        file = self._opened()
        length = mark.identity.partition(":")[0]
        try:
            same = length.isdigit() and _identity(file.read(int(length))) == mark.identity
            file.seek(max(0, mark.offset - 1))
            return same and (mark.offset == 0 or bool(file.read(1)))
        except (EOFError, OSError, zlib.error) as damaged:
            raise SourceError(f"{self._path}: damaged gzip file ({damaged})") from damaged

    def _chunk(self) -> bytes:
        """The next bytes, decompressed; empty at the end."""
        try:
            return self._opened().read(CHUNK_BYTES)
        except (EOFError, OSError, zlib.error) as damaged:
            at = self._splitter.position
            raise SourceError(f"{self._path}: cannot be read after byte {at} ({damaged})") from damaged

    def _opened(self) -> Content:
        """The open file."""
        if self._file is None:
            raise SourceError(f"{self._path}: read before connect()")
        return self._file

    def _open(self) -> Content:
        """The file. Raises as `connect` says."""
        try:
            return gzip.open(self._path) if self._packed else self._path.open("rb", buffering=0)
        except FileNotFoundError as missing:
            if self._tail:
                raise TransientError(f"source.path = {self._path} is not there yet") from missing
            raise SettingsError(f"source.path = {self._path}; valid: a file that exists") from missing
        except OSError as closed:
            raise SettingsError(f"source.path = {self._path} cannot be read: {closed.strerror}") from closed


def _identity(head: bytes) -> str:
    """What tells this content from another: length and hash of its first bytes."""
    return f"{len(head)}:{hashlib.sha256(head).hexdigest()[:24]}"

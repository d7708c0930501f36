"""Sources of raw lines: what they promise, and the splitter that never holds more than one capped line."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from pipeline.errors import FleetError
from workers.adapters.posts import MAX_LINE_BYTES

KEPT_BYTES: Final = MAX_LINE_BYTES + 1  # one byte over the cap, so that the parser refuses the line by its length
CHUNK_BYTES: Final = 262_144


class SourceError(FleetError):
    """A source cannot be read on; the message names it and what is wrong."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A source's high-water mark: everything before `offset` (bytes, decompressed) was handed over.

    `identity` says of which content: `{n}:{hash}` of its first n bytes, so another file under the same name, or
    the same inode used again, is not mistaken for it.
    """

    identity: str
    offset: int


@dataclass(frozen=True, slots=True)
class RawPost:
    """One line without its end, at most one byte longer than the cap, and where the next one begins.

    The collector persists `mark` once the post is handed over.
    """

    line: bytes
    mark: Mark


class Source(Protocol):
    """Where raw posts come from, oldest first."""

    @property
    def ended(self) -> bool:
        """Whether nothing will ever come again."""
        ...

    def connect(self, mark: Mark | None = None) -> None:
        """Open it, after the mark. Raises SettingsError for what can never work, TransientError for a wait."""
        ...

    def read(self, limit: int) -> list[RawPost]:
        """Up to `limit` lines that are there now; empty when there are none."""
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


@dataclass(slots=True)
class Splitter:
    """Turns chunks of bytes into lines with the offset after each.

    Of a line longer than the cap only its beginning is kept; the rest is counted and forgotten, so memory stays
    bounded by the cap and one chunk. Lines of white space are no posts and are passed over.
    """

    offset: int = 0
    _pending: bytearray = field(default_factory=bytearray)
    _pending_length: int = 0

    def feed(self, chunk: bytes) -> list[tuple[bytes, int]]:
        """The lines this chunk completes, each with the offset of the byte after its newline."""
        *ends, rest = chunk.split(b"\n")
        lines = [self._complete(end, newline=1) for end in ends]
        self._hold(rest)
        return [(line, at) for line, at in lines if not line.isspace() and line]

    def flush(self) -> list[tuple[bytes, int]]:
        """The last line, when the source ends without a newline."""
        if not self._pending_length:
            return []
        line, at = self._complete(b"", newline=0)
        return [(line, at)] if line and not line.isspace() else []

    @property
    def position(self) -> int:
        """The offset of everything fed so far, the incomplete line included."""
        return self.offset + self._pending_length

    def _hold(self, part: bytes) -> None:
        """Remember the beginning of an incomplete line."""
        self._pending_length += len(part)
        self._pending += part[: max(0, KEPT_BYTES - len(self._pending))]

    def _complete(self, end: bytes, newline: int) -> tuple[bytes, int]:
        """The pending line with its end, and the offset after it."""
        self._hold(end)
        line, self.offset = bytes(self._pending), self.offset + self._pending_length + newline
        self._pending, self._pending_length = bytearray(), 0
        return line.removesuffix(b"\r"), self.offset

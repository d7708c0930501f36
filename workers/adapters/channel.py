"""Whole messages between two processes of one machine: a kind and some byte strings, over a stream socket.

Nothing here is unpickled: what a work-horse says may have been shaped by the text of strangers.
"""

import socket
import struct
from typing import Final

HEAD: Final = struct.Struct("!BH")
LENGTH: Final = struct.Struct("!I")
CHUNK: Final = 65_536

Message = tuple[int, list[bytes]]


def packed(kind: int, *parts: bytes) -> bytes:
    """One message: kind (0..255), up to 65,535 parts of less than 4 GiB."""
    lengths = struct.pack(f"!{len(parts)}I", *map(len, parts))
    return b"".join((HEAD.pack(kind, len(parts)), lengths, *parts))


class Channel:
    """One end. It belongs to one process; the other end hangs up when its process is gone, however it went."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()

    def fileno(self) -> int:
        """For waiting until something was said."""
        return self._socket.fileno()

    def say(self, kind: int, *parts: bytes) -> None:
        """Say it all. Raises OSError when the other end has gone."""
        self._socket.sendall(packed(kind, *parts))

    def listen(self) -> Message | None:
        """The next message, waiting for it; None once the other end has gone."""
        while True:
            message = self.heard()
            if message is not None:
                return message
            if not self.take_in():
                return None

    def take_in(self) -> bool:
        """Read what is there, waiting until there is something; False once the other end has gone."""
        try:
            read = self._socket.recv(CHUNK)
        except ConnectionResetError:  # it went with words of ours unread
            read = b""
        self._buffer += read
        return bool(read)

    def heard(self) -> Message | None:
        """The next message that was read whole already; None when there is none."""
        if len(self._buffer) < HEAD.size:
            return None
        kind, count = HEAD.unpack_from(self._buffer)
        place = HEAD.size + count * LENGTH.size
        if len(self._buffer) < place:
            return None
        lengths = struct.unpack_from(f"!{count}I", self._buffer, HEAD.size)
        if len(self._buffer) < place + sum(lengths):
            return None
        parts = []
        for length in lengths:
            parts.append(bytes(self._buffer[place : place + length]))
            place += length
        del self._buffer[:place]
        return kind, parts

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

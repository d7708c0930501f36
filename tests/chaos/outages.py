"""Redis away in every way it can be: killed, paused, full, read only, busy, loading, with lost connections.

Every process must live through it (nobody is restarted), nothing that was acknowledged may be lost, and the fleet works
again at most 15 s after the server does, without hands.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import redis

from tests.chaos.drill import Drill
from tests.chaos.servers import EXTRA, empty_the_disk, fill_the_disk, hardy

PROMISED_S: Final = 15.0
DROP_EVERY_S: Final = 0.1
#: How Redis may be away, and who brings that about.
KINDS: Final = {
    "killed, restarted with its file": "_killed",
    "loading": "_loading",
    "paused": "_paused",
    "out of memory": "_full",
    "read only": "_read_only",
    "busy with a script": "_busy",
    "connections dropped": "_dropped",
    "disk full under the append-only file": "_disk",
}


class Outages(Drill):
    """Each outage for 30 s, and shorter ones between them, shared by fleets that wait side by side."""

    seconds = 30.0
    short_s = 3.0
    rounds = 5
    short_rounds = 15
    side_by_side = 6

    def _act(self) -> None:
        lengths = [self.seconds] * self.rounds + [self.short_s] * self.short_rounds
        kinds = self._kinds()
        acts = self._mine([(name, seconds) for name in kinds for seconds in lengths])
        for number, (name, seconds) in enumerate(acts):
            self._say(f"       {number + 1} of {len(acts)}: {name} for {seconds:g} s")
            self._through_one(name, kinds[name], seconds)

    def _kinds(self) -> dict[str, Callable[[float], None]]:
        return {name: getattr(self, act) for name, act in KINDS.items()}

    def _through_one(self, name: str, outage: Callable[[float], None], seconds: float) -> None:
        """One outage in the middle of work; afterwards the same processes work again."""
        self._for(1.0, self._trickle)
        lives = self._crew.lives
        outage(seconds)
        self._recovers(f"{name}, {seconds:g} s", PROMISED_S, each=True)
        if self._crew.lives != lives:
            self.faults.append(f"{name}: {self._crew.lives - lives} processes were restarted")

    # ---- the ways ------------------------------------------------------------------------------------------

    def _killed(self, seconds: float) -> None:
        os.kill(self._server.pid or 0, signal.SIGKILL)
        self._for(seconds)
        self._server.revive()

    def _loading(self, seconds: float) -> None:
        """Killed, and slow to come back: it answers LOADING for so long."""
        client = self._admin()
        client.config_set("aof-use-rdb-preamble", "yes")
        client.bgrewriteaof()
        self._live_through(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "rewriting")
        pause = int(seconds * 1e6 / max(1, client.dbsize()))
        EXTRA[:] = ["--key-load-delay", str(pause), "--loading-process-events-interval-bytes", "1024"]
        os.kill(self._server.pid or 0, signal.SIGKILL)
        self._live_through(self._server.revive, "loading")  # in this thread: the server would end with another one
        EXTRA.clear()

    def _paused(self, seconds: float) -> None:
        self._admin().execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        self._for(seconds)

    def _full(self, seconds: float) -> None:
        with self._config("maxmemory", "1", "0"):
            self._for(seconds)

    def _read_only(self, seconds: float) -> None:
        """A replica of nobody: it answers, and takes no write."""
        client = self._admin()
        client.execute_command("REPLICAOF", "127.0.0.1", _nobody())
        self._for(seconds)
        client.execute_command("REPLICAOF", "NO", "ONE")

    def _busy(self, seconds: float) -> None:
        """Somebody's script runs for so long; everybody else is told BUSY."""
        client = self._admin()
        with self._config("busy-reply-threshold", "50", "5000"):
            endless = threading.Thread(target=_endless, args=(self._server.url,))
            endless.start()
            self._for(seconds)
            self._live_through(lambda: bool(client.script_kill()), "killing the script")
            endless.join()

    def _dropped(self, seconds: float) -> None:
        """Every connection is closed ten times a second, in the middle of whatever it does."""
        client = self._admin()

        def drop() -> None:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(DROP_EVERY_S)

        self._for(seconds, drop)

    def _disk(self, seconds: float) -> None:
        fill_the_disk(self._server)
        self._for(seconds, self._scribble)
        empty_the_disk(self._server)

    # ---- inside --------------------------------------------------------------------------------------------

    def _scribble(self) -> None:
        """Writes that make the server notice."""
        with suppress(redis.RedisError):
            self._admin().set("fleet:source:scribble", "x" * 1000)

    @contextmanager
    def _config(self, name: str, value: str, after: str) -> Iterator[None]:
        client = self._admin()
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, after)

    def _admin(self) -> Any:
        """A connection that waits for nothing."""
        return redis.Redis.from_url(self._server.url, decode_responses=True, socket_timeout=60)

    def run(self) -> Any:
        """In a server that bears it."""
        with hardy():
            return super().run()


class ShortOutages(Outages):
    """The three kinds that differ most, for a second each."""

    seconds = 1.0
    rounds = 1
    short_rounds = 0

    def _kinds(self) -> dict[str, Callable[[float], None]]:
        kinds = super()._kinds()
        return {name: kinds[name] for name in ("killed, restarted with its file", "read only", "connections dropped")}


def _endless(url: str) -> None:
    with suppress(redis.RedisError), redis.Redis.from_url(url, socket_timeout=600) as client:
        client.eval("while true do end", 0)


def _nobody() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

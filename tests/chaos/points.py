"""Crash points: every call to Redis or to the venue, found by tracing, each with a moment before and one after it.

A point is (role, phase, call, caller): `horse-immediate after EVALSHA @ workers/adapters/intents_redis.py:mark_sent`.
The table is shared by all processes of a run: it counts how often each point was reached, and hands out each death
once, so what has not been killed yet is killed at the next chance.
"""

import fcntl
import hashlib
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import redis
from redis.client import Pipeline, PubSub
from redis.commands.core import Script
from redis.connection import AbstractConnection

from workers.adapters.http_bounded import BoundedHttp

SLOTS: Final = 16_384
SLOT: Final = struct.Struct("<QII")  # whose (0: nobody's), reached, killed
COUNTS: Final = struct.Struct("<II")
OWNER_BYTES: Final = SLOT.size - COUNTS.size
CLOCK: Final = struct.Struct("<d")
ROLES: Final = 64
MODE: Final = struct.Struct("<dd")  # seconds between deaths of a role, chance of a death at a point killed before
BEFORE, AFTER = "before", "after"
PARTS_SHOWN: Final = 4
QUIET: Final = -1.0
LIFE: Final = 150  # points a process passes before it may die at a known one: on a busy machine too it does some work
RARE: Final = 300.0  # a point reached less often than that is the likelier to see another death
NO_CALL: Final = "an empty pipeline"


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One moment of one call of one kind of process."""

    role: str
    caller: str
    call: str
    phase: str

    def __str__(self) -> str:
        """As the log and the matrix show it."""
        return f"{self.role} {self.phase} {self.call} @ {self.caller}"


@dataclass(frozen=True, slots=True)
class Count:
    """How often a point was reached, and how often a process died there."""

    reached: int
    killed: int


class Points:
    """The table of a run in `folder`; every process that is forked after its making shares it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._log = os.open(folder / "points.log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = os.open(folder / "points.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._map = mmap.mmap(-1, SLOTS * SLOT.size + ROLES * CLOCK.size + MODE.size)
        self._path = folder / "points.log"
        self._seed = seed
        self._slots: dict[Point, int] = {}  # those that this process has looked up
        self._dice = random.Random(seed)
        self._pid = os.getpid()
        self._passed = 0
        self.place = ""  # the name of the child this process is, or belongs to
        self.peace()

    # ---- what the harness says ---------------------------------------------------------------------------

    def peace(self) -> None:
        """Nobody dies from now on."""
        self._set_mode(QUIET, 0.0)

    def calm(self) -> None:
        """From now on only who reaches a point that nobody died at."""
        self._set_mode(0.0, 0.0)

    def arm(self, every_s: float, again: float) -> None:
        """The same, and others by chance: `again`, more where few come by; `every_s` seconds apart for each child."""
        self._set_mode(every_s, again)

    def counts(self) -> dict[Point, Count]:
        """Every point that was reached."""
        lines = self._path.read_text().splitlines()
        points = {Point(*line.split("\t")) for line in lines}
        return {point: Count(*self._read(self._slot(point))) for point in sorted(points)}

    def untested(self) -> list[Point]:
        """Points that were reached and at which nobody died."""
        return [point for point, count in self.counts().items() if count.killed == 0]

    # ---- what a process does -----------------------------------------------------------------------------

    def reach(self, point: Point) -> None:
        """This process is at the point; it may not return."""
        slot = self._slot(point)
        reached, killed = self._read(slot)
        self._write(slot, reached + 1, killed)
        self._passed = self._passed + 1 if self._pid == os.getpid() else self._reborn()
        every_s, again = MODE.unpack_from(self._map, SLOTS * SLOT.size + ROLES * CLOCK.size)
        if every_s == QUIET or (killed and not self._by_chance(again, reached)):
            return
        if self._is_due(point, slot, every_s):
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_due(self, point: Point, slot: int, every_s: float) -> bool:
        """Whether this process is the one to die here; the table remembers it before it happens."""
        clock = SLOTS * SLOT.size + zlib.crc32(f"{point.role} {self.place}".encode()) % ROLES * CLOCK.size
        with self._locked():
            reached, killed = self._read(slot)
            (last,) = CLOCK.unpack_from(self._map, clock)
            due = killed == 0 or time.monotonic() - last >= every_s
            if due:
                self._write(slot, reached, killed + 1)
                CLOCK.pack_into(self._map, clock, time.monotonic())
            return due

    def _slot(self, point: Point) -> int:
        """The point's place in the table, its own from the first time on that anybody reaches it."""
        slot = self._slots.get(point)
        if slot is None:
            with self._locked():
                slot = self._slots[point] = self._find(point)
        return slot

    def _find(self, point: Point) -> int:
        """The first place from its hash on that is the point's, or nobody's: then it is the point's and in the log."""
        line = _line(point).encode()
        mine = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest()) | 1
        for step in range(SLOTS):
            slot = (mine + step) % SLOTS
            (owner, *_) = SLOT.unpack_from(self._map, slot * SLOT.size)
            if owner == mine:
                return slot
            if owner == 0:
                SLOT.pack_into(self._map, slot * SLOT.size, mine, 0, 0)
                os.write(self._log, line + b"\n")
                return slot
        raise ValueError(f"{SLOTS} points are known; valid: at most as many, raise SLOTS")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the table; a process that dies here lets go of it."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _by_chance(self, again: float, reached: int) -> bool:
        """Whether the dice want a death at a known point of a process that has lived for a while."""
        return self._passed >= LIFE and self._dice.random() < again * max(1.0, RARE / (reached + 1))

    def _reborn(self) -> int:
        """A process that was forked has dice of its own, and its life begins."""
        self._pid = os.getpid()
        self._dice = random.Random(self._seed * 1_000_003 + self._pid)
        return 1

    def _read(self, slot: int) -> tuple[int, int]:
        _, reached, killed = SLOT.unpack_from(self._map, slot * SLOT.size)
        return reached, killed

    def _write(self, slot: int, reached: int, killed: int) -> None:
        COUNTS.pack_into(self._map, slot * SLOT.size + OWNER_BYTES, reached, killed)

    def _set_mode(self, every_s: float, again: float) -> None:
        MODE.pack_into(self._map, SLOTS * SLOT.size + ROLES * CLOCK.size, every_s, again)


def _line(point: Point) -> str:
    return f"{point.role}\t{point.caller}\t{point.call}\t{point.phase}"


# ---- tracing: every way a process of ours speaks to Redis or to the venue ----------------------------------


def trace(points: Points, role: str, horse: str | None = None) -> None:
    """From now on every call of this process is a point; `horse`: the role of processes it forks.

    What reaches a socket of Redis outside any known call is a point too, so no call can go untraced. A script is one
    call, whether the server knows it already or has to be told it first.
    """
    mine, inside = os.getpid(), threading.local()

    @contextmanager
    def at(call: str) -> Iterator[None]:
        if call == NO_CALL or getattr(inside, "call", None):
            yield
            return
        who = role if os.getpid() == mine or horse is None else horse
        caller = _caller(sys._getframe(3))
        points.reach(Point(who, caller, call, BEFORE))
        inside.call = call
        try:
            yield
        finally:
            inside.call = None
            points.reach(Point(who, caller, call, AFTER))

    _wrap(Script, "__call__", at, _script)
    _wrap(redis.Redis, "execute_command", at, lambda _self, *args: _word(args))
    _wrap(Pipeline, "immediate_execute_command", at, lambda _self, *args: _word(args))
    _wrap(Pipeline, "execute", at, lambda self, *_: _pipeline(self))
    _wrap(PubSub, "execute_command", at, lambda _self, *args: _word(args))
    _wrap(AbstractConnection, "send_packed_command", at, lambda *_: "bytes of no known call")
    _wrap(BoundedHttp, "_once", at, lambda _self, method, path: f"{method} /{path.strip('/').split('/')[0]}")


def _wrap(owner: type, name: str, at: Callable[[str], Any], title: Callable[..., str]) -> None:
    real = getattr(owner, name)

    def traced(self: Any, *args: Any, **options: Any) -> Any:
        with at(title(self, *args, **({"client": options["client"]} if "client" in options else {}))):
            return real(self, *args, **options)

    setattr(owner, name, traced)


def _script(script: Any, *_: Any, client: Any = None, **_options: Any) -> str:
    """A script's call, unless it is only queued in a pipeline."""
    return NO_CALL if isinstance(client or script.registered_client, Pipeline) else "EVALSHA"


def _word(args: tuple[Any, ...]) -> str:
    """The command's name."""
    word = args[0]
    return str(word.decode() if isinstance(word, bytes) else word).upper()


def _pipeline(pipeline: Any) -> str:
    """The commands of a pipeline, each named once."""
    names = list(dict.fromkeys(_word(command[0]) for command in pipeline.command_stack))
    shown = "+".join(names[:PARTS_SHOWN]) + ("+..." if len(names) > PARTS_SHOWN else "")
    return f"[{shown}]" if names else NO_CALL


def _caller(frame: FrameType | None) -> str:
    """The innermost line of ours or of RQ's that asked: file and function."""
    while frame is not None:
        path = frame.f_code.co_filename
        for root in ("/workers/", "/rq/"):
            if root in path and "/redis/" not in path:
                return f"{root[1:]}{path.rsplit(root, 1)[1]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"

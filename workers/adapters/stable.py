"""The stable: one single-threaded process without sockets to Redis that forks work-horses, preloaded, in a millisecond.

The worker itself has threads and connections, and a fork copies neither well, so it forks only the stable, before it
has either, and asks it for horses. The stable runs no job, so it always answers. It ends, and its horses with it, when
the worker is gone: the kernel sees to it on Linux, elsewhere the stable itself, when its line to the worker closes.
"""

import gc
import os
import select
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Final, NoReturn

import structlog

from pipeline.errors import FleetError
from workers.adapters.channel import Channel, Message
from workers.adapters.horse import ANSWERS, MEASURED, READY, SPENT, Plan, live
from workers.adapters.lifeline import die_with_parent
from workers.measures import count

ORDER: Final = struct.Struct("!cI")  # fork or kill, number of the horse
REPORT: Final = struct.Struct("!cIi")  # born or dead, number of the horse, process id or status
FORK, KILL, BORN, DEAD = b"F", b"K", b"B", b"D"
HORSES: Final = 2  # one that works and a spare
PATIENCE_S: Final = 0.05  # for the horse that knows the caches, before the spare takes over
BIRTH_S: Final = 30.0
STILLBIRTHS: Final = 5
DEATH_S: Final = 5.0
NO_FORK: Final = 256  # the status of exit code 1

log = structlog.get_logger()


class StableError(FleetError):
    """No work-horse can be had; the worker ends, and its supervisor starts another."""


class Horse:
    """A horse as its worker sees it. `status` is what waitpid said at its end, None while it lives."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.pid = 0
        self.ready = False
        self.proved = False
        self.answer: Message | None = None
        self.status: int | None = None
        self.spent = ""
        self.silent = False
        self._channel = channel

    def fileno(self) -> int:
        """For waiting until it says something."""
        return self._channel.fileno()

    def tell(self, kind: int, *parts: bytes) -> None:
        """Give it a job. A horse that is gone does not hear it; its death is reported by the stable."""
        self.ready = False
        with suppress(OSError):
            self._channel.say(kind, *parts)

    def hear(self) -> None:
        """Take in what it says."""
        self.silent = not self._channel.take_in()
        while (message := self._channel.heard()) is not None:
            if message[0] == READY:
                self.ready = self.proved = True
            elif message[0] == SPENT:
                self.spent = message[1][0].decode()
            elif message[0] == MEASURED:
                count(message[1][0])
            elif message[0] in ANSWERS:
                self.answer = message

    def await_end(self, seconds: float) -> None:
        """Until it has hung up: what is dead runs no job beside its repetition."""
        deadline = time.monotonic() + seconds
        while not self.silent and select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self.hear()

    def bury(self, status: int) -> None:
        """It is dead; its last words count."""
        while not self.silent and select.select([self], [], [], 0)[0]:
            self.hear()
        self.status = status
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self.ready = False
        self.silent = True
        self._channel.close()


class Stable:
    """The worker's line to its stable. Not for use from several threads, `kill` apart."""

    def __init__(self, plan: Plan) -> None:
        """Fork the stable. Raises FleetError in a process that has threads: they would be missing in the copy."""
        if threading.active_count() != 1:
            raise FleetError(f"threads = {threading.active_count()} when work-horses are prepared; valid: 1")
        self._line, far_end = socket.socketpair()
        tie = die_with_parent(signal.SIGKILL)
        gc.collect()
        gc.freeze()  # what is loaded now stays: a collection would copy every page the horses share
        self.pid = os.fork()
        if self.pid == 0:
            self._line.close()
            if tie:
                tie()
            _Groom(far_end, plan).keep()
        far_end.close()
        self._herd: list[Horse] = []
        self._aside: list[Horse] = []
        self._number = 0
        self._stillborn = 0
        self._gone = False
        self._fill()

    def ready_horse(self) -> Horse:
        """A horse that waits for a job: the one with the warm caches, else the spare. Raises StableError."""
        self._listen(0)
        deadline = time.monotonic() + PATIENCE_S
        while self._herd and not self._herd[0].ready and self._listen(deadline - time.monotonic()):
            pass
        deadline = time.monotonic() + BIRTH_S
        while True:
            for horse in self._herd:
                if horse.ready:
                    horse.answer = None
                    return horse
            if not self._listen(deadline - time.monotonic()):
                raise StableError(f"no work-horse was ready within {BIRTH_S:g} s")

    def tend(self) -> None:
        """Replace what is gone. For a worker that has nothing else to do. Raises StableError."""
        self._listen(0)

    def await_answer(self, horse: Horse, seconds: float) -> bool:
        """Wait so long for its answer or its end; whether one has come."""
        deadline = time.monotonic() + seconds
        while horse.answer is None and horse.status is None:
            if not self._listen(deadline - time.monotonic()):
                return False
        return True

    def set_aside(self, horse: Horse) -> None:
        """It goes on with its job for as long as that takes; another takes its place in the herd."""
        self._herd.remove(horse)
        self._aside.append(horse)
        self._fill()

    def dismiss(self, horse: Horse) -> None:
        """End one that was set aside, for good."""
        if horse in self._aside:
            self._aside.remove(horse)
            self.kill(horse)
            horse.close()

    def kill(self, horse: Horse) -> None:
        """End it and whatever processes it started, at once. Harmless when it is dead."""
        with suppress(OSError):
            self._line.sendall(ORDER.pack(KILL, horse.number))

    def close(self) -> None:
        """End all horses and the stable; they are gone afterwards."""
        self._line.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _listen(self, seconds: float) -> bool:
        """Hear what is said within so many seconds; whether anything was."""
        if self._gone:
            raise StableError("the process that keeps the work-horses is gone")
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        for horse in self._all:
            if not horse.silent:
                poll.register(horse, select.POLLIN)
        heard = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        for horse in self._all:
            if not horse.silent and horse.fileno() in heard:
                horse.hear()
        if self._line.fileno() in heard:
            self._hear_the_groom()
        self._dismiss_spent()
        self._fill()
        return bool(heard)

    def _hear_the_groom(self) -> None:
        raw = self._line.recv(REPORT.size, socket.MSG_WAITALL)
        if len(raw) < REPORT.size:
            self._all_are_lost()
            return
        word, number, value = REPORT.unpack(raw)
        horse = next((one for one in self._all if one.number == number), None)
        if horse is None:
            return
        if word == BORN:
            horse.pid = value
        else:
            self._drop(horse, value)

    def _drop(self, horse: Horse, status: int) -> None:
        horse.bury(status)
        (self._herd if horse in self._herd else self._aside).remove(horse)
        self._stillborn = 0 if horse.proved else self._stillborn + 1
        log.warning("horse.died", pid=horse.pid, status=status)

    def _dismiss_spent(self) -> None:
        """Replace horses that say they should go."""
        for horse in [one for one in self._herd if one.spent]:
            log.warning("horse.dismissed", pid=horse.pid, reason=horse.spent)
            self._herd.remove(horse)
            self.kill(horse)
            horse.close()

    def _all_are_lost(self) -> None:
        """Without the stable nobody would report a death or end a horse that hangs."""
        self._gone = True
        for horse in self._all:
            if horse.pid:  # 0 would be this worker's own group
                _end(horse.pid)
            horse.await_end(DEATH_S)
            horse.bury(signal.SIGKILL)
        self._herd, self._aside = [], []

    @property
    def _all(self) -> list[Horse]:
        return [*self._herd, *self._aside]

    def _fill(self) -> None:
        """Order horses until there is one and a spare. Raises StableError when none survives its birth."""
        if self._stillborn >= STILLBIRTHS:
            raise StableError(f"{STILLBIRTHS} work-horses in a row died before their first job")
        while len(self._herd) < HORSES and not self._gone:
            near, far = socket.socketpair()
            self._number += 1
            socket.send_fds(self._line, [ORDER.pack(FORK, self._number)], [far.fileno()])
            far.close()
            self._herd.append(Horse(self._number, Channel(near)))


class _Groom:
    """The stable's own process: forks, kills and buries, until the line to the worker closes."""

    def __init__(self, line: socket.socket, plan: Plan) -> None:
        self._line = line
        self._plan = plan
        self._numbers: dict[int, int] = {}
        self._bell, bell = os.pipe()
        os.set_blocking(bell, False)
        os.set_blocking(self._bell, False)
        self._ringer = bell
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        self._tie = die_with_parent(signal.SIGKILL)

    def keep(self) -> NoReturn:
        """Obey until the worker is gone, then end with every horse."""
        with suppress(OSError):
            while self._obey():
                self._bury()
        for pid in list(self._numbers):
            _end(pid)
        for pid in list(self._numbers):
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        os._exit(0)

    def _obey(self) -> bool:
        """Wait for an order or a death; False once the worker is gone."""
        heard, _, _ = select.select([self._line.fileno(), self._bell], [], [])
        if self._bell in heard:
            with suppress(BlockingIOError):
                os.read(self._bell, 4096)
        if self._line.fileno() in heard:
            raw, ends, _, _ = socket.recv_fds(self._line, ORDER.size, 1)
            if len(raw) < ORDER.size:
                return False
            word, number = ORDER.unpack(raw)
            if word == FORK:
                self._fork(number, socket.socket(fileno=ends[0]))
            else:
                for pid in [pid for pid, one in self._numbers.items() if one == number]:
                    _end(pid)
        return True

    def _fork(self, number: int, end: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError:
            log.exception("horse.not_forked")
            self._report(DEAD, number, NO_FORK)
            return
        if pid == 0:
            self._line.close()
            os.close(self._bell)
            os.close(self._ringer)
            if self._tie:
                self._tie()
            live(end, self._plan)
        end.close()
        with suppress(OSError):
            os.setpgid(pid, pid)  # the horse does the same: whoever is first
        self._numbers[pid] = number
        self._report(BORN, number, pid)

    def _bury(self) -> None:
        """Report the dead, and end what they leave behind."""
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _end(pid)
            self._report(DEAD, self._numbers.pop(pid), status)

    def _report(self, word: bytes, number: int, value: int) -> None:
        self._line.sendall(REPORT.pack(word, number, value))


def _end(pid: int) -> None:
    """Kill the horse's process group: itself, and what its jobs started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)

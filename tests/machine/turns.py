"""One process's turn, step by step: every call of a port is a place where it may stop, go wrong or die."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Semaphore, Thread
from typing import Any

from pipeline.errors import TransientError

DEADLINE_S = 60
SPLIT = frozenset({"record", "accept", "append"})


class Killed(BaseException):
    """The process is gone; nothing of ours may catch it."""


class Fate(StrEnum):
    """What happens to a turn at its chosen step."""

    PAUSE = "pause"
    KILL = "kill"
    LOSE = "lose"  # the server is away for one call, or its answer is lost


@dataclass(slots=True)
class Stop:
    """Where a turn ends before its end: after `steps` more steps."""

    steps: int
    fate: Fate


class Actor:
    """One process: counts its steps and meets its fate at the chosen one. Without a `stop` it runs on."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.turn: Turn | None = None
        self.steps = 0

    def step(self) -> None:
        """Called before and after every call of a port."""
        self.steps += 1
        if self.stop is None:
            return
        if self.stop.steps > 0:
            self.stop.steps -= 1
            return
        fate, self.stop = self.stop.fate, None
        if fate is Fate.KILL:
            raise Killed
        if fate is Fate.LOSE:
            raise TransientError("the server is away")
        if self.turn is not None:
            self.turn.wait()


class Watched:
    """A port whose every call is a step before and a step after; a pipeline of scripts is a step for each of them."""

    def __init__(self, port: Any, actor: Actor) -> None:
        self._port, self._actor = port, actor

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found
        return self._each(found) if name in SPLIT else self._whole(found)

    def _whole(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **facts: Any) -> Any:
            self._actor.step()
            answer = method(*args, **facts)
            self._actor.step()
            return answer

        return call

    def _each(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(rows: Any) -> list[Any]:
            answers: list[Any] = []
            for row in rows:
                self._actor.step()
                answers += method([row]) or []
            self._actor.step()
            return answers

        return call


class Turn:
    """Work that may stand still half way: then it has a thread that runs only while somebody waits for it.

    `over` when it ended or died; what it raised is raised by whoever let it go on.
    """

    def __init__(self, actor: Actor, work: Callable[[], object]) -> None:
        self._actor, self._work = actor, work
        self._go, self._arrived = Semaphore(0), Semaphore(0)
        self._error: BaseException | None = None
        self.over = False

    def begin(self, stop: Stop | None) -> None:
        """Run to the end or to the stop."""
        self._actor.stop = stop
        if stop is None or stop.fate is not Fate.PAUSE:
            self.over = True
            self._work()
            return
        self._actor.turn = self
        Thread(target=self._run, daemon=True).start()
        self._let()

    def go_on(self, stop: Stop | None = None) -> None:
        """Run on, to the end or to the next stop."""
        self._actor.stop = stop
        self._go.release()
        self._let()

    def wait(self) -> None:
        """Called by the work itself: stand still until somebody lets it go on."""
        self._arrived.release()
        assert self._go.acquire(timeout=DEADLINE_S)
        self._actor.step()

    def _let(self) -> None:
        assert self._arrived.acquire(timeout=DEADLINE_S)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed over to whoever waits
            self._error = error
        self.over, self._actor.turn, self._actor.stop = True, None, None
        self._arrived.release()

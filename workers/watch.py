"""The watcher's turn: how the fleet stands, what is wrong, and who is to be told."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from workers.adapters.alarms import RAISED, RECOVERED, REMINDED, Notice, RedisAlarms
from workers.adapters.keys import HEARTBEAT_TTL_S
from workers.adapters.standing_redis import StandingReader
from workers.alarm_codes import SETTLING, WATCHED
from workers.process import is_transient
from workers.standing import Standing
from workers.tell import Teller
from workers.watch_rules import Bounds, judge

SAMPLE_EVERY: Final = timedelta(seconds=10)
SETTLE_S: Final = HEARTBEAT_TTL_S  # in a start nobody is there yet
REDIS_DOWN: Final = "redis_down"


@dataclass(slots=True)
class Window:
    """How much counters grew within a span of time.

    `before_us`: what they grew by within the span before the first look: it counts as if it happened then.
    """

    span: timedelta
    _samples: deque[tuple[datetime, dict[str, int]]] = field(default_factory=deque)

    def begin(self, at: datetime, counters: dict[str, int], before_us: dict[str, int]) -> None:
        """The first look."""
        self._samples.append((at, {name: n - before_us.get(name, 0) for name, n in counters.items()}))

    def growth(self, at: datetime, counters: dict[str, int]) -> dict[str, int]:
        """Since the sample that is just older than the span, else since the first; what did not grow is left out."""
        if at - self._samples[-1][0] >= SAMPLE_EVERY:
            self._samples.append((at, counters))
        while len(self._samples) > 1 and at - self._samples[1][0] >= self.span:
            self._samples.popleft()
        before = self._samples[0][1]
        return {name: n - before.get(name, 0) for name, n in counters.items() if n > before.get(name, 0)}


@dataclass(slots=True)
class Watcher:
    """Looks, judges, tells. Any number may run: what they decide is decided once, in Redis.

    `facts` adds what Redis's keys alone do not say. When Redis does not answer for long, the watcher tells that by
    itself: then there is no place in which watchers could agree.
    """

    reader: StandingReader
    facts: Callable[[Standing], Standing]
    alarms: RedisAlarms
    teller: Teller
    bounds: Bounds
    now: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic
    latest: Standing | None = None
    _born: float = field(init=False)
    _window: Window | None = None
    _silent_since: float | None = None
    _silence_told: str = ""
    _silence_told_at: float = 0.0

    def __post_init__(self) -> None:
        """What every start looks like is no alarm."""
        self._born = self.monotonic()

    def step(self) -> int:
        """One turn; how many notices were told. Raises what makes the process pause or end."""
        try:
            told = self._turn()
        except Exception as error:
            if is_transient(error):
                self._note_silence(type(error).__name__)
            raise
        self._end_silence()
        return told

    def _turn(self) -> int:
        now = self.now()
        standing = self.facts(self._with_dead(self.reader.read(now)))
        silent = SETTLING if self.monotonic() - self._born < SETTLE_S else frozenset()
        found = [alarm for alarm in judge(standing, self.bounds) if alarm.code not in silent]
        looked_at = [code for code in WATCHED if code not in silent]
        hold, remind = (
            timedelta(seconds=span or 0) for span in (self.bounds.watch.recover_s, self.bounds.watch.remind_s)
        )
        self.alarms.decide(found, looked_at, now, hold, remind)
        self.latest = standing
        return self.teller.turn(now)

    def _with_dead(self, standing: Standing) -> Standing:
        """With the dead letters of the window; in this life's first turn also those of before, which nobody saw."""
        counters = {name: n for name, n in standing.tally.items() if name.startswith(("dead:", "refused:"))}
        if self._window is None:
            self.alarms.open_group()
            window = Window(timedelta(seconds=self.bounds.watch.window_s))
            window.begin(standing.at, counters, self.reader.dead_since(standing.at - window.span))
            self._window = window
        grown = self._window.growth(standing.at, counters)
        return replace(standing, given_up=_of("dead:", grown), refused=_of("refused:", grown))

    # ---- Redis is away -----------------------------------------------------------------------------------

    def _note_silence(self, error: str) -> None:
        """Tell it, once it lasts."""
        now = self.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        silent = now - self._silent_since
        if silent < self.bounds.watch.redis_s:
            return
        remind_s = self.bounds.watch.remind_s
        if self._silence_told and (remind_s is None or now - self._silence_told_at < remind_s):
            return
        event = REMINDED if self._silence_told else RAISED
        name = f"0-{round(self._silent_since)}"
        if self.teller.tell([Notice(name, event, REDIS_DOWN, "", f"{error} for {silent:.0f} s", "")]):
            self._silence_told, self._silence_told_at = name, now

    def _end_silence(self) -> None:
        """Tell that it is over, if it was told that it began."""
        if self._silence_told and not self.teller.tell([_recovered(self._silence_told)]):
            return
        self._silent_since, self._silence_told = None, ""


def _of(prefix: str, counters: dict[str, int]) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counters.items() if name.startswith(prefix)}


def _recovered(name: str) -> Notice:
    return Notice(name, RECOVERED, REDIS_DOWN, "", "it answers again", "")

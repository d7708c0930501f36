"""Telling what is to be told: from the outbox of alarms to the messenger, at least once, never in a decision's way."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from config.watch import WatchSettings
from workers.adapters.alarms import RECOVERED, Notice, RedisAlarms
from workers.adapters.notify import Messenger, NotToldError

AT_ONCE: Final = 20  # notices in one message
LEASE_CALLS: Final = 2  # nobody else tells them while a call may still last

log = structlog.get_logger()


class Teller:
    """One `turn` tells what waits. After a failed call it pauses, longer each time, and what waits is kept.

    An entry is forgotten after the messenger said yes, so a death in between tells it twice; it has the same id then.
    """

    def __init__(
        self,
        alarms: RedisAlarms,
        messenger: Messenger,
        settings: WatchSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alarms = alarms
        self._messenger = messenger
        self._settings = settings
        self._monotonic = monotonic
        self._failures = 0
        self._not_before = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether no pause after a failure is under way."""
        return self._monotonic() >= self._not_before

    @property
    def failures(self) -> int:
        """Calls that failed in a row."""
        return self._failures

    def turn(self, now: datetime) -> int:
        """Tell what waits, unless it is too soon after a failure; how many notices were told."""
        if not self.ready:
            return 0
        waiting = self._alarms.untold(AT_ONCE, round(LEASE_CALLS * self._settings.call_s * 1000))
        fresh = [notice for notice in waiting if notice.code and not self._too_old(notice, now)]
        if fresh and not self.tell(fresh):
            return 0
        for notice in waiting:
            if notice not in fresh:
                log.error("alarm.dropped", id=notice.id, code=notice.code, subject=notice.subject)
        self._alarms.told(waiting)
        return len(fresh)

    def tell(self, notices: list[Notice]) -> bool:
        """One message; False when nobody took it, and for a while after that."""
        if not self.ready:
            return False
        try:
            self._messenger.tell(notices)
        except NotToldError as error:
            self._failures += 1
            pause = min(self._settings.retry_cap_s, self._settings.retry_s * 2.0 ** (self._failures - 1))
            self._not_before = self._monotonic() + pause
            log.critical("alarm.undelivered", reason=str(error), notices=len(notices), pause_s=pause)
            return False
        self._failures = 0
        for notice in notices:
            say = log.info if notice.event == RECOVERED else log.error
            say("alarm.delivered", about=notice.event, id=notice.id, code=notice.code, subject=notice.subject)
        return True

    def _too_old(self, notice: Notice, now: datetime) -> bool:
        sent_ms = int(notice.id.split("-", maxsplit=1)[0])
        return now.timestamp() - sent_ms / 1000 > self._settings.give_up_s

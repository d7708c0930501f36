"""Alarms: what a person must know now. Each is told when raised, now and then while open, and when recovered."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import RLock
from typing import Any, Final, Protocol

import redis
import structlog
from redis.exceptions import ResponseError

from workers.adapters.keys import HISTORY_MAXLEN, Keys, to_ms
from workers.adapters.redis_edge import asking_redis
from workers.adapters.wire import load

log = structlog.get_logger()

GROUP: Final = "tellers"
_NEVER: Final = timedelta(0)
RAISED: Final = "raised"
REMINDED: Final = "reminded"
RECOVERED: Final = "recovered"

# What is true now, and which codes were looked at: raise what is new, renew what stays, close what is gone, and remind
# of what stays open, whoever raised it. Every change is one entry of the stream, in the same step, so none is lost and
# none is there twice.
# KEYS: 1 open alarms, 2 alarms
# ARGV: 1 at (ISO), 2 at (ms), 3 ms that a cause must be gone, 4 bound of the stream, 5 ms from telling to reminding
#       (0 = never), 6 number of true alarms n, then n times name, code, subject, detail; number of codes m, m codes
#       looked at; names that stay, whatever else.
# Returns a list of {change, code, subject, detail}. Cost: O(open + n).
DECIDE = """
local changes, stays, place = {}, {}, 6
local function tell(change, alarm)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'event', change, 'code', alarm.code,
    'subject', alarm.subject, 'detail', alarm.detail, 'at', ARGV[1], 'since', alarm.at)
  changes[#changes + 1] = {change, alarm.code, alarm.subject, alarm.detail}
end
for _ = 1, ARGV[6] do
  local name, alarm = ARGV[place + 1], {v = 1, code = ARGV[place + 2], subject = ARGV[place + 3]}
  alarm.detail, alarm.at, alarm.seen_ms, alarm.told_ms = ARGV[place + 4], ARGV[1], ARGV[2], ARGV[2]
  local known = redis.call('HGET', KEYS[1], name)
  if known then
    known = cjson.decode(known)
    alarm.at, alarm.told_ms = known.at, known.told_ms or ARGV[2]
  else
    tell('raised', alarm)
  end
  redis.call('HSET', KEYS[1], name, cjson.encode(alarm))
  stays[name] = true
  place = place + 4
end
local looked, codes = {}, tonumber(ARGV[place + 1])
if codes == 0 then return changes end
for i = 1, codes do looked[ARGV[place + 1 + i]] = true end
for i = place + 2 + codes, #ARGV do stays[ARGV[i]] = true end
local hold, remind, open = tonumber(ARGV[3]), tonumber(ARGV[5]), redis.call('HGETALL', KEYS[1])
local function gone(alarm) return hold == 0 or ARGV[2] - (alarm.seen_ms or 0) >= hold end
for i = 1, #open, 2 do
  local alarm = cjson.decode(open[i + 1])
  if looked[alarm.code] and not stays[open[i]] and gone(alarm) then
    redis.call('HDEL', KEYS[1], open[i])
    tell('recovered', alarm)
  elseif remind > 0 and ARGV[2] - (alarm.told_ms or alarm.seen_ms or 0) >= remind then
    alarm.told_ms = ARGV[2]
    redis.call('HSET', KEYS[1], open[i], cjson.encode(alarm))
    tell('reminded', alarm)
  end
end
return changes
"""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`code` is one of CODES; `subject` what it is about (a symbol, an order), '' for the whole; `at`: first seen."""

    code: str
    subject: str
    detail: str
    at: datetime

    @property
    def name(self) -> str:
        """Code and subject: one alarm of a name is open at a time."""
        return _name(self.code, self.subject)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told: an alarm that was raised, is still open, or has recovered; `since` when it is true.

    `id` is the same whenever it is told.
    """

    id: str
    event: str
    code: str
    subject: str
    detail: str
    at: str
    since: str = ""


class Alarms(Protocol):
    """Where alarms go."""

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        ...

    def quiet(self, code: str, at: datetime, still: Collection[str] = ()) -> None:
        """Close the open alarms of this code whose subject is not in `still`. Idempotent."""
        ...

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        ...


class MemoryAlarms:
    """Alarms of one process. `told`: every alarm when it was first raised; `recovered`: when it closed."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._open: dict[str, Alarm] = {}
        self.told: list[Alarm] = []
        self.recovered: list[Alarm] = []

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        with self._lock:
            known = self._open.get(alarm.name)
            if known is None:
                self.told.append(alarm)
            self._open[alarm.name] = Alarm(alarm.code, alarm.subject, alarm.detail, known.at if known else alarm.at)

    def quiet(self, code: str, at: datetime, still: Collection[str] = ()) -> None:  # noqa: ARG002 - the port's
        """Close the open alarms of this code whose subject is not in `still`."""
        with self._lock:
            for alarm in self.open():
                if alarm.code == code and alarm.subject not in still:
                    self.recovered.append(self._open.pop(alarm.name))

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        with self._lock:
            return tuple(alarm for _, alarm in sorted(self._open.items()))


class RedisAlarms:
    """Alarms of the whole fleet, and the outbox of what is to be told of them: the stream, read by one group."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._decide = client.register_script(DECIDE)

    def sound(self, alarm: Alarm) -> None:
        """Raise it; while it is open a repetition only renews its words."""
        self._run([alarm], (), (), alarm.at)

    def quiet(self, code: str, at: datetime, still: Collection[str] = ()) -> None:
        """Close the open alarms of this code whose subject is not in `still`."""
        self._run([], [code], [_name(code, subject) for subject in still], at)

    def decide(
        self,
        found: Sequence[Alarm],
        looked_at: Collection[str],
        at: datetime,
        hold: timedelta,
        remind: timedelta = _NEVER,
    ) -> None:
        """Raise what is found; close the alarms of the codes looked at whose cause is gone for `hold`.

        What stays open is told again `remind` after it was told last, whoever raised it; zero = never. One step for the
        whole fleet: whoever else looks, each change is told once.
        """
        self._run(found, looked_at, (), at, hold, remind)

    def open(self) -> tuple[Alarm, ...]:
        """Alarms that are true now, by name."""
        with asking_redis():
            rows = self._redis.hgetall(self._keys.open_alarms())
        return tuple(load(Alarm, text) for _, text in sorted(rows.items()))

    def history(self, limit: int) -> list[dict[str, str]]:
        """The last changes, newest first: alarms that were raised, and that have recovered."""
        with asking_redis():
            rows = self._redis.xrevrange(self._keys.alarms(), count=limit)
        return [{"event": RAISED, **fields} for _, fields in rows]

    # ---- telling -----------------------------------------------------------------------------------------

    def open_group(self) -> None:
        """Create the group of tellers at the stream's beginning, unless it is there. Idempotent."""
        with asking_redis():
            try:
                self._redis.xgroup_create(self._keys.alarms(), GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def untold(self, limit: int, idle_ms: int) -> list[Notice]:
        """What is to be told, oldest first; each is this caller's alone for `idle_ms`, then anybody's again."""
        try:
            entries = self._take(limit, idle_ms)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self.open_group()  # the server came back with less than it had
            entries = self._take(limit, idle_ms)
        return [_notice(entry_id, fields or {}) for entry_id, fields in entries if entry_id is not None]

    def told(self, notices: Sequence[Notice]) -> None:
        """These need not be told again. Idempotent."""
        if notices:
            with asking_redis():
                self._redis.xack(self._keys.alarms(), GROUP, *[notice.id for notice in notices])

    # ---- inside ------------------------------------------------------------------------------------------

    def _take(self, limit: int, idle_ms: int) -> list[tuple[str | None, dict[str, str] | None]]:
        with asking_redis():
            again = self._redis.xautoclaim(self._keys.alarms(), GROUP, GROUP, idle_ms, "0-0", count=limit)[1]
            fresh = self._redis.xreadgroup(GROUP, GROUP, {self._keys.alarms(): ">"}, count=limit)
        return [*again, *_entries(fresh)]

    def _run(
        self,
        found: Sequence[Alarm],
        looked_at: Collection[str],
        names: Sequence[str],
        at: datetime,
        hold: timedelta = timedelta(0),
        remind: timedelta = _NEVER,
    ) -> None:
        words = [word for alarm in found for word in (alarm.name, alarm.code, alarm.subject, alarm.detail)]
        hold_ms, remind_ms = (round(span.total_seconds() * 1000) for span in (hold, remind))
        head: list[Any] = [at.isoformat(), to_ms(at), hold_ms, HISTORY_MAXLEN, remind_ms]
        args = [*head, len(found), *words, len(looked_at), *looked_at, *names]
        with asking_redis():
            changes = self._decide(keys=[self._keys.open_alarms(), self._keys.alarms()], args=args)
        for change, code, subject, detail in changes:
            say = log.info if change == RECOVERED else log.error
            say(f"alarm.{change}", code=code, subject=subject, detail=detail)


def _name(code: str, subject: str) -> str:
    return f"{code}:{subject}" if subject else code


def _entries(reply: Any) -> list[tuple[str, dict[str, str]]]:
    """Entries of a group's reading: RESP2 and RESP3 nest them differently."""
    streams = reply.values() if isinstance(reply, dict) else (entries for _, entries in reply or ())
    found: list[tuple[str, dict[str, str]]] = []
    for entries in streams:
        for entry in entries:
            nested = isinstance(entry, list) and entry and not isinstance(entry[0], str)
            found.extend((i, f) for i, f in (entry if nested else [entry]))
    return found


def _notice(entry_id: str, fields: Mapping[str, str]) -> Notice:
    """One entry; those of a release before this one said only what was raised, and one that is trimmed is empty."""
    words = {name: fields.get(name, "") for name in ("code", "subject", "detail", "at", "since")}
    return Notice(entry_id, fields.get("event", RAISED), **words)

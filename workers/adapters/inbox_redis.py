"""The stream of analyzed messages: the collector appends, routers read as one consumer group."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from pipeline.models import AnalyzedMessage, OrchestratorState
from workers.adapters.keys import DEAD_MAXLEN, MESSAGE_TTL_S, Keys
from workers.adapters.take_script import TAKE, Delivery, Taken, standing_of, text_of

GROUP = "routers"
RAW_LIMIT = 4_096
MOST_A_SCRIPT = 500

# Accept messages in their order, each once by its id.
# KEYS: 1 stream, 2 tally, then the bodies' keys. ARGV: 1 TTL of a body (s), then of each message its id and body.
# Returns for each 1 when accepted, 0 when its id was accepted before (nothing changes). Cost: O(messages).
ACCEPT = """
local answers, accepted = {}, 0
redis.call('HGET', KEYS[2], 'accepted')
for i = 3, #KEYS do
  local id, body = ARGV[2 * i - 4], ARGV[2 * i - 3]
  if redis.call('EXISTS', KEYS[i]) == 1 then
    answers[#answers + 1] = 0
  else
    redis.call('XADD', KEYS[1], '*', 'id', id)
    redis.call('SET', KEYS[i], body, 'EX', ARGV[1])
    answers[#answers + 1] = 1
    accepted = accepted + 1
  end
end
if accepted > 0 then redis.call('HINCRBY', KEYS[2], 'accepted', accepted) end
return answers
"""


class RedisInbox:
    """Appends and reads `fleet:analyzed`; an entry lives until it is acknowledged, then it is deleted."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._accept = client.register_script(ACCEPT)
        self._take = client.register_script(TAKE)
        self._last: AnalyzedMessage | None = None

    def append(self, messages: Sequence[AnalyzedMessage]) -> list[bool]:
        """Accept messages in order; False for an id that was accepted before. One round trip for 500."""
        return self.append_bodies([(message.message_id, message.model_dump_json()) for message in messages])

    def append_bodies(self, bodies: Sequence[tuple[str, str | bytes]]) -> list[bool]:
        """The same for messages that are written already: id and body."""
        answers: list[bool] = []
        for start in range(0, len(bodies), MOST_A_SCRIPT):
            part = bodies[start : start + MOST_A_SCRIPT]
            keys = [self._keys.analyzed(), self._keys.tally(), *(self._keys.message(name) for name, _ in part)]
            args = [MESSAGE_TTL_S, *(word for pair in part for word in pair)]
            answers.extend(map(bool, self._accept(keys=keys, args=args)))
        return answers

    def bury(self, stage: str, reason: str, detail: str, raw: bytes, *, refused: bool = True) -> None:
        """Keep what could not be used, raw (cut at 4 KiB), with the reason; count it as `refused` or as dead."""
        pipe = self._redis.pipeline()
        fields = {
            "stage": stage,
            "reason": reason,
            "detail": detail[:500],
            "raw": raw[:RAW_LIMIT].decode("utf-8", "replace"),
        }
        pipe.xadd(self._keys.dead(), fields, maxlen=DEAD_MAXLEN)
        pipe.hincrby(self._keys.tally(), f"{'refused' if refused else 'dead'}:{reason}", 1)
        pipe.execute()

    def open_group(self) -> None:
        """Create the consumer group at the stream's beginning, unless it is there. Idempotent."""
        try:
            self._redis.xgroup_create(self._keys.analyzed(), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def take(self, consumer: str, count: int, block_ms: int = 0, idle_ms: int = -1, max_buffered: int = 2**53) -> Taken:
        """How the fleet stands, and what this router is to do next: stranded entries first, else new, oldest first.

        Stranded: another router read them and left them unacknowledged for `idle_ms` (-1: do not ask). Nothing is read
        while the fleet is STOPPED or `max_buffered` votes wait. Two round trips while there is something; else it
        waits `block_ms` (0: not at all) for the next entry, and then asks once more how the fleet stands.
        """
        taken, ids = self._look(consumer, count, idle_ms, max_buffered)
        if not ids and block_ms and may_read(taken, max_buffered):
            ids = self._wait(consumer, count, block_ms)
            taken, _ = self._look(consumer, 0, -1, max_buffered) if ids else (taken, ids)
        return replace(taken, deliveries=self._with_bodies(ids))

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """Forget entries whose legs are open and whose jobs are queued."""
        if not entry_ids:
            return
        pipe = self._redis.pipeline()
        pipe.xack(self._keys.analyzed(), GROUP, *entry_ids)
        pipe.xdel(self._keys.analyzed(), *entry_ids)
        pipe.execute()

    def waiting(self) -> int:
        """Entries that are not routed yet, being read or not."""
        return int(self._redis.xlen(self._keys.analyzed()))

    def message(self, message_id: str) -> AnalyzedMessage | None:
        """One accepted message, None when it is unknown or past its life. The last one is kept."""
        if self._last is not None and self._last.message_id == message_id:
            return self._last  # a body never changes
        body = self._redis.get(self._keys.message(message_id))
        self._last = AnalyzedMessage.model_validate_json(str(body)) if body is not None else None
        return self._last

    def dead_letters(self, limit: int) -> list[dict[str, str]]:
        """What could not be used, newest first."""
        return [
            {"id": entry_id, **fields} for entry_id, fields in self._redis.xrevrange(self._keys.dead(), count=limit)
        ]

    def _look(self, consumer: str, count: int, idle_ms: int, max_buffered: int) -> tuple[Taken, list[bytes]]:
        keys = self._keys
        denied = [keys.deny(kind) for kind in ("symbol", "author", "source")]
        words = [6, keys.analyzed(), keys.state(), keys.tally(), *denied]
        words += [GROUP, consumer, count, idle_ms, max_buffered]
        try:
            answer = self._redis.execute_command("EVALSHA", self._take.sha, *words, NEVER_DECODE=True)
        except NoScriptError:
            answer = self._redis.execute_command("EVAL", TAKE, *words, NEVER_DECODE=True)
        return standing_of(answer)

    def _with_bodies(self, ids: Sequence[bytes]) -> tuple[Delivery, ...]:
        """What `ids`, of entries and messages in turn, are. One round trip for all bodies."""
        if not ids:
            return ()
        names = [text_of(name) for name in ids[1::2]]
        found = [self._keys.message(name) for name in names]
        bodies = self._redis.execute_command("MGET", *found, NEVER_DECODE=True)
        return tuple(map(Delivery, map(text_of, ids[::2]), names, bodies))

    def _wait(self, consumer: str, count: int, block_ms: int) -> list[bytes]:
        """Entry and message ids, one after the other, that arrive within the time."""
        stream, group = self._keys.analyzed(), ("GROUP", GROUP, consumer)
        options = ("COUNT", count, "BLOCK", block_ms, "STREAMS", stream, ">")
        answer = self._redis.execute_command("XREADGROUP", *group, *options, NEVER_DECODE=True)
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer)
        return [word for entry in _flatten(streams) for word in entry]


def may_read(taken: Taken, max_buffered: int) -> bool:
    """Whether the fleet's state and its lists let a router read."""
    return taken.state is not OrchestratorState.STOPPED and taken.buffered < max_buffered


def _flatten(streams: Iterable[object]) -> list[tuple[bytes, bytes]]:
    """Entry and message ids. RESP2 and RESP3 nest the entries of a stream differently: pairs, or lists of pairs."""
    found: list[tuple[bytes, bytes]] = []
    for entries in streams:
        for entry in entries:  # type: ignore[attr-defined]
            nested = isinstance(entry, list) and entry and not isinstance(entry[0], bytes)
            found.extend((i, dict(f).get(b"id", b"")) for i, f in (entry if nested else [entry]))
    return found

"""The stream of analyzed messages: the collector appends, routers read as one consumer group."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from pipeline.models import AnalyzedMessage
from workers.adapters.keys import DEAD_MAXLEN, MESSAGE_TTL_S, Keys

GROUP = "routers"
RAW_LIMIT = 4_096

# Accept one message, once.
# KEYS: 1 message body, 2 stream, 3 tally. ARGV: 1 body (JSON), 2 message id, 3 TTL of the body (s).
# Returns 1 when accepted, 0 when the id was accepted before (nothing changes). Cost: O(1).
ACCEPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'id', ARGV[2])
redis.call('HINCRBY', KEYS[3], 'accepted', 1)
return 1
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry of the stream: `body` is None when the message's text expired or was never written."""

    entry_id: str
    message_id: str
    body: str | None


class RedisInbox:
    """Appends and reads `fleet:analyzed`; an entry lives until it is acknowledged, then it is deleted."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._accept = client.register_script(ACCEPT)

    def append(self, messages: Sequence[AnalyzedMessage]) -> list[bool]:
        """Accept messages in order; False for an id that was accepted before. One round trip."""
        if not messages:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for message in messages:
            keys = [self._keys.message(message.message_id), self._keys.analyzed(), self._keys.tally()]
            self._accept(keys=keys, args=[message.model_dump_json(), message.message_id, MESSAGE_TTL_S], client=pipe)
        return [bool(answer) for answer in pipe.execute()]

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

    def read(self, consumer: str, count: int, block_ms: int) -> list[Delivery]:
        """New entries for this router, oldest first; empty after `block_ms` without any."""
        answer = self._redis.xreadgroup(GROUP, consumer, {self._keys.analyzed(): ">"}, count=count, block=block_ms)
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer)
        return self._with_bodies(_flatten(streams))

    def take_over(self, consumer: str, idle_ms: int, count: int) -> list[Delivery]:
        """Entries that another router read and left unacknowledged for `idle_ms`."""
        answer = self._redis.xautoclaim(self._keys.analyzed(), GROUP, consumer, min_idle_time=idle_ms, count=count)
        return self._with_bodies([(entry_id, fields) for entry_id, fields in answer[1] if fields])

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
        """One accepted message, None when it is unknown or past its life."""
        body = self._redis.get(self._keys.message(message_id))
        return AnalyzedMessage.model_validate_json(str(body)) if body is not None else None

    def dead_letters(self, limit: int) -> list[dict[str, str]]:
        """What could not be used, newest first."""
        return [
            {"id": entry_id, **fields} for entry_id, fields in self._redis.xrevrange(self._keys.dead(), count=limit)
        ]

    def _with_bodies(self, entries: list[tuple[str, dict[str, str]]]) -> list[Delivery]:
        if not entries:
            return []
        ids = [fields.get("id", "") for _, fields in entries]
        bodies = self._redis.mget([self._keys.message(message_id) for message_id in ids])
        return [
            Delivery(entry_id, message_id, body)
            for (entry_id, _), message_id, body in zip(entries, ids, bodies, strict=True)
        ]


def _flatten(streams: Iterable[object]) -> list[tuple[str, dict[str, str]]]:
    """RESP2 and RESP3 nest the entries of a stream differently: pairs, or a list of lists of pairs."""
    found: list[tuple[str, dict[str, str]]] = []
    for entries in streams:
        for entry in entries:  # type: ignore[attr-defined]
            if isinstance(entry, list) and entry and not isinstance(entry[0], str):
                found.extend((str(i), dict(f)) for i, f in entry)
            else:
                entry_id, fields = entry
                found.append((str(entry_id), dict(fields)))
    return found

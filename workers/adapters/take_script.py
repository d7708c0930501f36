"""What a router asks at the start of a turn, in one step: may it read, and what is there."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from pipeline.models import OrchestratorState
from pipeline.router import DenyList

# Read the next entries of the stream, unless the fleet is stopped or its lists are full.
# Entries that another consumer left unacknowledged come first. Bodies are asked for afterwards: through a script each
# would cost the server five times as much.
# KEYS: 1 stream, 2 state, 3 tally, 4 denied symbols, 5 muted authors, 6 denied sources.
# ARGV: 1 group, 2 consumer, 3 at most (0: read nothing), 4 idle time of stranded entries (ms), -1 = ask for none,
#       5 bound of all lists together.
# Returns state (JSON or null), votes waiting, denied symbols, authors, sources, TIME, and of each entry its id and its
#       message's. Cost: O(entries).
TAKE: Final = """
local found = {}
local function add_all(rows)
  for _, row in ipairs(rows or {}) do
    if row and row[2] then
      local name = ''
      for i = 1, #row[2], 2 do if row[2][i] == 'id' then name = row[2][i + 1] end end
      found[#found + 1] = row[1]
      found[#found + 1] = name
    end
  end
end
local state = redis.call('GET', KEYS[2])
local buffered = tonumber(redis.call('HGET', KEYS[3], 'buffered') or 0)
local stopped = not state or cjson.decode(state).state == 'stopped'
if ARGV[3] ~= '0' and not stopped and buffered < tonumber(ARGV[5]) then
  if ARGV[4] ~= '-1' then
    add_all(redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], '0-0', 'COUNT', ARGV[3])[2])
  end
  if #found == 0 then
    local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
    if read then add_all(read[1][2]) end
  end
end
return {state, buffered, redis.call('HKEYS', KEYS[4]), redis.call('HKEYS', KEYS[5]), redis.call('HKEYS', KEYS[6]),
        redis.call('TIME'), found}
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry of the stream: `body` is None when the message's text expired or was never written."""

    entry_id: str
    message_id: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Taken:
    """How the fleet stands and what was read, at one moment of the server."""

    state: OrchestratorState
    buffered: int
    deny: DenyList
    at: datetime
    deliveries: tuple[Delivery, ...]


def standing_of(answer: Any) -> tuple[Taken, list[bytes]]:
    """The answer of TAKE, without bodies, and the ids of entries and messages in turn.

    It comes as bytes: what is in Redis is judged by who reads it, not by the connection.
    """
    state, buffered, symbols, authors, sources, (seconds, micros), found = answer
    taken = Taken(
        OrchestratorState(orjson.loads(state)["state"]) if state else OrchestratorState.STOPPED,
        int(buffered),
        DenyList(*(frozenset(map(text_of, names)) for names in (symbols, authors, sources))),
        datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(micros)),
        (),
    )
    return taken, found


def text_of(raw: bytes) -> str:
    """A name of ours; what is no UTF-8 in it is replaced."""
    return raw.decode("utf-8", "replace")

"""What the fleet has still to do, in one look: a replay's driver asks it again and again."""

from dataclasses import dataclass
from typing import Any, Final

import redis

from workers.adapters.keys import Keys
from workers.adapters.rq_factory import CONSENSUS, JobQueues, started

# KEYS: 1 stream, 2 follow-ups, 3 held signals, then per queue its list, what is taken, what runs.
# Returns {messages not routed, next follow-up (ms), next open (ms), jobs not ended of each queue ...}, '' for none.
# Cost: O(1).
UNDONE: Final = """
local found = {redis.call('XLEN', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or '',
               redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or ''}
for i = 4, #KEYS, 3 do
  found[#found + 1] = redis.call('LLEN', KEYS[i]) + redis.call('LLEN', KEYS[i + 1]) + redis.call('ZCARD', KEYS[i + 2])
end
return found
"""


@dataclass(frozen=True, slots=True)
class Undone:
    """One moment. `batches`: jobs of the consensus queue, `jobs`: of all others.

    `followup_ms`, `open_ms`: when the next are due in event time, None: there is none.
    """

    messages: int
    jobs: int
    batches: int
    followup_ms: int | None
    open_ms: int | None

    @property
    def is_idle(self) -> bool:
        """Everything is routed and no job is queued, taken or running."""
        return self.decides_alone and self.batches == 0

    @property
    def decides_alone(self) -> bool:
        """Everything is routed, and no job but such of batches is queued, taken or running."""
        return self.messages == 0 and self.jobs == 0


class RedisUndone:
    """Reads it in one step, so a message that just became a job is seen as the one or the other."""

    def __init__(self, client: redis.Redis, keys: Keys, queues: JobQueues) -> None:
        self._look = client.register_script(UNDONE)
        lists = [(q.key, q.intermediate_queue_key, started(q).key) for q in queues.queues.values()]
        self._batches = list(queues.queues).index(CONSENSUS)
        self._keys = [keys.analyzed(), keys.followups(), keys.held(), *(key for three in lists for key in three)]

    def look(self) -> Undone:
        """One round trip."""
        answer: Any = self._look(keys=self._keys, args=[])
        messages, followup, opened, *jobs = answer
        batches = jobs.pop(self._batches)
        return Undone(messages, sum(jobs), batches, _moment(followup), _moment(opened))


def _moment(score: str) -> int | None:
    return int(float(score)) if score else None

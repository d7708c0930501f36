"""RQ jobs as plain words, for scripts that queue them in the same step as other things."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_A_SCRIPT: Final = 500

# Queue jobs once by id, in their order, as RQ's own unique enqueue does.
# KEYS: 1 RQ's list of the queue, 2 RQ's set of queues, then the jobs' hashes.
# ARGV: per job its id, its data, how many other words its hash has, these words.
# Returns how many were queued; one whose id is known is not. Cost: O(words).
QUEUE: Final = """
redis.call('LLEN', KEYS[1])
redis.call('SADD', KEYS[2], KEYS[1])
local at, queued = 1, 0
for i = 3, #KEYS do
  local id, words = ARGV[at], tonumber(ARGV[at + 2])
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('HSET', KEYS[i], 'data', ARGV[at + 1], unpack(ARGV, at + 3, at + 2 + words))
    redis.call('RPUSH', KEYS[1], id)
    queued = queued + 1
  end
  at = at + 3 + words
end
return queued
"""


@dataclass(frozen=True, slots=True)
class PackedJob:
    """One job of a queue: the key of its hash, its id, and the hash as RQ would write it.

    `data` is the field of this name, which is no text; `words` are all other fields and values in turn.
    """

    key: str
    job_id: str
    data: bytes
    words: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Where the ids of a queue's jobs wait, and the set in which the queue is listed."""

    key: str
    queues: str


class JobScript:
    """Queues many jobs of one queue in few round trips."""

    def __init__(self, client: Any) -> None:
        self._script = client.register_script(QUEUE)

    def queue(self, line: Line, jobs: Sequence[PackedJob]) -> int:
        """How many were queued; those whose id is known stay as they are. One round trip for 500."""
        return sum(
            self._queue(line, jobs[start : start + MOST_A_SCRIPT]) for start in range(0, len(jobs), MOST_A_SCRIPT)
        )

    def _queue(self, line: Line, jobs: Sequence[PackedJob]) -> int:
        words = [word for job in jobs for word in (job.job_id, job.data, len(job.words), *job.words)]
        answer: int = self._script(keys=[line.key, line.queues, *(job.key for job in jobs)], args=words)
        return answer

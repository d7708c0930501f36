"""What a dead worker had in hand, case by case: how long until another has done it, on hosts that nobody supervises.

The worker that dies is played: it takes, begins and renews nothing, as one does that was killed with its horse right
after the call in question. Nobody tells the fleet; the scheduler's own looks must find it.
"""

import time
from typing import Any, Final
from uuid import uuid4

from rq.executions import Execution

from tests.chaos.drill import Drill
from tests.warm import Hand, Play
from workers.adapters.rq_factory import IMMEDIATE, MAINTENANCE

PROMISED_S: Final = 10.0
AT_ONCE: Final = 4  # lost jobs of each case at a time


class TakeOver(Drill):
    """Each case `rounds` times, a few at a time."""

    rounds = 20

    def _act(self) -> None:
        for _ in range(0, self.rounds, AT_ONCE):
            lost: dict[str, list[str]] = {}
            for _ in range(AT_ONCE):
                lost.setdefault("running, worker and horse killed", []).append(self._lose(IMMEDIATE, "begun"))
                lost.setdefault("taken and never begun", []).append(self._lose(IMMEDIATE, "taken"))
                lost.setdefault("in no list, the hash alone", []).append(self._lose(IMMEDIATE, "nowhere"))
                lost.setdefault("housekeeping, the only worker dead", []).append(self._lose(MAINTENANCE, "begun"))
            self._await_all(lost)

    def _lose(self, queue: str, how: str) -> str:
        """A job in the hands of a worker that is dead by now; its id."""
        job_id, name = f"janitor-lost-{uuid4().hex[:12]}", f"work-{queue}-lost-{uuid4().hex[:6]}"
        packed = self._fleet.queues.pack(queue, "janitor", job_id, (), "a lost job")
        rq: Any = self._fleet.rq_client
        words = dict(zip(packed.words[::2], packed.words[1::2], strict=True))
        with rq.pipeline() as pipe:
            pipe.hset(packed.key, mapping={"data": packed.data, **words})
            if how != "nowhere":
                pipe.rpush(self._fleet.queues.queues[queue].intermediate_queue_key, job_id)
            pipe.execute()
        if how == "begun":
            hand = Hand(_Desk(self._fleet, queue), name)
            hand.job = self._fleet.queues.queues[queue].fetch_job(job_id)
            hand.execution = Execution(uuid4().hex, job_id, rq, name)
            if not hand.begins():
                self.faults.append(f"{job_id} could not be begun")
        return job_id

    def _await_all(self, lost: dict[str, list[str]]) -> None:
        """Note for each job how long it takes until somebody else has finished it."""
        rq: Any = self._fleet.rq_client
        began, waiting = time.monotonic(), {job_id: case for case, ids in lost.items() for job_id in ids}

        def all_done() -> bool:
            for job_id, case in list(waiting.items()):
                if rq.hget(f"rq:job:{job_id}", "status") == b"finished":
                    self._note(case, PROMISED_S, time.monotonic() - began)
                    del waiting[job_id]
            return not waiting

        self._live_through(all_done, f"lost jobs {sorted(waiting)}")


class ShortTakeOver(TakeOver):
    """Each case a few times."""

    rounds = AT_ONCE


class _Desk(Play):
    """A queue of the fleet, for a hand."""

    def __init__(self, fleet: Any, queue: str) -> None:
        self.client, self.queues = fleet.rq_client, fleet.queues
        self.queue = fleet.queues.queues[queue]

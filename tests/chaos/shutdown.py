"""Every process asked to end at once, in the middle of its work: all end in time; what is left is safe and counted."""

import time
from collections import Counter
from typing import Any, Final

from tests.chaos.drill import Drill
from tests.chaos.promises import waiting
from workers.adapters.rq_factory import QUEUES

PROMISED_S: Final = 15.0
DEADLINE_S: Final = 60.0
LOAD_S: Final = 2.0
PER_SECOND: Final = 60.0


class Shutdown(Drill):
    """SIGTERM to all under load, then the same fleet again, so many times."""

    rounds = 10

    def _act(self) -> None:
        self._left: Counter[str] = Counter()
        for _ in range(self.rounds):
            self._once()
        what = ", ".join(f"{n:,} {name}" for name, n in sorted(self._left.items()))
        self.facts.append(f"What the processes left to the next ones, in all: {what}.")

    def _once(self) -> None:
        self._for(LOAD_S, lambda: self._trickle(PER_SECOND))
        began = time.monotonic()
        stuck = self._crew.end("", patience_s=DEADLINE_S)
        self._note("SIGTERM under load, until the last has ended", PROMISED_S, time.monotonic() - began)
        self.faults += [f"{name} did not end in {DEADLINE_S:g} s" for name in stuck]
        self._count()
        self._crew.finished = False
        self._recovers("started again, until all works", PROMISED_S)

    def _count(self) -> None:
        """What waits for the next processes; nobody holds anything."""
        client: Any = self._fleet.rq_client
        depths = self._fleet.queues.depths()
        self._left.update(waiting(self._fleet) | {f"jobs in {name}": n for name, n in depths.items() if n})
        for name in QUEUES:
            queue = self._fleet.queues.queues[name]
            held = client.llen(queue.intermediate_queue_key) + client.zcard(self._fleet.queues.leases.key(name))
            if held:
                self.faults.append(f"{held} jobs of {name} are in the hands of workers that have ended")


class ShortShutdown(Shutdown):
    """Twice."""

    rounds = 2

"""Which run may act for a decision, in memory: the fencing tokens that intents and ledger of one process share."""

from threading import RLock

from pipeline.errors import TakenOverError
from pipeline.ports import Execution


class MemoryExecutions:
    """The newest run of every decision, and what the decision sent."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._ids: dict[str, int] = {}
        self._sent: dict[str, str] = {}

    def begin(self, decision_id: str) -> Execution:
        """A new run; every earlier one is old now."""
        with self._lock:
            self._ids[decision_id] = newest = self._ids.get(decision_id, 0) + 1
            return Execution(decision_id, newest, self._sent.get(decision_id))

    def is_old(self, decision_id: str, execution: int | None) -> bool:
        """Whether a newer run has begun; None is never old, nor is a decision whose runs nobody counts."""
        return execution is not None and self._ids.get(decision_id, execution) != execution

    def refuse_old(self, decision_id: str, execution: int | None) -> None:
        """Raises TakenOverError for an old run."""
        if self.is_old(decision_id, execution):
            raise taken_over(decision_id)

    def note_sent(self, decision_id: str, client_order_id: str) -> None:
        """The decision's order is on its way."""
        self._sent[decision_id] = client_order_id

    def sent(self, decision_id: str) -> bool:
        """Whether an order of the decision was sent."""
        return decision_id in self._sent


def taken_over(decision_id: str) -> TakenOverError:
    """The error of an old run."""
    return TakenOverError(f"a newer execution runs decision {decision_id}; this one may not act for it any more")

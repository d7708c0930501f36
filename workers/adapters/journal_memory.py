"""The in-memory twin of the journal: outcomes by compare-and-set, for tests and single-process use."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from pipeline.models import Outcome, ProcessResult
from pipeline.router import Fate, Leg

FATES = frozenset({Outcome.SUBMITTED, Outcome.EXECUTED, Outcome.UNFILLED, Outcome.BROKER_REJECTED})
RANK = {Outcome.BUFFERED: 1, Outcome.HELD: 2, Outcome.SUBMITTED: 3}

MarkUsed = Callable[[str, Sequence[str], datetime], None]


class MemoryJournal:
    """Outcomes by leg or decision id. `results` keeps what each decision said last.

    `sent(decision_id)`: whether an order of the decision was sent, so that only the order's fate ends it.
    """

    def __init__(self, mark_used: MarkUsed | None = None, sent: Callable[[str], bool] = lambda _: False) -> None:
        self._sent = sent
        self.outcomes: dict[str, Outcome] = {}
        self.results: dict[str, ProcessResult] = {}
        self.legs: set[str] = set()
        self._decision_legs: dict[str, tuple[str, ...]] = {}
        self._mark_used = mark_used

    def open(self, legs: Sequence[Leg]) -> None:
        """Begin the legs: at their end already, or buffered."""
        for leg in legs:
            self.legs.add(leg.leg_id)
            ended = leg.outcome if leg.fate is Fate.END else None
            self._put(leg.leg_id, ended or Outcome.BUFFERED)

    def record(self, results: Sequence[tuple[ProcessResult, tuple[str, ...]]]) -> None:
        """As the port says."""
        for result, legs in results:
            self._record(result, legs)

    def outcome(self, leg_or_decision_id: str) -> Outcome | None:
        """As the port says."""
        return self.outcomes.get(leg_or_decision_id)

    def count(self) -> Counter[Outcome]:
        """Legs per outcome."""
        return Counter(self.outcomes[leg] for leg in self.legs)

    def _record(self, result: ProcessResult, legs: tuple[str, ...]) -> None:
        decision_id = result.decision_id
        if decision_id is None:
            return
        shared = (*self._decision_legs.get(decision_id, ()), *legs)
        self._decision_legs[decision_id] = tuple(dict.fromkeys(shared))
        word = self._word(decision_id, result.outcome)
        if self._put(decision_id, word):
            self.results[decision_id] = result
        for leg in shared:
            self._put(leg, self.outcomes[decision_id])
        if became_signal(result) and self._mark_used and result.symbol and result.aggregate:
            self._mark_used(result.symbol, result.aggregate.message_ids, result.timestamp)

    def _word(self, decision_id: str, outcome: Outcome) -> Outcome:
        """The outcome, or what stays when the decision's order was sent and this is not the order's fate."""
        if outcome in FATES or not self._sent(decision_id):
            return outcome
        known = self.outcomes.get(decision_id)
        return Outcome.SUBMITTED if known is None or known in RANK else known

    def _put(self, key: str, outcome: Outcome) -> bool:
        current = self.outcomes.get(key)
        if current is not None and RANK.get(outcome, 9) <= RANK.get(current, 9):
            return False
        self.outcomes[key] = outcome
        return True


def became_signal(result: ProcessResult) -> bool:
    """Whether a batch decision reached consensus, so that its votes are used up."""
    return result.aggregate is not None and result.outcome is not Outcome.NO_CONSENSUS

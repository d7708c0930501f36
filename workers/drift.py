"""Differences between our book and the broker's, and when one of them is more than a book in motion."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

PROOFS: Final = 3  # looks, each after a settlement, that must show the same difference
MOST_LOOKS: Final = 9  # while orders fill, looks are repeated so often


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. `subject`: a symbol, an order, or "cash". `by`: theirs less ours, in shares or dollars."""

    subject: str
    ours: str
    theirs: str
    by: Decimal = field(default=Decimal(0), compare=False)

    def __str__(self) -> str:
        """In a person's words."""
        return f"{self.subject}: we have {self.ours}, the broker has {self.theirs}"


class Looks:
    """Several looks at two books that move. A fill between two readings shows in one look and is gone in the next.

    What is really amiss stays the same amount whatever fills meanwhile, so it is drift once `PROOFS` looks showed it,
    and it is none once a look did not show its subject at all.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, Decimal]] = Counter()
        self._open: set[str] | None = None
        self._looks = 0
        self.drifts: tuple[Drift, ...] = ()

    def add(self, differences: Sequence[Drift]) -> None:
        """One more look."""
        subjects = {one.subject for one in differences}
        self._looks += 1
        self._open = subjects if self._open is None else self._open & subjects
        self._seen.update({(one.subject, one.by) for one in differences if one.subject in self._open})
        proved = [one for one in differences if one.subject in self._open and self._is_proved(one)]
        self.drifts = tuple(proved)

    @property
    def goes_on(self) -> bool:
        """Whether another look may tell more."""
        return self._looks == 0 or (self.undecided and self._looks < MOST_LOOKS)

    @property
    def undecided(self) -> bool:
        """Whether a subject differed in every look, and by too many amounts to say that it is drift."""
        return bool((self._open or set()) - {one.subject for one in self.drifts})

    def _is_proved(self, one: Drift) -> bool:
        return self._seen[one.subject, one.by] >= PROOFS

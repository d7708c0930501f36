"""Differences between our book and the broker's, and when one of them is more than a book in motion."""

from collections import Counter
from collections.abc import Collection, Sequence
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
    and it is none once a look did not show its subject at all. A subject that moved during a look proves nothing by
    it: entries of one size are worth the same dollars, and a fill in each of three looks looks like one lasting gap.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, Decimal]] = Counter()
        self._open: set[str] | None = None
        self._looks = 0
        self._proved: dict[str, Drift] = {}

    def add(self, differences: Sequence[Drift], moved: Collection[str] = ()) -> None:
        """One more look, during which something of the subjects `moved` changed at the broker."""
        subjects = {one.subject for one in differences}
        self._looks += 1
        self._open = subjects if self._open is None else self._open & (subjects | set(moved))
        still = [one for one in differences if one.subject in self._open and one.subject not in moved]
        self._seen.update((one.subject, one.by) for one in still)
        self._proved |= {one.subject: one for one in still if self._seen[one.subject, one.by] >= PROOFS}
        self._proved = {subject: one for subject, one in self._proved.items() if subject in self._open}

    @property
    def drifts(self) -> tuple[Drift, ...]:
        """What is proved."""
        return tuple(self._proved.values())

    @property
    def goes_on(self) -> bool:
        """Whether another look may tell more."""
        return self._looks == 0 or (self.undecided and self._looks < MOST_LOOKS)

    @property
    def undecided(self) -> bool:
        """Whether a subject differed in every look, and by too many amounts to say that it is drift."""
        return bool((self._open or set()) - self._proved.keys())

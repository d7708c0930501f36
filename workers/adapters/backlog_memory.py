"""The in-memory twin of the backlog: lists of votes, claims, recent votes and the memory of texts."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from pipeline.models import Vote
from pipeline.ports import Claim
from pipeline.router import Fate, Leg, Routable, end_as_duplicate, first_leg_id, leg_id, remembers_text
from workers.adapters.journal_memory import MemoryJournal

MOST_VOTES = 5_000


class MemoryBacklog:
    """Implements `Backlog` and `VoteHistory`. Legs are opened in the journal it is given."""

    def __init__(
        self, journal: MemoryJournal, duplicate_window_s: float = 86_400, most_votes: int = MOST_VOTES
    ) -> None:
        self._journal = journal
        self._window = timedelta(seconds=duplicate_window_s)
        self.most_votes = most_votes
        self._texts: dict[str, tuple[str, datetime]] = {}
        self._lists: dict[str, list[Vote]] = defaultdict(list)
        self._recent: dict[str, list[Vote]] = defaultdict(list)
        self._used: dict[str, set[str]] = defaultdict(set)
        self._claims: dict[str, Claim] = {}
        self._sequence: dict[str, int] = defaultdict(int)

    # ---- Backlog ----

    def accept(self, routed: Sequence[tuple[Routable, tuple[Leg, ...]]]) -> list[tuple[Leg, ...]]:
        """As the port says."""
        return [self._accept(message, legs) for message, legs in routed]

    def claim(self, symbols: Sequence[str] | None = None) -> tuple[str, ...]:
        """As the port says."""
        wanted = sorted(self._lists if symbols is None else symbols)
        return tuple(self._claim(symbol) for symbol in wanted if self._lists.get(symbol))

    def claimed(self, claim_id: str) -> Claim | None:
        """As the port says."""
        return self._claims.get(claim_id)

    def finish(self, claim_id: str) -> None:
        """As the port says."""
        self._claims.pop(claim_id, None)

    def sizes(self) -> dict[str, int]:
        """As the port says."""
        return {symbol: len(votes) for symbol, votes in self._lists.items() if votes}

    # ---- VoteHistory ----

    def votes(self, symbol: str, since: datetime, until: datetime) -> tuple[Vote, ...]:
        """As the port says."""
        found = sorted((v for v in self._recent[symbol] if since < v.at <= until), key=lambda v: (v.at, v.id))
        return tuple(found[-self.most_votes :])

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """As the port says."""
        return frozenset(ids) & self._used[symbol]

    def mark_used(self, symbol: str, ids: Sequence[str], decided_at: datetime) -> None:  # noqa: ARG002
        """Count these votes in no later decision."""
        self._used[symbol].update(ids)

    # ---- inside ----

    def _accept(self, message: Routable, legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
        null_leg = leg_id(message.message_id, None)
        if self._journal.outcome(first_leg_id(message)) or self._journal.outcome(null_leg):
            return ()
        if remembers_text(legs):
            legs = self._unless_duplicate(message, legs)
        self._journal.open(legs)
        for leg in legs:
            if leg.vote is not None and leg.symbol is not None:
                self._lists[leg.symbol].append(leg.vote)
                self._recent[leg.symbol].append(leg.vote)
        return legs

    def _unless_duplicate(self, message: Routable, legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
        at = next(leg.vote.at for leg in legs if leg.fate is not Fate.END and leg.vote)
        first, last = self._texts.get(message.fingerprint, (message.message_id, at))
        known = first != message.message_id and abs(at - last) < self._window
        self._texts[message.fingerprint] = (first, max(at, last)) if known else (message.message_id, at)
        return end_as_duplicate(message, first) if known else legs

    def _claim(self, symbol: str) -> str:
        self._sequence[symbol] += 1
        claim_id = f"{symbol}-{self._sequence[symbol]}"
        self._claims[claim_id] = Claim(claim_id, symbol, tuple(self._lists.pop(symbol)))
        return claim_id

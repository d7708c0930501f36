"""Where an ordered replay must wait: only moments at which something could change the account."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.consensus import window_of
from pipeline.models import Direction, Label, Vote
from pipeline.router import Fate, Leg

DRAINED_AT = 0.5  # of the time that votes are kept
FAR = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
_DIRECTIONS = {Label.BULLISH: Direction.LONG, Label.BEARISH: Direction.SHORT}


@dataclass(slots=True)
class Planner:
    """Follows the legs of posts in order of time and knows which windows could reach a consensus.

    It may name a moment at which nothing happens (a near-duplicate, a vote that was used), never miss one.
    `keep_s`: how long recent votes are kept; a window that was left alone is drained before its look-back is gone.
    """

    interval_s: int
    lookback_s: float
    min_votes: int
    max_list: int
    keep_s: float = 86_400
    suspects: frozenset[str] = frozenset()
    _window: int | None = None
    _left: float | None = None
    _symbols: set[str] = field(default_factory=set)
    _recent: dict[tuple[str, Direction], deque[Vote]] = field(default_factory=lambda: defaultdict(deque))
    _waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def closes_before(self, at: datetime) -> datetime | None:
        """The end of the open window when `at` lies behind it and it could reach a consensus, else None.

        `suspects` are then the symbols that could.
        """
        if self._window is None or window_of(at, self.interval_s) <= self._window:
            return None
        end = float((self._window + 1) * self.interval_s)
        self.suspects = frozenset(symbol for symbol in self._symbols if self._could_agree(symbol, end))
        self._left = end if self._left is None else self._left
        self._window = None
        self._symbols.clear()
        return datetime.fromtimestamp(end, UTC) if self.suspects else None

    def follow(self, legs: Iterable[Leg]) -> bool:
        """Take note of a post's legs; whether one of them is decided at once."""
        urgent = False
        for leg in legs:
            if leg.vote is not None and leg.symbol is not None:
                self._note(leg.symbol, leg.vote)
                urgent = urgent or leg.fate is Fate.URGENT
        return urgent

    def full(self) -> bool:
        """Whether a symbol's list is long enough to be drained now."""
        return max(self._waiting.values(), default=0) >= self.max_list

    def overdue(self, at: datetime) -> bool:
        """Whether windows that were left alone are to be drained, long before their look-back is gone.

        Between windows, so that none is cut in two, unless a vote of `at` would push out what one looks back on.
        """
        if self._left is None:
            return False
        between = self._window is None and at.timestamp() - self._left >= self.keep_s * DRAINED_AT
        return between or at >= self.prunes_from

    @property
    def prunes_from(self) -> datetime:
        """From when on a vote would push out what the first window that was left alone looks back on."""
        left = self._left if self._left is not None else FAR
        return datetime.fromtimestamp(left - self.lookback_s + self.keep_s - self.interval_s, UTC)

    def drained(self) -> None:
        """Every list was claimed."""
        self._waiting.clear()
        self._left = None

    def _note(self, symbol: str, vote: Vote) -> None:
        self._window = window_of(vote.at, self.interval_s)
        self._symbols.add(symbol)
        self._waiting[symbol] += 1
        if vote.label in _DIRECTIONS:
            self._recent[symbol, _DIRECTIONS[vote.label]].append(vote)

    def _could_agree(self, symbol: str, end: float) -> bool:
        return any(self._votes_since(symbol, direction, end - self.lookback_s) for direction in Direction)

    def _votes_since(self, symbol: str, direction: Direction, since: float) -> bool:
        """Enough authors and texts: an author has one vote, and a text counts once."""
        votes = self._recent[symbol, direction]
        oldest_counted = min(since, since + self.lookback_s - self.interval_s)
        while votes and votes[0].at.timestamp() < oldest_counted:
            votes.popleft()
        distinct = min(len({vote.by for vote in votes}), len({vote.text for vote in votes}))
        return distinct >= self.min_votes

"""Where an ordered replay must wait: only moments at which something could change the account."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.consensus import window_of
from pipeline.models import Direction, Label
from pipeline.router import Fate, Leg

_DIRECTIONS = {Label.BULLISH: Direction.LONG, Label.BEARISH: Direction.SHORT}


@dataclass(slots=True)
class Planner:
    """Follows the legs of posts in order of time and knows which windows could reach a consensus.

    It may name a moment at which nothing happens (a near-duplicate, one author twice), never miss one.
    """

    interval_s: int
    lookback_s: float
    min_votes: int
    max_list: int
    _window: int | None = None
    _symbols: set[str] = field(default_factory=set)
    _recent: dict[tuple[str, Direction], deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def closes_before(self, at: datetime) -> datetime | None:
        """The end of the open window when `at` lies behind it and it could reach a consensus, else None."""
        if self._window is None or window_of(at, self.interval_s) <= self._window:
            return None
        end = float((self._window + 1) * self.interval_s)
        possible = any(self._could_agree(symbol, end) for symbol in self._symbols)
        self._window = None
        self._symbols.clear()
        return datetime.fromtimestamp(end, UTC) if possible else None

    def follow(self, legs: Iterable[Leg]) -> bool:
        """Take note of a post's legs; whether one of them is decided at once."""
        urgent = False
        for leg in legs:
            if leg.vote is not None and leg.symbol is not None:
                self._note(leg.symbol, leg.vote.label, leg.vote.at)
                urgent = urgent or leg.fate is Fate.URGENT
        return urgent

    def full(self) -> bool:
        """Whether a symbol's list is long enough to be drained now."""
        return max(self._waiting.values(), default=0) >= self.max_list

    def drained(self) -> None:
        """Every list was claimed."""
        self._waiting.clear()

    def _note(self, symbol: str, label: Label, at: datetime) -> None:
        self._window = window_of(at, self.interval_s)
        self._symbols.add(symbol)
        self._waiting[symbol] += 1
        if label in _DIRECTIONS:
            self._recent[symbol, _DIRECTIONS[label]].append(at.timestamp())

    def _could_agree(self, symbol: str, end: float) -> bool:
        return any(self._votes_since(symbol, direction, end - self.lookback_s) for direction in Direction)

    def _votes_since(self, symbol: str, direction: Direction, since: float) -> bool:
        times = self._recent[symbol, direction]
        oldest_counted = min(since, since + self.lookback_s - self.interval_s)
        while times and times[0] < oldest_counted:
            times.popleft()
        return len(times) >= self.min_votes

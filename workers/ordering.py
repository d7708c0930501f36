"""Where an ordered replay must wait: only moments at which something could change the account."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline.consensus import window_of
from pipeline.models import Direction, Label, Vote
from pipeline.router import Fate, Leg

DRAINED_AT = 0.5  # of the time that votes are kept
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
FAR = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
_DIRECTIONS = {Label.BULLISH: Direction.LONG, Label.BEARISH: Direction.SHORT}


@dataclass(slots=True)
class Planner:
    """Follows the legs of posts in order of time and knows which windows could reach a consensus.

    It may name a moment at which nothing happens (a vote that was used), never miss one.
    `keep_s`: how long recent votes are kept; a window that was left alone is drained before its look-back is gone.
    `agrees`: whether these votes of a symbol, all there and none used, reach a consensus at that moment; without it
    every window is named in which enough votes have one direction. With `most_votes` or more it is not asked: so many
    are looked back on.
    """

    interval_s: int
    lookback_s: float
    min_votes: int
    max_list: int
    keep_s: float = 86_400
    duplicate_window_s: float = 86_400
    most_votes: int = 5_000
    agrees: Callable[[str, Sequence[Vote], datetime], bool] = lambda *_: True
    suspects: frozenset[str] = frozenset()
    _window: int | None = None
    _left: float | None = None
    _symbols: set[str] = field(default_factory=set)
    _recent: dict[tuple[str, Direction], deque[Vote]] = field(default_factory=lambda: defaultdict(deque))
    _waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _votes: dict[str, deque[Vote]] = field(default_factory=lambda: defaultdict(deque))
    _posts: set[str] = field(default_factory=set)
    _doubtful: set[str] = field(default_factory=set)  # posts that came twice
    _texts: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # who said it first, when it was said last
    _used: dict[str, datetime] = field(default_factory=dict)  # a symbol's votes until then may be used

    def closes_before(self, at: datetime) -> datetime | None:
        """The end of the open window when `at` lies behind it and it could reach a consensus, else None.

        `suspects` are then the symbols that could.
        """
        if self._window is None or window_of(at, self.interval_s) <= self._window:
            return None
        window, end = self._window, float((self._window + 1) * self.interval_s)
        self.suspects = frozenset(
            symbol for symbol in self._symbols if self._could_agree(symbol, end) and self._may_agree(symbol, window)
        )
        self._left = end if self._left is None else self._left
        self._window = None
        self._symbols.clear()
        return datetime.fromtimestamp(end, UTC) if self.suspects else None

    def follow(self, legs: Iterable[Leg]) -> bool:
        """Take note of a post's legs; whether one of them is decided at once."""
        legs, urgent = tuple(legs), False
        repeats = self._repeats(legs)
        for leg in legs:
            if leg.vote is not None and leg.symbol is not None:
                self._note(leg.symbol, leg.vote)
                urgent = urgent or leg.fate is Fate.URGENT
                if not repeats:
                    self._votes[leg.symbol].append(leg.vote)
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

    def drained(self, at: datetime | None = None, agreed: frozenset[str] | None = None) -> None:
        """Every list was claimed. `at`: a consensus may use votes until then, None: there is none.

        `agreed`: of which symbols, None: of any.
        """
        self._waiting.clear()
        self._left = None
        if at is not None:
            self._used |= dict.fromkeys(self._votes if agreed is None else agreed, at)

    def _repeats(self, legs: Sequence[Leg]) -> bool:
        """Whether the router will find a near-duplicate in the post, which is no vote then, as it does itself."""
        vote = next((leg.vote for leg in legs if leg.vote is not None), None)
        if vote is None:
            return False
        if vote.id in self._posts:  # the second is refused before the router sees it
            self._doubtful.add(vote.id)
            return False
        self._posts.add(vote.id)
        first, last = self._texts.get(vote.text, (vote.id, vote.at))
        repeats = first != vote.id and abs(vote.at - last) < timedelta(seconds=self.duplicate_window_s)
        self._texts[vote.text] = (first if repeats else vote.id, max(last, vote.at))
        return repeats

    def _note(self, symbol: str, vote: Vote) -> None:
        self._window = window_of(vote.at, self.interval_s)
        self._symbols.add(symbol)
        self._waiting[symbol] += 1
        if vote.label in _DIRECTIONS:
            self._recent[symbol, _DIRECTIONS[vote.label]].append(vote)

    def _could_agree(self, symbol: str, end: float) -> bool:
        return any(self._votes_since(symbol, direction, end - self.lookback_s) for direction in Direction)

    def _may_agree(self, symbol: str, window: int) -> bool:
        """Whether a consensus is certain, or cannot be known here: then Redis is asked."""
        votes, end = self._votes[symbol], datetime.fromtimestamp((window + 1) * self.interval_s, UTC)
        since, first = end - timedelta(seconds=self.lookback_s), end - timedelta(seconds=self.interval_s)
        while votes and votes[0].at <= since and votes[0].at < first:
            votes.popleft()
        own = [vote for vote in votes if window_of(vote.at, self.interval_s) == window]
        if not own:
            return False
        newest = max(vote.at for vote in own)
        counted = [*own, *(vote for vote in votes if since < vote.at <= newest and vote not in own)]
        used = self._used.get(symbol, LONG_AGO)
        if len(counted) >= self.most_votes or any(vote.at <= used or vote.id in self._doubtful for vote in counted):
            return True
        return self.agrees(symbol, counted, end)

    def _votes_since(self, symbol: str, direction: Direction, since: float) -> bool:
        """Enough authors and texts: an author has one vote, and a text counts once."""
        votes = self._recent[symbol, direction]
        oldest_counted = min(since, since + self.lookback_s - self.interval_s)
        while votes and votes[0].at.timestamp() < oldest_counted:
            votes.popleft()
        distinct = min(len({vote.by for vote in votes}), len({vote.text for vote in votes}))
        return distinct >= self.min_votes

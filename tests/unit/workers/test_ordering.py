"""The planner of an ordered replay: it may stop where nothing happens, never run past what could be decided."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.consensus import ConsensusSettings, reach_consensus, window_of
from pipeline.models import AnalyzedMessage, Label, Vote
from pipeline.router import DenyList, Leg, RouterSettings, route
from tests.trunk import NOON, a_message, later
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.journal_memory import MemoryJournal
from workers.ordering import Planner

WINDOW = 60


def a_planner(*, lookback_s: float = 900, min_votes: int = 2, max_list: int = 1000) -> Planner:
    """A planner with the shipped numbers."""
    return Planner(interval_s=WINDOW, lookback_s=lookback_s, min_votes=min_votes, max_list=max_list)


def legs(
    number: int,
    label: Label | str = "bullish",
    at: datetime = NOON,
    *,
    confidence: float = 0.8,
    symbols: tuple[str, ...] = ("AAPL",),
    age_s: float = 0,
    **facts: Any,
) -> tuple[Leg, ...]:
    """The legs of one post of an author and a text of its own, unless the facts say otherwise."""
    author = facts.pop("author", f"author-{number}")
    message = a_message(label, confidence, symbols=symbols, number=number, author=author, at=at, **facts)
    return route(message, at + timedelta(seconds=age_s), DenyList(), RouterSettings(), 0.85)


# ---- windows -----------------------------------------------------------------------------------------


def test_a_window_with_two_votes_of_one_direction_is_named_at_its_end() -> None:
    """12:00:05 and 12:00:59 agree: 12:01:00 must be waited for."""
    planner = a_planner()
    planner.follow(legs(1, at=later(5)))
    planner.follow(legs(2, at=later(59)))

    assert planner.closes_before(later(59.9)) is None
    assert planner.closes_before(later(60)) == later(60)


def test_a_window_is_named_once() -> None:
    """What was drained needs no second drain."""
    planner = a_planner()
    planner.follow((*legs(1), *legs(2)))
    planner.closes_before(later(60))

    assert planner.closes_before(later(3600)) is None


@pytest.mark.parametrize("labels", [("bullish",), ("bullish", "bearish"), ("neutral", "neutral", "neutral")])
def test_a_window_that_cannot_agree_is_not_named(labels: tuple[str, ...]) -> None:
    """One vote, one of each, or no direction at all: fewer than two of a kind."""
    planner = a_planner()
    for number, label in enumerate(labels):
        planner.follow(legs(number, label))

    assert planner.closes_before(later(60)) is None


@pytest.mark.parametrize("alike", [{"author": "ann"}, {"fingerprint": "the same words"}])
def test_one_author_or_one_text_twice_cannot_agree(alike: dict[str, Any]) -> None:
    """An author has one vote and a text counts once: two posts of ann, or of one text, are one vote."""
    planner = a_planner()
    planner.follow((*legs(1, **alike), *legs(2, **alike)))

    assert planner.closes_before(later(60)) is None


def test_the_symbols_that_could_agree_are_named_with_their_window() -> None:
    """MSFT's lone vote is no suspect."""
    planner = a_planner()
    planner.follow((*legs(1), *legs(2), *legs(3, symbols=("MSFT",))))
    planner.closes_before(later(60))

    assert planner.suspects == {"AAPL"}


def test_a_window_that_was_left_alone_is_overdue_after_half_the_time_that_votes_are_kept() -> None:
    """Kept a day: from 12 h after 12:01:00 on, where no window is open; a drain settles it."""
    planner = a_planner()
    planner.follow(legs(1))
    assert not planner.overdue(later(86_400))
    planner.closes_before(later(3_600))

    assert not planner.overdue(later(60 + 43_200 - 0.001))
    assert planner.overdue(later(60 + 43_200))
    planner.drained()
    assert not planner.overdue(later(90_000))


def test_no_window_is_cut_in_two_before_a_look_back_would_be_gone() -> None:
    """12:01:00 - 900 s + 86,400 s - 60 s = 11:45:00 of the next day: then even in the middle of a window."""
    planner = a_planner()
    planner.follow(legs(1))
    planner.closes_before(later(3_600))
    planner.follow(legs(2, at=later(86_400 - 920)))

    assert planner.prunes_from == later(86_400 - 900)
    assert not planner.overdue(later(86_400 - 900 - 0.001))
    assert planner.overdue(later(86_400 - 900))


def test_nothing_is_pruned_that_nobody_looks_back_on() -> None:
    """Without a window that was left alone there is no such moment, not in a thousand years."""
    assert a_planner().prunes_from > NOON.replace(year=3014)


def test_votes_of_two_symbols_do_not_add_up() -> None:
    """Consensus is of one symbol."""
    planner = a_planner()
    planner.follow(legs(1, symbols=("AAPL",)))
    planner.follow(legs(2, symbols=("MSFT",)))

    assert planner.closes_before(later(60)) is None


def test_an_earlier_vote_within_the_look_back_makes_a_window_possible() -> None:
    """Look-back 900 s from the window's end 12:15:00 reaches back to 12:00:00, a vote there is kept; not one before."""
    for early, named in ((0.0, True), (-1.0, False)):
        planner = a_planner()
        planner.follow(legs(1, at=later(early)))
        planner.closes_before(later(850))
        planner.follow(legs(2, at=later(850)))

        assert (planner.closes_before(later(900)) == later(900)) is named


def test_a_symbol_without_a_vote_in_the_window_is_not_decided() -> None:
    """AAPL could agree by its look-back, but has no list; MSFT's lone vote cannot."""
    planner = a_planner()
    planner.follow((*legs(1), *legs(2)))
    planner.closes_before(later(60))
    planner.follow(legs(3, at=later(70), symbols=("MSFT",)))

    assert planner.closes_before(later(120)) is None


# ---- urgent legs and full lists ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "label", "age_s", "urgent"),
    [
        (0.85, "bullish", 0, True),
        (0.85, "bearish", 30, True),
        (0.84, "bullish", 0, False),
        (1.0, "neutral", 0, False),
        (1.0, "bullish", 31, False),
    ],
)
def test_every_urgent_leg_is_named(confidence: float, label: str, age_s: float, *, urgent: bool) -> None:
    """What the router decides at once, and nothing else."""
    assert a_planner().follow(legs(1, label, confidence=confidence, age_s=age_s)) is urgent


def test_an_urgent_leg_among_others_is_named() -> None:
    """The primary's leg, whatever follows it."""
    assert a_planner().follow(legs(1, confidence=0.9, symbols=("AAPL", "MSFT", "TSLA")))


def test_an_urgent_leg_votes_too() -> None:
    """One urgent and one regular post of a direction could agree."""
    planner = a_planner()
    planner.follow(legs(1, confidence=0.9))
    planner.follow(legs(2))

    assert planner.closes_before(later(60)) == later(60)


def test_a_list_is_full_at_its_limit_and_empty_after_the_drain() -> None:
    """The 3rd of 3 fills it, whatever the labels."""
    planner = a_planner(max_list=3)
    planner.follow((*legs(1), *legs(2, "neutral"), *legs(3, symbols=("MSFT",))))
    assert not planner.full()
    planner.follow(legs(4, "bearish"))
    assert planner.full()

    planner.drained()

    assert not planner.full()


@pytest.mark.parametrize(("most", "named"), [(3, None), (2, later(60))])
def test_of_more_votes_than_are_looked_back_on_only_redis_knows(most: int, named: datetime | None) -> None:
    """Two agreeing votes that the consensus would not take: named where two fill the look-back."""
    planner = a_planner()
    planner.agrees, planner.most_votes = (lambda *_: False), most
    planner.follow((*legs(1), *legs(2)))

    assert planner.closes_before(later(60)) == named


# ---- never misses ------------------------------------------------------------------------------------

POSTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 20, 45, 59, 60, 61, 300, 899, 900]),  # seconds since the post before
        st.sampled_from([Label.BULLISH, Label.BULLISH, Label.BEARISH, Label.NEUTRAL]),
        st.sampled_from(["AAPL", "AAPL", "MSFT"]),
        st.integers(0, 12),  # author
        st.sampled_from([0.5, 0.9]),
    ),
    min_size=1,
    max_size=20,
)
Post = tuple[int, Label, str, int, float]


@settings(max_examples=200, deadline=None)
@given(
    posts=POSTS,
    lookback_s=st.sampled_from([0, 10, 60, 900]),
    min_votes=st.integers(1, 3),
    offset=st.integers(0, 59),
)
@example(
    posts=[(0, Label.BULLISH, "AAPL", 1, 0.5), (899, Label.BULLISH, "AAPL", 2, 0.5)],
    lookback_s=900,
    min_votes=2,
    offset=1,
)
def test_no_window_that_agrees_is_ever_missed(
    posts: list[Post], lookback_s: float, min_votes: int, offset: int
) -> None:
    """Against the consensus itself, on every window of a stream, with every earlier vote still unused."""
    planner = a_planner(lookback_s=lookback_s, min_votes=min_votes)
    named: set[datetime] = set()
    history: dict[str, list[Vote]] = defaultdict(list)
    now = later(offset)
    for number, (gap, label, symbol, author, confidence) in enumerate(posts):
        now += timedelta(seconds=gap)
        named |= {closed} if (closed := planner.closes_before(now)) else set()
        message = a_message(label, confidence, symbols=(symbol,), number=number, author=f"a-{author}", at=now)
        routed = route(message, now, DenyList(), RouterSettings(), 0.85)
        assert planner.follow(routed) is (confidence >= 0.85 and label is not Label.NEUTRAL)
        history[symbol] += [leg.vote for leg in routed if leg.vote is not None]
    named |= {closed} if (closed := planner.closes_before(now + timedelta(days=1))) else set()

    assert agreeing(history, lookback_s, min_votes) <= named


def agreeing(history: dict[str, list[Vote]], lookback_s: float, min_votes: int) -> set[datetime]:
    """The ends of all windows in which some symbol's own votes, with its look-back, reach a consensus."""
    found = set()
    numbers = ConsensusSettings(min_votes=min_votes, lookback_s=lookback_s)
    for symbol, votes in history.items():
        for window in {window_of(vote.at, WINDOW) for vote in votes}:
            end = datetime.fromtimestamp((window + 1) * WINDOW, UTC)
            since = end - timedelta(seconds=lookback_s)
            own = [vote for vote in votes if window_of(vote.at, WINDOW) == window]
            newest = max(vote.at for vote in own)
            earlier = [vote for vote in votes if since < vote.at <= newest and vote not in own]
            if reach_consensus("d-1", symbol, (*own, *earlier), end, numbers, 0.6).signal is not None:
                found.add(end)
    return found


TOLD = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 30, 59, 60, 61, 400, 899, 900, 86_399, 86_400]),  # seconds since the post before
        st.sampled_from([Label.BULLISH, Label.BULLISH, Label.BEARISH, Label.NEUTRAL]),
        st.sampled_from(["AAPL", "AAPL", "MSFT"]),
        st.integers(0, 12),  # author
        st.sampled_from(["", "", "", "one", "two"]),  # a text that comes again, or one of its own
        st.sampled_from([False] * 9 + [True]),  # whether it is the post before once more, under another text
    ),
    min_size=1,
    max_size=30,
)
Told = tuple[int, Label, str, int, str, bool]


@settings(max_examples=300, deadline=None)
@given(posts=TOLD, lookback_s=st.sampled_from([0, 60, 900]), min_votes=st.integers(1, 2))
@example(  # the bearish text was said before: it is no vote, so two agree
    posts=[
        (0, Label.BEARISH, "AAPL", 0, "one", False),
        (1000, Label.BULLISH, "AAPL", 1, "", False),
        (1, Label.BEARISH, "AAPL", 2, "one", False),
        (1, Label.BEARISH, "AAPL", 3, "one", False),
        (1, Label.BULLISH, "AAPL", 4, "", False),
    ],
    lookback_s=900,
    min_votes=2,
)
@example(  # the second bearish post has the id of the one before: it is none, so two of three agree
    posts=[
        (0, Label.BULLISH, "AAPL", 1, "", False),
        (1, Label.BEARISH, "AAPL", 2, "", False),
        (1, Label.BULLISH, "AAPL", 3, "", False),
        (1, Label.BEARISH, "AAPL", 4, "", True),
    ],
    lookback_s=900,
    min_votes=2,
)
@example(  # the bearish votes are used: what is left agrees
    posts=[
        *((0, Label.BEARISH, "AAPL", author, "", False) for author in range(3)),
        (60, Label.BULLISH, "AAPL", 4, "", False),
        (1, Label.BULLISH, "AAPL", 5, "", False),
    ],
    lookback_s=900,
    min_votes=2,
)
def test_a_planner_that_asks_the_consensus_misses_nothing_though_votes_repeat_and_are_used(
    posts: list[Told], lookback_s: float, min_votes: int
) -> None:
    """Against the backlog's own memory of texts, with the votes of every consensus used from then on."""
    world = World(lookback_s, min_votes)
    now = NOON
    for number, (gap, label, symbol, author, text, again) in enumerate(posts):
        now += timedelta(seconds=gap)
        world.look(now)
        name = number - 1 if again else number
        fingerprint = text or f"own-{number}"
        world.tell(
            a_message(label, 0.7, symbols=(symbol,), number=name, author=f"a-{author}", at=now, fingerprint=fingerprint)
        )
    world.look(now + timedelta(days=1))

    assert world.missed == []


class World:
    """A planner beside a backlog of which every window's truth is asked."""

    def __init__(self, lookback_s: float, min_votes: int) -> None:
        self._numbers = ConsensusSettings(min_votes=min_votes, lookback_s=lookback_s)
        self._planner = a_planner(lookback_s=lookback_s, min_votes=min_votes)
        self._planner.agrees = self._agrees
        self._backlog = MemoryBacklog(MemoryJournal())
        self._window: int | None = None
        self._told: set[str] = set()
        self.missed: list[datetime] = []

    def tell(self, message: AnalyzedMessage) -> None:
        """A post, which the backlog does not get a second time."""
        self._window = window_of(message.message.received_at, WINDOW)
        legs = route(message, message.message.received_at, DenyList(), RouterSettings(), 0.85)
        self._planner.follow(legs)
        if message.message_id not in self._told:
            self._backlog.accept([(message, legs)])
        self._told.add(message.message_id)

    def look(self, now: datetime) -> None:
        """Close the window that lies before; a consensus uses its votes."""
        named = self._planner.closes_before(now)
        if self._window is None or self._window >= window_of(now, WINDOW):
            return
        end, used = datetime.fromtimestamp((self._window + 1) * WINDOW, UTC), set()
        for symbol in ("AAPL", "MSFT"):
            votes = self._counted(symbol, end)
            if votes and self._agrees(symbol, votes, end):
                used.add(symbol)
                self._backlog.mark_used(symbol, [vote.id for vote in votes], end)
                if named != end or symbol not in self._planner.suspects:
                    self.missed.append(end)
        self._window = None
        if used:
            self._planner.drained(end, frozenset(used))

    def _counted(self, symbol: str, end: datetime) -> list[Vote]:
        """Own votes of the window and, with the look-back, earlier ones; none that is used."""
        first = end - timedelta(seconds=WINDOW)
        known = [
            vote
            for vote in self._backlog.votes(symbol, first - timedelta(days=1), end)
            if not self._backlog.used(symbol, [vote.id])
        ]
        own = [vote for vote in known if first <= vote.at < end]
        since = end - timedelta(seconds=self._numbers.lookback_s)
        newest = max((vote.at for vote in own), default=first)
        return own and [*own, *(vote for vote in known if since < vote.at <= newest and vote not in own)]

    def _agrees(self, symbol: str, votes: Sequence[Vote], at: datetime) -> bool:
        return reach_consensus("d", symbol, votes, at, self._numbers, 0.6).signal is not None

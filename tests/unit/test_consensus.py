"""What a batch of votes agrees on: counts, ties, limits and the one signal, with numbers worked by hand."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from pipeline.consensus import Consensus, ConsensusSettings, aggregate_sentiment, distinct, reach_consensus, window_of
from pipeline.models import AggregatedSentiment, Direction, Label, Refusal, Signal, Stage, Vote
from tests.trunk import NOON, a_vote, later, votes

SETTINGS = ConsensusSettings()
LITERAL = ConsensusSettings(min_votes=1)


def consensus(counted: Sequence[Vote], settings: ConsensusSettings = SETTINGS, min_consensus: float = 0.6) -> Consensus:
    """What the votes reach a minute after noon."""
    return reach_consensus("AAPL-1", "AAPL", counted, later(60), settings, min_consensus)


def signal(*args: Any, **facts: Any) -> Signal:
    """The signal of a batch that agrees."""
    found = consensus(*args, **facts)
    assert found.refusal is None
    assert found.signal is not None
    return found.signal


def refused(*args: Any, **facts: Any) -> tuple[str, str]:
    """Rule and observed value of a batch that does not agree."""
    found = consensus(*args, **facts)
    assert found.signal is None
    assert found.refusal is not None
    assert found.refusal.stage is Stage.CONSENSUS
    return found.refusal.rule, found.refusal.observed


# ---- counting ----------------------------------------------------------------------------------------


def test_the_aggregate_counts_every_label_and_names_the_lead() -> None:
    """3 bullish, 1 bearish, 1 neutral at 0.8: strength 3 / 5 = 0.6, mean confidence 0.8."""
    counted = aggregate_sentiment(votes(3, 1, 1))

    assert (counted.bullish, counted.bearish, counted.neutral, counted.total) == (3, 1, 1, 5)
    assert (counted.label, counted.strength) == (Label.BULLISH, 0.6)
    assert counted.mean_confidence == pytest.approx(0.8)
    assert counted.message_ids == ("test-0", "test-1", "test-2", "test-3", "test-4")


def test_mean_confidence_is_that_of_all_votes() -> None:
    """(0.9 + 0.6 + 0.3) / 3 = 0.6, the neutral one included."""
    counted = (a_vote(1, confidence=0.9), a_vote(2, confidence=0.6), a_vote(3, "neutral", 0.3))

    assert aggregate_sentiment(counted).mean_confidence == pytest.approx(0.6)


def test_the_newest_vote_gives_the_aggregate_its_time() -> None:
    """Whatever the order they came in."""
    assert aggregate_sentiment([a_vote(1, at=later(5)), a_vote(2, at=later(2))]).newest == later(5)


def test_an_empty_aggregate_has_no_direction_and_no_strength() -> None:
    """No votes, no division by zero."""
    assert aggregate_sentiment(()) == AggregatedSentiment(0, 0, 0, 0, None, 0.0, 0.0, (), None)


@pytest.mark.parametrize(
    ("counts", "label"),
    [
        ((1, 1, 0), None),
        ((2, 0, 2), None),
        ((0, 2, 2), None),
        ((1, 1, 1), None),
        ((2, 1, 1), Label.BULLISH),
        ((1, 2, 1), Label.BEARISH),
        ((1, 1, 2), Label.NEUTRAL),
    ],
)
def test_a_tie_for_the_lead_has_no_label(counts: tuple[int, int, int], label: Label | None) -> None:
    """Bullish : bearish : neutral."""
    assert aggregate_sentiment(votes(*counts)).label is label


# ---- strength ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bullish", "total", "agrees"), [(3, 5, True), (2, 4, False), (6, 10, True), (5, 9, False)])
def test_three_of_five_agree_and_less_than_that_does_not(bullish: int, total: int, *, agrees: bool) -> None:
    """Rule (seed): strength >= 0.6, inclusive: 3/5 = 6/10 = 0.6; 2/4 = 0.5 and 5/9 = 0.556 are less."""
    assert (consensus(votes(bullish, 1, total - bullish - 1)).signal is not None) is agrees


@pytest.mark.parametrize(("bullish", "agrees"), [(599, False), (600, True), (601, True)])
def test_600_of_1000_agree_and_599_do_not(bullish: int, *, agrees: bool) -> None:
    """Compared exactly, as fractions: 600/1000 is 0.6."""
    assert (consensus(votes(bullish, 1000 - bullish)).signal is not None) is agrees


def test_strength_is_compared_as_a_fraction_not_as_a_float() -> None:
    """The float 0.55 lies above 0.55: 11 of 20 pass all the same; a limit truly above 0.57 refuses 57 of 100."""
    assert consensus(votes(11, 9), min_consensus=0.55).signal is not None
    assert refused(votes(57, 43), min_consensus=math.nextafter(0.57, 1)) == ("min_consensus", "57 of 100")


def test_neutral_votes_weaken_the_strength() -> None:
    """3 of 5 with two neutral agree; 3 of 6 with three neutral are a tie."""
    assert consensus(votes(3, 0, 2)).signal is not None
    assert refused(votes(3, 1, 2)) == ("min_consensus", "3 of 6")
    assert refused(votes(3, 0, 3)) == ("tie", "3:0:3")


@pytest.mark.parametrize("counts", [(2, 2, 0), (1, 1, 1), (3, 0, 3)])
def test_a_tie_has_no_direction(counts: tuple[int, int, int]) -> None:
    """Rule: a tie for the lead is `no_consensus`, whatever `min_consensus` says."""
    assert refused(votes(*counts), LITERAL, 0.0)[0] == "tie"


@pytest.mark.parametrize("neutral", [1, 2, 1000])
def test_all_neutral_is_never_an_order(neutral: int) -> None:
    """Rule: not even when everybody agrees and nothing is asked for."""
    assert refused(votes(0, 0, neutral), LITERAL, 0.0) == ("neutral_lead", f"{neutral} of {neutral}")


def test_an_empty_batch_has_no_direction() -> None:
    """Nothing to decide, nothing to divide by."""
    assert refused((), LITERAL, 0.0)[0] == "tie"


# ---- how many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bullish", "min_votes", "agrees"), [(1, 1, True), (1, 2, False), (2, 2, True), (2, 3, False)])
def test_the_winning_side_needs_min_votes(bullish: int, min_votes: int, *, agrees: bool) -> None:
    """Rule: default 2; 1 is the seed's literal rule."""
    assert (consensus(votes(bullish), ConsensusSettings(min_votes=min_votes)).signal is not None) is agrees


def test_votes_of_the_losing_side_do_not_help_to_reach_min_votes() -> None:
    """2 bullish, 1 bearish with min_votes 3: the winning side has 2."""
    assert refused(votes(2, 1), ConsensusSettings(min_votes=3)) == ("min_votes", "2")


def test_one_author_has_one_vote_his_latest() -> None:
    """Bob was bullish twice and is bearish now: one bearish vote."""
    bob = [a_vote(n, label, by="bob", at=later(n)) for n, label in enumerate(("bullish", "bullish", "bearish"))]

    assert [vote.id for vote in distinct(bob)] == ["test-2"]
    assert refused(bob) == ("min_votes", "1")


def test_an_author_s_latest_vote_counts_whatever_the_order_of_arrival() -> None:
    """The same votes in any order give the same votes."""
    counted = [a_vote(1, by="bob", at=later(1)), a_vote(2, "bearish", by="bob", at=later(2)), a_vote(3)]

    assert {distinct(order) for order in permutations(counted)} == {(counted[2], counted[1])}


def test_the_same_text_by_two_authors_is_one_vote_the_first() -> None:
    """Near-duplicates are one vote."""
    copies = [a_vote(1, text="same", at=later(2)), a_vote(2, text="same", at=later(1))]

    assert [vote.id for vote in distinct(copies)] == ["test-2"]
    assert refused(copies) == ("min_votes", "1")


def test_different_authors_and_texts_all_count() -> None:
    """The near-miss: nothing in common but the label."""
    assert len(distinct(votes(5))) == 5


def test_copies_do_not_outvote_the_others() -> None:
    """Ten copies of one bullish text are one vote against two bearish ones: 2 of 3 bearish."""
    copies = [a_vote(n, text="same") for n in range(10)]

    assert signal([*copies, a_vote(11, "bearish"), a_vote(12, "bearish")]).direction is Direction.SHORT


# ---- the signal --------------------------------------------------------------------------------------


def test_the_signal_s_numbers_worked_by_hand() -> None:
    """Bullish 0.9 at 0.8 and 0.3 at 0.4, bearish at 0.6.

    score = (0.9 x 0.8 + 0.3 x 0.4) / (0.8 + 0.4) = 0.84 / 1.2 = 0.7; strength = 2/3; mean = (0.8 + 0.4 + 0.6) / 3
    = 0.6; confidence = 2/3 x 0.6 = 0.4.
    """
    found = signal(
        [a_vote(1, confidence=0.8, score=0.9), a_vote(2, confidence=0.4, score=0.3), a_vote(3, "bearish", 0.6)]
    )

    assert found.score == pytest.approx(0.7)
    assert found.confidence == pytest.approx(0.4)
    assert found.direction is Direction.LONG


def test_a_bearish_consensus_is_the_mirror_image() -> None:
    """The same votes with labels and signs turned: score -0.7, confidence 0.4, short."""
    found = signal(
        [
            a_vote(1, "bearish", 0.8, score=-0.9),
            a_vote(2, "bearish", 0.4, score=-0.3),
            a_vote(3, "bullish", 0.6),
        ]
    )

    assert found.score == pytest.approx(-0.7)
    assert found.confidence == pytest.approx(0.4)
    assert found.direction is Direction.SHORT


def test_only_the_winners_are_behind_the_signal_but_every_vote_was_used() -> None:
    """Authors and texts are those of the winning side; message ids are all votes'."""
    found = signal(votes(2, 1))

    assert found.authors == {"author-0", "author-1"}
    assert found.fingerprints == {"text-0", "text-1"}
    assert found.message_ids == ("test-0", "test-1", "test-2")
    assert (found.decision_id, found.symbol, found.kind, found.released) == ("AAPL-1", "AAPL", "batch", False)


def test_the_signal_expires_after_its_newest_vote() -> None:
    """Newest vote 12:00:40 + 120 s = 12:02:40; decided at 12:01:00, the end of the window."""
    found = signal([a_vote(1, at=NOON), a_vote(2, at=later(40))])

    assert (found.created_at, found.decided_at) == (later(40), later(60))
    assert found.expires_at == later(160)


def test_votes_without_any_confidence_are_no_signal() -> None:
    """A mean weighted by zero has no value; the smallest confidence has one."""
    assert refused(votes(2, confidence=0.0)) == ("no_confidence", "0")
    assert signal(votes(2, confidence=0.01)).score == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("counted", "rule", "observed", "limit"),
    [
        (votes(2, 2), "tie", "2:2:0", "one leading label"),
        (votes(1, 0, 2), "neutral_lead", "2 of 3", "a direction in the lead"),
        (votes(1), "min_votes", "1", ">= 2"),
        (votes(3, 1, 2), "min_consensus", "3 of 6", ">= 0.6"),
        (votes(2, confidence=0.0), "no_confidence", "0", "> 0"),
    ],
)
def test_a_refusal_says_what_was_counted_and_what_was_asked(
    counted: Sequence[Vote], rule: str, observed: str, limit: str
) -> None:
    """And the aggregate it was read from is kept for the trace."""
    expected = Consensus(aggregate_sentiment(counted), refusal=Refusal(Stage.CONSENSUS, rule, observed, limit))

    assert consensus(counted) == expected


def test_a_signal_keeps_the_aggregate_it_was_made_of() -> None:
    """For the trace."""
    assert consensus(votes(2)).aggregate == aggregate_sentiment(votes(2))


# ---- windows -----------------------------------------------------------------------------------------


def test_a_window_holds_its_first_moment_and_not_its_last() -> None:
    """Noon is a multiple of 60 s: 12:00:00 to 12:00:59.999999 are one window."""
    noon = window_of(NOON, 60)

    assert window_of(later(59.999999), 60) == noon
    assert window_of(later(60), 60) == noon + 1
    assert window_of(later(-0.000001), 60) == noon - 1


def test_windows_are_floored_also_before_1970() -> None:
    """The second before the epoch belongs to window -1, not to window 0."""
    assert [window_of(datetime.fromtimestamp(t, UTC), 60) for t in (-60, -1, 0, 59)] == [-1, -1, 0, 0]

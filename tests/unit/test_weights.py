"""Posts read together are read as each of them alone, to the last bit."""

from itertools import pairwise

import pytest

from pipeline.features import has_plain_groups, letter_buckets, letter_table
from pipeline.lexicon import Reading
from pipeline.sentiment import Channel, SentimentModel
from pipeline.weights import Weights

MODEL = SentimentModel()
WORDS = ("puts", "not_puts", "not", "but", "not_but", "downgraded", "not_downgraded", "a" * 30, "xyz", "the")
POSTS = [
    ("buy", "the", "dip", "in", "<tag>", "now"),
    (),
    ("buy", "the", "buy", "the", "dip"),
    ("not", "not_good", "naïve", "<+%>", "!", "…"),
    tuple(f"word{'abcdefghijklmnopqrstuvwxyz'[index]}" for index in range(26)),
    ("x",),
]


def fresh() -> Weights:
    """The weights of unknown channels, with no word met yet."""
    return Weights(MODEL.model.summed(Channel.UNKNOWN), MODEL.model.card.step / 2)


@pytest.mark.parametrize("words", [WORDS, WORDS[:1], WORDS[::-1]])
def test_the_groups_of_many_words_are_those_of_each(words: tuple[str, ...]) -> None:
    """3 to 5 letters in a row, edges included, negated words by a hash of their own."""
    buckets, starts = letter_table(words)
    ends = [*starts.tolist(), buckets.shape[1]]

    found = [sorted(part[part >= 0].tolist()) for part in (buckets[:, a:b] for a, b in pairwise(ends))]
    assert found == [sorted(letter_buckets(word)) for word in words]


@pytest.mark.parametrize(
    ("word", "has"), [("put", True), ("not_put", True), ("up", False), ("naïve", False), ("52week", False)]
)
def test_only_plain_words_of_three_letters_are_read_together(word: str, has: bool) -> None:  # noqa: FBT001
    """Others have no groups, or letters of more than one byte; those are read one by one."""
    assert has_plain_groups(word) is has


def test_posts_read_together_have_the_logits_of_each_alone() -> None:
    """More new words than `_FEW`, repeated words, an empty post, one word, words of no plain letters."""
    readings = [Reading(1.5, 0.0, post) for post in POSTS]
    together = fresh().logits_all(readings)

    assert together == [fresh().logits(reading) for reading in readings]
    assert together[1] == fresh().logits(Reading(1.5, 0.0, ()))
    assert len(set(together)) == len(POSTS)


def test_no_posts_have_no_logits() -> None:
    """A chunk may be empty."""
    assert fresh().logits_all([]) == []

"""Hashed features: which there are, what they weigh, and that training and the model agree on them."""

from zlib import crc32

import numpy as np
import pytest

from pipeline.features import BUCKETS, LETTERS_SCALE, features, lean_buckets, letter_buckets, pair_bucket, word_bucket
from pipeline.lexicon import Lexicon, tokens
from pipeline.sentiment import Card, Channel, Model, SentimentModel, named, pack, units, weights_digest
from pipeline.training import matrix

LEXICON = Lexicon()


def a_random_model(seed: int = 3) -> Model:
    """A model whose every weight is a number from -127 to 127."""
    rows = np.random.default_rng(seed).integers(-127, 128, (2, 2, BUCKETS)).astype(np.int8)
    card = Card(
        version="",
        about="random",
        seed=seed,
        ridge=1.0,
        step=0.01,
        weights=weights_digest(pack(rows)),
        calibrators={},
        provenance=(),
    )
    return Model(named(card), rows)


def test_a_bucket_is_the_crc_of_the_name() -> None:
    """CRC-32 modulo 2^18, the same on every machine."""
    assert word_bucket("rally") == crc32(b"rally") % 262_144


def test_a_word_has_groups_of_three_to_five_letters_with_its_edges() -> None:
    """`<buy>`: <bu buy uy> <buy buy> <buy> = 3 + 2 + 1, though `longest` is cut to the word and one edge: 4."""
    assert len(letter_buckets("buy")) == 3 + 2
    assert len(letter_buckets("sold")) == 4 + 3 + 2


@pytest.mark.parametrize("token", ["up", "<tag>", "🚀", "<+%>", "?", "can't", "not_up"])
def test_marks_numbers_and_short_words_have_no_letter_groups(token: str) -> None:
    """Only words of three letters or more are taken apart."""
    assert letter_buckets(token) == ()


def test_negated_words_have_letter_groups_of_their_own() -> None:
    """`not_bullish` shares none with `bullish`."""
    assert set(letter_buckets("not_bullish")).isdisjoint(letter_buckets("bullish"))


def test_repeated_words_and_pairs_count_once() -> None:
    """Buy buy buy: one word, one pair (buy, buy)."""
    found = features(LEXICON.read(tokens("buy buy buy")))

    assert len(found.words) == 2
    assert found.letters == letter_buckets("buy")


def test_the_lexicon_leans_in_whole_steps() -> None:
    """0.7 is one step, 3.4 - 0.7 = 2.7 three; nothing is more than four."""
    assert lean_buckets((3.4, 0.7)) == tuple(map(word_bucket, ("<bull 3>", "<bear 1>", "<lean 3>")))
    assert lean_buckets((9.0, 0.0)) == lean_buckets((4.0, 0.0))


@pytest.mark.parametrize(
    ("channel", "news", "social"), [(Channel.NEWS, 1.0, 0.0), (Channel.SOCIAL, 0.0, 1.0), (Channel.UNKNOWN, 0.5, 0.5)]
)
@pytest.mark.parametrize(
    "text",
    ["$AAPL beats, not a bad quarter, up 5% 🚀🚀", "sold my calls, isn't it great?", "", "a", "buy " * 300],
)
def test_training_and_the_model_see_the_same_features(text: str, channel: Channel, news: float, social: float) -> None:
    """The sums from the caches equal the sparse product that training uses; unknown channels get the tables' mean."""
    model = a_random_model()
    reading = LEXICON.read(tokens(text))

    logits = SentimentModel(model).logits(reading, channel)

    x = matrix([features(reading)])
    weights = units(model.rows)
    table = (news * weights[0] + social * weights[1]) * model.card.step
    assert logits == pytest.approx([float(x.times(row)[0]) for row in table], abs=1e-9)


def test_letters_weigh_less_than_words() -> None:
    """One word of n groups: each LETTERS_SCALE / sqrt(n), the word itself 1."""
    x = matrix([features(LEXICON.read(["zzzz"]))])

    assert x.values.tolist() == pytest.approx([1.0] + [LETTERS_SCALE / 3] * 9 + [1.0] * 3)


@pytest.mark.parametrize("pair", [("buy", "now"), ("not_buy", "<tag>"), ("größe", "🚀"), ("a", "\ud800")])
def test_a_pair_is_the_crc_of_both_words_with_a_space(pair: tuple[str, str]) -> None:
    """The second half goes on from the first half's CRC-32, which makes that of the whole."""
    assert pair_bucket(pair) == crc32(" ".join(pair).encode("utf-8", "surrogatepass")) % 262_144


def test_the_groups_of_letters_of_a_foreign_word_are_hashed_as_utf_8() -> None:
    """`<öl>` is too short for a group; `größe` has 5 + 4 + 3, the first of them `<gr`."""
    assert letter_buckets("öl") == ()
    assert len(letter_buckets("größe")) == 5 + 4 + 3
    assert letter_buckets("größe")[2] == crc32("# röß".encode()) % 262_144

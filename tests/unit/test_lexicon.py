"""Tokens and what the finance lexicon makes of them, sums worked by hand."""

import pytest

from pipeline.lexicon import Lexicon, tokens

LEXICON = Lexicon()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$AAPL up +5% to $100!", ["<tag>", "up", "<+%>", "to", "<$>", "!"]),
        ("@Bob isn’t #long -3.5 percent", ["<user>", "isn't", "long", "<-%>"]),
        ("52-week high: 12,000", ["52week", "high", ".", "<#>"]),
        ("buy 🚀📈, http://x.co/sell", ["buy", "🚀", "📈", ".", "<link>"]),
        ("..., ;", []),
        ("", []),
    ],
)
def test_tokens_keep_words_and_emoji_and_name_the_rest_by_kind(text: str, expected: list[str]) -> None:
    """Cashtags, users, links and numbers lose their identity, stops collapse."""
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "bullish", "bearish", "why"),
    [
        ("upgrade", 2.0, 0.0, "a clear word"),
        ("gains and losses", 1.0, 1.0, "one for each side"),
        ("very strong", 1.5, 0.0, "1 x 1.5"),
        ("slightly weak", 0.0, 0.5, "1 x 0.5"),
        ("not bullish", 0.0, 1.4, "2 x -0.7"),
        ("not a crash", 1.4, 0.0, "-2 x -0.7"),
        ("not today. bullish", 2.0, 0.0, "the clause ends, the negation with it"),
        ("no but bullish", 2.0, 0.0, "but ends it too"),
        ("not one two three four bullish", 2.0, 0.0, "the fifth word is out of reach"),
        ("not one two three bullish", 0.0, 1.4, "the fourth is in reach"),
        ("short squeeze", 2.0, 0.0, "the phrase, not short + squeeze"),
        ("price target raised", 2.0, 0.0, "a phrase of three"),
        ("price target cut", 0.0, 2.0, "its mirror image"),
        ("52 week high", 2.0, 0.0, "a phrase with a number"),
        ("bought calls", 2.0, 0.0, "1 + (2 - 1)"),
        ("bought puts", 1.0, 3.0, "1, then -2 - 1: bearish by 2"),
        ("sold puts", 3.0, 1.0, "-1, then 2 + 1: bullish by 2"),
        ("sold calls", 0.0, 2.0, "-1 + (-2 + 1)"),
        ("puts", 0.0, 1.0, "options alone lean"),
        ("🚀🚀", 4.0, 0.0, "two rockets"),
        ("📉", 0.0, 2.0, "a falling chart"),
        ("the meeting is on monday", 0.0, 0.0, "nothing"),
    ],
)
def test_valence_is_summed_for_each_side(text: str, bullish: float, bearish: float, why: str) -> None:
    """Valence x intensity before it, turned round at 0.7 by a negation within four words."""
    reading = LEXICON.read(tokens(text))

    assert (reading.bullish, reading.bearish) == pytest.approx((bullish, bearish)), why


def test_words_in_reach_of_a_negation_are_marked() -> None:
    """The model sees `not_good`, a word of its own."""
    assert LEXICON.read(tokens("not good. good")).marked == ["not", "not_good", "not_.", "good"]

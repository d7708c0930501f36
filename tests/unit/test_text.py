"""The identity of a post, its length and its readability."""

import re

import pytest

from pipeline.text import clean, cut, fingerprint, is_readable

POST = "Apple beats! $AAPL +5% https://t.co/abc"


@pytest.mark.parametrize(
    "copy",
    [
        "RT @trader: Apple beats! $AAPL +5% https://t.co/abc",
        "RT @a: RT @b_c: Apple beats! $AAPL +5% https://t.co/abc",
        "MT @trader Apple beats! $AAPL +5%",
        "“@trader: Apple beats! $AAPL +5%”",
        "Apple beats! $AAPL +5% http://bit.ly/other",
        "APPLE   beats\n$aapl +5%",
        "Apple beats - $AAPL, +5% ...",
        "Apple beats! $AAPL +5&#37; https:…",
        "Apple\u200b beats! \u200f$AAPL +5%",
    ],
)
def test_a_copy_has_the_fingerprint_of_the_original(copy: str) -> None:
    """RT/MT marks, links, case, white space, punctuation and HTML entities make no difference."""
    assert fingerprint(copy) == fingerprint(POST)


@pytest.mark.parametrize(
    "other",
    [
        "Apple beats! $MSFT +5% https://t.co/abc",
        "Apple beats! $AAPL -5% https://t.co/abc",
        "Apple beats! $AAPL +6% https://t.co/abc",
        "Apple beats! $AAPL +5 https://t.co/abc",
        "Apple beats! $AAPL +5% 🚀",
        "Apple never beats! $AAPL +5%",
        "",
    ],
)
def test_what_changes_the_meaning_changes_the_fingerprint(other: str) -> None:
    """Symbols, signs, numbers, units, words and emoji are the text's identity."""
    assert fingerprint(other) != fingerprint(POST)


CAMPAIGN = "One two three four five six seven eight nine {} 40% http://t.co/a"


def test_a_campaign_under_ever_new_tickers_is_one_text() -> None:
    """Nine words and 40% are ten: tickers, tags, users and links may change, a number or its sign may not."""
    first = fingerprint(CAMPAIGN.format("$AAPL $MSFT"))

    assert first == fingerprint("RT @x: " + CAMPAIGN.format("$TSLA #win @you").replace("t.co/a", "t.co/b"))
    assert first != fingerprint(CAMPAIGN.format("$AAPL $MSFT").replace("40%", "41%"))
    assert first != fingerprint(CAMPAIGN.format("$AAPL $MSFT").replace("40%", "-40%"))


def test_short_sentences_about_two_stocks_are_two_texts() -> None:
    """Eight words and 40% are nine: the ticker is what is new."""
    short = CAMPAIGN.replace("nine ", "")

    assert fingerprint(short.format("$AAPL")) != fingerprint(short.format("$TSLA"))


def test_posts_of_links_only_are_told_apart() -> None:
    """A post with no words is identified by its whole text, so all such posts are not one."""
    assert fingerprint("https://t.co/a") != fingerprint("https://t.co/b")
    assert fingerprint("!!!") != fingerprint("???")


@pytest.mark.parametrize("text", ["", "\ud800", "\x00\x01", "é", "🚀", "RT @a: " * 5000])
def test_a_fingerprint_is_twenty_hex_characters(text: str) -> None:
    """Whatever the text."""
    assert re.fullmatch(r"[0-9a-f]{20}", fingerprint(text))


def test_many_repeat_marks_take_linear_time() -> None:
    """7 MB of `RT @a:` come to an end: in quadratic time they would take hours."""
    assert len(fingerprint("RT @a: " * 1_000_000)) == 20


@pytest.mark.parametrize(
    ("text", "result"), [("abc", "abc"), ("abcd", "abc…"), ("aé", "aé"), ("éé", "é…"), ("aéé", "aé…"), ("🚀", "…")]
)
def test_a_cut_never_splits_a_character(text: str, result: str) -> None:
    """At 3 bytes: `aé` has 3 and fits, `éé` has 4 and keeps one, a rocket has 4 and goes."""
    assert cut(text, 3) == result


def test_entities_are_resolved_even_when_escaped_twice() -> None:
    """Real posts carry &amp;amp; from two rounds of escaping."""
    assert clean("AT&amp;amp;T &lt;3") == "AT&T <3"


@pytest.mark.parametrize("text", ["a\x00b", "a\x1bb", "a\ud800b", "\u202eLPAA$", "a\u2066b", "\u200f"])
def test_control_characters_surrogates_and_bidi_marks_are_not_readable(text: str) -> None:
    """Such a text may not say what it shows."""
    assert not is_readable(text)


@pytest.mark.parametrize("text", ["", "plain\ttext\r\n", "ünï 株 🚀 ❤️ é"])
def test_words_of_any_language_are_readable(text: str) -> None:
    """Tabs, line ends, letters and emoji are no binary."""
    assert is_readable(text)

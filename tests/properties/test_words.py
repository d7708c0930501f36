"""Whatever the text, reading it never raises and its bounds hold."""

import re
from datetime import UTC, datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import mentions, tickers
from pipeline.analyzer import LexiconAnalyzer
from pipeline.models import Label, SocialMessage
from pipeline.text import fingerprint
from pipeline.tickers import TickerReader, canonical, file_name

UNIVERSE = frozenset({"AAPL", "BRK.A", "C", "GOOG", "MSFT", "T", "TSLA"})
ANALYZER = LexiconAnalyzer(UNIVERSE)
READER = TickerReader(UNIVERSE)
SYMBOL = re.compile(r"^[A-Z]{1,5}(\.[A-Z]{1,2})?$")
# fmt: off
PIECES = st.sampled_from([
    "$AAPL", "$C", "$T", "$BRK.B", "$brk/b", "$", "$$", "A$AP", "JU$T", "200M", "49.67", "…", "..", "RT @a: ",
    "\n", " ", ".", "http://x.co/a", "not", "bullish", "crash", "puts", "sold", "very", "🚀", "📉",
    "&amp;", "é", "\u0308", "\u202e", "\x00", "\ud800", "'s", "-", "株",
])
# fmt: on
ANY_TEXT = st.one_of(
    st.text(alphabet=st.characters(), max_size=300),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Cf", "Mn"]), max_size=50),
    st.lists(PIECES, max_size=60).map("".join),
    st.lists(PIECES, max_size=60).map(" ".join),
)


def a_message(text: str) -> SocialMessage:
    """A valid post with this text."""
    noon = datetime(2014, 6, 2, 12, tzinfo=UTC)
    return SocialMessage.model_construct(
        message_id="x-1",
        source="x",
        source_id="1",
        created_at=noon,
        received_at=noon,
        author="a",
        followers=None,
        text=text,
    )


@given(ANY_TEXT)
@settings(max_examples=400, deadline=None)
def test_reading_any_text_stays_within_bounds(text: str) -> None:
    """Label and sign agree, confidence is a probability below 1, neutral has score 0."""
    sentiment = ANALYZER.analyze(a_message(text)).sentiment

    assert -1 <= sentiment.score <= 1
    assert 0 <= sentiment.confidence < 1
    assert (sentiment.score > 0) == (sentiment.label is Label.BULLISH)
    assert (sentiment.score < 0) == (sentiment.label is Label.BEARISH)


@given(ANY_TEXT)
@settings(max_examples=400, deadline=None)
def test_every_symbol_read_is_canonical(text: str) -> None:
    """Symbols match the canonical pattern, are known or outside, never both, and round-trip through file names."""
    reading = READER.read(text)

    assert all(SYMBOL.match(symbol) for symbol in (*reading.symbols, *reading.outside))
    assert set(reading.symbols) <= UNIVERSE
    assert UNIVERSE.isdisjoint(reading.outside)
    assert reading.cashtags >= len(reading.symbols) + len(reading.outside)
    assert all(canonical(file_name(symbol)) == symbol for symbol in reading.symbols)


@given(ANY_TEXT)
@settings(max_examples=400, deadline=None)
def test_the_primary_is_the_first_symbol_kept(text: str) -> None:
    """It leads one of the two lists; without symbols there is none."""
    reading = READER.read(text)
    firsts = {*reading.symbols[:1], *reading.outside[:1]}

    assert reading.primary in firsts if firsts else reading.primary is None


@given(ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_a_fingerprint_survives_a_repost(text: str) -> None:
    """20 hex characters; a retweet of words is the same post."""
    assert re.fullmatch(r"[0-9a-f]{20}", fingerprint(text))
    assert fingerprint("RT @someone: words " + text) == fingerprint("words " + text)


HINTS = (
    (tickers._PRICE_HINT, tickers._PRICE),
    (tickers._EMAIL_HINT, tickers._EMAIL),
    (tickers._BARE_LINK_HINT, tickers._BARE_LINK),
    (mentions._OCC_HINT, mentions._OCC),
)
# fmt: off
SIGNS = st.lists(st.sampled_from([
    "$", "%", ".", ",", " ", "7", "12", "AAPL150117", "C7", "P1", "AAPL", "a", "b@c", "@", "-", ".com", ".CO/", "/",
    "x.io/y", "٣",
]), max_size=12).map("".join)
# fmt: on


@given(SIGNS)
@example("AAPL150117P1 AAPL150117C7")
@example("AAPL150117P1")
@example("$7")
@example("7%")
@example("1.2")
@settings(max_examples=200, deadline=None)
def test_a_hint_is_in_every_text_that_has_what_it_hints_at(text: str) -> None:
    """The quick look by a rare sign may raise a false alarm, and never misses: who changes a rule changes its hint."""
    missed = [full.pattern for hint, full in HINTS if full.search(text) is not None and hint.search(text) is None]

    assert missed == []

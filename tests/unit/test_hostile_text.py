"""Texts made to hurt a reader: empty, huge, binary, mixed, marked, and sixteen kilobytes of one annoyance."""

from datetime import UTC, datetime
from time import process_time

import pytest

from pipeline.analyzer import LexiconAnalyzer
from pipeline.models import AnalyzedMessage, Label, SocialMessage

ANALYZER = LexiconAnalyzer(frozenset({"AAPL", "C", "GS", "JPM", "MSFT", "T", "TSLA"}))
NOON = datetime(2014, 6, 2, 12, tzinfo=UTC)
LINEAR = 5
"""How much more than 16 times the cost of 1 KiB 16 KiB may cost; a quadratic rule costs 16 times more."""


def analyze(text: str) -> AnalyzedMessage:
    """The post with this text, whatever it is."""
    message = SocialMessage.model_construct(
        message_id="x-1",
        source="x",
        source_id="1",
        created_at=NOON,
        received_at=NOON,
        author="a",
        followers=None,
        text=text,
    )
    return ANALYZER.analyze(message)


@pytest.mark.parametrize(
    ("text", "is_silent"),
    [
        ("", True),
        (" \n\t ", True),
        ("$AAPL up " * 120_000, False),
        (bytes(range(256)).decode("latin-1") + " $AAPL calls", True),
        ("\ud800\udfff $AAPL soars", True),
        ("\u202e$AAPL soars\u202c", True),
        ("株 $AAPL растёт ارتفع breaks out 🚀", False),
    ],
    ids=["empty", "white", "1 MB", "binary", "surrogates", "bidi", "mixed scripts"],
)
def test_no_text_is_too_strange_to_be_read(text: str, is_silent: bool) -> None:  # noqa: FBT001
    """What cannot be trusted to say what it shows is neutral with confidence 0; all else is read."""
    sentiment = analyze(text).sentiment

    assert ((sentiment.label, sentiment.confidence) == (Label.NEUTRAL, 0.0)) == is_silent


def test_what_lies_beyond_sixteen_kilobytes_is_not_read() -> None:
    """16,384 bytes and the mark of a cut: the symbol after them does not exist."""
    fits, beyond = "x" * 16_378 + " $TSLA", "x" * 16_379 + " $TSLA"

    assert analyze(fits).tickers.symbols == ("TSLA",)
    assert analyze(beyond + " up").tickers.symbols == ()


def test_ten_thousand_cashtags_are_counted_as_far_as_the_post_is_read() -> None:
    """2,730 `$AAPL` of six bytes fit into 16 KiB; all are one symbol."""
    tickers = analyze("$AAPL " * 10_000).tickers

    assert (tickers.symbols, tickers.cashtags) == (("AAPL",), 2_730)


@pytest.mark.parametrize(
    "piece",
    [
        *("a", " ", "\n", ".", "a.", "a-", "A-", "A'A", "5", "5,", "52 ", "$", "$$", "$C ", "$T,", "$AAPL ", "$AAPL… "),
        *("a@", "a@a.", "www.", "http", "&amp;", "a.com/", "RT @a: ", "MT ", "&& ", "export $", "bash ", "{ "),
        *("join chat made 5 with free alerts ", "made 9 ", "prints ", "free free ", "retweet and ", "gains ", "our "),
        *("Apple ", "JPM's ", "Goldman Sachs cuts ", "AAPL 150 ", "AAPL 1/19 ", "nasdaq: ", "AAPL     ", "240119C00"),
        *("not ", "sold ", "puts calls ", "é", "aа", "🚀", "\u0308", "\ud800", "\x00", "\u202e", "’"),
    ],
)
def test_sixteen_kilobytes_cost_no_more_than_their_share(piece: str) -> None:
    """Time grows with the text, not with its square, whatever stands in it; the tail makes every rule look.

    A busy machine only ever makes a reading slower, so one pair of readings that keeps the measure is the proof.
    """
    tail = " $AAPL and $TSLA at a@b.com"
    short, long = piece * (1_024 // len(piece.encode("utf-8", "surrogatepass"))), 16

    assert any(cost(short * long + tail) <= LINEAR * long * cost(short + tail) for _ in range(20))


def cost(text: str) -> float:
    """Seconds of this process for one reading, the least of three."""
    times = []
    for _ in range(3):
        start = process_time()
        analyze(text)
        times.append(process_time() - start)
    return min(times)

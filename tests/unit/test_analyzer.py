"""What the analyzer says of posts, and that no text makes it raise."""

import json
import time
from datetime import UTC, datetime

import pytest

from pipeline.analyzer import AnalyzerSettings, LexiconAnalyzer
from pipeline.errors import SettingsError
from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage
from pipeline.sentiment import SentimentModel, load_weights, parse_weights

ANALYZER = LexiconAnalyzer(frozenset({"AAPL", "BRK.A", "C", "MSFT", "TSLA"}))
NOON = datetime(2014, 6, 2, 12, tzinfo=UTC)


def a_message(text: str) -> SocialMessage:
    """A valid post with this text."""
    return SocialMessage(
        message_id="twitter-1",
        source="twitter",
        source_id="1",
        created_at=NOON,
        received_at=NOON,
        author="someone",
        text=text,
    )


def analyze(text: str) -> AnalyzedMessage:
    """The post through the shared analyzer."""
    return ANALYZER.analyze(a_message(text))


def said(text: str) -> Sentiment:
    """The sentiment alone."""
    return analyze(text).sentiment


@pytest.mark.parametrize(
    "text",
    [
        "$AAPL upgraded to buy, price target raised",
        "$AAPL beats by $0.15, beats on revenue",
        "huge breakout, going long $AAPL 🚀🚀",
        "short squeeze in $TSLA, shares soar",
        "$AAPL all time high! 📈",
        "bullish on $TSLA, bought calls",
        "sold puts on $AAPL, bullish",
        "$AAPL stock jumps 5% on strong earnings",
    ],
)
def test_bullish_words_are_read_as_bullish(text: str) -> None:
    """Upgrades, beats, breakouts, squeezes, calls bought, puts sold, rockets."""
    sentiment = said(text)

    assert sentiment.label is Label.BULLISH
    assert 0 < sentiment.score <= 1


@pytest.mark.parametrize(
    "text",
    [
        "$AAPL downgraded to sell, price target cut",
        "$AAPL misses by $0.15, misses on revenue",
        "breakdown below support, going short $AAPL 📉",
        "$TSLA plunges after profit warning",
        "$AAPL new lows, weak weak weak",
        "bearish on $TSLA, bought puts",
        "🐻 $TSLA crashing, dumped my shares",
        "$AAPL stock falls 5% on weak earnings",
    ],
)
def test_bearish_words_are_read_as_bearish(text: str) -> None:
    """The mirror image of the bullish list."""
    sentiment = said(text)

    assert sentiment.label is Label.BEARISH
    assert -1 <= sentiment.score < 0


@pytest.mark.parametrize(
    "text",
    ["$AAPL", "Apple to hold annual meeting on Tuesday $AAPL", "$C - Prospectus Filed Pursuant to Rule 424(b)(2)"],
)
def test_news_without_a_view_is_neutral(text: str) -> None:
    """Neutral has score 0 exactly: it never leans."""
    sentiment = said(text)

    assert (sentiment.label, sentiment.score) == (Label.NEUTRAL, 0.0)


@pytest.mark.parametrize(
    ("plain", "negated"),
    [
        ("I am bullish on $TSLA", "I am not bullish on $TSLA"),
        ("$TSLA will rally", "$TSLA will never rally"),
        ("this is a breakout $TSLA", "this isn't a breakout $TSLA"),
    ],
)
def test_a_negation_takes_the_bullish_reading_away(plain: str, negated: str) -> None:
    """`not bullish` is less bullish than `bullish`, and never said with more confidence."""
    assert said(negated).score < said(plain).score
    assert said(negated).label is not Label.BULLISH or said(negated).confidence < said(plain).confidence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\t ",
        "$AAPL $MSFT",
        "https://t.co/abc",
        "12345 67.8%",
        "PK\x03\x04\x00\x00buy buy buy",
        "bullish \ud800 breakout $AAPL",
        "\u202ebullish breakout $AAPL",
        "\u200f",
        "株価は上昇",
        "\x00" * 100,
    ],
)
def test_a_text_that_cannot_be_read_is_neutral_with_confidence_zero(text: str) -> None:
    """Empty, binary, broken, bidi-marked, wordless or in no language we know: no opinion and no exception."""
    sentiment = said(text)

    assert (sentiment.label, sentiment.score, sentiment.confidence) == (Label.NEUTRAL, 0.0, 0.0)


def test_a_clear_call_is_urgent_and_a_vague_one_is_not() -> None:
    """0.85 is within reach of plain market language, not of a maybe."""
    assert said("$AAPL beats by $0.15, beats on revenue").confidence >= 0.85
    assert said("$AAPL might be good, maybe, who knows").confidence < 0.85


def test_a_post_carries_symbols_fingerprint_spam_and_model() -> None:
    """All five traits that routing asks for."""
    analyzed = analyze("RT @x: Looking for the next $AAPL $MSFT $NFLX http://t.co/a")

    assert analyzed.tickers.symbols == ("AAPL", "MSFT")
    assert analyzed.tickers.outside == ("NFLX",)
    assert analyzed.spam == "cashtag_link"
    assert analyzed.fingerprint == analyze("looking for the next $AAPL $MSFT $NFLX").fingerprint
    assert analyzed.sentiment.model == ANALYZER.model


def test_a_promo_is_neutral_whatever_it_praises_and_a_list_is_still_read() -> None:
    """Both carry their verdict, by which the router ends them; only the promo has nothing to say."""
    promo = analyze("$AAPL breakout, huge upgrade! Join our discord for the next one")
    listed = analyze("Upgraded: $AAPL $MSFT $TSLA http://t.co/a")

    assert (promo.spam, promo.sentiment.label, promo.sentiment.confidence) == ("group_promo", Label.NEUTRAL, 0.0)
    assert (listed.spam, listed.sentiment.label) == ("cashtag_link", Label.BULLISH)


def test_a_megabyte_is_cut_at_sixteen_kibibytes() -> None:
    """What stands beyond the limit is not read; the message itself stays whole."""
    text = "x " * 8192 + "$AAPL bullish " * 80_000
    start = time.perf_counter()
    analyzed = analyze(text)

    assert time.perf_counter() - start < 2
    assert analyzed.tickers.cashtags == 0
    assert analyzed.message.text == text


def test_ten_thousand_cashtags_take_bounded_time() -> None:
    """60,000 bytes are cut to 16,384 = 2,730 x 6 + 4: 2,730 whole cashtags; the cut-off `$AAP` is none."""
    start = time.perf_counter()
    analyzed = analyze("$AAPL " * 10_000)

    assert time.perf_counter() - start < 1
    assert (analyzed.tickers.cashtags, analyzed.tickers.outside) == (2730, ())


def test_the_limits_are_settings() -> None:
    """With 64 bytes read, the verdict after them is not seen."""
    narrow = LexiconAnalyzer(frozenset({"AAPL"}), AnalyzerSettings(max_bytes=64, max_tokens=3))
    text = "the day of the meeting " * 3 + "$AAPL beats, upgraded, breakout"

    assert narrow.analyze(a_message(text)).tickers.cashtags == 0
    assert narrow.analyze(a_message("a b c beats upgraded breakout")).sentiment.label is Label.NEUTRAL


def test_the_same_post_is_always_read_the_same() -> None:
    """Two analyzers and two readings give equal values."""
    other = LexiconAnalyzer(frozenset({"AAPL", "BRK.A", "C", "MSFT", "TSLA"}))
    message = a_message("$AAPL beats, shorts covering 🚀 but $TSLA looks weak")

    assert ANALYZER.analyze(message) == other.analyze(message) == ANALYZER.analyze(message)


def test_the_shipped_model_is_the_one_that_was_trained() -> None:
    """Its version ends with the digest of its numbers; sources, hashes and licences are noted."""
    weights = load_weights()

    assert weights.version.endswith(weights.digest())
    assert {str(entry["source"]) for entry in weights.provenance} >= {"moritz", "sentfin", "tfns"}
    assert all(entry["licence"] and len(str(entry["sha256"])) == 64 for entry in weights.provenance)


def test_a_changed_model_is_refused() -> None:
    """One weight changed by hand: the fleet does not start on it."""
    document = load_weights().model_dump()
    document["bias"] = (0, 0)

    with pytest.raises(SettingsError, match="digest"):
        parse_weights(json.dumps(document))
    with pytest.raises(SettingsError, match="not a model"):
        parse_weights("{}")


def test_confidence_rises_with_the_evidence() -> None:
    """The calibration curves never fall and stay probabilities."""
    weights = load_weights()

    for curve in (weights.direction, weights.neutral):
        assert list(curve.probabilities) == sorted(curve.probabilities)
        assert curve.probabilities[0] == curve(-1e9) >= 0
        assert curve.probabilities[-1] == curve(1e9) < 1


def test_a_word_that_says_both_sides_alike_is_neutral() -> None:
    """Equal logits of 5 for bearish and bullish beat neutral's 0, but have no direction."""
    even = load_weights().model_copy(update={"bias": (0, 0), "words": {"torn": (5000, 5000)}})

    reckoning = SentimentModel(even).reckon(["torn"])

    assert (reckoning.label, reckoning.lean) == (Label.NEUTRAL, 0.0)

"""What the analyzer says of posts, and that no text makes it raise."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from pipeline.analyzer import AnalyzerSettings, LexiconAnalyzer, why_silent
from pipeline.errors import SettingsError
from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage
from pipeline.sentiment import (
    CLOSED,
    Card,
    Channel,
    Model,
    SentimentModel,
    load_model,
    named,
    pack,
    parse_model,
    weights_digest,
)

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
    analyzed = analyze(text)

    assert analyzed.tickers.cashtags == 0
    assert analyzed.message.text == text


def test_ten_thousand_cashtags_take_bounded_time() -> None:
    """60,000 bytes are cut to 16,384 = 2,730 x 6 + 4: 2,730 whole cashtags; the cut-off `$AAP` is none."""
    analyzed = analyze("$AAPL " * 10_000)

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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("PK\x03\x04", "unreadable"),
        ("a \ud800", "unreadable"),
        ("\u202eabc", "unreadable"),
        ("$AAPL 5%", "no_words"),
        ("株価は上昇", "no_words"),
        ("going up", None),
    ],
)
def test_a_silent_text_has_a_reason(text: str, reason: str | None) -> None:
    """Why there is no sentiment at all."""
    assert why_silent(text) == reason


# ---- the model file ----------------------------------------------------------------------------------------

SHIPPED = load_model()


def with_card(**changes: object) -> Model:
    """The shipped model with another card, properly named."""
    return Model(named(SHIPPED.card.model_copy(update=changes)), SHIPPED.rows)


def test_the_shipped_model_is_the_one_that_was_trained() -> None:
    """Its version ends with the digest of its content; sources, hashes and licences are noted; at most 1 MiB."""
    assert SHIPPED.card.version.endswith(SHIPPED.card.digest())
    assert {entry.source for entry in SHIPPED.card.provenance} >= {"moritz", "sentfin", "tfns", "own_social"}
    assert all(entry.licence != "unknown" and len(entry.sha256) == 64 for entry in SHIPPED.card.provenance)
    assert len(SHIPPED.packed()) <= 1_048_576


def test_a_model_file_survives_a_round_trip() -> None:
    """Packed and parsed, it is the same."""
    again = parse_model(SHIPPED.packed())

    assert again.card == SHIPPED.card
    assert (again.rows == SHIPPED.rows).all()


def test_bits_without_their_weights_are_refused() -> None:
    """A file whose digest is right and whose content is none: one weight short of the bits that are set."""
    raw = pack(SHIPPED.rows)[:-1]
    card = named(SHIPPED.card.model_copy(update={"weights": weights_digest(raw)}))

    with pytest.raises(SettingsError, match="one for each of the bits set"):
        parse_model(card.model_dump_json().encode() + b"\n" + raw)


@pytest.mark.parametrize("place", [0.2, 0.9999])
def test_a_changed_model_is_refused(place: float) -> None:
    """One byte of the card or of the weights changed by hand: the fleet does not start on it."""
    packed = bytearray(SHIPPED.packed())
    index = packed.index(b"moritz") if place < 0.5 else int(len(packed) * place)
    packed[index] ^= 1

    with pytest.raises(SettingsError, match="digest"):
        parse_model(bytes(packed))


@pytest.mark.parametrize("packed", [b"", b"{}\n", b"\x00\xff" * 100, b'{"version": "stage1"}\nabc'])
def test_what_is_no_model_is_refused(packed: bytes) -> None:
    """Empty, another document, binary."""
    with pytest.raises(SettingsError, match="not a model"):
        parse_model(packed)


def test_a_shortened_model_is_refused() -> None:
    """The weights' digest is in the card."""
    with pytest.raises(SettingsError, match="bytes of weights"):
        parse_model(SHIPPED.packed()[:-1])


CLEAR = "$AAPL beats by $0.15, beats on revenue"


def spoken(model: Model, source: str = "twitter") -> Sentiment:
    """What the clear call is under a model."""
    analyzer = LexiconAnalyzer(frozenset({"AAPL"}), model=model)
    return analyzer.analyze(a_message(CLEAR).model_copy(update={"source": source})).sentiment


def test_without_a_calibrator_the_fast_path_is_closed() -> None:
    """Neutral with confidence 0, which no threshold admits, and the name says why."""
    sentiment = spoken(with_card(calibrators={}))

    assert (sentiment.label, sentiment.confidence) == (Label.NEUTRAL, 0.0)
    assert sentiment.model.endswith(CLOSED)


def test_a_calibrator_of_other_weights_counts_as_none() -> None:
    """It was fitted for a digest; with another one its numbers mean nothing."""
    foreign = {c: k.model_copy(update={"weights": "0" * 12}) for c, k in SHIPPED.card.calibrators.items()}

    assert spoken(with_card(calibrators=foreign)).confidence == 0.0


def test_a_channel_without_a_calibrator_is_read_as_unknown() -> None:
    """The most cautious one there is."""
    only = with_card(calibrators={Channel.UNKNOWN: SHIPPED.card.calibrators[Channel.UNKNOWN]})
    words = ["beats", "estimates"]

    assert SentimentModel(only).reckon(words, Channel.NEWS) == SentimentModel(SHIPPED).reckon(words, Channel.UNKNOWN)


def test_a_source_is_read_as_the_kind_it_is_named() -> None:
    """Unnamed sources are unknown; the calibrator follows the kind."""
    settings = AnalyzerSettings(news_sources=("wire",), social_sources=("twitter",))

    assert [settings.channel(name) for name in ("wire", "twitter", "other")] == [
        Channel.NEWS,
        Channel.SOCIAL,
        Channel.UNKNOWN,
    ]
    told = LexiconAnalyzer(frozenset({"AAPL"}), settings).analyze(a_message(CLEAR)).sentiment
    assert told == LexiconAnalyzer(frozenset({"AAPL"}), channel=Channel.SOCIAL).analyze(a_message(CLEAR)).sentiment
    assert told.confidence != said(CLEAR).confidence


def test_equal_chances_of_both_directions_are_none() -> None:
    """Weights alike for both sides: no direction, whatever their size."""
    even = Model(SHIPPED.card, SHIPPED.rows[:, [0, 0]])
    calibrator = SHIPPED.card.calibrators[Channel.UNKNOWN].model_copy(update={"bearish": 3.0, "bullish": 3.0})
    card = SHIPPED.card.model_copy(update={"calibrators": {Channel.UNKNOWN: calibrator}})

    reckoning = SentimentModel(Model(card, even.rows)).reckon(["crash"])

    assert (reckoning.label, reckoning.lean) == (Label.NEUTRAL, 0.0)


@pytest.mark.parametrize(("against", "confidence"), [(3.3, 0.84), (2.8, None)])
def test_a_direction_is_held_back_where_its_opposite_is_too_likely(against: float, confidence: float | None) -> None:
    """Shifts of 6 and 3.3: opposite e^-2.7 / (1 + e^-2.7 + e^-6) = 0.063, so 0.84; 6 and 2.8: 0.039, so it stands."""
    blank = SHIPPED.rows * np.int8(0)
    calibrator = SHIPPED.card.calibrators[Channel.UNKNOWN].model_copy(update={"bearish": 6.0, "bullish": against})
    card = SHIPPED.card.model_copy(update={"calibrators": {Channel.UNKNOWN: calibrator}})
    chance = 1 / (1 + math.exp(against - 6) + math.exp(-6))

    reckoning = SentimentModel(Model(card, blank)).reckon(["crash"])

    assert reckoning.label is Label.BEARISH
    assert reckoning.confidence == pytest.approx(confidence or chance)


def test_the_card_tells_nothing_of_the_posts() -> None:
    """Names, counts, hashes and licences: what the posts' terms allow."""
    assert set(Card.model_fields) == {
        "version", "about", "seed", "ridge", "step", "weights", "calibrators", "provenance",
    }  # fmt: skip

"""What a post says of each company it names."""

from datetime import UTC, datetime

import pytest

from pipeline.analyzer import AnalyzerSettings, LexiconAnalyzer
from pipeline.companies import Gazetteer
from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage
from pipeline.subjects import Said, SubjectReader, SubjectSettings, by_symbol
from pipeline.text import view
from pipeline.tickers import TickerReader

SYMBOLS = "AAPL AMZN BA BAC COST GM GS HD INTC JPM MSFT NFLX NVDA ODX TSLA WMT"
UNIVERSE = frozenset(SYMBOLS.split())
TICKERS = TickerReader(UNIVERSE)
SUBJECTS = SubjectReader(TICKERS.gazetteer)
BUY, SELL, NOTHING = Said(sign=1), Said(sign=-1), Said()


def said(text: str) -> dict[str, Said]:
    """What is said of single symbols."""
    return SUBJECTS.read(TICKERS.survey(view(text)))


def analyze(text: str, settings: AnalyzerSettings | None = None) -> AnalyzedMessage:
    """The post through the shipped model."""
    noon = datetime(2014, 6, 2, 12, tzinfo=UTC)
    message = SocialMessage(
        message_id="x-1", source="x", source_id="1", created_at=noon, received_at=noon, author="a", text=text
    )
    return LexiconAnalyzer(UNIVERSE, settings).analyze(message)


def a_reading(label: Label) -> Sentiment:
    """A model's answer with this label."""
    sign = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}[label]
    return Sentiment(label=label, score=0.8 * sign, confidence=0.9, model="fake")


def by_words(text: str) -> Sentiment:
    """A model that knows two words."""
    return a_reading(Label.BULLISH if "good" in text else Label.BEARISH if "bad" in text else Label.NEUTRAL)


@pytest.mark.parametrize(
    ("text", "each"),
    [
        ("sold my $AAPL to buy $TSLA", {"AAPL": SELL, "TSLA": BUY}),
        ("rotating out of $NVDA into $INTC", {"NVDA": SELL, "INTC": BUY}),
        ("bought $COST instead of $WMT today", {"COST": BUY, "WMT": SELL}),
        ("I prefer $HD over $COST here", {"HD": BUY, "COST": SELL}),
        ("long $MSFT / short $AAPL", {"MSFT": BUY, "AAPL": SELL}),
        ("short $MSFT, long $AAPL", {"MSFT": SELL, "AAPL": BUY}),
        ("$NVDA > $INTC", {"NVDA": BUY, "INTC": SELL}),
        ("puts on $GM and calls on $TSLA", {"GM": SELL, "TSLA": BUY}),
        ("Amazon is eating Walmart's lunch, stock at a high", {"AMZN": BUY, "WMT": SELL}),
    ],
)
def test_one_stock_exchanged_for_another_has_two_directions(text: str, each: dict[str, Said]) -> None:
    """Against the one that is left, for the one that is taken."""
    assert said(text) == each


@pytest.mark.parametrize(
    "text",
    [
        "I would not sell $AAPL to buy $TSLA",
        "should I sell $AAPL to buy $TSLA?",
        "if I sold $AAPL to buy $TSLA",
        "sold calls on $AAPL for puts on $TSLA and lunch, had fun",
        "$AAPL and $TSLA rally",
        "$AAPL $TSLA good",
        "$AAPL",
        "",
    ],
)
def test_doubtful_wordings_leave_the_post_whole(text: str) -> None:
    """Negations, questions, wishes, and posts that say one thing of all."""
    assert said(text) == {}


@pytest.mark.parametrize(
    ("text", "each"),
    [
        ("$AMZN: Netflix shares soar", {"AMZN": NOTHING, "NFLX": Said(text="$AMZN: Netflix shares soar")}),
        ("Huawei unveils a phone $AAPL", {"AAPL": NOTHING}),
        ("Ford truck sales jump $GM", {"GM": NOTHING}),
        ("Boeing upgraded at Bank of America $BAC", {"BAC": NOTHING}),
        ("Goldman says gold will double $GS", {"GS": NOTHING}),
        ("$JPM analyst slashes Deere to underweight", {"JPM": NOTHING}),
        ("$BAC: analysts at the bank lift Caterpillar to buy", {"BAC": NOTHING}),
        ("JPMorgan cuts $WMT to neutral", {"JPM": NOTHING}),
    ],
)
def test_a_post_about_another_company_says_nothing_of_this_one(text: str, each: dict[str, Said]) -> None:
    """A heading or trailing cashtag of a company the sentence is not about, and brokers who rate others."""
    assert {symbol: what for symbol, what in said(text).items() if symbol in UNIVERSE} == each


@pytest.mark.parametrize(
    "text",
    [
        "$AMZN: Amazon shares soar, Netflix falls behind",
        "Bank of America upgraded at Evercore $BAC",
        "Goldman says its own profit will double $GS",
        "$GS beats estimates",
        "$GS upgraded to buy by Barclays",
        "Airbus has orders, $BA cannot deliver a plane",
        "$ODX: Amazon buys a stake, stock jumps",
    ],
)
def test_a_post_about_this_company_keeps_its_reading(text: str) -> None:
    """Its own name, its own rating, its cashtag within the sentence, or a company whose names are unknown."""
    assert NOTHING not in [said(text).get(symbol) for symbol in TICKERS.read(text).symbols]


def test_clauses_count_when_they_say_opposite_things() -> None:
    """Good and bad: each has its own; good and nothing: the whole post's reading stays."""
    settings = SubjectSettings()
    opposite = by_symbol(said("$AAPL looks good, $INTC looks bad"), by_words, "fake", settings)

    assert {symbol: read.label for symbol, read in opposite.items()} == {"AAPL": Label.BULLISH, "INTC": Label.BEARISH}
    assert by_symbol(said("$AAPL looks good, $INTC reports late"), by_words, "fake", settings) == {}


def test_a_direction_by_wording_alone_has_the_settings_numbers() -> None:
    """Score 0.5 with the direction's sign and confidence 0.75, below the urgent threshold of 0.85."""
    read = by_symbol({"AAPL": SELL, "TSLA": BUY, "GM": NOTHING}, by_words, "fake", SubjectSettings())

    assert (read["AAPL"].score, read["TSLA"].score, read["GM"].score) == (-0.5, 0.5, 0.0)
    assert {sentiment.confidence for sentiment in read.values()} == {0.75}


def test_the_message_carries_the_primary_and_the_others_apart() -> None:
    """`sentiment` is the primary's; a company by name is there only with a reading of its own."""
    swap = analyze("sold my $AAPL to buy $TSLA")
    news = analyze("$AMZN: Netflix shares soar on strong earnings")

    assert (swap.sentiment.label, swap.sentiment_of("TSLA").label) == (Label.BEARISH, Label.BULLISH)
    assert (news.sentiment.label, news.by_symbol["NFLX"].label) == (Label.NEUTRAL, Label.BULLISH)
    assert news.tickers.named == ("NFLX",)
    assert analyze("$AAPL and $TSLA rally").by_symbol == {}


def test_the_last_clause_is_read_only_where_one_before_has_a_direction() -> None:
    """Two opposite readings need two directions: after a neutral first the second settles nothing."""
    read: list[str] = []

    def heard(text: str) -> Sentiment:
        read.append(text)
        return by_words(text)

    quiet = by_symbol({"AAPL": Said("reports late"), "INTC": Said("looks bad")}, heard, "fake", SubjectSettings())
    loud = by_symbol({"AAPL": Said("looks good"), "INTC": Said("looks bad")}, heard, "fake", SubjectSettings())

    assert (quiet, [*loud]) == ({}, ["AAPL", "INTC"])
    assert read == ["reports late", "looks good", "looks bad"]


def test_reading_by_symbol_can_be_switched_off() -> None:
    """`per_symbol: false` gives every symbol the post's reading."""
    off = AnalyzerSettings(subjects=SubjectSettings(per_symbol=False))

    assert analyze("sold my $AAPL to buy $TSLA", off).by_symbol == {}


def test_an_old_message_without_these_fields_is_read() -> None:
    """Version 1 bodies of before have neither `by_symbol` nor `named`."""
    body = analyze("$AAPL beats").model_dump(mode="json")
    del body["by_symbol"], body["tickers"]["named"]

    assert AnalyzedMessage.model_validate(body).by_symbol == {}


def test_the_gazetteer_knows_names_as_they_are_written() -> None:
    """Longest name first, possessives, no parts of words, handles or hashtags."""
    places = list(Gazetteer().places("Bank of America's note, Johnson & Johnson, AT&T, 3M; Applesauce @Apple #Tesla"))

    assert [place.symbol for place in places] == ["BAC", "JNJ", "T", "MMM"]

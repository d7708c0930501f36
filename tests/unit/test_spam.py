"""Which posts are promos, bait, bare links or lists, and which only look like it."""

import json
from pathlib import Path

import pytest

from pipeline.analyzer import LexiconAnalyzer
from pipeline.models import Label
from pipeline.sentiment import SURE, Channel
from pipeline.spam import SpamSettings, spam_verdict
from pipeline.text import view
from workers.analyze import as_message

TABLE = [json.loads(line) for line in Path("tests/data/promos.jsonl").read_text("utf-8").splitlines()]
"""Promos in 25 shapes and honest posts with their words, written before the rules; see docs/analyzer.md."""


def verdict(text: str, cashtags: int = 1, settings: SpamSettings | None = None) -> str | None:
    """The verdict under default settings."""
    return spam_verdict(view(text), cashtags, settings or SpamSettings())


@pytest.mark.parametrize(
    ("text", "cashtags", "name"),
    [
        ("Looking for the next $Y $KRFT $HSH Check out http://t.co/5", 3, "cashtag_link"),
        ("$A $B $C http://t.co/5 see", 3, "cashtag_link"),
        ("one two three four five six seven eight $AA $BB $CC http://t.co/5", 3, "cashtag_link"),
        ("one two three four five six seven eight nine $AA $BB $CC http://t.co/5", 3, None),
        ("#one #two @three one two three four five six seven eight $AA $BB $CC www.x.co", 3, "cashtag_link"),
        ("Looking for the next $Y $KRFT Check out http://t.co/5", 2, None),
        ("Looking for the next $Y $KRFT $HSH Check out", 3, None),
        ("$UNG $UGAZ $DGAZ - Natural gas sinks 5% to four-year lows https://t.co/U8", 3, None),
        ("", 0, None),
    ],
)
def test_many_cashtags_a_link_and_few_words_are_a_promo_template(text: str, cashtags: int, name: str | None) -> None:
    """At least 3 cashtags, a link, at most 8 words besides tags; a wire's headline behind its tags is none."""
    assert verdict(text, cashtags) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("$AAPL http://t.co/RHUTlNvyzJ", "link_only"),
        ("RT @someone: $AAPL $MSFT #tech https://t.co/a", "link_only"),
        ("$AAPL 48.78 http://t.co/RHUTlNvyzJ", "link_only"),
        ("$AAPL 🚀 https://t.co/a", None),
        ("$AAPL up https://t.co/a", None),
        ("$AAPL", None),
    ],
)
def test_a_link_without_a_word_says_nothing(text: str, name: str | None) -> None:
    """Tags, users and numbers are no words; an emoji says something."""
    assert verdict(text) == name


@pytest.mark.parametrize(
    ("cashtags", "words", "name"), [(6, 5, "cashtag_wall"), (6, 6, None), (5, 1, None), (20, 19, "cashtag_wall")]
)
def test_more_cashtags_than_words_are_a_bare_list(cashtags: int, words: int, name: str | None) -> None:
    """From 6 cashtags on."""
    assert verdict(" ".join(["$AB"] * cashtags + ["word"] * words), cashtags) == name


@pytest.mark.parametrize(
    "text",
    [
        "$nflx Best chat room, made 40k with their alerts",
        "big thanks to this   chat,, $30,000 a day keeps the boss away $tsla",
        "for a limited time we open our private trading group to everyone $BAC",
        "join us on telegram for the next $AMD play",
        "$DIS watch our alerts hit their targets. Join now",
        "Our members banked 85% on $TTD puts yesterday",
        "Updated the $PYPL levels in the discord",
        "Live trading room, 7 days on us, click the link $SPY",
        "$ROKU t.me/fastsignals best vip channel, 300% profit weekly",
    ],
)
def test_signal_groups_looking_for_members_are_promos(text: str) -> None:
    """A room and a reason to enter it."""
    assert verdict(text) == "group_promo"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("made $12,000 this month following her alerts $NVDA", "testimonial"),
        ("my best win, 900% return on $TSLA, for details", "testimonial"),
        ("$COST 10-day free trial, no credit card", "service_ad"),
        ("$F received a new alert. Find out why at http://t.co/x", "service_ad"),
        ("Large print $JPM 220,374 at 161.75 - for real time prints subscribe to", "service_ad"),
        ("Subscribers saw over 2,300% gains so far! Big News: http://t.co/a $KO $GE", "service_ad"),
        ("Gold memberships rise, after 410% gains on small caps $KO", "service_ad"),
        ("Members saw our pick gain 1,100% in 3 weeks $IBM", "service_ad"),
        ("A new penny stock alert's coming and you can get it early $AMZN", "service_ad"),
        ("Ticker: $GM Buy: 40 calls Entry: $3.10 Exit: $4.20 Alert Courtesy Of:", "service_ad"),
        ("Great stock newsletter on $DECK http://t.co/x", "service_ad"),
        ("retweet and follow to win a share of $GOOGL", "follower_bait"),
        ("100 retweets and I post my next $SPY entry", "follower_bait"),
        ("#FOLLOWTRICK $RT $FOLLOW EVERYONE $FB", "follower_bait"),
        ("claim your $GM airdrop, tag three friends", "follower_bait"),
        ("if you need a mentor, my dms are open for traders of $KO", "group_promo"),
        ("elite access at $30 closes tonight $HD", "service_ad"),
        ("our scanner found $CAT early, get the scanner", "service_ad"),
        ("he manages my account and I withdraw every friday $GM", "testimonial"),
        ("thanks to coach Bill my account doubled on $PEP", "testimonial"),
        ("presale of the $SHIB sister coin, connect your wallet", "follower_bait"),
        ("urgent: $XYZ could be the next gem, read the full profile", "tout"),
        ("only 5 seats left for the $SPY challenge", "tout"),
        ("the disc0rd has my $GE levels", "hidden"),
        ("t e l e g r a m for the $GE levels", "hidden"),
    ],
)
def test_each_kind_of_promo_has_its_name(text: str, name: str) -> None:
    """Testimonials, services for sale, bait for followers, touts, words in disguise."""
    assert verdict(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "$FB opens WhatsApp to businesses, free for small shops",
        "$MSFT is testing a Discord bid of $12B",
        "$DIS adds 4M subscribers, shares up 6%",
        "$NFLX subscribers fall short",
        "$NFLX subscribers see 12% gains in Asia",
        "$ROKU members of the board gain 3% of the shares",
        "that penny stock alert on $GE was a joke",
        "Ford joins Stellantis in the charging network $F",
        "$SPGI to join the S&P 100",
        "$BIIB trial stopped early for success",
        "$GM to follow Ford on price cuts",
        "chat with my broker: sell $INTC, he says",
        "$GOOG paid clicks up 17%",
        "$PINS group of investors calls for a sale",
        "alerts on the Nasdaq: $AAPL volume spike at 190",
        "RT @trader: $AAPL breaks out, adding here",
        "$TSLA is back in the channel, destroyed the bear case and up 4%",
        "I like $KO and I like $PEP",
        "$ZM signs up 300 new customers",
        "$WORK (+1.4% pre) Slack prices its offering",
        "$VIP net up 16.5% at 26.8 crore",
        "growing profit 1% per week is not $TSLA",
        "CEO at 2 pm for an update on $F",
        "$BIIB trial enters day 3, jury out",
        "$CRM code name leaks, shares dip",
        "the spots on Jupiter, $LUNR sends pictures",
        "final quarter was the worst, $DIS lower",
        "b2b sales up, web3 down, $MSFT flat",
        "a b c d e of investing: buy $KO",
    ],
)
def test_honest_posts_with_the_words_of_promos_pass(text: str) -> None:
    """The same words, about companies and trades."""
    assert verdict(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a course for beginners, sign up, seats are free $SPY", "offer"),
        ("a course for beginners, seats are free $SPY", None),
        ("sign up, seats are free $SPY", None),
        ("a course for beginners, sign up $SPY", None),
    ],
)
def test_an_offer_a_call_and_a_lure_together_are_a_promo(text: str, name: str | None) -> None:
    """Each alone, and any two, are everyday words."""
    assert verdict(text) == name


def test_greek_or_cyrillic_letters_inside_latin_words_hide_something() -> None:
    """`discоrd` with a Cyrillic o; whole foreign words, µ and emoji are honest."""
    assert verdict("the discоrd is open $AAPL") == "mixed_script"
    assert verdict("Сбербанк растёт, как и $AAPL") is None
    assert verdict("$MU 5 µm chips, β 1.2 🚀") is None


def test_what_is_read_is_bounded() -> None:
    """Megabytes of a promo's own words come to an end; phrases beyond the limit are not read."""
    most = SpamSettings(read_characters=16_384)
    for words in ("join chat made 5 with group free alerts ", "made 9 ", "aа "):
        verdict(words * 1_000_000, settings=most)

    assert verdict("x " * 50 + "join us on telegram", settings=SpamSettings(read_characters=100)) is None


def test_the_promo_rules_can_be_switched_off() -> None:
    """`promos: false` leaves the rules of shape."""
    assert verdict("join us on telegram $AMD", settings=SpamSettings(promos=False)) is None
    assert verdict("$AAPL https://t.co/a", settings=SpamSettings(promos=False)) == "link_only"


@pytest.mark.parametrize("channel", list(Channel))
def test_no_promo_of_the_table_would_trade(channel: Channel) -> None:
    """Those that the rules miss are not called with 0.85 or more either: 1 % of the promos may be, here none is."""
    analyzer = LexiconAnalyzer(frozenset(), channel=channel)
    read = [analyzer.analyze(as_message({"text": row["text"]}, 1)) for row in TABLE if row["spam"]]

    assert [
        post.message.text
        for post in read
        if post.spam is None and post.sentiment.label is not Label.NEUTRAL and post.sentiment.confidence >= SURE
    ] == []


def test_the_table_of_promos_is_found_and_its_honest_posts_pass() -> None:
    """132 of 145 promos, as measured when the rules were done, and none of the 79 posts that only sound like one."""
    promos = [row["text"] for row in TABLE if row["spam"]]
    honest = [row["text"] for row in TABLE if not row["spam"]]

    assert (len(promos), len(honest)) == (145, 79)
    assert sum(verdict(text, text.count("$")) is not None for text in promos) >= 132
    assert [text for text in honest if verdict(text, text.count("$")) is not None] == []

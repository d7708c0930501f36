"""Where each leg of a message goes: every rule of STAGES 2 at its limit and beside it."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.models import AnalyzedMessage, Label, Outcome, Refusal, Sentiment, Stage
from pipeline.router import (
    DenyList,
    Fate,
    Leg,
    RouterSettings,
    end_as_duplicate,
    first_leg_id,
    is_high_signal,
    leg_id,
    remembers_text,
    route,
)
from tests.trunk import NOON, a_message, later

SETTINGS = RouterSettings()
THRESHOLD = 0.85
BELOW = math.nextafter(THRESHOLD, 0)
ABOVE = math.nextafter(THRESHOLD, 1)


def routed(
    message: AnalyzedMessage,
    *,
    age_s: float = 0,
    deny: DenyList | None = None,
    settings: RouterSettings = SETTINGS,
    threshold: float = THRESHOLD,
) -> tuple[Leg, ...]:
    """The legs of a message `age_s` seconds after it was written."""
    return route(message, later(age_s, message.message.created_at), deny or DenyList(), settings, threshold)


def fates(*args: Any, **facts: Any) -> list[tuple[str | None, Fate]]:
    """Symbol and fate of each leg."""
    return [(leg.symbol, leg.fate) for leg in routed(*args, **facts)]


def end(*args: Any, **facts: Any) -> tuple[str | None, Outcome | None, str]:
    """Symbol, outcome and rule of the only leg."""
    (leg,) = routed(*args, **facts)
    assert leg.refusal is not None
    assert (leg.fate, leg.vote) == (Fate.END, None)
    return leg.symbol, leg.outcome, leg.refusal.rule


# ---- urgent or vote ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "urgent"), [(BELOW, False), (0.85, True), (ABOVE, True), (0.0, False), (1.0, True)]
)
@pytest.mark.parametrize("label", [Label.BULLISH, Label.BEARISH])
def test_confidence_at_the_threshold_is_urgent_and_the_float_below_is_not(
    label: Label, confidence: float, *, urgent: bool
) -> None:
    """Rule (seed): confidence >= 0.85, inclusive, the same for both directions."""
    assert fates(a_message(label, confidence)) == [("AAPL", Fate.URGENT if urgent else Fate.VOTE)]
    assert is_high_signal(a_message(label, confidence), THRESHOLD) is urgent


@pytest.mark.parametrize("threshold", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("confidence", [0.0, 0.85, 1.0])
def test_neutral_is_never_urgent(threshold: float, confidence: float) -> None:
    """Rule: not even at confidence 1.0 or with threshold 0."""
    message = a_message(Label.NEUTRAL, confidence)

    assert fates(message, threshold=threshold) == [("AAPL", Fate.VOTE)]
    assert not is_high_signal(message, threshold)


@pytest.mark.parametrize(("threshold", "confidence", "fate"), [(0.0, 0.0, Fate.URGENT), (1.0, 1.0, Fate.URGENT)])
def test_the_threshold_s_own_limits_are_inclusive(threshold: float, confidence: float, fate: Fate) -> None:
    """Threshold 0 makes every direction urgent, threshold 1 only certainty."""
    assert fates(a_message(confidence=confidence), threshold=threshold) == [("AAPL", fate)]


def test_threshold_one_leaves_the_float_below_it_to_the_vote() -> None:
    """The neighbour of 1.0 is not 1.0."""
    assert fates(a_message(confidence=math.nextafter(1, 0)), threshold=1.0) == [("AAPL", Fate.VOTE)]


def test_only_the_primary_symbol_is_urgent() -> None:
    """Rule: the first cashtag trades at once, the others vote."""
    message = a_message(symbols=("AAPL", "MSFT", "TSLA"))

    assert fates(message) == [("AAPL", Fate.URGENT), ("MSFT", Fate.VOTE), ("TSLA", Fate.VOTE)]


def test_a_primary_outside_the_universe_leaves_no_urgent_leg() -> None:
    """Rule: primary is the first cashtag, in or out of the universe; nobody takes its place."""
    message = a_message(symbols=("AAPL",), outside=("ZZZ",), primary="ZZZ")

    assert fates(message) == [("AAPL", Fate.VOTE), ("ZZZ", Fate.END)]


def test_an_urgent_leg_votes_too() -> None:
    """Rule: urgent posts vote too; the vote says that its outcome is its own."""
    urgent, vote = routed(a_message(symbols=("AAPL", "MSFT")))

    assert urgent.vote is not None
    assert vote.vote is not None
    assert (urgent.vote.urgent, vote.vote.urgent) == (True, False)


def test_a_vote_carries_the_message_and_counts_from_its_routing() -> None:
    """`at` is the moment of routing, `text` the fingerprint, never the words."""
    message = a_message(confidence=0.5, author="bob", score=0.25)
    (leg,) = routed(message, age_s=7)
    vote = leg.vote

    assert vote is not None
    assert (vote.id, vote.by, vote.text, vote.label) == ("test-1", "bob", "text-test-1", Label.BULLISH)
    assert (vote.score, vote.confidence, vote.created_at, vote.at) == (0.25, 0.5, NOON, later(7))


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -0.1, 1.1])
def test_a_confidence_that_is_none_never_becomes_a_sentiment(confidence: float) -> None:
    """Rule: NaN, infinite and out-of-range numbers are refused, never turned into neutral."""
    with pytest.raises(ValidationError):
        Sentiment(label=Label.BULLISH, score=0.5, confidence=confidence, model="test")


# ---- symbols -----------------------------------------------------------------------------------------


def test_a_symbol_outside_the_universe_never_trades_and_keeps_its_reason() -> None:
    """Rule: `no_symbol: outside_universe`."""
    assert end(a_message(symbols=(), outside=("ZZZ",))) == ("ZZZ", Outcome.NO_SYMBOL, "outside_universe")


def test_a_post_without_a_cashtag_ends_with_one_null_leg() -> None:
    """Rule: every message has at least one leg."""
    message = a_message(symbols=())

    assert end(message) == (None, Outcome.NO_SYMBOL, "no_cashtag")
    assert routed(message)[0].leg_id == "test-1:-"


@pytest.mark.parametrize(("cashtags", "listed"), [(3, False), (4, True)])
def test_more_than_three_cashtags_is_a_list_post(cashtags: int, *, listed: bool) -> None:
    """Rule: 3 cashtags may vote, 4 never; all are counted, whatever symbols are left of them."""
    message = a_message(symbols=("AAPL",), cashtags=cashtags)

    if listed:
        assert end(message) == (None, Outcome.LIST_POST, "max_cashtags")
    else:
        assert fates(message) == [("AAPL", Fate.URGENT)]


def test_a_promo_template_is_spam_under_the_template_s_name() -> None:
    """Rule: promo templates are `spam`."""
    assert end(a_message(spam="promo_links")) == (None, Outcome.SPAM, "promo_links")


# ---- age ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "limit_s", "fate", "rule"),
    [(0.9, 30, Fate.URGENT, "max_age_urgent"), (0.5, 120, Fate.VOTE, "max_age_batch")],
)
def test_an_age_at_the_limit_counts_and_a_microsecond_more_does_not(
    confidence: float, limit_s: float, fate: Fate, rule: str
) -> None:
    """Rule (live): 30 s for urgent legs, 120 s for votes, counted from when the post was written."""
    message = a_message(confidence=confidence)

    assert fates(message, age_s=limit_s) == [("AAPL", fate)]
    assert end(message, age_s=limit_s + 1e-6) == ("AAPL", Outcome.EXPIRED, rule)


def test_an_urgent_post_too_old_for_urgency_does_not_vote_instead() -> None:
    """40 s: over the urgent limit, within that of a vote; only the other symbols' legs still vote."""
    message = a_message(symbols=("AAPL", "MSFT"))

    assert fates(message, age_s=40) == [("AAPL", Fate.END), ("MSFT", Fate.VOTE)]


def test_an_expired_leg_says_its_age_and_the_limit() -> None:
    """Every outcome carries stage, rule, observed value and limit."""
    (leg,) = routed(a_message(), age_s=31)

    assert leg.refusal is not None
    assert (leg.refusal.stage, leg.refusal.observed, leg.refusal.limit) == (Stage.ROUTER, "31.0 s", "<= 30 s")


# ---- deny-lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deny", "expected"),
    [
        (DenyList(sources=frozenset({"test"})), (None, Outcome.SPAM, "denied_source")),
        (DenyList(authors=frozenset({"ann"})), (None, Outcome.SPAM, "muted_author")),
        (DenyList(symbols=frozenset({"AAPL"})), ("AAPL", Outcome.NO_SYMBOL, "denied_symbol")),
    ],
)
def test_what_people_forbade_ends_here(deny: DenyList, expected: tuple[str | None, Outcome, str]) -> None:
    """Rule: deny-lists of sources, authors and symbols."""
    assert end(a_message(), deny=deny) == expected


def test_a_denied_symbol_leaves_the_post_s_other_symbols() -> None:
    """Only the leg of the denied symbol ends."""
    deny = DenyList(symbols=frozenset({"AAPL"}))

    assert fates(a_message(symbols=("AAPL", "MSFT")), deny=deny) == [("AAPL", Fate.END), ("MSFT", Fate.VOTE)]


def test_names_on_other_lists_do_not_match() -> None:
    """A list forbids only what it lists: an author named like the symbol, a symbol named like the author."""
    deny = DenyList(frozenset({"ann", "test"}), frozenset({"AAPL", "test"}), frozenset({"AAPL", "ann"}))

    assert fates(a_message(), deny=deny) == [("AAPL", Fate.URGENT)]


# ---- order of refusals -------------------------------------------------------------------------------


def test_the_first_refusal_in_order_speaks_for_the_post() -> None:
    """Order: source, author, no cashtag, list post, spam, then by leg: denied symbol, age."""
    everything: dict[str, Any] = {"symbols": ("AAPL",), "cashtags": 4, "spam": "promo"}
    all_denied = DenyList(frozenset({"AAPL"}), frozenset({"ann"}), frozenset({"test"}))
    without_source = DenyList(frozenset({"AAPL"}), frozenset({"ann"}))
    symbol = DenyList(frozenset({"AAPL"}))

    assert end(a_message(**everything), deny=all_denied, age_s=999)[2] == "denied_source"
    assert end(a_message(**everything), deny=without_source, age_s=999)[2] == "muted_author"
    assert end(a_message(symbols=(), cashtags=4, spam="promo"), age_s=999)[2] == "no_cashtag"
    assert end(a_message(**everything), deny=symbol, age_s=999)[2] == "max_cashtags"
    assert end(a_message(**(everything | {"cashtags": 3})), deny=symbol, age_s=999)[2] == "promo"
    assert end(a_message(), deny=symbol, age_s=999)[2] == "denied_symbol"
    assert end(a_message(), age_s=999)[2] == "max_age_urgent"


# ---- in full ---------------------------------------------------------------------------------------


def ended(symbol: str | None, outcome: Outcome, rule: str, observed: str, limit: str) -> Leg:
    """A leg of the message that goes nowhere."""
    refusal = Refusal(Stage.ROUTER, rule, observed, limit)
    return Leg(f"test-1:{symbol or '-'}", "test-1", symbol, Fate.END, None, outcome, refusal)


@pytest.mark.parametrize(
    ("facts", "deny", "leg"),
    [
        ({}, DenyList(sources=frozenset({"test"})), (None, Outcome.SPAM, "denied_source", "test", "")),
        ({}, DenyList(authors=frozenset({"ann"})), (None, Outcome.SPAM, "muted_author", "ann", "")),
        ({"symbols": ()}, DenyList(), (None, Outcome.NO_SYMBOL, "no_cashtag", "0 symbols", ">= 1")),
        ({"cashtags": 4}, DenyList(), (None, Outcome.LIST_POST, "max_cashtags", "4 cashtags", "<= 3")),
        ({"cashtags": 3, "spam": "wall"}, DenyList(), (None, Outcome.SPAM, "wall", "3 cashtags", "")),
        ({}, DenyList(symbols=frozenset({"AAPL"})), ("AAPL", Outcome.NO_SYMBOL, "denied_symbol", "AAPL", "")),
        (
            {"symbols": (), "outside": ("ZZZ",)},
            DenyList(),
            ("ZZZ", Outcome.NO_SYMBOL, "outside_universe", "ZZZ", ""),
        ),
    ],
)
def test_a_leg_that_ends_says_what_was_seen_and_what_was_allowed(
    facts: dict[str, Any], deny: DenyList, leg: tuple[str | None, Outcome, str, str, str]
) -> None:
    """Message, symbol, outcome, rule, value, limit."""
    assert routed(a_message(**facts), deny=deny) == (ended(*leg),)


def test_a_duplicate_ends_in_full() -> None:
    """The first message's id is the value."""
    assert end_as_duplicate(a_message(), "test-0") == (
        ended(None, Outcome.DUPLICATE, "near_duplicate", "test-0", "a text of its own within the window"),
    )


def test_a_leg_that_goes_on_knows_its_message() -> None:
    """By id."""
    assert [leg.message_id for leg in routed(a_message(symbols=("AAPL", "MSFT")))] == ["test-1", "test-1"]


@pytest.mark.parametrize(
    ("symbols", "outside", "name"),
    [
        (("AAPL", "MSFT"), ("ZZZ",), "test-1:AAPL"),
        ((), ("ZZZ", "YYY"), "test-1:ZZZ"),
        ((), (), "test-1:-"),
    ],
)
def test_a_message_routed_before_is_known_by_its_first_leg(
    symbols: tuple[str, ...], outside: tuple[str, ...], name: str
) -> None:
    """The first symbol inside the universe, else outside, else the null leg."""
    assert first_leg_id(a_message(symbols=symbols, outside=outside)) == name


# ---- ids and memory ----------------------------------------------------------------------------------


def test_a_leg_s_id_is_a_pure_function_of_message_and_symbol() -> None:
    """`-` stands for no symbol."""
    assert leg_id("m1", "BRK.B") == "m1:BRK.B"
    assert leg_id("m1", None) == "m1:-"
    assert [leg.leg_id for leg in routed(a_message(symbols=("AAPL", "MSFT")))] == ["test-1:AAPL", "test-1:MSFT"]


def test_a_near_duplicate_ends_with_one_null_leg_that_names_the_first() -> None:
    """One vote, one urgent signal: whatever its symbols, a repeated text has one leg."""
    (leg,) = end_as_duplicate(a_message(symbols=("AAPL", "MSFT")), "test-0")

    assert (leg.leg_id, leg.symbol, leg.outcome) == ("test-1:-", None, Outcome.DUPLICATE)
    assert leg.refusal is not None
    assert (leg.refusal.rule, leg.refusal.observed) == ("near_duplicate", "test-0")


def test_a_text_is_remembered_only_when_some_leg_goes_on() -> None:
    """A refused post does not make a later, tradable one a duplicate."""
    assert remembers_text(routed(a_message(symbols=("AAPL",), outside=("ZZZ",))))
    assert not remembers_text(routed(a_message(symbols=(), outside=("ZZZ",))))
    assert not remembers_text(routed(a_message(), age_s=999))


# ---- what the post says of each symbol ---------------------------------------------------------------


def saying(message: AnalyzedMessage, **labels: Label) -> AnalyzedMessage:
    """The message with a reading of its own for each of these symbols, confidence 0.75."""
    score = {Label.BULLISH: 0.5, Label.BEARISH: -0.5, Label.NEUTRAL: 0.0}
    each = {
        symbol: Sentiment(label=label, score=score[label], confidence=0.75, model="test")
        for symbol, label in labels.items()
    }
    return message.model_copy(update={"by_symbol": each})


def test_each_symbol_s_vote_is_what_the_post_says_of_it() -> None:
    """Sold AAPL to buy TSLA: the primary's vote is the post's, the other has its own."""
    message = saying(a_message(Label.BEARISH, 0.7, symbols=("AAPL", "TSLA")), TSLA=Label.BULLISH)
    first, second = (leg.vote for leg in routed(message))

    assert first is not None
    assert second is not None
    assert (first.label, first.score, first.confidence) == (Label.BEARISH, -0.8, 0.7)
    assert (second.label, second.score, second.confidence) == (Label.BULLISH, 0.5, 0.75)


def test_a_company_named_in_words_votes_only_with_a_reading_of_its_own_and_is_never_urgent() -> None:
    """NFLX has one and votes; DIS has none; neither trades, however sure the post is."""
    message = a_message(Label.BULLISH, 1.0, symbols=("AMZN",))
    named = message.model_copy(update={"tickers": message.tickers.model_copy(update={"named": ("NFLX", "DIS")})})

    assert fates(saying(named, NFLX=Label.BULLISH)) == [("AMZN", Fate.URGENT), ("NFLX", Fate.VOTE)]
    assert fates(named) == [("AMZN", Fate.URGENT)]


def test_without_a_primary_every_leg_votes() -> None:
    """Two companies by name and no symbol: none is the primary, so none is urgent."""
    message = a_message(Label.BULLISH, 1.0, symbols=("NFLX", "AMZN"), cashtags=0)
    nobody = message.model_copy(update={"tickers": message.tickers.model_copy(update={"primary": None})})

    assert fates(nobody) == [("NFLX", Fate.VOTE), ("AMZN", Fate.VOTE)]

"""Signal scorer: every part of the score and its tiers, worked by hand (STAGES 5)."""

import math
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError
from pipeline.models import Bars, Direction, Quote, Tier, ValidationStatus, Vote
from pipeline.scorer import ScorerSettings, SignalScorer, confluence, credibility, sentiment_weight
from tests.market_builders import (
    WEDNESDAY_NOON,
    a_signal,
    a_validation,
    a_vote,
    at,
    some_bars,
    with_value,
    xnys,
)
from workers.adapters.market_memory import MemoryMarketData, MemoryVoteHistory

LONG, SHORT = Direction.LONG, Direction.SHORT
SETTINGS = ScorerSettings()


def a_scorer(*votes: Vote, bars: Bars | None = None, settings: ScorerSettings = SETTINGS) -> SignalScorer:
    """A scorer over a steady rise by 1 that closed at 100 (ATR 1.5) and these votes on AAPL."""
    history = MemoryVoteHistory()
    for vote in votes:
        history.add("AAPL", vote)
    series = bars or some_bars(np.arange(81.0, 101.0))
    return SignalScorer(MemoryMarketData({"AAPL": series}, sessions=xnys()), xnys(), history, settings)


@pytest.mark.parametrize(
    ("status", "adx", "score"),
    [
        (ValidationStatus.PASS, 25.0, 73.5),  # 72 x 0.5 + 75 x 0.5
        (ValidationStatus.PASS, 30.0, 73.5),  # exactly 30 is no strong trend
        (ValidationStatus.PASS, 30.5, 73.8),  # 72 x 0.4 + 75 x 0.6
        (ValidationStatus.WARN, 25.0, 61.0),  # 72 x 0.5 + 50 x 0.5
        (ValidationStatus.WARN, 45.0, 58.8),  # 72 x 0.4 + 50 x 0.6
        (ValidationStatus.UNVALIDATED, 0.0, 61.0),  # like a warning, without ADX
    ],
)
def test_the_base_weighs_sentiment_and_chart(status: ValidationStatus, adx: float, score: float) -> None:
    """Conviction 0.8 x 0.9 = 0.72; weights 0.5 / 0.5, above ADX 30 0.4 / 0.6; points 75 and 50."""
    found = a_scorer().score(a_signal(), a_validation(status, adx=adx))

    assert found.score == pytest.approx(score)


def test_a_feeble_post_is_no_trade() -> None:
    """Confidence 0.55, score 0.05: 100 x 0.0275 x 0.5 + 75 x 0.5 = 38.875 < 40."""
    found = a_scorer().score(a_signal(score=0.05, confidence=0.55), a_validation())

    assert found.score == pytest.approx(38.875)
    assert (found.tier, found.size_factor) == (Tier.NO_TRADE, 0.0)


@pytest.mark.parametrize(
    ("score", "tier", "size"),
    [
        (100.0, Tier.STRONG, 1.0),
        (80.0, Tier.STRONG, 1.0),
        (79.9999999996, Tier.STRONG, 1.0),  # 80 on nine decimals
        (79.9999999994, Tier.MODERATE, 0.5),
        (60.0, Tier.MODERATE, 0.5),
        (59.9999999996, Tier.MODERATE, 0.5),
        (59.9999999994, Tier.WEAK, 0.25),
        (40.0, Tier.WEAK, 0.25),
        (39.9999999996, Tier.WEAK, 0.25),
        (39.9999999994, Tier.NO_TRADE, 0.0),
        (0.0, Tier.NO_TRADE, 0.0),
    ],
)
def test_tiers_begin_at_80_60_and_40_on_nine_decimals(score: float, tier: Tier, size: float) -> None:
    """Float noise moves no score over an edge, a real difference does."""
    assert SETTINGS.tier(score) is tier
    assert SETTINGS.size(tier) == size


def test_noise_of_the_arithmetic_does_not_cost_a_tier() -> None:
    """0.5 x 60 + 0.5 x 50 = 55; in the after-hours 55 x 0.8 = 44; with one confirmation 48.4, all below 60: weak."""
    signal = a_signal(score=0.6, confidence=1.0, decided_at=at("2014-07-09 21:00"))

    found = a_scorer(a_vote(at=at("2014-07-09 20:59"))).score(signal, a_validation(ValidationStatus.WARN))

    assert found.score == pytest.approx(48.4)
    assert found.tier is Tier.WEAK


@pytest.mark.parametrize(
    ("decided_at", "factor"),
    [
        ("2014-07-09 13:30", 1.0),  # the open, where held signals are decided again
        ("2014-07-09 19:59:59", 1.0),
        ("2014-07-09 20:00", 0.8),  # the close
        ("2014-07-09 23:59:59", 0.8),
        ("2014-07-10 00:00", 0.5),  # 20:00 New York
        ("2014-07-10 07:59:59", 0.5),
        ("2014-07-10 08:00", 0.9),  # 04:00 New York
        ("2014-07-04 16:00", 0.5),  # Independence Day
        ("2014-07-03 17:00", 0.8),  # half day: after the close at 13:00 New York
        ("2014-07-05 16:00", 0.5),  # Saturday
    ],
)
def test_the_time_factor_follows_the_exchange_calendar(decided_at: str, factor: float) -> None:
    """Regular 1.0, pre-market 0.9, after-hours 0.8, else 0.5."""
    bars = some_bars(np.arange(81.0, 101.0), last_day=date(2014, 7, 1))
    found = a_scorer(bars=bars).score(a_signal(decided_at=at(decided_at)), a_validation())

    assert found.components["time"] == factor
    assert found.score == pytest.approx(73.5 * factor)


@pytest.mark.parametrize(
    ("votes", "confirmations"),
    [
        ((), 0),
        ((a_vote(),), 1),
        ((a_vote("bob", "x"), a_vote("cid", "y")), 2),
        ((a_vote("bob", "x"), a_vote("cid", "y"), a_vote("dan", "z")), 3),
        ((a_vote("bob", "x"), a_vote("bob", "y")), 1),  # one author
        ((a_vote("bob", "x"), a_vote("cid", "x")), 1),  # one text
        ((a_vote("bob", "x"), a_vote("bob", "y"), a_vote("cid", "x")), 2),  # bob's y and cid's x
        ((a_vote("ann", "x"),), 0),  # the signal's own author
        ((a_vote("bob", "text-1"),), 0),  # the signal's own text
        ((a_vote(label="bearish"),), 0),
        ((a_vote(label="neutral"),), 0),
        ((a_vote(at=WEDNESDAY_NOON - timedelta(minutes=15)),), 0),  # the window is open on that side
        ((a_vote(at=WEDNESDAY_NOON - timedelta(seconds=899)),), 1),
        ((a_vote(at=WEDNESDAY_NOON),), 1),
        ((a_vote(at=WEDNESDAY_NOON + timedelta(seconds=1)),), 0),  # the future
        ((a_vote(urgent=True),), 1),
    ],
)
def test_confluence_counts_other_authors_with_other_texts(votes: tuple[Vote, ...], confirmations: int) -> None:
    """Same direction, same symbol, the last 15 minutes."""
    assert a_scorer(*votes).score(a_signal(), a_validation()).components["confirmations"] == confirmations


def test_votes_on_another_symbol_confirm_nothing() -> None:
    """Confluence is the symbol's own."""
    history = MemoryVoteHistory()
    history.add("MSFT", a_vote())
    market = MemoryMarketData({"AAPL": some_bars(np.arange(81.0, 101.0))}, sessions=xnys())

    found = SignalScorer(market, xnys(), history, SETTINGS).score(a_signal(), a_validation())

    assert found.components["confirmations"] == 0


def test_bearish_votes_confirm_a_short() -> None:
    """Long and short are mirror images."""
    found = a_scorer(a_vote(label="bearish"), a_vote("cid", "y")).score(a_signal(SHORT), a_validation())

    assert found.components["confirmations"] == 1


@pytest.mark.parametrize(("confirmations", "bonus"), [(0, 0.0), (1, 0.10), (2, 0.20), (9, 0.20)])
def test_one_confirmation_adds_a_tenth_and_more_add_two(confirmations: int, bonus: float) -> None:
    """Never more than 0.20."""
    assert confluence(confirmations, SETTINGS) == bonus


@pytest.mark.parametrize(
    ("authors", "factor"),
    [
        ({"ann"}, 1.0),
        ({"sage"}, 1.2),
        ({"clown"}, 0.8),
        ({"sage", "clown"}, 1.0),
        ({"sage", "ann"}, 1.1),
        (set(), 1.0),
    ],
)
def test_credibility_is_the_mean_of_the_authors_tiers(authors: set[str], factor: float) -> None:
    """1.2 trusted, 1.0 on no list, 0.8 doubted."""
    settings = ScorerSettings(trusted_authors=frozenset({"sage"}), doubted_authors=frozenset({"clown"}))

    assert credibility(frozenset(authors), settings) == pytest.approx(factor)


def test_the_score_is_clamped_to_100() -> None:
    """(100 x 0.5 + 75 x 0.5) x 1.2 x 1.2 = 126."""
    settings = ScorerSettings(trusted_authors=frozenset({"ann"}))
    scorer = a_scorer(a_vote("bob", "x"), a_vote("cid", "y"), settings=settings)

    assert scorer.score(a_signal(score=1.0, confidence=1.0), a_validation()).score == 100.0


def test_a_recommendation_carries_every_number_of_its_score() -> None:
    """So that a trace can work it out again: (72 x 0.5 + 75 x 0.5) x 1.0 x 1.0 x 1.1 = 80.85."""
    found = a_scorer(a_vote()).score(a_signal(), a_validation())

    assert found.score == pytest.approx(80.85)
    assert found.components == pytest.approx(
        {
            "sentiment": 72.0,
            "technical": 75.0,
            "sentiment_weight": 0.5,
            "technical_weight": 0.5,
            "base": 73.5,
            "credibility": 1.0,
            "time": 1.0,
            "confirmations": 1.0,
            "confluence": 0.1,
            "adx": 25.0,
            "score": found.score,
            "daily_atr": 1.5,
        }
    )


def test_levels_stand_on_the_last_close_and_the_daily_atr() -> None:
    """Close 100, ATR 1.5: stop 2.25 below, target 4.50 above."""
    found = a_scorer().score(a_signal(), a_validation())

    assert found.quote == Quote("AAPL", Decimal("100.0"), at("2014-07-08 20:00"), "daily close")
    assert (found.levels.stop, found.levels.target) == (Decimal("97.75"), Decimal("104.50"))


@pytest.mark.parametrize(
    "bars",
    [some_bars(np.arange(96.0, 101.0)), with_value(some_bars(np.arange(81.0, 101.0)), "high", 3, math.nan)],
)
def test_without_a_sound_daily_atr_the_stop_is_two_percent(bars: Bars) -> None:
    """5 bars have no ATR 14, a NaN bar neither; the components show none."""
    found = a_scorer(bars=bars).score(a_signal(), a_validation())

    assert found.levels.stop_distance == Decimal("2.00")
    assert "daily_atr" not in found.components


def test_a_signal_without_a_price_raises_and_names_the_symbol() -> None:
    """The scorer is critical: the orchestrator skips the signal as `error`."""
    early = a_signal(decided_at=at("2014-01-02 16:00"))

    with pytest.raises(MarketDataError, match="AAPL: no price is known at 2014-01-02"):
        a_scorer().score(early, a_validation())


@pytest.mark.parametrize("price", ["NaN", "Infinity", "0", "-1"])
def test_a_price_that_is_none_raises(price: str) -> None:
    """Broken data never becomes a level."""

    class BrokenMarket(MemoryMarketData):
        def quote(self, symbol: str, as_of: datetime) -> Quote | None:
            return Quote(symbol, Decimal(price), as_of, "nbbo")

    market = BrokenMarket({"AAPL": some_bars()}, sessions=xnys())
    scorer = SignalScorer(market, xnys(), MemoryVoteHistory(), SETTINGS)

    with pytest.raises(MarketDataError, match="AAPL: the price is"):
        scorer.score(a_signal(), a_validation())


def test_a_vetoed_signal_is_never_scored() -> None:
    """Scoring one would be a mistake of the caller."""
    with pytest.raises(ValueError, match="d-1: a vetoed signal"):
        a_scorer().score(a_signal(), a_validation(ValidationStatus.VETO))


def test_sentiment_weighs_less_only_above_adx_30() -> None:
    """The next float above 30 is a strong trend."""
    assert sentiment_weight(a_validation(adx=30.0), SETTINGS) == 0.5
    assert sentiment_weight(a_validation(adx=math.nextafter(30.0, 31.0)), SETTINGS) == 0.4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tier_weak": 70}, "tiers are weak"),
        ({"trusted_authors": ["x"], "doubted_authors": ["x"]}, "both trusted and doubted"),
        ({"time_regular": 1.5}, "time_regular"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], word: str) -> None:
    """Wrong settings stop the fleet at start."""
    with pytest.raises(ValidationError, match=word):
        ScorerSettings.model_validate(changes)


def test_a_scorer_remembers_an_atr_only_until_the_next_daily_bar() -> None:
    """Scores in any order equal those of fresh scorers: the last bar's true range of 21 changes the ATR."""
    bars = some_bars(np.arange(81.0, 101.0))
    wild = with_value(bars, "high", 19, 120.0)
    moments = [at("2014-07-08 16:00"), at("2014-07-09 16:00"), at("2014-07-08 16:00")]
    shared = a_scorer(bars=wild)

    atrs = [shared.score(a_signal(decided_at=moment), a_validation()).components["daily_atr"] for moment in moments]

    # before: 1.5; the wild bar's true range is 120 - 99 (the close before) = 21; Wilder: (13 x 1.5 + 21) / 14
    assert atrs == pytest.approx([1.5, 40.5 / 14, 1.5])

"""Signal scorer: the strength of a validated signal, the size it earns and where its stop and target lie."""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from pipeline.errors import MarketDataError
from pipeline.indicators import atr
from pipeline.levels import LevelSettings, levels
from pipeline.models import (
    Direction,
    Frozen,
    Label,
    Phase,
    Quote,
    Signal,
    Tier,
    TradeRecommendation,
    Validation,
    ValidationStatus,
)
from pipeline.ports import MarketData, Sessions, VoteHistory

LABEL_OF = {Direction.LONG: Label.BULLISH, Direction.SHORT: Label.BEARISH}
TIER_DIGITS = 9  # float noise ends here: 0.1 + 0.2 style errors must not move a score over a tier's edge


class ScorerSettings(Frozen):
    """Numbers of the score, which lies in [0, 100]. Weights and factors have no unit."""

    strong_trend_adx: float = Field(default=30, ge=0, le=100, description="above this ADX the chart weighs more")
    sentiment_weight: float = Field(default=0.5, ge=0, le=1, description="sentiment's share; the chart has the rest")
    sentiment_weight_in_trend: float = Field(default=0.4, ge=0, le=1, description="the same above strong_trend_adx")
    technical_pass: float = Field(default=75, ge=0, le=100, description="technical points of a validation that passed")
    technical_warn: float = Field(default=50, ge=0, le=100, description="the same with warnings or unvalidated")
    confluence_seconds: int = Field(default=900, ge=0, le=86_400, description="how far back confirmations count")
    confluence_one: float = Field(default=0.10, ge=0, le=1, description="bonus for one confirmation")
    confluence_many: float = Field(default=0.20, ge=0, le=1, description="bonus for two or more confirmations")
    trusted_authors: frozenset[str] = Field(default=frozenset(), description="authors of the upper tier")
    doubted_authors: frozenset[str] = Field(default=frozenset(), description="authors of the lower tier")
    credibility_trusted: float = Field(default=1.2, ge=0, le=2, description="factor of a trusted author")
    credibility: float = Field(default=1.0, ge=0, le=2, description="factor of an author on no list")
    credibility_doubted: float = Field(default=0.8, ge=0, le=2, description="factor of a doubted author")
    time_regular: float = Field(default=1.0, ge=0, le=1, description="factor in the regular session")
    time_pre_market: float = Field(default=0.9, ge=0, le=1, description="factor before the open")
    time_after_hours: float = Field(default=0.8, ge=0, le=1, description="factor after the close")
    time_closed: float = Field(default=0.5, ge=0, le=1, description="factor at night, on weekends and holidays")
    tier_strong: float = Field(default=80, ge=0, le=100, description="lowest score of the strong tier")
    tier_moderate: float = Field(default=60, ge=0, le=100, description="lowest score of the moderate tier")
    tier_weak: float = Field(default=40, ge=0, le=100, description="lowest score that trades")
    size_strong: float = Field(default=1.0, gt=0, le=1, description="share of the risk budget, strong tier")
    size_moderate: float = Field(default=0.5, gt=0, le=1, description="share of the risk budget, moderate tier")
    size_weak: float = Field(default=0.25, gt=0, le=1, description="share of the risk budget, weak tier")
    levels: LevelSettings = Field(default=LevelSettings(), description="distances of stop and target")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.tier_weak <= self.tier_moderate <= self.tier_strong:
            raise ValueError(
                f"tiers are weak {self.tier_weak}, moderate {self.tier_moderate}, strong {self.tier_strong}: "
                "they must not fall"
            )
        both = self.trusted_authors & self.doubted_authors
        if both:
            raise ValueError(f"{len(both)} authors are both trusted and doubted, for example {min(both)!r}")
        return self

    def tier(self, score: float) -> Tier:
        """The tier of a score, on nine decimals."""
        rounded = round(score, TIER_DIGITS)
        if rounded >= self.tier_strong:
            return Tier.STRONG
        if rounded >= self.tier_moderate:
            return Tier.MODERATE
        return Tier.WEAK if rounded >= self.tier_weak else Tier.NO_TRADE

    def size(self, tier: Tier) -> float:
        """The share of the risk budget a tier earns, in [0, 1]."""
        sizes = {Tier.STRONG: self.size_strong, Tier.MODERATE: self.size_moderate, Tier.WEAK: self.size_weak}
        return sizes.get(tier, 0.0)

    def time_factor(self, phase: Phase) -> float:
        """The factor of a part of the exchange's day."""
        return {
            Phase.REGULAR: self.time_regular,
            Phase.PRE_MARKET: self.time_pre_market,
            Phase.AFTER_HOURS: self.time_after_hours,
            Phase.CLOSED: self.time_closed,
        }[phase]


class SignalScorer:
    """Scores signals with what was known when they were decided."""

    def __init__(self, market: MarketData, sessions: Sessions, votes: VoteHistory, settings: ScorerSettings) -> None:
        self._market = market
        self._sessions = sessions
        self._votes = votes
        self._settings = settings
        self._atr: dict[str, tuple[tuple[int, int], float | None]] = {}

    def score(self, signal: Signal, validation: Validation) -> TradeRecommendation:
        """The signal's score, tier, levels and every number behind them.

        `size_factor` is the tier's alone: what an unvalidated signal loses is taken by the risk manager, who also
        judges the quote's age. Raises MarketDataError without a usable price (the signal is skipped: `error`),
        ValueError for a vetoed signal.
        """
        if validation.status is ValidationStatus.VETO:
            raise ValueError(f"{signal.decision_id}: a vetoed signal has no score")
        quote = self._quote(signal)
        parts = self._parts(signal, validation)
        daily_atr = self._daily_atr(signal)
        tier = self._settings.tier(parts["score"])
        return TradeRecommendation(
            signal=signal,
            score=parts["score"],
            tier=tier,
            size_factor=self._settings.size(tier),
            validation=validation,
            quote=quote,
            levels=levels(signal.symbol, signal.direction, quote.price, daily_atr, self._settings.levels),
            components=parts | ({} if daily_atr is None else {"daily_atr": daily_atr}),
        )

    def _quote(self, signal: Signal) -> Quote:
        quote = self._market.quote(signal.symbol, signal.decided_at)
        if quote is None:
            raise MarketDataError(f"{signal.symbol}: no price is known at {signal.decided_at.isoformat()}")
        if not quote.price.is_finite() or quote.price <= 0:
            raise MarketDataError(f"{signal.symbol}: the price is {quote.price}, it must be finite and above 0")
        return quote

    def _parts(self, signal: Signal, validation: Validation) -> dict[str, float]:
        s = self._settings
        confirmations = self._confirmations(signal)
        parts = {
            "sentiment": 100 * signal.conviction,
            "technical": technical_points(validation, s),
            "sentiment_weight": sentiment_weight(validation, s),
            "credibility": credibility(signal.authors, s),
            "time": s.time_factor(self._sessions.phase(signal.decided_at)),
            "confirmations": float(confirmations),
            "confluence": confluence(confirmations, s),
        }
        if validation.indicators is not None:
            parts["adx"] = validation.indicators.adx
        return parts | combine(parts)

    def _confirmations(self, signal: Signal) -> int:
        """How many others say the same: distinct authors and distinct texts, whichever are fewer.

        Exact for 0, 1 and more: two posts that differ in author and in text exist exactly when both counts are >= 2.
        """
        since = signal.decided_at - timedelta(seconds=self._settings.confluence_seconds)
        others = [
            vote
            for vote in self._votes.votes(signal.symbol, since, signal.decided_at)
            if vote.label is LABEL_OF[signal.direction]
            and vote.by not in signal.authors
            and vote.text not in signal.fingerprints
        ]
        return min(len({vote.by for vote in others}), len({vote.text for vote in others}))

    def _daily_atr(self, signal: Signal) -> float | None:
        """The daily ATR in dollars, remembered per symbol until its next daily bar."""
        s = self._settings.levels
        bars = self._market.daily_bars(signal.symbol, signal.decided_at, s.atr_bars)
        version = (int(bars.end[-1]), len(bars)) if len(bars) else (0, 0)
        known = self._atr.get(signal.symbol)
        if known is None or known[0] != version:
            known = (version, atr(bars, s.atr_period))
            self._atr[signal.symbol] = known
        return known[1]


# ---- the parts of the score --------------------------------------------------------------------------


def combine(parts: dict[str, float]) -> dict[str, float]:
    """`technical_weight`, `base` = weighted sentiment and technical points, `score` = base x factors in [0, 100]."""
    technical_weight = 1 - parts["sentiment_weight"]
    base = parts["sentiment"] * parts["sentiment_weight"] + parts["technical"] * technical_weight
    score = base * parts["credibility"] * parts["time"] * (1 + parts["confluence"])
    return {"technical_weight": technical_weight, "base": base, "score": min(max(score, 0.0), 100.0)}


def sentiment_weight(validation: Validation, settings: ScorerSettings) -> float:
    """Sentiment's share of the base: less in a strong trend, where the chart knows more."""
    reading = validation.indicators
    in_trend = reading is not None and reading.adx > settings.strong_trend_adx
    return settings.sentiment_weight_in_trend if in_trend else settings.sentiment_weight


def technical_points(validation: Validation, settings: ScorerSettings) -> float:
    """Points for what the validator said; unvalidated counts like a warning."""
    return settings.technical_pass if validation.status is ValidationStatus.PASS else settings.technical_warn


def credibility(authors: frozenset[str], settings: ScorerSettings) -> float:
    """The mean factor of the signal's authors; the normal one when it has none."""
    if not authors:
        return settings.credibility
    trusted, doubted = len(authors & settings.trusted_authors), len(authors & settings.doubted_authors)
    normal = len(authors) - trusted - doubted
    total = (
        trusted * settings.credibility_trusted + doubted * settings.credibility_doubted + normal * settings.credibility
    )
    return total / len(authors)


def confluence(confirmations: int, settings: ScorerSettings) -> float:
    """The bonus for independent posts that say the same."""
    if confirmations == 0:
        return 0.0
    return settings.confluence_one if confirmations == 1 else settings.confluence_many

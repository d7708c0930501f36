"""What a batch of votes agrees on, and the one signal it becomes (STAGES 3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from pydantic import Field

from pipeline.models import AggregatedSentiment, Direction, Frozen, Label, Refusal, Signal, Stage, Vote


class ConsensusSettings(Frozen):
    """Numbers of the consensus beside the seed's `min_consensus` and `batch_interval_seconds`."""

    min_votes: int = Field(
        default=2, ge=1, le=1000, description="votes on the winning side; 1 = the seed's literal rule"
    )
    lookback_s: float = Field(default=900, ge=0, le=86_400, description="seconds; 0 = the seed's literal rule")
    lookback_most: int = Field(
        default=5_000, ge=1, le=100_000, description="votes of a symbol that a look-back reads, the newest"
    )
    max_age_s: float = Field(
        default=120, gt=0, le=86_400, description="seconds from the newest vote until the signal expires"
    )


@dataclass(frozen=True, slots=True)
class Consensus:
    """The batch's answer: an aggregate, and either a signal or the rule that found no direction."""

    aggregate: AggregatedSentiment
    signal: Signal | None = None
    refusal: Refusal | None = None


def distinct(votes: Iterable[Vote]) -> tuple[Vote, ...]:
    """One vote an author (his latest) and one vote a text (the first of those left), oldest first."""
    by_author: dict[str, Vote] = {}
    for vote in sorted(votes, key=_order):
        by_author[vote.by] = vote
    by_text: dict[str, Vote] = {}
    for vote in sorted(by_author.values(), key=_order):
        by_text.setdefault(vote.text, vote)
    return tuple(by_text.values())


def aggregate_sentiment(votes: Sequence[Vote]) -> AggregatedSentiment:
    """Counts, lead, strength and mean confidence of the votes as they are given (seed)."""
    counts = {label: sum(vote.label is label for vote in votes) for label in Label}
    total = len(votes)
    lead = max(counts.values())
    leaders = [label for label, count in counts.items() if count == lead and total]
    return AggregatedSentiment(
        bullish=counts[Label.BULLISH],
        bearish=counts[Label.BEARISH],
        neutral=counts[Label.NEUTRAL],
        total=total,
        label=leaders[0] if len(leaders) == 1 else None,
        strength=lead / total if total else 0.0,
        mean_confidence=sum(vote.confidence for vote in votes) / total if total else 0.0,
        message_ids=tuple(vote.id for vote in votes),
        newest=max((vote.at for vote in votes), default=None),
    )


def reach_consensus(
    decision_id: str,
    symbol: str,
    votes: Sequence[Vote],
    as_of: datetime,
    settings: ConsensusSettings,
    min_consensus: float,
) -> Consensus:
    """The decision of one symbol's votes (look-back included by the caller), as one synthetic signal or a refusal."""
    counted = distinct(votes)
    aggregate = aggregate_sentiment(counted)
    refusal = _refuse(aggregate, settings, min_consensus)
    if refusal is not None:
        return Consensus(aggregate, refusal=refusal)
    winners = [vote for vote in counted if vote.label is aggregate.label]
    weight = sum(vote.confidence for vote in winners)
    if weight <= 0:
        return Consensus(aggregate, refusal=_no("no_confidence", "0", "> 0"))
    newest = aggregate.newest or as_of
    signal = Signal(
        decision_id=decision_id,
        symbol=symbol,
        direction=Direction.LONG if aggregate.label is Label.BULLISH else Direction.SHORT,
        score=sum(vote.score * vote.confidence for vote in winners) / weight,
        confidence=aggregate.strength * aggregate.mean_confidence,
        created_at=newest,
        decided_at=as_of,
        expires_at=newest + timedelta(seconds=settings.max_age_s),
        authors=frozenset(vote.by for vote in winners),
        fingerprints=frozenset(vote.text for vote in winners),
        message_ids=aggregate.message_ids,
        kind="batch",
    )
    return Consensus(aggregate, signal=signal)


def window_of(at: datetime, interval_s: int) -> int:
    """The bucket floor(epoch / interval) a moment falls into."""
    return int(at.timestamp() // interval_s)


def _order(vote: Vote) -> tuple[datetime, str]:
    return vote.at, vote.id


def _refuse(aggregate: AggregatedSentiment, settings: ConsensusSettings, min_consensus: float) -> Refusal | None:
    if aggregate.label is None:
        return _no("tie", f"{aggregate.bullish}:{aggregate.bearish}:{aggregate.neutral}", "one leading label")
    if aggregate.label is Label.NEUTRAL:
        return _no("neutral_lead", f"{aggregate.neutral} of {aggregate.total}", "a direction in the lead")
    lead = aggregate.bullish if aggregate.label is Label.BULLISH else aggregate.bearish
    if lead < settings.min_votes:
        return _no("min_votes", f"{lead}", f">= {settings.min_votes}")
    if Fraction(lead, aggregate.total) < Fraction(str(min_consensus)):
        return _no("min_consensus", f"{lead} of {aggregate.total}", f">= {min_consensus:g}")
    return None


def _no(rule: str, observed: str, limit: str) -> Refusal:
    return Refusal(Stage.CONSENSUS, rule, observed, limit)

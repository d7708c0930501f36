"""Builders of posts, votes and legs for the trunk: valid by default, every fact can be named."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading, Vote

NOON = datetime(2014, 7, 9, 16, tzinfo=UTC)  # Wednesday, 12:00 New York, regular session
SIGN = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}


def later(seconds: float, since: datetime = NOON) -> datetime:
    """So many seconds after Wednesday noon."""
    return since + timedelta(seconds=seconds)


def a_post(number: int = 1, text: str = "$AAPL bullish breakout", **facts: Any) -> SocialMessage:
    """A post of ann's, written and known at Wednesday noon."""
    at = facts.pop("at", NOON)
    fields = {
        "message_id": f"test-{number}",
        "source": "test",
        "source_id": str(number),
        "created_at": at,
        "received_at": at,
        "author": "ann",
        "text": text,
    }
    return SocialMessage.model_validate(fields | facts)


def a_message(
    label: Label | str = Label.BULLISH,
    confidence: float = 0.9,
    *,
    symbols: Sequence[str] = ("AAPL",),
    outside: Sequence[str] = (),
    primary: str | None = None,
    cashtags: int | None = None,
    spam: str | None = None,
    fingerprint: str | None = None,
    score: float | None = None,
    **post: Any,
) -> AnalyzedMessage:
    """An analyzed post about AAPL, the first symbol its primary; |score| 0.8 in the label's direction, own text."""
    message = a_post(**post)
    named = (*symbols, *outside)
    return AnalyzedMessage(
        message=message,
        sentiment=Sentiment(
            label=Label(label),
            score=0.8 * SIGN[Label(label)] if score is None else score,
            confidence=confidence,
            model="test",
        ),
        tickers=TickerReading(
            symbols=tuple(symbols),
            outside=tuple(outside),
            primary=primary or (named[0] if named else None),
            cashtags=len(named) if cashtags is None else cashtags,
        ),
        fingerprint=fingerprint or f"text-{message.message_id}",
        spam=spam,
    )


def a_vote(number: int = 1, label: Label | str = Label.BULLISH, confidence: float = 0.8, **facts: Any) -> Vote:
    """A vote of an author and a text of its own, at Wednesday noon; |score| 0.5 in the label's direction."""
    at = facts.pop("at", NOON)
    fields: dict[str, Any] = {
        "id": f"test-{number}",
        "by": f"author-{number}",
        "label": Label(label),
        "score": 0.5 * SIGN[Label(label)],
        "confidence": confidence,
        "created_at": at,
        "at": at,
        "text": f"text-{number}",
    }
    return Vote(**(fields | facts))


def votes(bullish: int = 0, bearish: int = 0, neutral: int = 0, **facts: Any) -> tuple[Vote, ...]:
    """So many votes of each label, all of different authors and texts."""
    labels = [Label.BULLISH] * bullish + [Label.BEARISH] * bearish + [Label.NEUTRAL] * neutral
    return tuple(a_vote(number, label, **facts) for number, label in enumerate(labels))

"""Posts of all kinds, the same for the same seed: urgent and calm, for hot and cold symbols, and what is no signal."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading
from workers.collect import Intake

HOT: Final = ("HOTA", "HOTB", "HOTC", "HOTD")
COLD: Final = tuple(f"C{a}{b}" for a in "ABCDEFGHIJ" for b in "ABCDEF")
SYMBOLS: Final = (*HOT, *COLD)
KINDS: Final = {
    "urgent_hot": 24,
    "urgent_cold": 30,
    "calm": 30,
    "pair": 6,
    "no_symbol": 3,
    "list_post": 2,
    "neutral": 3,
    "same_text": 2,
}
#: As a day of a real feed has them: few posts are urgent, most vote or are no signal at all.
CALM_KINDS: Final = KINDS | {"urgent_hot": 2, "urgent_cold": 3, "calm": 60, "no_symbol": 20, "list_post": 6}

CONFIDENCE: Final = {"urgent_hot": 0.95, "urgent_cold": 0.9, "no_symbol": 0.9, "list_post": 0.9, "neutral": 0.99}


@dataclass
class Feed:
    """Makes posts; `made` are all so far, in order."""

    seed: int
    made: list[AnalyzedMessage] = field(default_factory=list)
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._count = count()

    def some(self, number: int, now: datetime) -> list[AnalyzedMessage]:
        """The next posts, created now."""
        posts = [self._post(now) for _ in range(number)]
        self.made += posts
        return posts

    def times(self) -> int:
        """How often the next post is delivered: mostly once, at most three times."""
        return self._dice.choices((1, 2, 3), (6, 3, 1))[0]

    def _post(self, now: datetime) -> AnalyzedMessage:
        kind = self._dice.choices(list(self.kinds), list(self.kinds.values()))[0]
        number = next(self._count) + self._dice.randrange(100_000) * 10_000_000
        label = Label.BULLISH if self._dice.random() < 0.8 else Label.BEARISH
        if kind == "neutral":
            label = Label.NEUTRAL
        text = self._dice.choice(self.made[-50:]).fingerprint if kind == "same_text" and self.made else ""
        return a_post(number, now, self._symbols(kind), label, CONFIDENCE.get(kind, 0.8), text)

    def _symbols(self, kind: str) -> tuple[str, ...]:
        if kind == "no_symbol":
            return ()
        if kind in {"pair", "list_post"}:
            return tuple(self._dice.sample(SYMBOLS, 2 if kind == "pair" else 5))
        pool = {"urgent_hot": HOT, "urgent_cold": COLD, "calm": SYMBOLS[::3]}  # votes gather, or two would rarely meet
        return (self._dice.choice(pool.get(kind, SYMBOLS)),)


def a_post(
    number: int, now: datetime, symbols: Sequence[str], label: Label, confidence: float, text: str = ""
) -> AnalyzedMessage:
    """One post of this number, known as it is posted."""
    sign = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}[label]
    facts: dict[str, Any] = {"created_at": now, "received_at": now}
    return AnalyzedMessage(
        message=SocialMessage(
            message_id=f"chaos-{number}",
            source="chaos",
            source_id=str(number),
            author=f"by-{number % 997}",
            text=" ".join(f"${symbol}" for symbol in symbols) + f" {number}",
            **facts,
        ),
        sentiment=Sentiment(label=label, score=0.95 * sign, confidence=confidence, model="chaos"),
        fingerprint=text or f"text-{number}",
        tickers=TickerReading(symbols=tuple(symbols), primary=symbols[0] if symbols else None, cashtags=len(symbols)),
    )


@dataclass
class SourceFile:
    """The file that the collector follows, and what the fleet's own analyzer will make of each line."""

    path: Path
    intake: Intake
    written: int = 0

    def __post_init__(self) -> None:
        self.path.touch()

    def write(self, symbols: Sequence[str], now: datetime) -> list[AnalyzedMessage]:
        """A good word on each symbol, a line each, in one write."""
        lines = [self._line(symbol, now) for symbol in symbols]
        posts = [post for line in lines if (post := self.intake.parse(line, now)) is not None]
        analyzed = [message for post in posts if (message := self.intake.analyze(post)) is not None]
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        return analyzed

    def _line(self, symbol: str, now: datetime) -> bytes:
        self.written += 1
        text = f"${symbol} upgraded to buy on record quarter {self.written}, strong growth and earnings beat"
        facts = {"id": str(self.written), "created_at": now.isoformat(), "source": "wire", "text": text}
        return json.dumps(facts | {"author": f"desk-{self.written % 97}"}).encode()


@dataclass(frozen=True, slots=True)
class Gist:
    """As much of a post as a run is judged by."""

    message_id: str
    tickers: TickerReading
    fingerprint: str


def gist(number: int, symbol: str, now: datetime) -> tuple[Gist, bytes]:
    """A calm post of this number, and its body: as `a_post`, a hundred times as fast."""
    body = _template(symbol, now.replace(microsecond=0))
    reading = _reading(symbol)
    body = body.replace(str(TEMPLATE), str(number)).replace(f"by-{TEMPLATE % 997}", f"by-{number % 997}")
    return Gist(f"chaos-{number}", reading, f"text-{number}"), body.encode()


TEMPLATE: Final = 899_999_999_999


@lru_cache(maxsize=256)
def _template(symbol: str, now: datetime) -> str:
    return a_post(TEMPLATE, now, (symbol,), Label.BULLISH, 0.7).model_dump_json()


@cache
def _reading(symbol: str) -> TickerReading:
    return TickerReading(symbols=(symbol,), primary=symbol, cashtags=1)

"""A second opinion: a heavier model asked in batches, and only where its answer could change the route of a post."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple, Protocol

from pydantic import Field

from pipeline.models import AnalyzedMessage, Frozen, Label, Sentiment, SocialMessage
from pipeline.ports import AnalyzerManager

FAILED = "+failed"
"""What the model's name ends with when the second stage gave no usable answer: the post is neutral then."""


class Opinion(NamedTuple):
    """What a model says of one post: `score` in [-1, 1] with the sign of the label, `confidence` its P(label is right).

    Neutral has score 0. The confidence is the model's own calibrator's work, not a raw softmax.
    """

    label: Label
    score: float
    confidence: float


class SecondStage(Protocol):
    """A heavier model: an encoder, FinBERT, an LLM. Pure of the texts: no memory of earlier ones."""

    @property
    def name(self) -> str:
        """Name and version, as every sentiment carries it."""
        ...

    @property
    def calibrated_on(self) -> int:
        """Held-out posts its calibrator was fitted on; 0 = it has none, and is never asked."""
        ...

    def read(self, texts: Sequence[str]) -> Sequence[Opinion]:
        """One opinion per text, in order. May raise anything: the posts are neutral then."""
        ...


class SecondStageSettings(Frozen):
    """When a second opinion is worth its price."""

    ask_from: float = Field(
        default=0.5, ge=0, le=1, description="confidence of a direction from which the second stage is asked"
    )
    max_batch: int = Field(default=32, ge=1, le=10_000, description="posts of one question to the second stage")


class TwoStageAnalyzer:
    """An `AnalyzerManager` that asks a second model about the posts that could trade at once.

    Its answer replaces the first one. No answer, or one that makes no sense, leaves the post neutral with confidence
    0 under a name that says so: a guard that fails closes the fast path.
    """

    def __init__(
        self, first: AnalyzerManager, second: SecondStage, settings: SecondStageSettings | None = None
    ) -> None:
        if second.calibrated_on < 1:
            raise ValueError(f"second stage {second.name}: calibrated_on is {second.calibrated_on}; valid: 1 or more")
        self._first, self._second = first, second
        self._settings = settings or SecondStageSettings()

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        """One post."""
        return self.analyze_all([message])[0]

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        """Posts in order; the second stage sees those that need it, `max_batch` at a time."""
        read = self._first.analyze_all(messages)
        asked = [index for index, post in enumerate(read) if could_change_route(post, self._settings.ask_from)]
        for start in range(0, len(asked), self._settings.max_batch):
            part = asked[start : start + self._settings.max_batch]
            for index, sentiment in zip(part, self._ask([read[index] for index in part]), strict=True):
                read[index] = read[index].model_copy(update={"sentiment": sentiment})
        return read

    def _ask(self, posts: Sequence[AnalyzedMessage]) -> list[Sentiment]:
        try:
            opinions = [checked(opinion) for opinion in self._second.read([post.message.text for post in posts])]
        except Exception:  # noqa: BLE001  # whatever a model does, the collector goes on, and nothing trades on it
            opinions = []
        if len(opinions) != len(posts):
            failed = Sentiment(label=Label.NEUTRAL, score=0.0, confidence=0.0, model=self._second.name + FAILED)
            return [failed] * len(posts)
        return [
            Sentiment(label=o.label, score=o.score, confidence=o.confidence, model=self._second.name) for o in opinions
        ]


def could_change_route(post: AnalyzedMessage, ask_from: float) -> bool:
    """Whether a post could trade at once: a direction of some confidence on a tradable primary, and no spam."""
    sentiment, tickers = post.sentiment, post.tickers
    return (
        post.spam is None
        and tickers.primary in tickers.symbols
        and sentiment.label is not Label.NEUTRAL
        and sentiment.confidence >= ask_from
    )


def checked(opinion: Opinion) -> Opinion:
    """The opinion. Raises ValueError for numbers out of range or a score that contradicts its label."""
    sign = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}[Label(opinion.label)]
    if not (isfinite(opinion.score) and abs(opinion.score) <= 1 and 0 <= opinion.confidence <= 1):
        raise ValueError(f"opinion is {opinion}; valid: score in [-1, 1] and confidence in [0, 1]")
    if (opinion.score > 0) - (opinion.score < 0) != sign:
        raise ValueError(f"opinion is {opinion}; valid: a score with the sign of its label")
    return opinion


class WordList:
    """The shipped twin of a heavy model, for tests and try-outs: one opinion for texts that hold a word."""

    name = "word-list-1"
    calibrated_on = 1

    def __init__(self, opinions: dict[str, Opinion]) -> None:
        self._opinions = opinions
        self.asked: list[tuple[str, ...]] = []

    def read(self, texts: Sequence[str]) -> Sequence[Opinion]:
        """The first word's opinion that a text holds; neutral at 0.5 without one."""
        self.asked.append(tuple(texts))
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Opinion:
        known = (opinion for word, opinion in self._opinions.items() if word in text)
        return next(known, Opinion(Label.NEUTRAL, 0.0, 0.5))

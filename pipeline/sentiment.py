"""From words to a label with an honest probability: features, a linear model, and its calibration."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from math import exp, log1p
from typing import NamedTuple

from pydantic import Field, ValidationError

from pipeline.errors import SettingsError
from pipeline.lexicon import Lexicon, Reading
from pipeline.models import Frozen, Label

LABELS = (Label.BEARISH, Label.NEUTRAL, Label.BULLISH)
_LEVELS = 4


class Evidence(NamedTuple):
    """What a post offers: binary features by name, the lexicon's bullish minus bearish sum, how many tokens."""

    features: frozenset[str]
    lean: float
    length: int


class Curve(Frozen):
    """A monotone map from a raw score to a probability: straight lines between points, flat beyond them."""

    scores: tuple[float, ...] = Field(min_length=1)
    probabilities: tuple[float, ...] = Field(min_length=1)

    def __call__(self, score: float) -> float:
        """The probability in [0, 1] at `score`."""
        right = bisect_right(self.scores, score)
        if right == 0:
            return self.probabilities[0]
        if right == len(self.scores):
            return self.probabilities[-1]
        low, high = self.scores[right - 1], self.scores[right]
        start, stop = self.probabilities[right - 1], self.probabilities[right]
        return start + (stop - start) * (score - low) / (high - low)


class Weights(Frozen):
    """A trained model, as `workers.calibrate` writes it. Weights are thousandths of logits against neutral.

    `words`: feature -> (bearish, bullish). `directional`: weights of `doubts` whose sum `direction` turns into
    P(the direction is right). `neutral`: curve over the log-odds of neutral. `provenance`: where it was learned.
    """

    version: str
    about: str
    provenance: tuple[dict[str, str | int], ...]
    bias: tuple[int, int]
    directional: tuple[float, ...]
    direction: Curve
    neutral: Curve
    words: dict[str, tuple[int, int]]

    def digest(self) -> str:
        """12 hex characters of SHA-256 over every number of the model; `version` ends with it."""
        numbers = self.model_dump(mode="json", include={"bias", "directional", "direction", "neutral", "words"})
        return sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:12]


class Reckoning(NamedTuple):
    """A label, the model's P(bullish) - P(bearish) in [-1, 1], and the calibrated P(label is right)."""

    label: Label
    lean: float
    confidence: float


def evidence(reading: Reading) -> Evidence:
    """The features of a post: its words and word pairs with negation, and how far the lexicon leans."""
    marked = reading.marked
    lean = reading.bullish - reading.bearish
    counts = (
        f"<bull {_level(reading.bullish)}>",
        f"<bear {_level(reading.bearish)}>",
        f"<lean {_level(lean)}>",
    )
    pairs = map("{} {}".format, marked, marked[1:])
    return Evidence(frozenset((*marked, *pairs, *counts)), lean, len(marked))


def _level(value: float) -> int:
    return max(-_LEVELS, min(_LEVELS, round(value)))


def probabilities(bearish: float, bullish: float) -> tuple[float, float, float]:
    """Softmax of the two logits and neutral's 0: P(bearish), P(neutral), P(bullish)."""
    top = max(bearish, 0.0, bullish)
    parts = exp(bearish - top), exp(-top), exp(bullish - top)
    total = sum(parts)
    return parts[0] / total, parts[1] / total, parts[2] / total


def doubts(logits: tuple[float, float], lean: float, length: int) -> tuple[float, ...]:
    """What says how far to trust a direction; all bounded, so that no post is beyond scale.

    In order: constant, logit against neutral, logit against the opposite, the lexicon's lean the same way, its
    part beyond one, log of the length in tokens.
    """
    bearish, bullish = logits
    way = 1.0 if bullish > bearish else -1.0
    agreed = max(-4.0, min(4.0, way * lean))
    return (
        1.0,
        max(-6.0, min(6.0, max(bearish, bullish))),
        min(6.0, abs(bullish - bearish)),
        agreed,
        max(0.0, agreed - 1.0),
        min(5.0, log1p(length)),
    )


class SentimentModel:
    """The finance lexicon and the weights learned on labelled posts, read once; then pure and thread-safe."""

    def __init__(self, weights: Weights | None = None) -> None:
        self.lexicon = Lexicon()
        self.weights = weights or load_weights()
        self._words = self.weights.words

    def reckon(self, words: Sequence[str]) -> Reckoning:
        """Label, lean and confidence of tokens; no token the model knows = neutral with confidence 0."""
        found = evidence(self.lexicon.read(words))
        known = [self._words[name] for name in found.features if name in self._words]
        bearish = (self.weights.bias[0] + sum(weight[0] for weight in known)) / 1000
        bullish = (self.weights.bias[1] + sum(weight[1] for weight in known)) / 1000
        return self._label((bearish, bullish), found)

    def _label(self, logits: tuple[float, float], found: Evidence) -> Reckoning:
        chances = probabilities(*logits)
        label = LABELS[chances.index(max(chances))]
        if label is Label.NEUTRAL or chances[0] == chances[2]:
            return Reckoning(Label.NEUTRAL, 0.0, self.weights.neutral(-max(logits)))
        terms = doubts(logits, found.lean, found.length)
        trust = sum(weight * term for weight, term in zip(self.weights.directional, terms, strict=True))
        return Reckoning(label, chances[2] - chances[0], self.weights.direction(trust))


def load_weights() -> Weights:
    """The shipped weights of `data/sentiment.json`. Raises SettingsError when the file is not what was trained."""
    return parse_weights(files("pipeline").joinpath("data/sentiment.json").read_text("utf-8"))


def parse_weights(text: str) -> Weights:
    """Weights from their JSON. Raises SettingsError when a number was changed since `workers.calibrate` wrote it."""
    try:
        weights = Weights.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"sentiment.json: not a model of ours ({error.error_count()} errors)") from None
    if not weights.version.endswith(weights.digest()):
        raise SettingsError(
            f"sentiment.json: version {weights.version} does not end with the digest {weights.digest()}"
        )
    return weights

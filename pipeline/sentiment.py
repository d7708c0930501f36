"""From words to a label with an honest probability: hashed features, a linear model in one file, its calibrators."""

import itertools
import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from importlib.resources import files
from math import exp, sqrt
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pipeline.errors import SettingsError
from pipeline.features import (
    BUCKETS,
    LETTERS_SCALE,
    lean_buckets,
    letter_buckets,
    letter_count,
    pair_bucket,
    word_bucket,
)
from pipeline.lexicon import Lexicon, Reading
from pipeline.models import Frozen, Label

LABELS = (Label.BEARISH, Label.NEUTRAL, Label.BULLISH)
CLOSED = "+uncalibrated"
"""What the model's name ends with when its confidence cannot be vouched for: every post is neutral then."""
Rows = NDArray[np.int8]
_REMEMBERED = 1 << 16
_K = TypeVar("_K")


class Channel(StrEnum):
    """What kind of feed a post comes from. A source nobody has named is unknown, and read with most caution."""

    NEWS = "news"
    SOCIAL = "social"
    UNKNOWN = "unknown"


class Calibrator(Frozen):
    """How the logits of one kind of channel become probabilities: divided by a temperature, then shifted.

    `bearish` and `bullish` are shifts against neutral. `weights`: digest of the weights it was fitted for; `posts`:
    how many held-out posts it was fitted on.
    """

    temperature: float = Field(gt=0.05, lt=20)
    bearish: float = Field(ge=-10, le=10)
    bullish: float = Field(ge=-10, le=10)
    weights: str
    posts: int = Field(ge=1)


class Provenance(Frozen):
    """One file the model was learned from."""

    source: str
    channel: Channel
    posts: int = Field(ge=1)
    sha256: str
    licence: str


class Card(Frozen):
    """What the model file says about itself, in its first line. `step`: the logit that one unit of a weight is."""

    version: str
    about: str
    seed: int
    ridge: float
    step: float = Field(gt=0)
    weights: str
    calibrators: dict[Channel, Calibrator]
    provenance: tuple[Provenance, ...]

    def digest(self) -> str:
        """12 hex characters of SHA-256 over everything but the version, which ends with it."""
        said = self.model_dump(mode="json", exclude={"version"})
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


class Model(NamedTuple):
    """A trained model: its card, and weights of shape (2, BUCKETS) for bearish and bullish against neutral."""

    card: Card
    rows: Rows

    def calibrator(self, channel: Channel) -> Calibrator | None:
        """The channel's calibrator, else the one for unknown channels; None unless it was fitted for these weights."""
        found = self.card.calibrators.get(channel) or self.card.calibrators.get(Channel.UNKNOWN)
        return found if found is not None and found.weights == self.card.weights else None

    def packed(self) -> bytes:
        """The model file: the card as one line of JSON, then the weights."""
        return self.card.model_dump_json().encode() + b"\n" + self.rows.tobytes()


class Reckoning(NamedTuple):
    """A label, P(bullish) - P(bearish) in [-1, 1] (0 for neutral), and the calibrated P(label is right)."""

    label: Label
    lean: float
    confidence: float


class _Sums(dict[_K, complex]):
    """Weights of a feature's buckets by its name: bearish + bullish i, whole numbers, so every order sums the same.

    Filled on demand and emptied when it is full; safe to share between threads.
    """

    def __init__(self, buckets: Callable[[_K], Sequence[int]], rows: Rows) -> None:
        super().__init__()
        self._buckets = buckets
        self._bearish, self._bullish = (memoryview(row.tobytes()).cast("b") for row in rows)

    def __missing__(self, name: _K) -> complex:
        if len(self) >= _REMEMBERED:
            self.clear()
        buckets = self._buckets(name)
        value = complex(
            sum(map(self._bearish.__getitem__, buckets)),
            sum(map(self._bullish.__getitem__, buckets)),
        )
        self[name] = value
        return value


class _Counts(dict[str, int]):
    """How many groups of letters a word has."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        count = letter_count(word)
        self[word] = count
        return count


class SentimentModel:
    """The finance lexicon and the weights learned on labelled posts, read once; then pure and thread-safe."""

    def __init__(self, model: Model | None = None) -> None:
        self.lexicon = Lexicon()
        self.model = model or load_model()
        rows = self.model.rows
        self._words = _Sums[str](lambda word: (word_bucket(word),), rows)
        self._pairs = _Sums[tuple[str, str]](lambda pair: (pair_bucket(pair),), rows)
        self._letters = _Sums[str](letter_buckets, rows)
        self._leans = _Sums[tuple[float, float]](lean_buckets, rows)
        self._counts = _Counts()
        self._calibrators = {channel: self.model.calibrator(channel) for channel in Channel}

    @property
    def name(self) -> str:
        """Version of the model; ends with `+uncalibrated` when it has no calibrator for unknown channels."""
        version = self.model.card.version
        return version if self._calibrators[Channel.UNKNOWN] else version + CLOSED

    def reckon(self, words: Sequence[str], channel: Channel = Channel.UNKNOWN) -> Reckoning:
        """Label, lean and confidence of tokens; without a valid calibrator always neutral with confidence 0."""
        calibrator = self._calibrators[channel]
        if calibrator is None:
            return Reckoning(Label.NEUTRAL, 0.0, 0.0)
        logits = self.logits(self.lexicon.read(words))
        return _label(
            probabilities(
                logits[0] / calibrator.temperature + calibrator.bearish,
                logits[1] / calibrator.temperature + calibrator.bullish,
            )
        )

    def logits(self, reading: Reading) -> tuple[float, float]:
        """Raw logits of bearish and bullish against neutral."""
        marked = reading.marked
        words, pairs = set(marked), set(itertools.pairwise(marked))
        said = sum(map(self._words.__getitem__, words)) + sum(map(self._pairs.__getitem__, pairs))
        spelled = sum(map(self._letters.__getitem__, words))
        total = (
            said / sqrt(max(1, len(words) + len(pairs)))
            + spelled * (LETTERS_SCALE / sqrt(max(1, sum(map(self._counts.__getitem__, words)))))
            + self._leans[reading.bullish, reading.bearish]
        ) * self.model.card.step
        return total.real, total.imag


def _label(chances: tuple[float, float, float]) -> Reckoning:
    """The likeliest label; equal chances of both directions are none."""
    best = max(chances)
    label = LABELS[chances.index(best)]
    if label is Label.NEUTRAL or chances[0] == chances[2]:
        return Reckoning(Label.NEUTRAL, 0.0, chances[1])
    return Reckoning(label, chances[2] - chances[0], min(best, 1 - 1e-9))


def probabilities(bearish: float, bullish: float) -> tuple[float, float, float]:
    """Softmax of the two logits and neutral's 0: P(bearish), P(neutral), P(bullish)."""
    top = max(bearish, 0.0, bullish)
    parts = exp(bearish - top), exp(-top), exp(bullish - top)
    total = sum(parts)
    return parts[0] / total, parts[1] / total, parts[2] / total


def load_model() -> Model:
    """The shipped model `data/stage1.bin`. Raises SettingsError when the file is not what was trained."""
    return parse_model(files("pipeline").joinpath("data/stage1.bin").read_bytes())


def parse_model(packed: bytes) -> Model:
    """A model from its file. Raises SettingsError when anything was changed since `fleet model` wrote it."""
    line, _, raw = packed.partition(b"\n")
    try:
        card = Card.model_validate_json(line)
    except ValidationError as error:
        raise SettingsError(f"model file: not a model of ours ({error.error_count()} errors)") from None
    if not card.version.endswith(card.digest()):
        raise SettingsError(f"model file: version {card.version} does not end with the digest {card.digest()}")
    if weights_digest(raw) != card.weights or len(raw) != 2 * BUCKETS:
        raise SettingsError(
            f"model file: {len(raw)} bytes of weights with digest {weights_digest(raw)}; "
            f"valid: {2 * BUCKETS} bytes with digest {card.weights}"
        )
    return Model(card, np.frombuffer(raw, dtype=np.int8).reshape(2, BUCKETS))


def named(card: Card) -> Card:
    """The card with the version that its content makes."""
    return card.model_copy(update={"version": f"stage1-1-{card.digest()}"})


def weights_digest(raw: bytes) -> str:
    """12 hex characters of SHA-256 over the weights."""
    return sha256(raw).hexdigest()[:12]

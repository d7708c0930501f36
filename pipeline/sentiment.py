"""From words to a label with an honest probability: hashed features, a linear model in one file, its calibrators."""

import json
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from importlib.resources import files
from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pipeline.errors import SettingsError
from pipeline.features import BUCKETS
from pipeline.lexicon import Lexicon, Reading
from pipeline.models import Frozen, Label
from pipeline.weights import Weights

LABELS = (Label.BEARISH, Label.NEUTRAL, Label.BULLISH)
CLOSED = "+uncalibrated"
"""What the model's name ends with when its confidence cannot be vouched for: every post is neutral then."""
SURE = 0.85
"""The confidence from which a post is urgent by default; the measures speak of it."""
OPPOSITE = 0.04
"""P(opposite direction) up to which a direction may be urgent: about a quarter of what SURE leaves (held-out posts)."""
HELD_BACK = 0.84
"""The most confidence a direction has whose opposite is likelier than that."""
Rows = NDArray[np.int8]


class Channel(StrEnum):
    """What kind of feed a post comes from. A source nobody has named is unknown, and read with most caution."""

    NEWS = "news"
    SOCIAL = "social"
    UNKNOWN = "unknown"


CHANNELS = tuple(Channel)
TABLES = 2
"""Tables of weights: for news and for social posts, in the order of CHANNELS; unknown channels get their mean."""


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
    """What the model file says about itself, in its first line. `step`: the logit that one unit of a weight is.

    A weight has as many units as its number squared, with the number's sign: fine near zero, where most weights are.
    """

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
    """A trained model: its card, and numbers of shape (TABLES, 2, BUCKETS) for bearish and bullish against neutral."""

    card: Card
    rows: Rows

    def calibrator(self, channel: Channel) -> Calibrator | None:
        """The channel's calibrator, else the one for unknown channels; None unless it was fitted for these weights."""
        found = self.card.calibrators.get(self.kind(channel))
        return found if found is not None and found.weights == self.card.weights else None

    def kind(self, channel: Channel) -> Channel:
        """What the channel is read as: itself where it has a calibrator, else unknown."""
        return channel if channel in self.card.calibrators else Channel.UNKNOWN

    def summed(self, channel: Channel) -> NDArray[np.int16]:
        """The weights that a kind of channel is read by, shape (2, BUCKETS), in units of half a step."""
        tables = (0, 1) if channel is Channel.UNKNOWN else (CHANNELS.index(channel),) * TABLES
        summed: NDArray[np.int16] = units(self.rows[tables, :]).sum(axis=0, dtype=np.int16)
        return summed

    def packed(self) -> bytes:
        """The model file: the card as one line of JSON, then the weights as `pack` writes them."""
        return self.card.model_dump_json().encode() + b"\n" + pack(self.rows)


def units(rows: Rows) -> NDArray[np.int16]:
    """Weights in units of a step: each number squared, with its sign; at most 127 * 127."""
    wide = rows.astype(np.int16)
    return wide * np.abs(wide)


def pack(rows: Rows) -> bytes:
    """Weights as bytes: one bit for each, set where it is not 0, then those that are not."""
    packed: bytes = np.packbits(rows != 0).tobytes() + rows[rows != 0].tobytes()
    return packed


def unpack(raw: bytes) -> Rows:
    """The weights that `pack` wrote. Raises ValueError when bits and weights do not fit each other."""
    shape = (TABLES, 2, BUCKETS)
    size = TABLES * 2 * BUCKETS // 8
    bits = np.unpackbits(np.frombuffer(raw[:size], dtype=np.uint8)).astype(np.bool_)
    weights = np.frombuffer(raw[size:], dtype=np.int8)
    if len(bits) != size * 8 or int(bits.sum()) != len(weights):
        raise ValueError(f"weights are {len(weights)} behind {len(bits)} bits; valid: one for each of the bits set")
    rows = np.zeros(shape, dtype=np.int8)
    rows[bits.reshape(shape)] = weights
    return rows


class Reckoning(NamedTuple):
    """A label, P(bullish) - P(bearish) in [-1, 1] (0 for neutral), and the calibrated P(label is right).

    A direction whose opposite is likelier than OPPOSITE has at most HELD_BACK: to be sure that a post moves a stock is
    not to be sure which way.
    """

    label: Label
    lean: float
    confidence: float


class SentimentModel:
    """The finance lexicon and the weights learned on labelled posts, read once; then pure and thread-safe."""

    def __init__(self, model: Model | None = None) -> None:
        self.lexicon = Lexicon()
        self.model = model or load_model()
        self._weights = {
            channel: Weights(self.model.summed(channel), self.model.card.step / TABLES) for channel in Channel
        }
        self._calibrators = {channel: self.model.calibrator(channel) for channel in Channel}
        self._kinds = {channel: self.model.kind(channel) for channel in Channel}

    @property
    def name(self) -> str:
        """Version of the model; ends with `+uncalibrated` when it has no calibrator for unknown channels."""
        version = self.model.card.version
        return version if self._calibrators[Channel.UNKNOWN] else version + CLOSED

    def reckon(self, words: Sequence[str], channel: Channel = Channel.UNKNOWN) -> Reckoning:
        """Label, lean and confidence of tokens; without a valid calibrator always neutral with confidence 0."""
        return self.reckon_all((words,), (channel,))[0]

    def reckon_all(self, posts: Sequence[Sequence[str]], channels: Sequence[Channel]) -> list[Reckoning]:
        """The same for the tokens of many posts, in order."""
        readings = list(map(self.lexicon.read, posts))
        found: dict[int, Reckoning] = {}
        for channel in dict.fromkeys(channels):
            rows = [row for row, each in enumerate(channels) if each is channel]
            logits = self._weights[self._kinds[channel]].logits_all([readings[row] for row in rows])
            calibrator = self._calibrators[channel]
            found.update((row, _judged(*each, calibrator)) for row, each in zip(rows, logits, strict=True))
        return [found[row] for row in range(len(readings))]

    def logits(self, reading: Reading, channel: Channel = Channel.UNKNOWN) -> tuple[float, float]:
        """Raw logits of bearish and bullish against neutral, by the weights of a kind of channel."""
        return self._weights[channel].logits(reading)


def _judged(bearish: float, bullish: float, calibrator: Calibrator | None) -> Reckoning:
    """What raw logits say once they are calibrated."""
    if calibrator is None:
        return Reckoning(Label.NEUTRAL, 0.0, 0.0)
    return _label(
        probabilities(
            bearish / calibrator.temperature + calibrator.bearish,
            bullish / calibrator.temperature + calibrator.bullish,
        )
    )


def _label(chances: tuple[float, float, float]) -> Reckoning:
    """The likeliest label; equal chances of both directions are none."""
    best = max(chances)
    label = LABELS[chances.index(best)]
    if label is Label.NEUTRAL or chances[0] == chances[2]:
        return Reckoning(Label.NEUTRAL, 0.0, chances[1])
    opposite = min(chances[0], chances[2])
    return Reckoning(label, chances[2] - chances[0], min(best, HELD_BACK if opposite > OPPOSITE else 1 - 1e-9))


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
    if card.version != named(card).version:
        raise SettingsError(
            f"model file: version is {card.version}; valid: {named(card).version}, which ends with the content's digest"
        )
    if weights_digest(raw) != card.weights:
        raise SettingsError(
            f"model file: {len(raw)} bytes of weights with digest {weights_digest(raw)}; "
            f"valid: those with digest {card.weights}"
        )
    try:
        return Model(card, unpack(raw))
    except ValueError as error:
        raise SettingsError(f"model file: {error}") from None


def named(card: Card) -> Card:
    """The card with the version that its content makes."""
    return card.model_copy(update={"version": f"stage1-3-{card.digest()}"})


def weights_digest(raw: bytes) -> str:
    """12 hex characters of SHA-256 over packed weights."""
    return sha256(raw).hexdigest()[:12]

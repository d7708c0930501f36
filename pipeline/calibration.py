"""Honest probabilities: how calibrators are fitted on held-out posts, and how good labels and confidences are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.models import FloatArray, IntArray
from pipeline.sentiment import HELD_BACK, OPPOSITE, SURE
from pipeline.training import minimise, softmax

BINS = 15
_PRIOR = 1e-3


class Fitted(NamedTuple):
    """Temperature, and shifts of bearish and bullish against neutral."""

    temperature: float
    bearish: float
    bullish: float

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Probabilities of shape (n, 3) from logits of shape (n, 2) against neutral."""
        shifted = logits / self.temperature + np.array([self.bearish, self.bullish])
        return softmax(np.column_stack([shifted[:, 0], np.zeros(len(shifted)), shifted[:, 1]]))


def fit_temperature(logits: FloatArray, y: IntArray, weights: FloatArray, caution: float = 1.0) -> Fitted:
    """Temperature and shifts with the least weighted log loss on held-out posts; rounded to 4 digits.

    `caution` > 1 raises the temperature by that factor, and fits the shifts again to it.
    """
    truth, share = np.eye(3)[y], weights / weights.sum()

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        shifted = logits * np.exp(-flat[0]) + flat[1:]
        p = softmax(np.column_stack([shifted[:, 0], np.zeros(len(shifted)), shifted[:, 1]]))
        gap = ((p - truth) * share[:, None])[:, [0, 2]]
        cooled = -(gap * logits).sum() * np.exp(-flat[0])
        loss = -(share * np.log((p * truth).sum(axis=1) + 1e-12)).sum() + _PRIOR / 2 * (flat**2).sum()
        return float(loss), np.concatenate([[cooled], gap.sum(axis=0)]) + _PRIOR * flat

    found = minimise(objective, np.zeros(3))
    log_temperature = found[:1] + np.log(caution)

    def shifts(flat: FloatArray) -> tuple[float, FloatArray]:
        loss, slope = objective(np.concatenate([log_temperature, flat]))
        return loss, slope[1:]

    bearish, bullish = minimise(shifts, found[1:]).tolist()
    return Fitted(round(float(np.exp(log_temperature[0])), 4), round(bearish, 4), round(bullish, 4))


class Judged(NamedTuple):
    """Labelled posts with what a model said: probabilities of shape (n, 3) and the true label 0, 1 or 2."""

    p: FloatArray
    y: IntArray

    @property
    def said(self) -> IntArray:
        """The likeliest label."""
        found: IntArray = self.p.argmax(axis=1)
        return found

    @property
    def confidence(self) -> FloatArray:
        """Its probability, held back where the label is a direction and its opposite too likely, as the model does."""
        opposite = np.minimum(self.p[:, 0], self.p[:, 2])
        is_held = (self.said != 1) & (opposite > OPPOSITE)
        found: FloatArray = np.minimum(self.p.max(axis=1), np.where(is_held, HELD_BACK, 1.0))
        return found

    @property
    def urgent(self) -> NDArray[np.bool_]:
        """Directions with a confidence of SURE or more."""
        found: NDArray[np.bool_] = (self.said != 1) & (self.confidence >= SURE)
        return found

    def part(self, rows: IntArray) -> "Judged":
        """Some of the posts."""
        return Judged(self.p[rows], self.y[rows])


def accuracy(found: Judged) -> float:
    """Share of posts whose likeliest label is the true one."""
    return float((found.said == found.y).mean())


def macro_f1(found: Judged) -> float:
    """Mean F1 of the labels that occur."""
    said, y = found.said, found.y
    both = [(said == k) & (y == k) for k in range(3)]
    scores = [2 * int(both[k].sum()) / int((said == k).sum() + (y == k).sum()) for k in range(3) if (y == k).any()]
    return float(np.mean(scores))


def direction(found: Judged) -> float:
    """Share of the posts with a direction whose likelier direction is theirs; nan without any."""
    way = found.y != 1
    return float(((found.p[way, 2] > found.p[way, 0]) == (found.y[way] == 2)).mean()) if way.any() else float("nan")  # noqa: PLR2004


def calibration_error(found: Judged) -> float:
    """Expected calibration error: mean |confidence - hit rate| over BINS bins of equal width, in [0, 1]."""
    confidence, right = found.confidence, (found.said == found.y).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence))


def precision(found: Judged) -> float:
    """Share of the urgent posts that are right; nan without any."""
    urgent = found.urgent
    return float((found.said == found.y)[urgent].mean()) if urgent.any() else float("nan")


def coverage(found: Judged) -> float:
    """Share of all posts that are urgent."""
    return float(found.urgent.mean())


def wrong_direction(found: Judged) -> float:
    """Share of the urgent posts whose true direction is the opposite; nan without any."""
    urgent = found.urgent
    return float((np.abs(found.said - found.y) == 2)[urgent].mean()) if urgent.any() else float("nan")  # noqa: PLR2004


MEASURES: dict[str, Callable[[Judged], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "direction": direction,
    "ece": calibration_error,
    "precision": precision,
    "coverage": coverage,
    "wrong_direction": wrong_direction,
}


class Interval(NamedTuple):
    """A measure and its 95 % bootstrap interval; nan where there is nothing to measure."""

    value: float
    low: float
    high: float


def intervals(found: Judged, seed: int, rounds: int = 500) -> dict[str, Interval]:
    """Every measure with its percentile interval over `rounds` resamples of the posts."""
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(rounds):
        again = found.part(random.integers(0, len(found.y), len(found.y)))
        for name, measure in MEASURES.items():
            drawn[name].append(measure(again))
    return {name: _interval(measure(found), drawn[name]) for name, measure in MEASURES.items()}


def _interval(value: float, drawn: list[float]) -> Interval:
    kept = [number for number in drawn if number == number]  # noqa: PLR0124  # nan is the only one unequal to itself
    low, high = np.percentile(kept, [2.5, 97.5]).tolist() if kept else (float("nan"), float("nan"))
    return Interval(value, low, high)


class Bin(NamedTuple):
    """One bar of a reliability plot: mean confidence, hit rate, and how many posts."""

    confidence: float
    right: float
    posts: int


def reliability(found: Judged) -> list[Bin]:
    """The filled bins of equal width, from low to high."""
    confidence, right = found.confidence, found.said == found.y
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    parts = [np.flatnonzero(bins == k) for k in range(BINS)]
    return [Bin(float(confidence[p].mean()), float(right[p].mean()), p.size) for p in parts if p.size]

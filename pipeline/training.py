"""How the weights are learned: three-class logistic regression on sparse features, numpy alone, one thread.

No call reaches BLAS, whose results depend on its threads: the same posts give the same bytes on the same architecture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.features import BUCKETS, LETTERS_SCALE, Features
from pipeline.models import FloatArray, IntArray
from pipeline.sentiment import CHANNELS, TABLES, Channel, Rows

Objective = Callable[[FloatArray], tuple[float, FloatArray]]
_FLAT = 1e-10
_SMALLEST_REACH = 1e-6
_NEVER = -1e9
_BIAS_RIDGE = 0.1
_DOUBT = 3.0
_MIN_ENTRIES = 2
_UNKNOWN = CHANNELS.index(Channel.UNKNOWN)
KINSHIP = 0.5
"""Correlation of a feature's weights for news and for social posts before anything is learned; 1 would be one table."""
LEAST_REACH = 0.3
"""How freely the weight of a column may grow that says nothing of the label; 1 is the average column."""
STEPS = 120
"""Steps of the descent: fewer read known channels worse, more do not help (leave-one-source-out in sight)."""
ComplexArray = NDArray[np.complex128]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sparse:
    """Features of posts, row by row: post i has `columns[starts[i]:starts[i + 1]]` with these values."""

    starts: IntArray
    columns: IntArray
    values: FloatArray

    @property
    def n_rows(self) -> int:
        """How many posts."""
        return len(self.starts) - 1

    def part(self, rows: IntArray) -> "Sparse":
        """Some of the posts, in the given order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        chosen = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return Sparse(starts, self.columns[chosen], self.values[chosen])

    @property
    def n_columns(self) -> int:
        """One more than the highest column."""
        return int(self.columns.max()) + 1

    def common(self) -> tuple["Sparse", IntArray]:
        """The same over the columns that occur at least twice, and which those are."""
        counts = np.bincount(self.columns)
        used = np.flatnonzero(counts >= _MIN_ENTRIES)
        place = np.cumsum(counts >= _MIN_ENTRIES) - 1
        kept = counts[self.columns] >= _MIN_ENTRIES
        lengths = np.bincount(self.rows()[kept], minlength=self.n_rows)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Sparse(starts, place[self.columns[kept]], self.values[kept]), used

    def scaled(self, scales: FloatArray) -> "Sparse":
        """The same with every value times its column's scale."""
        return Sparse(self.starts, self.columns, self.values * scales[self.columns])

    def in_tables(self, channels: IntArray) -> "Sparse":
        """The same over the tables side by side: news posts in the first, social in the second, others half in each."""
        count = np.where(channels == _UNKNOWN, TABLES, 1)[self.rows()]
        copies = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        table = np.repeat(np.where(channels == _UNKNOWN, 0, channels)[self.rows()], count) + copies
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.rows(), count, self.n_rows))]).astype(np.int64)
        columns = np.repeat(self.columns, count) + table * self.n_columns
        return Sparse(starts, columns, np.repeat(self.values / count, count))

    def rows(self) -> IntArray:
        """The post of every entry."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.starts))

    def times(self, weights: FloatArray) -> FloatArray:
        """Weighted sum of each post: shape (n_rows,) from (n_columns,)."""
        return np.bincount(self.rows(), weights[self.columns] * self.values, minlength=self.n_rows).astype(np.float64)


def matrix(posts: Sequence[Features]) -> Sparse:
    """The posts' features with the values the model gives them; columns are buckets."""
    columns = [bucket for post in posts for part in post for bucket in part]
    values = [value for post in posts for value in _values(post)]
    starts = np.concatenate([[0], np.cumsum([sum(map(len, post)) for post in posts])])
    return Sparse(starts.astype(np.int64), np.array(columns, dtype=np.int64), np.array(values))


def _values(post: Features) -> list[float]:
    words = [max(1, len(post.words)) ** -0.5] * len(post.words)
    return words + [LETTERS_SCALE * max(1, len(post.letters)) ** -0.5] * len(post.letters) + [1.0] * len(post.leans)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What there is to learn: features, label 0, 1 or 2, index into CHANNELS and weight of each post.

    `two_way`: posts of sources that know no neutral; their loss compares the two directions only.
    """

    x: Sparse
    y: IntArray
    channels: IntArray
    weights: FloatArray
    two_way: Flags

    def part(self, rows: IntArray) -> "Lesson":
        """Some of the posts."""
        return Lesson(self.x.part(rows), self.y[rows], self.channels[rows], self.weights[rows], self.two_way[rows])


def source_weights(sources: IntArray, power: float = 0.85) -> FloatArray:
    """Row weights of mean 1 by which a source of n rows counts like n ** power, so that none drowns the others."""
    counts = np.bincount(sources).astype(np.float64)
    weights: FloatArray = counts[sources] ** (power - 1.0)
    return weights / float(weights.mean())


def fit(lesson: Lesson, ridge: float) -> FloatArray:
    """Weights of shape (TABLES, 2, BUCKETS): of news and of social posts, for bearish and bullish against neutral.

    Found in STEPS steps at most. Features of one post alone are not learned. The tables are learned together: what
    only one kind of channel has shown moves the other by KINSHIP. Every kind has a bias of its own, thrown away
    afterwards: how often a channel is neutral is the calibrator's to know. Within, a pair is one number, bearish +
    bullish i; the ridge is that of three centred columns, a^2 + b^2 - a b, of tables correlated by KINSHIP.
    """
    x, used = lesson.x.common()
    scales = reach(x, lesson)
    task = _Task(x.scaled(scales), lesson, ridge)
    learned = minimise(task, np.zeros(2 * (task.n_weights + len(CHANNELS))), STEPS)
    pairs = learned.view(np.complex128)[: task.n_weights].reshape(TABLES, -1) * scales
    weights = np.zeros((TABLES, 2, BUCKETS))
    weights[:, 0, used], weights[:, 1, used] = pairs.real, pairs.imag
    return weights


def reach(x: Sparse, lesson: Lesson) -> FloatArray:
    """How freely each column's weight may grow, 1 on average: more for telling columns, more for rare ones.

    Telling: the spread of the log ratios by which a column makes each label likelier, as naive Bayes counts them, with
    LEAST_REACH of the average for columns that tell nothing. Rare: the square root of the inverse document frequency.
    """
    rows = x.rows()
    labels = np.flatnonzero(np.bincount(lesson.y, minlength=3))
    shares = np.array([float(lesson.weights[lesson.y == k].sum()) for k in labels]) / float(lesson.weights.sum())
    seen = np.stack(
        [np.bincount(x.columns, (lesson.weights * (lesson.y == k))[rows], minlength=x.n_columns) for k in labels],
        axis=1,
    )
    counted = seen + _DOUBT * shares
    spread = np.log(counted / counted.sum(axis=1, keepdims=True) / shares).std(axis=1)
    telling = LEAST_REACH + (1 - LEAST_REACH) * spread / max(float(spread.mean()), _FLAT)
    posts = np.minimum(np.bincount(x.columns), x.n_rows)
    rare = np.sqrt(np.log((x.n_rows + 1) / (posts + 1)))
    scales: FloatArray = telling * rare
    return scales / max(float(scales.mean()), _FLAT)


class _Task:
    """The objective: loss and gradient of all weights and biases, laid out as pairs of numbers."""

    def __init__(self, x: Sparse, lesson: Lesson, ridge: float) -> None:
        self.n_weights = TABLES * x.n_columns
        self._x, self._ridge, self._channels, self._weights = (
            x.in_tables(lesson.channels),
            ridge,
            lesson.channels,
            lesson.weights,
        )
        self._truth = np.eye(3)[lesson.y]
        self._barred = np.zeros((x.n_rows, 3))
        self._barred[lesson.two_way, 1] = _NEVER
        order = np.argsort(self._x.columns, kind="stable")
        self._rows, self._values = self._x.rows()[order], self._x.values[order]
        self._present, self._column_starts = np.unique(self._x.columns[order], return_index=True)

    def __call__(self, flat: FloatArray) -> tuple[float, FloatArray]:
        """The weighted log loss with its ridge, and its gradient."""
        w, bias = np.split(flat.view(np.complex128), [self.n_weights])
        chances, pull = self._chances(w, bias), self._ridge * _pull(w)
        loss = -(self._weights * np.log((chances * self._truth).sum(axis=1) + 1e-12)).sum()
        loss += float((w.real * pull.real + w.imag * pull.imag).sum()) / 2
        loss += self._ridge * _BIAS_RIDGE / 2 * float((np.abs(bias) ** 2).sum())
        gap = (chances - self._truth) * self._weights[:, None]
        return float(loss), self._slope(gap[:, 0] + 1j * gap[:, 2], pull, bias)

    def _chances(self, w: ComplexArray, bias: ComplexArray) -> FloatArray:
        pairs = np.add.reduceat(w[self._x.columns] * self._x.values, self._x.starts[:-1]) + bias[self._channels]
        logits = self._barred.copy()
        logits[:, 0] += pairs.real
        logits[:, 2] += pairs.imag
        return softmax(logits)

    def _slope(self, gap: ComplexArray, pull: ComplexArray, bias: ComplexArray) -> FloatArray:
        slope = pull.copy()
        slope[self._present] += np.add.reduceat(gap[self._rows] * self._values, self._column_starts)
        of_bias = np.bincount(self._channels, gap.real, len(CHANNELS)) + 1j * np.bincount(
            self._channels, gap.imag, len(CHANNELS)
        )
        return np.concatenate([slope, of_bias + self._ridge * _BIAS_RIDGE * bias]).view(np.float64)


def _pull(w: ComplexArray) -> ComplexArray:
    """Gradient of half the ridge of weights laid out table after table, for a ridge of 1."""
    centred = (w - (w.imag + 1j * w.real) / 2).reshape(TABLES, -1)
    pull: ComplexArray = ((centred - KINSHIP * centred[::-1]) / (1 - KINSHIP**2)).ravel()
    return pull


def quantise(weights: FloatArray) -> tuple[Rows, float]:
    """(int8 rows, step): a weight is its number squared, with its sign, in units of `step`; the largest number is 127.

    Halves round to even.
    """
    step = max(float(np.abs(weights).max()) / 127**2, 1e-9)
    return (np.sign(weights) * np.rint(np.sqrt(np.abs(weights) / step))).astype(np.int8), step


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    parts = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = parts / parts.sum(axis=-1, keepdims=True)
    return result


def minimise(objective: Objective, start: FloatArray, steps: int = 200, memory: int = 10) -> FloatArray:
    """Limited-memory BFGS with backtracking (Nocedal and Wright, algorithm 7.5). Deterministic."""
    point, (loss, gradient) = start, objective(start)
    moves: list[tuple[FloatArray, FloatArray]] = []
    for _ in range(steps):
        direction = _two_loop(gradient, moves)
        reach, new_loss, new_gradient = _backtrack(objective, point, loss, gradient, direction)
        move, turn = -reach * direction, new_gradient - gradient
        if _dot(move, turn) > _FLAT:
            moves = [*moves[1 - memory :], (move, turn)]
        settled = abs(loss - new_loss) < 1e-6 * abs(loss)
        point, loss, gradient = point + move, new_loss, new_gradient
        if settled:
            break
    return point


def _dot(a: FloatArray, b: FloatArray) -> float:
    return float((a * b).sum())


def _two_loop(gradient: FloatArray, moves: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    if not moves:
        shortened: FloatArray = gradient / max(1.0, _dot(gradient, gradient) ** 0.5)
        return shortened
    q = gradient.copy()
    shares = []
    for move, turn in reversed(moves):
        share = _dot(move, q) / _dot(move, turn)
        shares.append(share)
        q -= share * turn
    move, turn = moves[-1]
    q *= _dot(move, turn) / _dot(turn, turn)
    for (move, turn), share in zip(moves, reversed(shares), strict=True):
        q += move * (share - _dot(turn, q) / _dot(move, turn))
    return q


def _backtrack(
    objective: Objective, point: FloatArray, loss: float, gradient: FloatArray, direction: FloatArray
) -> tuple[float, float, FloatArray]:
    slope = _dot(gradient, direction)
    reach = 1.0
    while True:
        new_loss, new_gradient = objective(point - reach * direction)
        if new_loss <= loss - 1e-4 * reach * slope or reach < _SMALLEST_REACH:
            return reach, new_loss, new_gradient
        reach /= 2

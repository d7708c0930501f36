"""How the sentiment model is fitted: sparse softmax regression, a small logistic, and isotonic calibration in numpy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.models import FloatArray, IntArray

Objective = Callable[[FloatArray], tuple[float, FloatArray]]
_FLAT = 1e-10
_SMALLEST_REACH = 1e-6


@dataclass(frozen=True, slots=True)
class Sparse:
    """Binary features of posts: entry k says that post `rows[k]` has feature `columns[k]`."""

    rows: IntArray
    columns: IntArray
    n_rows: int
    n_columns: int

    def times(self, weights: FloatArray) -> FloatArray:
        """Sum of the weights of each post's features: shape (n_rows,) from (n_columns,)."""
        return np.bincount(self.rows, weights[self.columns], minlength=self.n_rows).astype(np.float64, copy=False)

    def transposed_times(self, values: FloatArray) -> FloatArray:
        """Sum over the posts that have each feature: shape (n_columns,) from (n_rows,)."""
        return np.bincount(self.columns, values[self.rows], minlength=self.n_columns).astype(np.float64, copy=False)


def source_weights(sources: list[str], power: float = 0.7) -> FloatArray:
    """Row weights of mean 1 by which a source of n rows counts like n ** power, so that none drowns the others."""
    _, index, counts = np.unique(np.array(sources), return_inverse=True, return_counts=True)
    each: FloatArray = counts.astype(np.float64) ** (power - 1.0)
    weights: FloatArray = each[index]
    return weights / float(weights.mean())


def fit_softmax(x: Sparse, y: IntArray, weights: FloatArray, ridge: float) -> tuple[FloatArray, FloatArray]:
    """Three-class logistic regression: (weights of shape (n_columns, 3), bias of shape (3,)). `y` is 0, 1 or 2."""
    truth = np.eye(3)[y]
    picked = np.arange(x.n_rows)

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        w, bias = flat[:-3].reshape(x.n_columns, 3), flat[-3:]
        p = softmax(np.stack([x.times(w[:, k]) for k in range(3)], axis=1) + bias)
        loss = -(weights * np.log(p[picked, y] + 1e-12)).sum() + ridge / 2 * (w**2).sum()
        gap = (p - truth) * weights[:, None]
        gradient = np.stack([x.transposed_times(gap[:, k]) for k in range(3)], axis=1) + ridge * w
        return float(loss), np.concatenate([gradient.ravel(), gap.sum(axis=0)])

    flat = minimise(objective, np.zeros(x.n_columns * 3 + 3))
    return flat[:-3].reshape(x.n_columns, 3), flat[-3:]


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
        if float(move @ turn) > _FLAT:
            moves = [*moves[1 - memory :], (move, turn)]
        settled = abs(loss - new_loss) < 1e-6 * abs(loss)
        point, loss, gradient = point + move, new_loss, new_gradient
        if settled:
            break
    return point


def _two_loop(gradient: FloatArray, moves: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    if not moves:
        return gradient / max(1.0, float(np.linalg.norm(gradient)))
    q = gradient.copy()
    shares = []
    for move, turn in reversed(moves):
        share = float(move @ q) / float(move @ turn)
        shares.append(share)
        q -= share * turn
    move, turn = moves[-1]
    q *= float(move @ turn) / float(turn @ turn)
    for (move, turn), share in zip(moves, reversed(shares), strict=True):
        q += move * (share - float(turn @ q) / float(move @ turn))
    return q


def _backtrack(
    objective: Objective, point: FloatArray, loss: float, gradient: FloatArray, direction: FloatArray
) -> tuple[float, float, FloatArray]:
    slope = float(gradient @ direction)
    reach = 1.0
    while True:
        new_loss, new_gradient = objective(point - reach * direction)
        if new_loss <= loss - 1e-4 * reach * slope or reach < _SMALLEST_REACH:
            return reach, new_loss, new_gradient
        reach /= 2


def fit_logistic(x: FloatArray, y: FloatArray, weights: FloatArray, ridge: float = 1.0) -> FloatArray:
    """Weights of shape (n_columns,) for P(y = 1); column 0 is the constant and is not shrunk. Newton's method."""
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 1e-9
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ beta)))
        gradient = x.T @ ((p - y) * weights) + penalty * beta
        hessian = (x.T * (p * (1 - p) * weights)) @ x + np.diag(penalty)
        beta = beta - np.linalg.solve(hessian, gradient)
    return beta


def isotonic(scores: FloatArray, hits: FloatArray, weights: FloatArray, bins: int) -> tuple[FloatArray, FloatArray]:
    """Points (score, probability) of a rising curve: equal-count bins, then pool-adjacent-violators.

    `hits` is 1 where the label was right. Bins that violate the order are merged, so the curve never falls.
    """
    order = np.argsort(scores, kind="stable")
    blocks: list[tuple[float, float, float]] = []
    for part in np.array_split(order, bins):
        mass = float(weights[part].sum())
        blocks.append((float((scores[part] * weights[part]).sum()), float((hits[part] * weights[part]).sum()), mass))
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last, before = blocks.pop(), blocks.pop()
            blocks.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    return np.array([b[0] / b[2] for b in blocks]), np.array([b[1] / b[2] for b in blocks])


def calibration_error(confidence: FloatArray, hits: FloatArray, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence - hit rate| over equal-count bins, in [0, 1]."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return float(sum(abs(confidence[p].mean() - hits[p].mean()) * p.size for p in parts) / confidence.size)

"""The fitting of the sentiment model, on examples small enough for paper."""

import numpy as np
import pytest

from pipeline.calibration import (
    Sparse,
    calibration_error,
    fit_logistic,
    fit_softmax,
    isotonic,
    source_weights,
)
from pipeline.sentiment import Curve, probabilities


def test_sources_count_by_a_power_of_their_size() -> None:
    """16 and 1 posts at power 0.5 count 4 to 1 in all, so 0.25 to 1 each; mean 1 over 17 rows (sum 5) is x 3.4."""
    weights = source_weights(["a"] * 16 + ["b"], power=0.5)

    assert weights == pytest.approx([0.25 * 3.4] * 16 + [3.4])


def test_a_logistic_with_only_a_constant_finds_the_log_odds() -> None:
    """Three of four right: log(3)."""
    beta = fit_logistic(np.ones((4, 1)), np.array([1.0, 1.0, 1.0, 0.0]), np.ones(4))

    assert beta == pytest.approx([np.log(3)], abs=1e-6)


def test_a_softmax_learns_which_word_means_what() -> None:
    """Word 0 is bearish, word 1 bullish, no word neutral; the fit says so for each."""
    x = Sparse(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]), 6, 2)
    y = np.array([0, 0, 2, 2, 1, 1])

    w, bias = fit_softmax(x, y, np.ones(6), ridge=0.01)

    assert (w[0] + bias).argmax() == 0
    assert (w[1] + bias).argmax() == 2
    assert bias.argmax() == 1


def test_isotonic_merges_what_falls() -> None:
    """Hit rates 0, 1, 0, 1 in four bins: the middle ones merge to 0.5 at score 1.5."""
    scores = np.array([0.0, 1.0, 2.0, 3.0])

    points, chances = isotonic(scores, np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4), bins=4)

    assert points == pytest.approx([0.0, 1.5, 3.0])
    assert chances == pytest.approx([0.0, 0.5, 1.0])


def test_the_calibration_error_is_the_mean_gap() -> None:
    """Two bins of two: said 0.5, true 0.5 (gap 0); said 0.9, true 0.5 (gap 0.4); mean 0.2."""
    error = calibration_error(np.array([0.5, 0.5, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 0.0]), bins=2)

    assert error == pytest.approx(0.2)


@pytest.mark.parametrize(("score", "chance"), [(-9.0, 0.2), (0.0, 0.2), (1.0, 0.4), (2.0, 0.6), (9.0, 0.6)])
def test_a_curve_is_straight_between_its_points_and_flat_beyond(score: float, chance: float) -> None:
    """Points (0, 0.2) and (2, 0.6): 0.4 half-way."""
    assert Curve(scores=(0.0, 2.0), probabilities=(0.2, 0.6))(score) == pytest.approx(chance)


def test_probabilities_sum_to_one_at_any_logit() -> None:
    """Equal logits share; a thousand does not overflow."""
    assert probabilities(0.0, 0.0) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert probabilities(-1000.0, 1000.0) == pytest.approx((0.0, 0.0, 1.0))

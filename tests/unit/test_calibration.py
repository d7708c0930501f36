"""Temperature, shifts and the measures of honesty, on examples small enough for paper."""

import math

import numpy as np
import pytest

from pipeline.calibration import (
    Fitted,
    Judged,
    accuracy,
    calibration_error,
    coverage,
    direction,
    fit_temperature,
    intervals,
    macro_f1,
    precision,
    reliability,
    wrong_direction,
)

BEARISH, NEUTRAL, BULLISH = [0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.04, 0.06, 0.9]


def judged(p: list[list[float]], y: list[int]) -> Judged:
    """Posts with these probabilities and labels."""
    return Judged(np.array(p), np.array(y))


FOUR = judged([BULLISH, BULLISH, BEARISH, NEUTRAL], [2, 0, 0, 1])
"""Four posts: a bull that is one, a bull that is a bear, a bear, a neutral."""


def test_an_overconfident_model_is_cooled_to_what_is_true() -> None:
    """Logits of +-2 right three times in four: T = 2 / log(3) against the other direction, neutral never right."""
    logits = np.array([[0.0, 2.0], [2.0, 0.0]] * 40)
    y = np.array([2, 0] * 30 + [0, 2] * 10)

    fitted = fit_temperature(logits, y, np.ones(80))

    p = fitted(logits)
    assert p[0, 2] / (p[0, 2] + p[0, 0]) == pytest.approx(0.75, abs=0.02)
    assert fitted.temperature == pytest.approx(2 / math.log(3), rel=0.05)


def test_caution_cools_further_and_fits_the_shifts_again() -> None:
    """Twice the temperature; six of ten neutral stay six of ten."""
    logits = np.array([[0.0, 2.0], [2.0, 0.0]] * 10)
    y = np.array([2, 0, 1, 1, 1] * 4)

    plain, cautious = (fit_temperature(logits, y, np.ones(20), caution) for caution in (1.0, 2.0))

    assert cautious.temperature == pytest.approx(2 * plain.temperature, abs=1e-3)
    assert cautious(logits)[:, 1].mean() == pytest.approx(0.6, abs=0.02)


def test_shifts_learn_how_often_a_channel_is_neutral() -> None:
    """Logits that say nothing, six of ten neutral: P(neutral) 0.6, the others 0.2 each."""
    fitted = fit_temperature(np.zeros((10, 2)), np.array([1] * 6 + [0, 0, 2, 2]), np.ones(10))

    assert fitted(np.zeros((1, 2)))[0] == pytest.approx([0.2, 0.6, 0.2], abs=0.01)


def test_a_temperature_divides_before_the_shift() -> None:
    """(2 / 2 + 1, 0 / 2 - 1) against 0."""
    p = Fitted(2.0, 1.0, -1.0)(np.array([[2.0, 0.0]]))

    total = math.exp(2) + 1 + math.exp(-1)
    assert p[0] == pytest.approx([math.exp(2) / total, 1 / total, math.exp(-1) / total])


def test_measures_of_four_posts() -> None:
    """3 of 4 right; F1 bear 2/3, neutral 1, bull 2/3; direction 2 of 3; urgent 3 of 4, 2 right, 1 the wrong way."""
    assert accuracy(FOUR) == 0.75
    assert macro_f1(FOUR) == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert direction(FOUR) == pytest.approx(2 / 3)
    assert coverage(FOUR) == 0.75
    assert precision(FOUR) == pytest.approx(2 / 3)
    assert wrong_direction(FOUR) == pytest.approx(1 / 3)


def test_the_calibration_error_is_the_mean_gap() -> None:
    """Bin of 0.9: said 0.9, right 2 of 3 (gap 0.2333 x 3); bin of 0.8: said 0.8, right (gap 0.2); over four posts."""
    assert calibration_error(FOUR) == pytest.approx((3 * (0.9 - 2 / 3) + 0.2) / 4)


def test_a_direction_is_not_urgent_where_the_opposite_is_likelier_than_one_in_twenty_five() -> None:
    """0.9 with 0.04 against it stands; with 0.0401 it is held back to 0.84; 0.6 and a sure neutral stay."""
    found = judged(
        [[0.04, 0.06, 0.9], [0.0401, 0.0599, 0.9], [0.9, 0.03, 0.07], [0.3, 0.1, 0.6], [0.06, 0.88, 0.06]], [2] * 5
    )

    assert found.confidence.tolist() == [0.9, 0.84, 0.84, 0.6, 0.88]
    assert found.urgent.tolist() == [True, False, False, False, False]


def test_neutral_is_never_urgent_and_085_is_inclusive() -> None:
    """0.85 counts, 0.8499 does not, a sure neutral does not."""
    p = [[0.0, 0.15, 0.85], [0.0, 0.1501, 0.8499], [0.0, 0.99, 0.01]]

    assert judged(p, [2, 2, 1]).urgent.tolist() == [True, False, False]


def test_without_urgent_posts_there_is_no_precision() -> None:
    """nan, not 0 and not 1; the interval too."""
    none = judged([NEUTRAL, NEUTRAL], [1, 1])

    assert math.isnan(precision(none))
    assert math.isnan(intervals(none, seed=1, rounds=5)["precision"].low)


def test_intervals_hold_the_value_and_repeat() -> None:
    """A seed gives the same interval; it holds the measured value."""
    many = judged([BULLISH, BEARISH, NEUTRAL] * 30, [2, 0, 1, 2, 0, 2] * 15)
    first, again = (intervals(many, seed=5, rounds=50) for _ in range(2))

    assert first == again
    assert first["accuracy"].low <= first["accuracy"].value <= first["accuracy"].high


def test_reliability_has_the_filled_bins_only() -> None:
    """0.8 and 0.9 lie in bins 12 and 13 of 15."""
    assert [(bar.posts, round(bar.right, 3)) for bar in reliability(FOUR)] == [(1, 1.0), (3, 0.667)]

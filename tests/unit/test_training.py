"""The fitting of the weights, on examples small enough for paper."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.features import BUCKETS
from pipeline.training import KINSHIP, LEAST_REACH, Lesson, Sparse, fit, minimise, quantise, reach, source_weights

WORDS = 3


def a_lesson() -> Lesson:
    """Thirty posts: word 0 is bearish, 1 neutral, 2 bullish; half news, half social."""
    columns = np.array([0, 1, 2] * 10)
    sources = np.array([0] * 15 + [1] * 15)
    return Lesson(
        Sparse(np.arange(31), columns, np.ones(30)), columns.copy(), sources, np.ones(30), np.zeros(30, dtype=bool)
    )


def test_it_learns_which_word_means_what() -> None:
    """Each word's weight is highest for its side; the neutral one pulls both down."""
    weights = fit(a_lesson(), ridge=0.1)

    assert weights.shape == (2, 2, BUCKETS)
    for table in weights:
        assert table[0, 0] > 1 > table[1, 0]
        assert table[1, 2] > 1 > table[0, 2]
        assert max(table[0, 1], table[1, 1]) < 0


def test_what_one_kind_of_channel_shows_moves_the_other_by_half() -> None:
    """News alone: the social table is KINSHIP times the news table, since nothing else is known of it."""
    lesson = a_lesson()
    news = lesson.part(np.arange(15))

    weights = fit(news, ridge=0.1)

    assert KINSHIP == 0.5
    assert weights[1, :, :WORDS] == pytest.approx(0.5 * weights[0, :, :WORDS], abs=0.01)
    assert weights[0, 0, 0] > 1


def test_a_kind_learns_from_its_own_posts_what_the_other_contradicts() -> None:
    """Word 0 is bearish in the news and bullish among people; both learn theirs."""
    lesson = a_lesson()
    y = lesson.y.copy()
    y[15:] = 2 - y[15:]

    weights = fit(replace(lesson, y=y), ridge=0.01)

    assert weights[0, 0, 0] > 3 > weights[0, 1, 0]
    assert weights[1, 1, 0] > 3 > weights[1, 0, 0]


def test_posts_go_to_the_table_of_their_kind_and_unknown_ones_half_to_each() -> None:
    """Two columns, so social ones are 2 and 3: news (0), social (1) and unknown (0 and 1) with value 3."""
    x = Sparse(np.array([0, 1, 2, 4]), np.array([0, 1, 0, 1]), np.full(4, 3.0))

    tables = x.in_tables(np.array([0, 1, 2]))

    assert tables.starts.tolist() == [0, 1, 2, 6]
    assert tables.columns.tolist() == [0, 3, 0, 2, 1, 3]
    assert tables.values.tolist() == [3, 3, 1.5, 1.5, 1.5, 1.5]


def test_a_source_without_neutral_compares_directions_only() -> None:
    """Its posts never pull towards or away from neutral: both directions move by opposite amounts."""
    lesson = a_lesson()
    ways = np.flatnonzero(lesson.y != 1)
    only = Lesson(
        lesson.x.part(ways), lesson.y[ways], np.zeros(20, dtype=np.int64), np.ones(20), np.ones(20, dtype=bool)
    )

    weights = fit(only, ridge=0.1)

    assert weights[0, 0, 0] == pytest.approx(-weights[0, 1, 0], rel=1e-3)
    assert weights[0, 0, 0] > 0


def test_a_feature_of_one_post_is_not_learned() -> None:
    """Its weight stays 0."""
    lesson = a_lesson()
    columns = lesson.x.columns.copy()
    columns[0] = 7

    weights = fit(
        Lesson(
            Sparse(lesson.x.starts, columns, lesson.x.values), lesson.y, lesson.channels, lesson.weights, lesson.two_way
        ),
        0.1,
    )

    assert (weights[:, :, 7] == 0).all()


def test_the_same_posts_give_the_same_weights() -> None:
    """Bit by bit."""
    assert (fit(a_lesson(), 0.1) == fit(a_lesson(), 0.1)).all()


def test_weights_become_numbers_whose_squares_are_steps() -> None:
    """The largest is 127 x 127 = 16,129 steps of 0.0001; -1.0 is 100 x 100; 35 steps are nearer to 6 x 6 than 5 x 5."""
    rows, step = quantise(np.array([[1.6129, -1.0], [0.0035, 0.0]]))

    assert step == pytest.approx(0.0001)
    assert rows.tolist() == [[127, -100], [6, 0]]


def test_telling_and_rare_columns_may_grow_further() -> None:
    """Columns 0 and 1 are in half the posts each: 0 whatever the label, 1 in bearish ones; 2 in one bullish post."""
    columns = np.array([0, 1, 0, 2, 1, 0, 1, 0])
    y = np.array([0, 0, 2, 2, 0, 0, 0, 2])
    lesson = Lesson(
        Sparse(np.arange(9), columns, np.ones(8)), y, np.zeros(8, dtype=np.int64), np.ones(8), np.zeros(8, dtype=bool)
    )

    scales = reach(lesson.x, lesson)

    assert scales[0] < scales[1] < scales[2]
    assert scales.mean() == pytest.approx(1.0)


def test_the_reach_of_three_columns_by_hand() -> None:
    """Four posts, bearish and bullish in turn. Column 0 has one of each, so it tells nothing: LEAST_REACH.

    Columns 1 and 2 have one post each, of weight 1 beside 3 x 1/2 doubts a label: (2.5, 1.5) of 4 against 1/2, so the
    log ratios are ln 1.25 and ln 0.75, with spread 0.2554, 3/2 of the mean. All are rare: ln 5/3 and twice ln 5/2.
    """
    lesson = Lesson(
        Sparse(np.arange(5), np.array([0, 0, 1, 2]), np.ones(4)),
        np.array([0, 2, 0, 2]),
        np.zeros(4, dtype=np.int64),
        np.ones(4),
        np.zeros(4, dtype=bool),
    )

    telling = np.array([0.3, 0.3 + 0.7 * 1.5, 0.3 + 0.7 * 1.5])
    rare = np.sqrt([0.5108, 0.9163, 0.9163])
    expected = telling * rare / (telling * rare).mean()

    assert LEAST_REACH == 0.3
    assert reach(lesson.x, lesson) == pytest.approx(expected, rel=1e-3)


def test_no_weights_at_all_are_no_error() -> None:
    """All zero stays zero."""
    rows, step = quantise(np.zeros((2, 3)))

    assert step > 0
    assert not rows.any()


def test_rows_can_be_taken_in_any_order() -> None:
    """Post 1 has columns 5 and 6; posts (1, 0) give 5, 6, then 4."""
    x = Sparse(np.array([0, 1, 3]), np.array([4, 5, 6]), np.array([1.0, 2.0, 3.0]))

    part = x.part(np.array([1, 0]))

    assert (part.starts.tolist(), part.columns.tolist(), part.values.tolist()) == (
        [0, 2, 3],
        [5, 6, 4],
        [2.0, 3.0, 1.0],
    )
    assert part.times(np.arange(7.0)).tolist() == [5 * 2 + 6 * 3, 4]


def test_sources_count_by_a_power_of_their_size() -> None:
    """16 and 1 posts at power 0.5 count 4 to 1 in all, so 0.25 to 1 each; mean 1 over 17 rows (sum 5) is x 3.4."""
    weights = source_weights(np.array([0] * 16 + [1]), power=0.5)

    assert weights == pytest.approx([0.25 * 3.4] * 16 + [3.4])


def test_a_bowl_is_walked_to_its_bottom() -> None:
    """(x - 3)^2 + 10 (y + 1)^2 is least at (3, -1)."""

    def bowl(
        point: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        x, y = point
        return float((x - 3) ** 2 + 10 * (y + 1) ** 2 + 1), np.array([2 * (x - 3), 20 * (y + 1)])

    assert minimise(bowl, np.zeros(2)) == pytest.approx([3, -1], abs=1e-2)

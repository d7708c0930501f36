"""When two books that move differ: a fill between two readings is no drift, a difference that stays is."""

from decimal import Decimal

import pytest

from workers.drift import MOST_LOOKS, PROOFS, Drift, Looks


def a_difference(subject: str = "AAA", by: int = 5) -> Drift:
    """So many shares more at the broker."""
    return Drift(subject, "0 shares", f"{by} shares", Decimal(by))


def after(*looks: list[Drift]) -> Looks:
    """Looks, one after the other, as long as another one may tell more."""
    made = Looks()
    for one in looks:
        assert made.goes_on
        made.add(one)
    return made


def test_books_that_agree_are_looked_at_once() -> None:
    """The usual cycle costs one look."""
    found = after([])
    assert (found.drifts, found.undecided, found.goes_on) == ((), False, False)


@pytest.mark.parametrize(("looks", "drifts"), [(2, 0), (3, 1)])
def test_the_same_difference_in_three_looks_is_drift(looks: int, drifts: int) -> None:
    """Two are not enough."""
    assert len(after(*[[a_difference()]] * looks).drifts) == drifts


def test_a_fill_between_two_readings_is_gone_in_the_next_look() -> None:
    """Each look meets another symbol in motion."""
    found = after([a_difference("AAA")], [a_difference("BBB")])
    assert (found.drifts, found.goes_on) == ((), False)


def test_what_is_amiss_shows_through_the_fills_of_others() -> None:
    """BBB is off by 7 all the time; cash is off by that and by whatever has just filled, so nothing is said of it."""
    looks = [[a_difference("BBB", 7), a_difference("cash", n)] for n in range(MOST_LOOKS)]
    found = after(*looks)
    assert found.drifts == (a_difference("BBB", 7),)
    assert (found.undecided, found.goes_on) == (True, False)


def test_the_amount_counts_wherever_it_was_seen() -> None:
    """A race in the middle does not hide what is amiss."""
    found = after([a_difference(by=7)], [a_difference(by=9)], [a_difference(by=7)], [a_difference(by=7)])
    assert found.drifts == (a_difference(by=7),)


def test_a_subject_that_once_agreed_is_no_drift() -> None:
    """Whatever it showed before and after was on its way."""
    found = after([a_difference("AAA"), a_difference("BBB", 1)], [a_difference("BBB", 1)], [a_difference("BBB", 1)])
    assert found.drifts == (a_difference("BBB", 1),)


def test_fills_of_one_size_in_each_look_prove_nothing() -> None:
    """Three entries of 9,925 dollars, each between two readings: the same gap three times, and none of it lasts."""
    made = Looks()
    for _ in range(PROOFS):
        made.add([a_difference("cash", -9_925)], moved={"cash", "AAA"})
    assert (made.drifts, made.undecided, made.goes_on) == ((), True, True)
    made.add([])
    assert (made.drifts, made.undecided, made.goes_on) == ((), False, False)


def test_a_gap_that_lasts_is_proved_by_the_looks_in_which_its_subject_stood_still() -> None:
    """BBB is off while AAA trades; cash moves with AAA but for three looks, and those decide it."""
    made = Looks()
    for moved in (["AAA", "cash"], [], ["AAA", "cash"], [], ["AAA", "cash"]):
        made.add([a_difference("BBB", 7), a_difference("cash", -700)], moved)
    assert (made.drifts, made.goes_on) == ((a_difference("BBB", 7),), True)
    made.add([a_difference("BBB", 7), a_difference("cash", -700)])
    assert made.drifts == (a_difference("BBB", 7), a_difference("cash", -700))


def test_a_subject_that_agrees_while_it_moves_is_neither_cleared_nor_proved() -> None:
    """A fill on its way may hide what is amiss for one look."""
    made = Looks()
    made.add([a_difference()])
    made.add([], moved={"AAA"})
    assert (made.drifts, made.goes_on) == ((), True)
    made.add([a_difference()])
    made.add([a_difference()])
    assert made.drifts == (a_difference(),)

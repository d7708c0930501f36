"""What a symbol's held signals come to at the open: one of them, or none."""

from dataclasses import replace
from itertools import permutations

from pipeline.models import Direction, Refusal, Signal, Stage
from pipeline.netting import net
from tests.market_builders import a_signal
from tests.trunk import later


def held(
    name: str, direction: Direction = Direction.LONG, conviction: float = 0.5, seconds: float = 0, **facts: object
) -> Signal:
    """A held signal: |score| = conviction at confidence 1, decided so many seconds after noon."""
    signal = a_signal(direction, decision_id=name, score=conviction * direction.sign, confidence=1.0)
    return replace(signal, decided_at=later(seconds), **facts)  # type: ignore[arg-type]


SHORT = Direction.SHORT


def kept(*signals: Signal) -> str | None:
    """The winner's name, whatever the order of arrival."""
    winners = {net(order).winner for order in permutations(signals)}
    assert len(winners) == 1
    winner = winners.pop()
    return winner.decision_id if winner else None


def test_one_signal_stands_for_itself() -> None:
    """Nothing to net."""
    netting = net((held("a"),))

    assert netting.winner == held("a")
    assert netting.losers == ()


def test_no_signal_has_no_winner() -> None:
    """An empty open."""
    assert net(()).winner is None
    assert net(()).losers == ()


def test_the_newest_signal_stands_for_its_side() -> None:
    """One order per symbol: the latest word, not the strongest."""
    assert kept(held("a", conviction=0.9), held("b", conviction=0.2, seconds=5)) == "b"


def test_the_heavier_side_wins_even_when_the_other_spoke_last() -> None:
    """Long 0.5 + 0.25 = 0.75 against short 0.5: net +0.25, so the newest long."""
    longs = held("a", conviction=0.5), held("b", conviction=0.25, seconds=1)

    assert kept(*longs, held("c", SHORT, 0.5, seconds=9)) == "b"


def test_the_mirror_image_wins_short() -> None:
    """Short 0.75 against long 0.5."""
    shorts = held("a", SHORT, 0.5), held("b", SHORT, 0.25, seconds=1)

    assert kept(*shorts, held("c", conviction=0.5, seconds=9)) == "b"


def test_a_net_of_exactly_zero_has_no_winner_and_everybody_loses() -> None:
    """0.5 - 0.5 = 0: no direction."""
    signals = (held("a", conviction=0.5), held("b", SHORT, 0.5, seconds=1))
    netting = net(signals)

    assert netting.winner is None
    assert netting.losers == signals


def test_a_net_of_zero_is_zero_in_any_order() -> None:
    """0.1 - 0.1 + 0.2 - 0.2 added as floats is +, - or 0, depending on the order; exactly it is 0."""
    longs = held("a", conviction=0.1), held("b", conviction=0.2)

    assert kept(*longs, held("c", SHORT, 0.1), held("d", SHORT, 0.2)) is None


def test_conviction_counts_not_the_number_of_signals() -> None:
    """Two longs of 0.125 against one short of 0.5: net -0.25."""
    assert kept(held("a", conviction=0.125), held("b", conviction=0.125), held("c", SHORT, 0.5)) == "c"


def test_a_tie_in_time_goes_to_the_larger_decision_id() -> None:
    """So the answer is the same whatever the order of arrival."""
    assert kept(held("a"), held("b")) == "b"


def test_the_losers_end_with_a_refusal_that_names_the_winner() -> None:
    """Stage gate, rule `netted`, the net and who was kept: 0.5 + 0.25 = +0.750."""
    netting = net((held("a", conviction=0.5), held("b", conviction=0.25, seconds=1)))

    assert [signal.decision_id for signal in netting.losers] == ["a"]
    assert netting.refusal == Refusal(
        Stage.GATE, "netted", "net conviction +0.750, kept b", "one order per symbol at the open"
    )


def test_where_nobody_won_the_refusal_names_nobody() -> None:
    """0.5 - 0.5 = 0."""
    netting = net((held("a"), held("b", SHORT)))

    assert netting.refusal.observed == "net conviction +0.000"

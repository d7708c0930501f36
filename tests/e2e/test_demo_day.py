"""The recorded day, lived through with nothing faked between the stages: every end a message can have occurs."""

import pytest

from pipeline.models import INTERIM, TERMINAL, FillRole, Outcome, Side
from tests.tools.demo_day import DemoDay, live_the_day

RULES = (
    "broker_rejected hard_to_borrow",
    "broker_rejected max_gap",
    "error MarketDataError",
    "gate_closed chop",
    "gate_closed index_volume",
    "gate_closed session",
    "low_score min_score",
    "no_consensus min_votes",
    "no_consensus neutral_lead",
    "no_consensus tie",
    "risk_rejected entries_after_loss",
    "risk_rejected open_positions",
    "risk_rejected position_held",
    "risk_rejected same_side_window",
    "risk_rejected session_loss",
    "unfilled no_price_by_close",
    "vetoed adx_no_trend",
    "vetoed bearish_divergence",
    "vetoed insufficient_data",
    "vetoed rsi_overbought",
    "vetoed rsi_oversold",
)


@pytest.fixture(scope="module")
def day() -> DemoDay:
    """The day under the shipped profile."""
    return live_the_day()


@pytest.mark.parametrize("outcome", sorted(TERMINAL))
def test_every_terminal_outcome_occurs_more_than_once(day: DemoDay, outcome: Outcome) -> None:
    """Rule: whoever watches the demo sees every end, and one changed post does not take it away."""
    assert day.legs[outcome] >= 2


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_that_has_data_refuses_more_than_once(day: DemoDay, rule: str) -> None:
    """Rule: each refusal is shown by the default limits, but for the seven positions of the profile."""
    assert day.rules()[rule] >= 2


def test_nothing_is_left_on_its_way(day: DemoDay) -> None:
    """Rule: every leg has a terminal outcome once the recording and the next session are over."""
    assert not {str(outcome) for outcome in INTERIM} & day.legs.keys()


def test_entries_go_both_ways_and_end_in_every_way(day: DemoDay) -> None:
    """Rule: long and short entries; exits at the target, at the stop and by an opposite signal, two of each or more."""
    fills = [row.fill for row in day.fills]
    sides = [fill.side for fill in fills if fill.role is FillRole.ENTRY]

    assert sides.count(Side.BUY) >= 5
    assert sides.count(Side.SELL) >= 2
    for role in (FillRole.TARGET, FillRole.STOP, FillRole.CLOSE):
        assert sum(fill.role is role for fill in fills) >= 2


def test_entries_come_from_urgent_posts_and_from_consensus(day: DemoDay) -> None:
    """Rule: an urgent decision has its leg's id (`message:symbol`), a batch decision its claim's."""
    urgent = [":" in row.decision_id for row in day.fills if row.fill.role is FillRole.ENTRY]

    assert urgent.count(True) >= 5
    assert urgent.count(False) >= 2


def test_one_damaged_file_harms_nobody_else(day: DemoDay) -> None:
    """Rule: one symbol's failure never stops another's."""
    failed = {result.symbol for result in day.results.values() if result.status == Outcome.ERROR}

    assert failed == {"KLDR"}


def test_broken_lines_are_refused_with_their_reason(day: DemoDay) -> None:
    """Rule: a cut line and HTML are no JSON; a NaN, a missing author and an impossible time have their own names."""
    assert day.refused == {"not_json": 2, "number_not_finite": 1, "missing_field": 1, "bad_time": 1}

"""What a run must show to pass."""

from typing import Any

import pytest

from tests.chaos.report import Plan, Report, short_of

PLAN = Plan(seed=1, min_s=1, max_s=1, legs=10_000, orders=2_300, at_limit=3, strict=True)


def a_report(**facts: Any) -> Report:
    """A run that has nothing to complain of."""
    return Report(
        seed=1, seconds=1, posts=1, deliveries=1, legs={}, orders=1, asked=1, kills=1, lives=1, at_limit=[], **facts
    )


@pytest.mark.parametrize("fault", ["broken", "untested", "short_of"])
def test_a_run_with_any_fault_fails(fault: str) -> None:
    """A broken promise, a call at which nobody died, too few legs, orders or symbols at their limit."""
    assert a_report().proves()
    assert not a_report(**{fault: ["x"]}).proves()


def test_a_sabotage_passes_when_a_promise_breaks_and_only_then() -> None:
    """What was not tested says nothing about it."""
    assert a_report(broken=["x"]).proves(sabotaged=True)
    assert not a_report(untested=["x"]).proves(sabotaged=True)


@pytest.mark.parametrize(
    ("counts", "missing"),
    [
        ((10_000, 2_300, 3), []),
        ((9_999, 2_300, 3), ["9999 legs; valid: >= 10000"]),
        ((10_000, 2_299, 3), ["2299 orders; valid: >= 2300"]),
        ((10_000, 2_300, 2), ["2 symbols at limit; valid: >= 3"]),
    ],
)
def test_a_run_that_gave_up_too_early_proves_nothing(counts: tuple[int, int, int], missing: list[str]) -> None:
    """The plan's counts are reached or the run fails."""
    assert short_of(PLAN, *counts) == missing

"""When what an entry holds counts as being without a stop."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.models import FillRole, OrderReport, OrderStatus, Side
from pipeline.ports import Intent
from tests.money import NOW, D, a_fill, an_order
from workers.protection import without_stop

GRACE = timedelta(seconds=15)
LATER = NOW + GRACE


def an_entry(side: Side = Side.BUY, **facts: Any) -> Intent:
    """Ten shares, 4 at 100 and 6 at 110, filled at 15:00, without a stop."""
    fills = (
        a_fill(side, 4, "100", fill_id="1", at=NOW - timedelta(seconds=9)),
        a_fill(side, 6, "110", fill_id="2"),
    )
    report = OrderReport("o-AAA", "AAA", OrderStatus.FILLED, 10, fills)
    return Intent("o-AAA", "d-AAA", "AAA", "SENT", an_order(side=side), replace(report, **facts))


@pytest.mark.parametrize(("side", "sign"), [(Side.BUY, 1), (Side.SELL, -1)])
def test_what_is_held_is_told_with_its_cost(side: Side, sign: int) -> None:
    """4 x 100 + 6 x 110 = 1,060 dollars, held since the first fill; a short position is negative."""
    held = without_stop(an_entry(side), LATER, GRACE)

    assert held is not None
    assert (held.symbol, held.quantity, held.cost) == ("AAA", sign * 10, sign * D(1060))
    assert (held.average_price, held.opened_at) == (D(106), NOW - timedelta(seconds=9))


def test_the_grace_counts_from_the_last_fill() -> None:
    """A millisecond before it is over nothing is said."""
    assert without_stop(an_entry(), LATER - timedelta(milliseconds=1), GRACE) is None
    assert without_stop(an_entry(), LATER, GRACE) is not None


@pytest.mark.parametrize("role", [FillRole.STOP, FillRole.TARGET, FillRole.TIME_EXIT])
def test_what_left_is_held_no_more(role: FillRole) -> None:
    """Seven of ten left by an exit: three are held, at 106 each; all ten: none."""
    entry = an_entry()
    assert entry.report is not None
    fills = entry.report.fills

    some = an_entry(fills=(*fills, a_fill(Side.SELL, 7, "104", fill_id="3", role=role)))
    held = without_stop(some, LATER, GRACE)
    assert held is not None
    assert (held.quantity, held.cost) == (3, D(318))
    every = an_entry(fills=(*fills, a_fill(Side.SELL, 10, "104", fill_id="3", role=role)))
    assert without_stop(every, LATER, GRACE) is None


@pytest.mark.parametrize(
    "entry",
    [
        an_entry(stop=D(98)),
        an_entry(closed=True),
        an_entry(status=OrderStatus.ACCEPTED, filled_quantity=0, fills=()),
        replace(an_entry(), report=None),
        replace(an_entry(), order=an_order(reduce_only=True)),
    ],
    ids=["stopped", "closed", "unfilled", "unknown", "closing"],
)
def test_all_else_is_left_alone(entry: Intent) -> None:
    """A stop that works; nothing that can fill; nothing filled; no word of the venue yet; what only closes."""
    assert without_stop(entry, LATER, GRACE) is None

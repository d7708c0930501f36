"""An entry that has no stop at the venue is closed and is an alarm, over memory and the real server."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from config.venue import BreakerSettings
from pipeline.models import Direction, Outcome, TradingState
from pipeline.risk import RiskSettings
from tests.contracts.conftest import Vault
from tests.contracts.test_lying_venue import Desk
from tests.money import NOW
from tests.venue import Toxic
from workers.protection import MOST_TRIES

GRACE = timedelta(seconds=15)
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def desk(vault: Vault) -> Iterator[Desk]:
    """A desk and its running venue, which refuses the stop of the next entry."""
    made = Desk(vault, BreakerSettings(), RiskSettings())
    with made.venue:
        made.venue.poison(Toxic("no_stop"))
        yield made


def looks(desk: Desk, at: datetime) -> int:
    """What the settle job does: book, then look."""
    for one in desk.settlement.settle(at):
        desk.settlement.acknowledge([one.decision_id])
    return desk.protection.look(at)


def alarms(desk: Desk) -> list[str]:
    """Entries that are said to have no stop."""
    return [alarm.subject for alarm in desk.vault.alarms.open() if alarm.code == "no_stop"]


@pytest.mark.parametrize("direction", list(Direction))
def test_an_entry_without_a_stop_is_closed_and_told(desk: Desk, direction: Direction) -> None:
    """100 shares bought or sold short: one closing order for all of them, and the alarm ends with the position."""
    desk.direction = direction
    name = desk.trade().client_order_id
    assert looks(desk, LATER) == 1
    assert alarms(desk) == [name]
    assert desk.venue.book().positions == {}
    assert looks(desk, LATER + timedelta(seconds=5)) == 0

    assert (alarms(desk), desk.ours()) == ([], {})
    assert sorted(desk.venue.book().asked.values()) == [1, 1]
    assert desk.vault.intents.open() == ()


def test_a_stop_may_come_a_little_later(desk: Desk) -> None:
    """At 14.999 s nothing is said; at 15 s it is closed."""
    desk.trade()
    assert (looks(desk, NOW + GRACE - timedelta(milliseconds=1)), alarms(desk)) == (0, [])
    assert len(desk.venue.book().orders) == 1

    assert looks(desk, NOW + GRACE) == 1
    assert len(desk.venue.book().orders) == 2


def test_an_entry_with_its_stop_is_left_alone(desk: Desk) -> None:
    """Filled, partly filled, or waiting for its fill."""
    desk.venue.heal()
    desk.venue.poison(Toxic("none"), Toxic("partial", quantity=4), Toxic("rest"))
    for symbol in ("S1", "S2", "S3"):
        desk.trade(symbol)

    assert looks(desk, LATER) == 0
    assert len(desk.venue.book().orders) == 3


def test_a_halt_forbids_it_and_the_alarm_asks_a_person(desk: Desk) -> None:
    """HALTED: nothing is sent but by `flatten`; with REDUCING it is closed at once."""
    desk.trade()
    desk.vault.control.set(TradingState.HALTED, "ann", "test", NOW)
    looks(desk, LATER)
    assert len(desk.venue.book().orders) == len(alarms(desk)) == 1
    desk.vault.control.set(TradingState.REDUCING, "ann", "test", NOW)
    looks(desk, LATER)

    assert desk.venue.book().positions == {}


def test_a_breaker_that_is_open_holds_no_protection_back(desk: Desk) -> None:
    """Exits always go."""
    desk.trade()
    for _ in range(5):
        desk.breaker.failed()
    looks(desk, LATER)

    assert desk.venue.book().positions == {}


def test_a_closing_order_on_its_way_is_waited_for(desk: Desk) -> None:
    """It may have arrived: nothing is sent beside it, however often anybody looks."""
    desk.trade()
    desk.venue.poison(Toxic("reset"))
    looks(desk, LATER)
    assert sum(desk.venue.book().asked.values()) == 2
    desk.protection.look(LATER)
    looks(desk, LATER)

    assert (sum(desk.venue.book().asked.values()), desk.venue.book().positions, desk.ours()) == (2, {}, {})


def test_a_closing_order_that_is_refused_is_followed_by_another_and_at_most_three(desk: Desk) -> None:
    """Each has a name of its own; then the alarm waits for a person."""
    desk.trade()
    desk.venue.poison(*[Toxic("refuse")] * 9)
    for n in range(6):
        looks(desk, LATER + timedelta(seconds=5 * n))

    assert sum(desk.venue.book().asked.values()) == 1 + MOST_TRIES
    assert len(alarms(desk)) == 1
    assert set(desk.venue.book().positions) == {"AAA"}


def test_the_entrys_decision_is_executed_whatever_became_of_its_stop(desk: Desk) -> None:
    """It bought; that it was closed again is a result."""
    desk.trade()
    settled = desk.settle()

    assert settled == {"d-AAA": Outcome.EXECUTED}

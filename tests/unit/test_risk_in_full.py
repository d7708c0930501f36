"""Risk: what it asks of the ledger to the last field, what it says to the last word, and whose run it acts for."""

from datetime import datetime
from typing import Any

import pytest

from pipeline.errors import TakenOverError
from pipeline.models import Direction, Refusal, Reservation, Side, Stage
from pipeline.ports import ReservationRequest
from pipeline.risk import RiskSettings
from tests.desks import RiskDesk as Desk
from tests.desks import rule, shares
from tests.money import NOW, SESSION, D, FakeControl, FakeMarket, a_levels, a_signal, at
from workers.adapters.ledger_memory import MemoryLedger


class Asked(MemoryLedger):
    """A ledger that keeps what it was asked."""

    def reserve(self, request: ReservationRequest) -> Reservation | Refusal:
        self.request = request
        return super().reserve(request)


def asked(desk: Desk, direction: Direction) -> ReservationRequest:
    """What the desk asks of its ledger for a signal of this direction, in its third run."""
    ledger = Asked(desk.cash)
    desk.ledger = desk.risk._ledger = ledger
    desk.hold_position("BBB", 100)
    if direction is Direction.SHORT:
        desk.hold_position("AAA", 7)
    answer = desk.check(signal=a_signal(direction=direction), execution=3)
    assert isinstance(answer, Reservation)
    return ledger.request


SETTINGS = RiskSettings(
    max_gross_exposure=D("0.5"), max_session_loss=D("0.02"), max_week_loss=D("0.04"), same_side_window_s=7
)
NUMBERS = {
    "equity": "100000.00",
    "price": "100",
    "quote_at": "2014-06-02T15:00:00+00:00",
    "quote_source": "test",
}


def test_an_entry_asks_the_ledger_with_every_ceiling_in_dollars() -> None:
    """Equity 100,000: half of it gross, 2 % of it a session, 4 % a week; 10,000 are in BBB, so 40,000 are left.

    Shares: 250 / 2 = 125, 10,000 / 100 = 100, 10,000 / 100 = 100, 40,000 / 100 = 400.
    """
    assert asked(Desk(settings=SETTINGS), Direction.LONG) == ReservationRequest(
        decision_id="d-AAA",
        symbol="AAA",
        side=Side.BUY,
        quantity=100,
        price=D(100),
        notional=D(10_000),
        as_of=NOW,
        session=SESSION.day,
        week=(2014, 23),
        expected_position=0,
        max_open_positions=10,
        max_gross_exposure=D(50_000),
        max_session_loss=D(2_000),
        max_week_loss=D(4_000),
        same_side_window_s=7,
        max_per_symbol_per_minute=3,
        max_per_minute=60,
        max_entries_per_hour_after_loss=3,
        reduce_only=False,
        sizing={
            "shares_risk_budget": "125.0000",
            "shares_max_order": "100.0000",
            "shares_max_position": "100.0000",
            "shares_gross_exposure": "400.0000",
            **NUMBERS,
            "binding": "max_order",
            "factor": "1.0",
        },
        execution=3,
    )


def test_a_close_asks_for_the_whole_position_and_to_reduce_only() -> None:
    """Seven shares held, seven sold, expected to be there still."""
    request = asked(Desk(settings=SETTINGS), Direction.SHORT)

    assert (request.side, request.quantity, request.notional) == (Side.SELL, 7, D(700))
    assert (request.expected_position, request.reduce_only, request.execution) == (7, True, 3)
    assert request.sizing == {"shares_close": "7.0000", **NUMBERS, "binding": "close", "factor": "1"}


# ---- whose run ---------------------------------------------------------------------------------------


def two_runs(desk: Desk) -> tuple[int, int]:
    """An old and a new run of the decision."""
    return desk.executions.begin("d-AAA").id, desk.executions.begin("d-AAA").id


def test_an_old_run_reserves_nothing() -> None:
    """The new one decides."""
    desk = Desk()
    old, new = two_runs(desk)
    with pytest.raises(TakenOverError, match="d-AAA"):
        desk.check(execution=old)

    assert desk.ledger.reservations() == {}
    assert shares(desk.check(execution=new)) == 100


def test_an_old_run_gives_nothing_back_and_is_told_why() -> None:
    """The newer one may be sending."""
    desk = Desk()
    old, new = two_runs(desk)
    desk.check(execution=new)
    with pytest.raises(TakenOverError) as told:
        desk.risk.release("d-AAA", old)

    assert str(told.value) == "decision d-AAA: a newer execution or a sent order needs its reservation"
    assert desk.ledger.reservations() == {"d-AAA": NOW}
    desk.risk.release("d-AAA", new)
    assert desk.ledger.reservations() == {}


def test_an_old_run_holds_nothing_for_the_open() -> None:
    """The decision would be decided twice."""
    desk = Desk()
    old, new = two_runs(desk)
    tomorrow = at("13:30", 3)
    with pytest.raises(TakenOverError):
        desk.risk.hold(a_signal(), tomorrow, old)

    assert desk.ledger.held(tomorrow) == ()
    desk.risk.hold(a_signal(), tomorrow, new)
    assert desk.ledger.held(tomorrow) == (a_signal(),)
    assert desk.ledger.held(at("13:29", 3)) == ()  # not a minute before the open


# ---- who asks, and what ------------------------------------------------------------------------------


def test_the_deny_list_is_asked_for_this_symbol_and_its_authors() -> None:
    """Every author of a batch counts."""

    class Listed(FakeControl):
        def denied(self, symbol: str, authors: frozenset[str]) -> str | None:
            return f"{symbol} by {', '.join(sorted(authors))}"

    desk = Desk(control=Listed())
    answer = desk.check(signal=a_signal(authors=frozenset({"ann", "bob"})))

    assert answer == Refusal(Stage.RISK, "denied", "AAA by ann, bob", "not on a deny-list")


def test_a_lost_week_is_reported_as_of_the_review() -> None:
    """By the fleet itself, in words, at the moment that was reviewed."""
    reports: list[tuple[str, str, datetime]] = []

    class Told(FakeControl):
        def reduce(self, by: str, reason: str, at: datetime) -> None:
            reports.append((by, reason, at))

    desk = Desk(control=Told())
    desk.lose("3000")
    desk.risk.review(SESSION, at("15:01"))

    assert reports == [("risk", "week loss 3000.00 USD, limit 3000.00 USD", at("15:01"))]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"levels": a_levels(reference=D(0))}, "reference 0"),
        ({"levels": a_levels(stop_distance=D(0))}, "stop_distance 0"),
        ({"levels": a_levels(target_distance=D(0))}, "target_distance 0"),
        ({"size_factor": 0.0}, "size_factor 0.0"),
    ],
)
def test_each_missing_number_is_named(facts: dict[str, Any], name: str) -> None:
    """The trace says which input was none."""
    assert Desk().check(**facts) == Refusal(Stage.RISK, "missing_input", name, "> 0")


def test_exposure_that_is_used_up_leaves_no_share_however_cheap() -> None:
    """1,000 BBB at 100 are all of the equity: nothing is left, not even for a stock of 50 cents."""
    desk = Desk(market=FakeMarket({"AAA": D("0.5")}))
    desk.hold_position("BBB", 1000)
    answer = desk.check(levels=a_levels("0.5", "0.02", "0.04"))

    assert answer == Refusal(Stage.RISK, "gross_exposure", "0.0000 shares", ">= 1 share")


def test_a_book_that_grew_beyond_its_exposure_leaves_no_share() -> None:
    """Marked up to 150,000 of 150,000 with a limit of half: 75,000 over, and not minus 750 shares."""
    desk = Desk(settings=RiskSettings(max_gross_exposure=D("0.5")))
    desk.hold_position("BBB", 1000)
    desk.ledger.mark({"BBB": D(150)})

    assert rule(desk.check()) == "gross_exposure"

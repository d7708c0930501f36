"""A fleet in live time at a venue over HTTP: whose money it is, what entries wait for, and what accepting costs."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import UnreconciledError
from pipeline.models import Outcome, Reservation, TradingState
from pipeline.ports import BookSnapshot
from tests.delivery import NOON, a_message, a_runtime, later, routed, work_off
from tests.integration.test_venue_wiring import shown
from tests.money import D, a_request
from tests.venue import LyingVenue, VenueBook
from workers import work
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.truth import RedisTruth
from workers.control import DriftError, Resumed, resume
from workers.status import status
from workers.wiring import Runtime


@pytest.fixture
def venue() -> Iterator[LyingVenue]:
    """An account of 250,000 dollars."""
    with LyingVenue(book=VenueBook(cash="250000")) as running:
        yield running


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path, venue: LyingVenue) -> Runtime:
    """A fleet that trades there, at noon, on an empty server."""
    variables = {
        "FLEET_VENUE__KIND": "http",
        "FLEET_VENUE__BASE_URL": venue.url,
        "FLEET_VENUE__API_KEY": venue.key,
        "FLEET_VENUE__SANDBOX": "true",
        "FLEET_CLOCK": "live",
    }
    made = a_runtime(server_url, tmp_path, **variables)
    vars(made)["clock"] = SimpleNamespace(now=lambda: NOON)
    return made


def book(fleet: Runtime) -> BookSnapshot:
    """Our own book at noon."""
    return fleet.ledger.snapshot(fleet.sessions.session_of(NOON))


def an_entry(fleet: Runtime, name: str = "d-1") -> Reservation:
    """The risk of an entry, set aside."""
    day = fleet.sessions.session_of(NOON)
    answer = fleet.ledger.reserve(a_request(decision_id=name, as_of=NOON, session=day.day, week=day.week))
    assert isinstance(answer, Reservation)
    return answer


def paid(venue: LyingVenue, dollars: str) -> None:
    """The venue's cash changes without an order."""
    venue.venue._cash += D(dollars)


# ---- the start -----------------------------------------------------------------------------------------


def test_a_start_asks_for_a_comparison_and_entries_wait_for_it(fleet: Runtime) -> None:
    """Rule: the first job opens the book with the venue's money, not the simulation's 100,000; then entries go."""
    fleet.reconcile_first("test")
    assert fleet.queues.depths()["maintenance"] == 1
    with pytest.raises(UnreconciledError):
        an_entry(fleet)
    assert "entries wait: books compared not since the start" in shown(status(fleet))
    work_off(fleet, "maintenance")

    assert (book(fleet).cash, book(fleet).start_equity_session) == (D(250_000), D(250_000))
    assert "entries wait" not in shown(status(fleet))
    assert an_entry(fleet).quantity == 10


@pytest.mark.parametrize(
    ("queue", "clock", "asked"), [("maintenance", "live", 1), ("immediate", "live", 0), ("maintenance", "event", 0)]
)
def test_every_worker_that_can_compare_asks_for_it_when_it_starts(
    fleet: Runtime, monkeypatch: pytest.MonkeyPatch, queue: str, clock: str, asked: int
) -> None:
    """Rule: reconciliation at start: also a worker that comes back alone; once each, not in event time."""
    monkeypatch.setattr(work, "Stable", lambda _plan: None)
    monkeypatch.setattr(work, "serve", lambda *_: None)
    monkeypatch.setattr(work, "WarmWorker", lambda *_, **__: SimpleNamespace(work=lambda **_: None))
    fleet.settings = fleet.settings.model_copy(update={"clock": clock})
    for _ in range(2):
        assert work.work(fleet, queue) == 0

    assert fleet.queues.depths()["maintenance"] == 2 * asked


def test_every_start_asks_anew(fleet: Runtime) -> None:
    """Rule: what was compared before `fleet start` does not count after it."""
    fleet.reconciler.cycle(NOON)
    assert fleet.why_entries_wait() is None
    fleet.reconcile_first("test")

    assert fleet.why_entries_wait() == "not since the start"


def test_a_comparison_that_is_too_old_makes_entries_wait_again(fleet: Runtime) -> None:
    """Rule: 90 seconds, three cycles."""
    fleet.reconciler.cycle(NOON)
    fleet.client.hincrby(fleet.keys.truth(), "at_ms", -91_000)

    with pytest.raises(UnreconciledError, match=r"9[1-9] s ago"):
        an_entry(fleet)


def test_the_simulated_venue_and_a_recording_ask_nobody(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: their urgent path reads nothing more, and an entry goes without any comparison."""
    paper = a_runtime(server_url, tmp_path, FLEET_CLOCK="live")
    paper.reconcile_first("test")
    book(paper)

    assert paper.why_entries_wait() is None
    assert an_entry(paper).quantity == 10
    assert redis_client.exists("demo:truth") == 0


def test_a_signal_that_waits_is_tried_again_without_a_strike_until_it_is_too_old(
    server_url: str, redis_client: Any, tmp_path: Path
) -> None:
    """Rule: a follow-up 5 s later, as for a busy symbol; past 30 s it ends as expired, nothing was sent."""
    fleet = a_runtime(server_url, tmp_path)
    vars(fleet)["ledger"] = RedisLedger(fleet.client, fleet.keys, D(100_000), 90)
    message = a_message("m1", confidence=0.95, symbols=("ZELK",))
    fleet.inbox.append([message])
    fleet.backlog.accept([routed(message)])

    assert fleet.decider.urgent("m1", "ZELK", NOON) == "busy"
    assert fleet.journal.outcome("m1:ZELK") is Outcome.BUFFERED
    assert len(fleet.followups.due(later(5))) == 1
    truth = RedisTruth(fleet.client, fleet.keys)
    truth.confirm(truth.begin())
    assert fleet.decider.urgent("m1", "ZELK", later(5)) == "submitted"

    second = a_message("m2", confidence=0.95, symbols=("OLVN",))
    fleet.inbox.append([second])
    fleet.backlog.accept([routed(second)])
    truth.distrust()
    assert fleet.decider.urgent("m2", "OLVN", later(30)) == "busy"
    assert fleet.decider.urgent("m2", "OLVN", later(35)) == "expired"
    assert fleet.journal.tally()["orders"] == 1


# ---- resume --accept -----------------------------------------------------------------------------------


@pytest.fixture
def drifting(fleet: Runtime, venue: LyingVenue) -> Runtime:
    """600 dollars are gone at the venue: the fleet is REDUCING."""
    fleet.reconciler.cycle(NOON)
    paid(venue, "-600")
    fleet.reconciler.cycle(NOON)
    assert fleet.control.trading_state() is TradingState.REDUCING
    return fleet


def acts(fleet: Runtime) -> list[tuple[str, str]]:
    """The acts of a person since then, oldest first."""
    return [(act.what, act.reason) for act in reversed(fleet.control.history(100)) if act.by == "ann"]


def test_resume_is_refused_while_the_books_differ(drifting: Runtime) -> None:
    """Rule: a person looks first."""
    with pytest.raises(DriftError, match="the broker has 249400"):
        resume(drifting, "ann", "go on")

    assert (drifting.control.trading_state(), acts(drifting)) == (TradingState.REDUCING, [])


def test_an_accepted_loss_counts_for_the_day_and_the_week(drifting: Runtime) -> None:
    """Rule: 600 dollars of the day's limit are used up, and the history says so."""
    resumed = resume(drifting, "ann", "a stop we never heard of", accept=True)

    assert (resumed.state, resumed.change) == (TradingState.ACTIVE, D(-600))
    assert (book(drifting).worst_session, book(drifting).worst_week) == (D(-600), D(-600))
    assert acts(drifting) == [
        ("accept drift", "cash: we have 250000.00 USD, the broker has 249400.00 USD"),
        ("drift accepted", "a loss of 600.00 USD counts for the day and the week"),
        ("ACTIVE", "a stop we never heard of"),
    ]


def test_a_withdrawal_that_is_named_is_no_loss(drifting: Runtime) -> None:
    """Rule: the amount is kept with the act."""
    resumed = resume(drifting, "ann", "fees of the year", accept=True, cash_flow=D(-600))

    assert resumed == Resumed(TradingState.ACTIVE, resumed.drifts, D(0))
    assert (book(drifting).worst_session, book(drifting).cash) == (D(0), D(249_400))
    assert acts(drifting)[0][1].startswith("cash flow -600.00 USD; cash: we have")


def test_a_cash_flow_between_books_that_agree_explains_nothing(fleet: Runtime) -> None:
    """Rule: it was never taken for a result; a typing error must not become one."""
    fleet.reconciler.cycle(NOON)
    with pytest.raises(DriftError, match=r"\+10000.00 USD explains nothing"):
        resume(fleet, "ann", "paid in", accept=True, cash_flow=D(10_000))

    assert acts(fleet) == []


@pytest.mark.parametrize(("lost", "after"), [("-6899.99", TradingState.ACTIVE), ("-6900", TradingState.REDUCING)])
def test_a_loss_that_reaches_the_weeks_limit_keeps_the_fleet_reducing(
    drifting: Runtime, venue: LyingVenue, lost: str, after: TradingState
) -> None:
    """Rule: 3 % of 250,000 are 7,500, 600 of them lost before; only a second `resume` forgives what was accepted."""
    paid(venue, lost)
    resumed = resume(drifting, "ann", "go on", accept=True)

    assert (resumed.state, resumed.change) == (after, Decimal(lost) - 600)
    assert drifting.control.trading_state() is after
    assert resume(drifting, "ann", "go on").state is TradingState.ACTIVE
    assert book(drifting).worst_week == D(0)

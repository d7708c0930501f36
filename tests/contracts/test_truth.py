"""When the broker's book was compared with ours, and what waits while nobody knows: in memory and on the server."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.errors import AccountUnknownError, UnreconciledError
from pipeline.models import OrderReport, OrderStatus, Outcome, Position, Refusal, Reservation, TradingState
from pipeline.ports import Statement
from tests.contracts.conftest import CASH, KEYS
from tests.deciding import Worker
from tests.money import CLOSE, NOW, SESSION, D, a_fill, a_request, an_order
from workers.adapters.control_memory import MemoryControl
from workers.adapters.control_redis import RedisControl
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import EXECUTION_TTL_S, OUTCOME_TTL_S
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.paper_memory import MemoryPaperStore
from workers.adapters.paper_redis import RedisPaperStore
from workers.adapters.truth import MemoryTruth, NoTruth, RedisTruth

MAX_AGE = timedelta(seconds=90)


@dataclass
class Office:
    """Books that ask, a truth, and a hand on its clock."""

    truth: Any
    control: Any
    ledger: Any
    intents: Any
    journal: Any
    paper: Any
    client: Any = None
    now: datetime = NOW

    def why(self) -> str | None:
        """Why an entry waits."""
        if self.client is None:
            answer: str | None = self.truth.untrusted()
            return answer
        return RedisTruth(self.client, KEYS).untrusted(MAX_AGE.total_seconds())

    def compared(self) -> None:
        """The books were compared just now."""
        assert self.truth.confirm(self.truth.begin())

    def later(self, seconds: float) -> None:
        """So much time goes by: the comparison gets older."""
        self.now += timedelta(seconds=seconds)
        if self.client is not None:
            self.client.hincrby(KEYS.truth(), "at_ms", -round(seconds * 1000))


@pytest.fixture(params=["memory", "redis"])
def office(request: pytest.FixtureRequest) -> Office:
    """Nothing was compared yet; trading is on."""
    if request.param == "memory":
        control, executions = MemoryControl(), MemoryExecutions()
        made: Office
        truth = MemoryTruth(lambda: made.now, MAX_AGE)
        made = Office(
            truth,
            control,
            MemoryLedger(CASH, executions, truth),
            MemoryIntents(control, executions, truth=truth),
            MemoryJournal(sent=executions.sent),
            MemoryPaperStore(CASH),
        )
    else:
        client: redis.Redis = request.getfixturevalue("redis_client")
        made = Office(
            RedisTruth(client, KEYS),
            RedisControl(client, KEYS),
            RedisLedger(client, KEYS, CASH, MAX_AGE.total_seconds()),
            RedisIntents(client, KEYS, "event", MAX_AGE.total_seconds()),
            RedisJournal(client, KEYS),
            RedisPaperStore(client, KEYS, CASH),
            client,
        )
    made.control.set(TradingState.ACTIVE, "ann", "test", NOW)
    return made


def test_nothing_is_known_before_the_first_comparison(office: Office) -> None:
    """An empty server, or one whose file is older than this key."""
    assert office.why() == "not since the start"
    assert office.truth.begin().last is None


def test_a_comparison_counts_for_90_seconds(office: Office) -> None:
    """On the limit it still does; three seconds over it does not."""
    office.compared()
    office.later(87)  # the server's own clock goes on meanwhile
    assert office.why() is None
    office.later(6)

    assert office.why() == "93 s ago"


def test_a_comparison_is_dated_by_its_beginning(office: Office) -> None:
    """What the broker said is as old as the question."""
    office.compared()
    first = office.truth.begin().last
    comparison = office.truth.begin()
    office.later(60)
    office.truth.confirm(comparison)

    assert office.truth.begin().last == comparison.at >= first


def test_a_start_of_the_fleet_distrusts_what_was_compared_before(office: Office) -> None:
    """Also what began before it and ends after it; when that was is still known, for the venue's listing."""
    office.compared()
    before = office.truth.begin()
    office.truth.distrust()
    assert office.why() == "not since the start"
    assert office.truth.confirm(before) is False
    assert office.why() == "not since the start"
    assert office.truth.begin().last is not None

    office.compared()
    assert office.why() is None


def test_another_server_process_distrusts_too(redis_client: redis.Redis) -> None:
    """It may have come back with an older file; a comparison that it interrupted is not kept either."""
    truth = RedisTruth(redis_client, KEYS)
    comparison = truth.begin()
    assert truth.confirm(comparison)
    server: Any = redis_client
    assert server.hget(KEYS.truth(), "server") == server.info("server")["run_id"]
    server.hset(KEYS.truth(), "server", "f" * 40)  # as its file says

    assert truth.untrusted(90) == "before this server started"
    interrupted = type(comparison)(comparison.epoch, comparison.at, "e" * 40, None)
    assert truth.confirm(interrupted) is False
    assert truth.untrusted(90) == "before this server started"


def test_the_simulated_venue_asks_nobody() -> None:
    """Its book lives beside ours."""
    truth = NoTruth()
    truth.distrust()

    assert truth.begin().last is None
    assert truth.confirm(truth.begin()) is True


# ---- what waits ----------------------------------------------------------------------------------------


def test_an_entry_waits_and_leaves_nothing_behind(office: Office) -> None:
    """Refused for now, not for good: the same request is granted once the books were compared."""
    with pytest.raises(UnreconciledError, match="not since the start"):
        office.ledger.reserve(a_request())
    assert office.ledger.reservations() == {}
    office.compared()

    assert isinstance(office.ledger.reserve(a_request()), Reservation)


def test_a_reservation_from_before_opens_no_way_around(office: Office) -> None:
    """A repeated job finds its reservation, and waits all the same."""
    office.compared()
    office.ledger.reserve(a_request())
    office.truth.distrust()

    with pytest.raises(UnreconciledError):
        office.ledger.reserve(a_request())


def test_what_only_closes_does_not_wait(office: Office) -> None:
    """Getting out is always allowed, in the ledger and in the step that writes SENT."""
    closing = an_order(reduce_only=True)
    office.intents.create(closing)

    assert isinstance(office.ledger.reserve(a_request(reduce_only=True)), Reservation)
    assert office.intents.mark_sent(closing.client_order_id, NOW, CLOSE) is None


@pytest.mark.parametrize("under_halt", [False, True])
def test_the_last_step_asks_again(office: Office, under_halt: bool) -> None:  # noqa: FBT001
    """The server came back between reservation and SENT: nothing is sent, no intent is left; `flatten` always goes."""
    office.intents.create(an_order())
    refusal = office.intents.mark_sent("o-AAA", NOW, CLOSE, under_halt=under_halt)

    assert refusal == (None if under_halt else Refusal(refusal.stage, "unreconciled", "not since the start", "lately"))
    intent = office.intents.get("o-AAA")
    assert (intent.state if intent else None) == ("SENT" if under_halt else None)


def test_reservation_and_last_step_know_how_old_a_comparison_may_be(office: Office) -> None:
    """Each has the rule in a step of its own: 87 of 90 seconds pass, 93 do not, and both say how long it is."""
    office.compared()
    office.later(87)
    office.intents.create(an_order("BBB"))
    assert isinstance(office.ledger.reserve(a_request()), Reservation)
    assert office.intents.mark_sent("o-BBB", NOW, CLOSE) is None
    office.intents.create(an_order())
    office.later(6)

    with pytest.raises(UnreconciledError, match="93 s ago"):
        office.ledger.reserve(a_request("CCC"))
    refusal = office.intents.mark_sent("o-AAA", NOW, CLOSE)
    assert refusal == Refusal(refusal.stage, "unreconciled", "93 s ago", "lately")


def test_reservation_and_last_step_trust_no_comparison_of_another_server(redis_client: redis.Redis) -> None:
    """Its file may be older than what it was compared with."""
    client: Any = redis_client
    truth = RedisTruth(client, KEYS)
    assert truth.confirm(truth.begin())
    client.hset(KEYS.truth(), "server", "f" * 40)
    RedisControl(client, KEYS).set(TradingState.ACTIVE, "ann", "test", NOW)
    intents = RedisIntents(client, KEYS, "event", MAX_AGE.total_seconds())
    intents.create(an_order())

    with pytest.raises(UnreconciledError, match="before this server started"):
        RedisLedger(client, KEYS, CASH, MAX_AGE.total_seconds()).reserve(a_request())
    refusal = intents.mark_sent("o-AAA", NOW, CLOSE)
    assert refusal is not None
    assert (refusal.rule, refusal.observed) == ("unreconciled", "before this server started")


def test_a_decision_that_meets_it_in_the_last_step_is_tried_again(office: Office) -> None:
    """No end is recorded, no risk kept: the follow-up decides it once more, until it is too old."""
    worker = Worker(office)
    office.compared()
    worker.gate.before = office.truth.distrust
    with pytest.raises(UnreconciledError, match="nothing was sent"):
        worker.decide()
    assert (office.ledger.reservations(), office.journal.outcome("d-AAA:AAA"), worker.orders) == ({}, None, [])
    office.compared()

    assert worker.decide().status is Outcome.SUBMITTED


# ---- the account ---------------------------------------------------------------------------------------

THEIRS = Statement(
    D(90_000),
    {"AAA": Position("AAA", 100, D(10_000), NOW)},
    {"AAA": D(110)},
    (("d-1", a_fill(quantity=100, fill_id="f1")),),
)


@pytest.fixture(params=["memory", "redis"])
def ledger(request: pytest.FixtureRequest) -> Any:
    """A book that only the venue may open."""
    if request.param == "memory":
        return MemoryLedger(None)
    return RedisLedger(request.getfixturevalue("redis_client"), KEYS, None)


def test_without_an_account_the_book_says_so(ledger: Any) -> None:
    """It is looked at, booked into or replaced by nobody."""
    with pytest.raises(AccountUnknownError, match="the first reconciliation"):
        ledger.snapshot(SESSION)
    with pytest.raises(AccountUnknownError):
        ledger.apply("d-1", a_fill(), SESSION)
    with pytest.raises(AccountUnknownError):
        ledger.adopt(THEIRS, SESSION)


def test_the_venues_statement_opens_the_book_once(ledger: Any) -> None:
    """90,000 + 100 x 110; its fill is booked with it and never again; a second statement changes nothing."""
    assert ledger.open(THEIRS) is True
    assert ledger.open(Statement(D(1), {}, {})) is False
    assert ledger.apply("d-1", a_fill(quantity=100, fill_id="f1"), SESSION) is False
    book = ledger.snapshot(SESSION)

    assert (book.cash, book.equity, book.start_equity_session) == (D(90_000), D(101_000), D(101_000))
    assert book.positions == THEIRS.positions


@pytest.mark.parametrize(
    ("cash", "flow", "change", "worst"),
    [
        ("90000", "0", "0", "0"),
        ("89400", "0", "-600", "-600"),  # a loss nobody booked
        ("90600", "0", "600", "0"),  # a gain makes no room for a loss
        ("100000", "10000", "0", "0"),  # paid in
        ("79400", "-10000", "-600", "-600"),  # paid out, and a loss beside it
        ("89400", "-10000", "9400", "0"),  # more was named than went
    ],
)
def test_what_an_accepted_book_lost_is_a_loss_of_day_and_week(
    ledger: Any, cash: str, flow: str, change: str, worst: str
) -> None:
    """Change of cash and of cost, less what was paid in or out."""
    ledger.open(THEIRS)
    ledger.snapshot(SESSION)
    theirs = Statement(D(cash), THEIRS.positions, THEIRS.marks)

    assert ledger.adopt(theirs, SESSION, D(flow)) == D(change)
    book = ledger.snapshot(SESSION)
    assert (book.worst_session, book.worst_week, book.realised_session) == (D(worst),) * 3
    assert (book.cash, book.start_equity_session) == (D(cash), D(101_000))


def test_a_position_that_was_sold_at_a_loss_elsewhere_is_a_realised_loss(ledger: Any) -> None:
    """100 bought for 10,000, sold at 90: the book's mark knew the fall, the day's result did not. Minus 1,000."""
    ledger.open(THEIRS)
    ledger.mark({"AAA": D(90)})
    assert ledger.snapshot(SESSION).equity == D(99_000)

    assert ledger.adopt(Statement(D(99_000), {}, {}), SESSION) == D(-1_000)
    assert ledger.snapshot(SESSION).worst_session == D(-1_000)


def test_an_accepted_loss_locks_entries_like_any_other(ledger: Any) -> None:
    """Limit 1,000 dollars, inclusive: 999.99 do not lock, the next cent does."""
    ledger.open(THEIRS)
    ledger.adopt(Statement(D("89000.01"), THEIRS.positions, THEIRS.marks), SESSION)
    assert isinstance(ledger.reserve(a_request("BBB")), Reservation)
    ledger.adopt(Statement(D(89_000), THEIRS.positions, THEIRS.marks), SESSION)
    refusal = ledger.reserve(a_request("CCC"))

    assert (refusal.rule, refusal.observed) == ("session_loss", "1000.00 USD")


# ---- taken up ------------------------------------------------------------------------------------------


def test_a_restored_reservation_counts_untested_and_once(office: Office) -> None:
    """It exists at the venue, whatever the limits say; a second time changes nothing."""
    mine = Reservation("d-1", "AAA", an_order().side, 10, D(100), D(1_000))
    for _ in range(2):
        office.ledger.restore(mine, NOW)

    assert office.ledger.snapshot(SESSION).reserved == {"AAA": D(1_000)}
    assert office.ledger.reservations() == {"d-1": NOW}


def test_an_order_of_ours_is_taken_up_once_and_its_decision_waits_for_it(office: Office) -> None:
    """NEW is what was only meant; SENT is known."""
    report = OrderReport("o-AAA", "AAA", OrderStatus.ACCEPTED)
    office.intents.create(an_order())
    assert office.intents.adopt(an_order(), report, ours=True) is True
    assert office.intents.adopt(an_order(), report, ours=True) is False
    intent = office.intents.get("o-AAA")

    assert (intent.state, intent.report, intent.booked, intent.entry_settled) == ("SENT", report, 0, False)
    assert office.intents.begin("d-AAA").sent == "o-AAA"


def test_the_decision_of_an_order_that_was_taken_up_stands_as_submitted(redis_client: redis.Redis) -> None:
    """Its own leg too, in full, unless more is known of it; it counts as an order and a leg of the fleet."""
    client: Any = redis_client
    intents, report = RedisIntents(client, KEYS, "event"), OrderReport("o-AAA", "AAA", OrderStatus.ACCEPTED)
    intents.adopt(an_order(decision_id="m1:AAA"), report, ours=True)
    facts = {"state": "submitted", "stage": "executor", "rule": "restored", "observed": "o-AAA", "limit": ""}

    assert client.hgetall(KEYS.outcome("m1:AAA")) == facts | {"at": NOW.isoformat(), "decision": "m1:AAA"}
    assert OUTCOME_TTL_S - 600 < client.ttl(KEYS.outcome("m1:AAA")) <= OUTCOME_TTL_S
    assert EXECUTION_TTL_S - 600 < client.ttl(KEYS.execution("m1:AAA")) <= EXECUTION_TTL_S
    assert client.hgetall(KEYS.tally()) == {"orders": "1", "legs": "1"}

    client.hset(KEYS.outcome("m2:BBB"), "state", "executed")
    report = OrderReport("o-BBB", "BBB", OrderStatus.ACCEPTED)
    assert intents.adopt(an_order("BBB", decision_id="m2:BBB"), report, ours=True) is True
    assert client.hgetall(KEYS.outcome("m2:BBB")) == {"state": "executed"}

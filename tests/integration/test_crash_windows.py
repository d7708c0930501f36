"""Deaths, overtakings and late looks at the moments where they hurt: each test states one promise."""

import time
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import redis
from rich.console import Console
from rq.executions import Execution
from rq.job import JobStatus
from rq.timeouts import JobTimeoutException

from config.settings import load_settings
from pipeline.errors import TransientError
from pipeline.models import (
    AggregatedSentiment,
    AnalyzedMessage,
    Label,
    Outcome,
    ProcessResult,
    Sentiment,
    SocialMessage,
    TickerReading,
    TradingState,
    Validation,
    ValidationStatus,
)
from pipeline.router import DenyList
from tests.money import a_signal
from workers.adapters.deadline import FirmTimeout, OutOfTimeError
from workers.endings import Release
from workers.replay import Replay, ReplayOptions
from workers.screen import status_table
from workers.status import status
from workers.wiring import Runtime

NOON = datetime.fromisoformat("2025-09-17T15:00:00+00:00")
EVENING = datetime.fromisoformat("2025-09-16T22:00:00+00:00")
OPEN = datetime.fromisoformat("2025-09-17T13:30:00+00:00")

Fleet = Any  # a Runtime, parts of which are replaced so that it dies at a chosen line


class Passes:
    """A validator that likes everything."""

    def validate(self, signal: Any) -> Validation:
        return Validation(ValidationStatus.PASS)


class NoConditions:
    """A profile without VIX and index."""

    def vix(self, as_of: datetime) -> None:
        return None

    def index_bars(self, as_of: datetime, count: int) -> None:
        return None

    def relative_index_volume(self, as_of: datetime) -> None:
        return None


def a_fleet(url: str, **more: str) -> Fleet:
    """A fleet in a namespace of its own whose validator and gate see nothing wrong."""
    variables = {"FLEET_PROFILE": "demo", "FLEET_REDIS_URL": url, "FLEET_REDIS__KEY_PREFIX": "rev"} | more
    fleet: Fleet = Runtime(load_settings(environ=variables))
    fleet.orchestrator._validator = Passes()
    fleet.orchestrator._gate._conditions = NoConditions()
    fleet.initialise_if_empty("test", NOON)
    return fleet


@pytest.fixture
def fleet(redis_client: redis.Redis, server_url: str) -> Fleet:
    """The fleet, on an empty server."""
    return a_fleet(server_url)


def a_message(name: str = "a1", symbol: str = "AVNK", at: datetime = NOON, **more: Any) -> AnalyzedMessage:
    """A bullish urgent post that is valid by default."""
    post = SocialMessage(
        message_id=f"x-{name}",
        source="x",
        source_id=name,
        created_at=at,
        received_at=at,
        author=f"by-{name}",
        text=f"${symbol} {name}",
    )
    sentiment = Sentiment(
        label=more.get("label", Label.BULLISH),
        score=more.get("score", 0.95),
        confidence=more.get("confidence", 0.95),
        model="test",
    )
    return AnalyzedMessage(
        message=post,
        sentiment=sentiment,
        fingerprint=f"f-{name}",
        tickers=TickerReading(symbols=(symbol,), primary=symbol, cashtags=1),
    )


def routed(fleet: Fleet, *messages: AnalyzedMessage) -> None:
    """The messages are in the inbox and routed."""
    fleet.inbox.append(messages)
    router = fleet.router("r1")
    while fleet.inbox.waiting():
        router.step()


def state(fleet: Fleet, leg: str) -> str:
    """How the leg stands."""
    outcome = fleet.journal.outcome(leg)
    return outcome.value if outcome else "none"


def votes_for(fleet: Fleet, *messages: AnalyzedMessage) -> str:
    """The messages wait in one claim; its id."""
    routed(fleet, *messages)
    claim: str = fleet.backlog.claim()[0]
    return claim


CALM: dict[str, Any] = {"confidence": 0.8, "score": 0.9}


def test_batch_legs_end_when_settlement_is_faster_than_the_recording(fleet: Fleet) -> None:
    """Another worker settles between the order's submission and journal.record."""
    claim = votes_for(fleet, a_message("a1", **CALM), a_message("a2", **CALM))
    record = fleet.journal.record

    def late(results: Any) -> None:
        if not results:
            return
        fleet.journal.record = record
        fleet.decider.settle(NOON + timedelta(minutes=5))
        record(results)

    fleet.journal.record = late
    fleet.decider.claims([claim], NOON)
    for minutes in (10, 60, 600):
        fleet.decider.settle(NOON + timedelta(minutes=minutes))
    assert {state(fleet, f"x-{name}:AVNK") for name in ("a1", "a2")} == {"executed"}


def test_a_reservation_never_outlives_its_decision(fleet: Fleet) -> None:
    """Killed after reserve, the re-run finds the signal expired (or vetoed, halted...): the symbol is blocked."""
    routed(fleet, a_message())
    execute = fleet.executor.execute

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    fleet.executor.execute = killed
    with pytest.raises(KeyboardInterrupt):
        fleet.decider.urgent("x-a1", "AVNK", NOON)
    fleet.executor.execute = execute
    fleet.decider.urgent("x-a1", "AVNK", NOON + timedelta(seconds=70))  # RQ brings an abandoned job back after 65 s
    assert state(fleet, "x-a1:AVNK") == "expired"
    assert fleet.client.hlen(fleet.keys.reservations()) == 0


def test_a_job_given_up_gives_its_reservation_back(fleet: Fleet) -> None:
    """A gate that cannot be asked raises after the reservation; the third strike ends the leg only."""
    routed(fleet, a_message())

    def down(_signal: Any) -> Any:
        raise TransientError("down")

    fleet.orchestrator._gate.check = down
    for _ in range(3):
        with pytest.raises(TransientError):
            fleet.decider.urgent("x-a1", "AVNK", NOON)
    fleet.decider.abandon_urgent("x-a1", "AVNK", "three strikes", NOON)
    assert fleet.client.hlen(fleet.keys.reservations()) == 0


def test_an_urgent_leg_taken_over_late_still_ends(redis_client: redis.Redis, server_url: str) -> None:
    """A router of an earlier version died between `accept` and the enqueue; the entry is taken over 40 s later."""
    fleet = a_fleet(server_url)
    fleet.inbox.append([a_message()])
    router = fleet.router("r2")
    router.clock, router.now, router.take_over_idle_ms = "live", lambda: NOON + timedelta(seconds=40), 0
    fleet.inbox.take("r1", 10)
    fleet.backlog.accept([(a_message(), fleet.orchestrator.route(a_message(), NOON, DenyList()))])
    router.step()
    jobs = sum(fleet.queues.depths().values())
    assert fleet.inbox.waiting() == 0
    assert state(fleet, "x-a1:AVNK") != "buffered" or jobs == 1


def test_live_held_signals_can_be_sent_at_the_open(redis_client: redis.Redis, server_url: str) -> None:
    """A released signal's age counts from its open, so the moments its stages take do not make it too old."""
    fleet = a_fleet(server_url)
    held = fleet.orchestrator.urgent_signal(a_message(at=EVENING), EVENING)
    released = Release(OPEN + timedelta(seconds=3), fleet.sessions, timedelta(seconds=120)).signal(held)

    assert (released.decided_at, released.expires_at) == (
        OPEN + timedelta(seconds=3),
        OPEN + timedelta(seconds=120),
    )


def test_a_held_signal_that_is_held_again_is_not_lost(redis_client: redis.Redis, server_url: str) -> None:
    """Released while the market is closed again (fleet down for a session, live): its leg stays `held` for ever."""
    fleet = a_fleet(server_url, FLEET_GATE__GATE_QUEUE="true")
    routed(fleet, a_message(symbol="LXMN", at=EVENING))
    fleet.decider.urgent("x-a1", "LXMN", EVENING)
    assert state(fleet, "x-a1:LXMN") == "held"
    fleet.decider.release(OPEN + timedelta(hours=9))  # live: as_of is now; the session has come and gone
    still_known = fleet.client.zcard(fleet.keys.held())
    assert state(fleet, "x-a1:LXMN") != "held" or still_known == 1


def test_a_held_signal_is_not_traded_hours_after_its_open(redis_client: redis.Redis, server_url: str) -> None:
    """STAGES 7: its age limit is that open."""
    fleet = a_fleet(server_url, FLEET_GATE__GATE_QUEUE="true")
    routed(fleet, a_message(symbol="LXMN", at=EVENING))
    fleet.decider.urgent("x-a1", "LXMN", EVENING)
    fleet.decider.release(OPEN + timedelta(hours=4))
    assert state(fleet, "x-a1:LXMN") not in {"submitted", "executed"}


def test_netting_survives_a_kill_between_its_losers(redis_client: redis.Redis, server_url: str) -> None:
    """Losers are forgotten one by one: what is left nets to the other side."""
    fleet = a_fleet(server_url, FLEET_GATE__GATE_QUEUE="true")
    posts = [
        a_message("a1", "LXMN", at=EVENING, score=0.95),
        a_message("a2", "LXMN", at=EVENING + timedelta(minutes=1), label=Label.BEARISH, score=-0.95),
        a_message("a3", "LXMN", at=EVENING + timedelta(minutes=2), score=0.85, confidence=0.86),
    ]
    routed(fleet, *posts)
    for post in posts:
        fleet.decider.urgent(post.message_id, "LXMN", post.message.received_at)
    assert [state(fleet, f"x-a{n}:LXMN") for n in (1, 2, 3)] == ["held"] * 3
    unhold = fleet.ledger.unhold

    def killed(_decision_ids: Any) -> None:
        raise KeyboardInterrupt

    fleet.ledger.unhold = killed
    with pytest.raises(KeyboardInterrupt):
        fleet.decider.release(OPEN)
    fleet.ledger.unhold = unhold
    fleet.decider.release(OPEN)
    sides = [intent.order.side.value for intent in fleet.intents.open()]
    assert (sides, state(fleet, "x-a3:LXMN")) == (["buy"], "submitted")


def test_a_batch_run_again_after_its_order_was_sent_says_so(fleet: Fleet) -> None:
    """Killed after SENT; the re-run (live: another `as_of`) counts the votes again before it asks for its order."""
    claim = votes_for(fleet, a_message("a1", **CALM), a_message("a2", **CALM))

    def killed(results: Any) -> None:
        if results:
            raise KeyboardInterrupt

    record, fleet.journal.record = fleet.journal.record, killed
    with pytest.raises(KeyboardInterrupt):
        fleet.decider.claims([claim], NOON)
    fleet.journal.record = record
    later = NOON + timedelta(seconds=70)
    against = [
        a_message(f"b{n}", at=NOON + timedelta(seconds=65), label=Label.BEARISH, confidence=0.8, score=-0.9)
        for n in range(2)
    ]
    routed(fleet, *against)
    fleet.decider.claims([claim], later)
    for minutes in (10, 600):
        fleet.decider.settle(NOON + timedelta(minutes=minutes))
    orders = fleet.journal.tally()["orders"]
    assert (orders, state(fleet, "x-a1:AVNK")) == (1, "executed")


def test_a_decision_that_ended_cannot_send(fleet: Fleet) -> None:
    """Two runs of one job (parent killed, horse alive): one ends `risk_rejected`, the other sends."""
    routed(fleet, a_message())
    decide = fleet.orchestrator.decide

    def overtaken(signal: Any) -> Any:
        fleet.orchestrator.decide = decide
        fleet.control.set(TradingState.HALTED, "t", "t", NOON)
        fleet.decider.urgent("x-a1", "AVNK", NOON)  # the other run
        fleet.control.set(TradingState.ACTIVE, "t", "t", NOON)
        return decide(signal)

    fleet.orchestrator.decide = overtaken
    fleet.decider.urgent("x-a1", "AVNK", NOON)
    fleet.decider.settle(NOON + timedelta(minutes=5))
    orders = fleet.journal.tally().get("orders", 0)
    assert (state(fleet, "x-a1:AVNK"), orders) in {("executed", 1), ("risk_rejected", 0)}


def test_giving_up_does_not_end_what_was_sent(fleet: Fleet) -> None:
    """The third strike after SENT: the leg says `error`, the order trades."""
    claim = votes_for(fleet, a_message("a1", **CALM), a_message("a2", **CALM))
    finish, fleet.backlog.finish_many = fleet.backlog.finish_many, lambda _ids: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fleet.decider.claims([claim], NOON)
    fleet.backlog.finish_many = finish
    fleet.decider.abandon_claim(claim, "three strikes", NOON)
    fleet.decider.settle(NOON + timedelta(minutes=5))
    assert state(fleet, "x-a1:AVNK") == "executed"


def test_a_vote_used_by_look_back_is_not_counted_again(fleet: Fleet) -> None:
    """A decision made after the drain must leave votes that still wait in the list to their own claim."""
    first = votes_for(fleet, a_message("a1", **CALM))
    routed(fleet, a_message("a2", at=NOON + timedelta(seconds=1), **CALM))  # after the claim, before its decision
    orchestrator = fleet.orchestrator
    batch = fleet.backlog.claimed(first)
    result = orchestrator.process_symbol_batch("AVNK", batch.votes, NOON + timedelta(seconds=2), first)
    fleet.journal.record([(result, ())])
    routed(fleet, a_message("a3", at=NOON + timedelta(seconds=40), **CALM))
    second = fleet.backlog.claimed(fleet.backlog.claim()[0])
    again = orchestrator.process_symbol_batch("AVNK", second.votes, NOON + timedelta(seconds=60), second.claim_id)
    assert [*result.aggregate.message_ids, *again.aggregate.message_ids].count("x-a2") == 1


def test_resume_ends_a_lost_week(fleet: Fleet) -> None:
    """STAGES 6: week loss -> REDUCING until `resume`; after it the loss counts anew."""
    session = fleet.sessions.session_of(NOON)
    fleet.ledger.snapshot(session)
    fleet.client.hset(fleet.keys.risk("2025-W38"), "worst_micro", -4_000_000_000)
    routed(fleet, a_message())
    fleet.ledger.forgive_week(session)
    fleet.control.set(TradingState.ACTIVE, "person", "resume", NOON)
    fleet.decider.urgent("x-a1", "AVNK", NOON)
    assert state(fleet, "x-a1:AVNK") == "submitted"


def test_used_votes_are_bounded(fleet: Fleet) -> None:
    """`used:{symbol}` is never pruned while the symbol is active."""
    for day in range(5):
        aggregate = AggregatedSentiment(2, 0, 0, 2, Label.BULLISH, 1.0, 0.9, (f"m{day}",), NOON)
        result = ProcessResult(
            Outcome.VETOED, NOON + timedelta(days=day), symbol="AVNK", decision_id=f"AVNK-{day}", aggregate=aggregate
        )
        fleet.journal.record([(result, ())])
    assert fleet.client.zcard(fleet.keys.used("AVNK")) <= 3


def test_an_ordered_replay_gets_past_an_open_whose_release_leaves_something(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`_live_until` asks for the same release job id for ever."""
    fleet.ledger.hold(a_signal("AVNK"), OPEN)
    replay = Replay(fleet, ReplayOptions(), lambda: None, lambda *_: None)
    replay._let_everything_end()
    turns, wait = [0], replay._let_everything_end

    def end() -> None:  # a worker took the job; the symbol was busy, or the release died: the signal stays
        turns[0] += 1
        if turns[0] > 200:
            raise RecursionError("turns for ever")
        fleet.rq_client.delete(*(queue.key for queue in fleet.queues.queues.values()))
        wait()

    monkeypatch.setattr(Replay, "_let_everything_end", lambda _self: end())
    replay._live_until(OPEN + timedelta(minutes=1))


def test_a_job_that_ran_out_of_time_does_not_trade(fleet: Fleet) -> None:
    """RQ's JobTimeoutException is an Exception: the validator's broad except makes it `unvalidated` and trades."""

    def slow(_signal: Any) -> Any:
        with FirmTimeout(1, JobTimeoutException):  # type: ignore[no-untyped-call]
            time.sleep(3)

    routed(fleet, a_message())
    fleet.orchestrator._validator.validate = slow
    with pytest.raises(OutOfTimeError):
        fleet.decider.urgent("x-a1", "AVNK", NOON)


def test_a_reason_with_brackets_is_shown(fleet: Fleet) -> None:
    """Rich reads markup in what people and rules wrote."""
    fleet.control.set(TradingState.HALTED, "me", "see [/ticket 7]", NOON)
    console = Console(width=200, record=True, file=StringIO())
    console.print(status_table(status(fleet)))
    assert "see [/ticket 7]" in console.export_text()


def test_a_dead_worker_of_one_host_does_not_free_anothers_job(fleet: Fleet) -> None:
    """Recover_worker knows a worker by its process id alone; containers share process ids."""
    fleet.queues.enqueue("immediate", "trade", "urgent-x", ("m", "AVNK"), "d")
    queue = fleet.queues.queues["immediate"]
    job = queue.fetch_job("urgent-x")
    fleet.rq_client.lrem(queue.key, 0, job.id)
    job.worker_name = "work-immediate-otherhost-8"
    job.set_status(JobStatus.STARTED)
    job.save()
    with fleet.rq_client.pipeline() as pipe:
        Execution.create(job, 60, pipe)
        pipe.execute()
    assert fleet.queues.recover_worker(8) == []

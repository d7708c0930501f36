"""The router's turn on a real server: whatever dies between its parts, one job, one vote, one outcome."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import AnalyzedMessage, OrchestratorState, Outcome
from pipeline.router import DenyList, RouterSettings, route
from tests.delivery import NOON, a_message, a_runtime, assert_bounded, later, work_off
from workers.adapters.inbox_redis import GROUP
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.route import Router
from workers.wiring import Runtime


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server."""
    return a_runtime(server_url, tmp_path)


def a_router(fleet: Runtime, consumer: str = "r1", **changes: Any) -> Router:
    """A router that takes over at once and waits for nothing."""
    router = fleet.router(consumer)
    router.take_over_idle_ms, router.block_ms = 0, 1
    for name, value in changes.items():
        setattr(router, name, value)
    return router


def urgent(name: str = "m1", **facts: Any) -> Any:
    """An urgent post on ZELK."""
    return a_message(name, confidence=0.95, symbols=("ZELK",), **facts)


def jobs(fleet: Runtime, queue: str = IMMEDIATE) -> list[str]:
    """Ids of the jobs that wait."""
    return list(fleet.queues.queues[queue].job_ids)


# ---- a turn ----------------------------------------------------------------------------------------------


def test_a_turn_opens_legs_queues_urgent_ones_and_acknowledges(fleet: Runtime) -> None:
    """Rule: DESIGN 3; the urgent leg is a job and a vote, the rest are votes."""
    fleet.inbox.append([urgent("m1"), a_message("m2", symbols=("OLVN",)), a_message("m3", symbols=())])

    assert a_router(fleet).step() == 3
    assert jobs(fleet) == ["urgent-m1-ZELK"]
    assert fleet.backlog.sizes() == {"OLVN": 1, "ZELK": 1}
    assert fleet.journal.outcome("m3:-") is Outcome.NO_SYMBOL
    assert fleet.inbox.waiting() == 0
    assert_bounded(fleet.client, "demo")


def test_a_class_suffix_fits_into_a_job_id(fleet: Runtime) -> None:
    """Rule: RQ allows letters, digits, `_` and `-`; the job still knows the symbol."""
    fleet.inbox.append([a_message("m1", confidence=0.95, symbols=("BRK.B",))])
    a_router(fleet).step()
    (job,) = fleet.queues.queues[IMMEDIATE].jobs

    assert (job.id, list(job.args)) == ("urgent-m1-BRK_B", ["m1", "BRK.B"])


def test_nothing_to_read_is_no_work(fleet: Runtime) -> None:
    """Rule: an idle turn answers 0."""
    assert a_router(fleet).step() == 0


# ---- death between the parts -----------------------------------------------------------------------------


def die_after_reading(fleet: Runtime) -> None:
    """Read, then nothing."""
    fleet.inbox.open_group()
    fleet.inbox.take("mortal", 10)


def die_after_accepting(fleet: Runtime) -> None:
    """A router of an earlier version: legs are open, votes appended; no job, no acknowledgement."""
    fleet.inbox.open_group()
    messages = [
        AnalyzedMessage.model_validate_json(one.body or b"") for one in fleet.inbox.take("mortal", 10).deliveries
    ]
    fleet.backlog.accept([(message, route(message, NOON, DenyList(), RouterSettings(), 0.85)) for message in messages])


def die_before_acknowledging(fleet: Runtime) -> None:
    """The same, and its job is queued."""
    die_after_accepting(fleet)
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-m1-ZELK", ("m1", "ZELK"), "urgent m1:ZELK")


def lose_the_answer(fleet: Runtime) -> None:
    """The step is done and its answer is lost: the client sends it again."""
    router = a_router(fleet, "mortal")
    taken = fleet.inbox.take("mortal", 10)
    for _ in range(2):
        router._route(router._decide_all(taken), None)


@pytest.fixture(params=[die_after_reading, die_after_accepting, die_before_acknowledging, lose_the_answer])
def death(request: pytest.FixtureRequest) -> Callable[[Runtime], None]:
    """Where the first router dies."""
    chosen: Callable[[Runtime], None] = request.param
    return chosen


def test_whatever_dies_there_is_one_job_one_vote_and_one_outcome(
    fleet: Runtime, death: Callable[[Runtime], None]
) -> None:
    """Rule: DESIGN 6, at least once, effect once."""
    fleet.inbox.append([urgent("m1"), a_message("m2", symbols=("OLVN",))])
    death(fleet)
    a_router(fleet, "r2").step()

    assert jobs(fleet) == ["urgent-m1-ZELK"]
    assert fleet.backlog.sizes() == {"OLVN": 1, "ZELK": 1}
    assert fleet.inbox.waiting() == 0
    fleet.scheduler.drain()
    work_off(fleet, IMMEDIATE)
    work_off(fleet, CONSENSUS)
    fleet.decider.settle(later(300))
    tally = fleet.journal.tally()
    assert tally["legs"] == 2
    assert sum(count for name, count in tally.items() if name.startswith("leg:")) == 2
    assert tally["orders"] == len(fleet.broker.positions()) == 1
    assert fleet.journal.outcome("m1:ZELK") is Outcome.EXECUTED
    assert fleet.journal.outcome("m2:OLVN") is Outcome.NO_CONSENSUS


def test_an_open_urgent_leg_gets_its_job_also_when_it_is_too_old_by_then(
    server_url: str, redis_client: Any, tmp_path: Path
) -> None:
    """Rule: live, the redelivery comes 40 s later; the leg ends `expired` by its job, it does not stay open."""
    fleet = a_runtime(server_url, tmp_path, FLEET_CLOCK="live")
    fleet.inbox.append([urgent("m1")])
    die_after_accepting(fleet)
    a_router(fleet, "r2", now=lambda: later(40)).step()
    work_off(fleet, IMMEDIATE)

    assert fleet.journal.outcome("m1:ZELK") is Outcome.EXPIRED


def test_a_decided_leg_delivered_again_is_not_queued_again(fleet: Runtime) -> None:
    """Rule: its job may be long forgotten by RQ; its end is not."""
    fleet.inbox.append([urgent("m1")])
    die_before_acknowledging(fleet)
    work_off(fleet, IMMEDIATE)
    fleet.rq_client.delete("rq:job:urgent-m1-ZELK")
    a_router(fleet, "r2").step()

    assert jobs(fleet) == []
    assert fleet.inbox.waiting() == 0


# ---- reading ahead ---------------------------------------------------------------------------------------


def five(fleet: Runtime) -> None:
    """Five votes on OLVN, in this order."""
    fleet.inbox.append([a_message(f"m{n}", symbols=("OLVN",)) for n in range(5)])


def order_of(fleet: Runtime) -> list[str]:
    """The messages of OLVN's list."""
    (claim,) = fleet.backlog.claim()
    found = fleet.backlog.claimed(claim)
    return [vote.id for vote in found.votes] if found else []


def in_hand(fleet: Runtime) -> int:
    """Entries that some router read and has not routed."""
    server: Any = fleet.client
    return int(server.xpending(fleet.keys.analyzed(), GROUP)["pending"])


def test_while_one_chunk_is_written_the_next_one_is_decided_and_order_is_kept(fleet: Runtime) -> None:
    """Chunks of two: the next one is in hand after each turn, and no turn routes another's messages."""
    five(fleet)
    router, seen = a_router(fleet, chunk=2), []
    for _ in range(4):
        routed = router.step()
        seen.append((routed, in_hand(fleet), fleet.inbox.waiting()))

    assert seen == [(2, 2, 3), (2, 1, 1), (1, 0, 0), (0, 0, 0)]
    assert order_of(fleet) == [f"m{n}" for n in range(5)]


def test_a_router_that_ends_routes_what_it_has_in_hand_and_reads_nothing_more(fleet: Runtime) -> None:
    """As at SIGTERM."""
    five(fleet)
    router = a_router(fleet, chunk=2)
    router.step()
    router.finish()
    router.finish()

    assert (in_hand(fleet), fleet.inbox.waiting()) == (0, 1)
    assert a_router(fleet, "r2").step() == 1
    assert order_of(fleet) == [f"m{n}" for n in range(5)]


def test_what_a_dead_router_had_in_hand_is_routed_by_another(fleet: Runtime) -> None:
    """Once, even should the first one live after all."""
    five(fleet)
    router = a_router(fleet, chunk=2)
    router.step()
    other = a_router(fleet, "r2", chunk=2)
    while other.step():
        pass
    router.finish()

    assert sorted(order_of(fleet)) == [f"m{n}" for n in range(5)]
    assert fleet.journal.tally()["legs"] == 5


def test_the_bound_of_the_lists_counts_what_is_on_its_way(fleet: Runtime) -> None:
    """Two votes fit, and they are on their way: nothing is read behind them."""
    five(fleet)
    router = a_router(fleet, chunk=2, max_buffered_total=2)

    assert [router.step(), router.step()] == [2, 0]
    assert (in_hand(fleet), fleet.backlog.buffered()) == (0, 2)


# ---- what is not routed ----------------------------------------------------------------------------------


def test_past_the_bound_messages_stay_in_the_stream(fleet: Runtime) -> None:
    """Rule: STAGES 3, `max_buffered_total` bounds the whole; nothing is lost, reading goes on after the drain."""
    fleet.inbox.append([a_message("m1", symbols=("OLVN",)), a_message("m2", symbols=("ZELK",))])
    router = a_router(fleet, max_buffered_total=1, chunk=1)

    assert [router.step(), router.step(), router.step()] == [1, 0, 0]
    assert fleet.inbox.waiting() == 1
    fleet.scheduler.drain()
    assert router.step() == 1


def test_a_stopped_fleet_routes_nothing_and_a_stopping_one_empties_the_stream(fleet: Runtime) -> None:
    """Rule: stop = intake ends, what is there comes to its end."""
    fleet.inbox.append([a_message("m1")])
    fleet.state.write(OrchestratorState.STOPPED, "test", NOON)
    assert a_router(fleet).step() == 0

    fleet.state.write(OrchestratorState.STOPPING, "test", NOON)
    assert a_router(fleet).step() == 1


@pytest.mark.parametrize(
    "body",
    ["", "{", "null", '{"v":2}', '{"v":1,"message":{}}', a_message("m1").model_dump_json().replace("0.7", "1e999")],
)
def test_a_poison_body_is_a_dead_letter_and_its_neighbours_are_routed(fleet: Runtime, body: str) -> None:
    """Rule: STAGES 2, bad numbers and foreign versions go to the dead letters, never an order; nothing else is lost."""
    fleet.inbox.append([a_message("m1"), a_message("m2")])
    fleet.client.set("demo:message:m1", body)

    assert a_router(fleet).step() == 2
    assert [letter["reason"] for letter in fleet.inbox.dead_letters(10)] == ["invalid_message"]
    assert fleet.backlog.sizes() == {"AAA": 1}
    assert fleet.inbox.waiting() == 0


def test_a_missing_body_is_a_dead_letter(fleet: Runtime) -> None:
    """Rule: visible, with the id that was announced."""
    fleet.inbox.append([a_message("m1")])
    fleet.client.delete("demo:message:m1")
    a_router(fleet).step()

    (letter,) = fleet.inbox.dead_letters(10)
    assert letter["reason"] == "message_missing"
    assert fleet.journal.outcome("m1:-") is Outcome.ERROR
    assert fleet.journal.tally() == {
        "accepted": 1,
        "legs": 1,
        "leg:error": 1,
        "rule:error:message_missing": 1,
        "dead:message_missing": 1,
    }


def test_a_muted_author_ends_as_spam(fleet: Runtime) -> None:
    """Rule: the deny-lists are asked every turn, fleet-wide."""
    fleet.control.deny("author", "author-of-m1", "test", "noise", NOON)
    fleet.inbox.append([a_message("m1")])
    a_router(fleet).step()

    assert fleet.journal.outcome("m1:-") is Outcome.SPAM


# ---- full lists ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("votes", "claimed"), [(2, 0), (3, 1)])
def test_live_the_list_that_reaches_the_bound_is_claimed_at_once(
    server_url: str, redis_client: Any, tmp_path: Path, votes: int, claimed: int
) -> None:
    """Rule: STAGES 3, the 1000th vote triggers the drain (here the third); one fewer waits for the minute."""
    fleet = a_runtime(server_url, tmp_path, FLEET_CLOCK="live", FLEET_ORCHESTRATOR__MAX_BUFFER_SIZE="3")
    fleet.inbox.append([a_message(f"m{number}") for number in range(votes)])
    a_router(fleet, now=lambda: NOON).step()

    assert len(fleet.backlog.unfinished()) == len(jobs(fleet, CONSENSUS)) == claimed

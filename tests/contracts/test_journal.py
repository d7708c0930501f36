"""The journal, the same over memory and over the real server: every leg and decision ends once, and is counted once."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import redis

from pipeline.models import TERMINAL, Outcome, ProcessResult
from tests.delivery import (
    NOON,
    a_message,
    a_result,
    an_aggregate,
    assert_bounded,
    later,
    routed,
    types_of,
    whole_keyspace,
    with_life,
)
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import Keys

RANKS = [Outcome.BUFFERED, Outcome.HELD, Outcome.SUBMITTED, Outcome.EXECUTED]


@dataclass(frozen=True, slots=True)
class Book:
    """A journal with the legs m1:AAA and m2:AAA open in it, and how many legs ended how."""

    journal: MemoryJournal | RedisJournal
    ended: Callable[[], Counter[str]]


@pytest.fixture(params=["memory", "redis"])
def book(request: pytest.FixtureRequest) -> Iterator[Book]:
    """Both, one after the other."""
    posts = [routed(a_message("m1")), routed(a_message("m2"))]
    if request.param == "memory":
        memory = MemoryJournal()
        MemoryBacklog(memory).accept(posts)
        yield Book(memory, lambda: Counter({str(o): n for o, n in memory.count().items() if o in TERMINAL}))
        return
    client = request.getfixturevalue("redis_client")
    RedisBacklog(client, Keys()).accept(posts)
    journal = RedisJournal(client, Keys())
    yield Book(journal, lambda: ended_by_tally(journal))
    assert_bounded(client, "fleet")


def ended_by_tally(journal: RedisJournal) -> Counter[str]:
    """Legs per terminal outcome, as the summary counts them."""
    counted = {name.removeprefix("leg:"): n for name, n in journal.tally().items() if name.startswith("leg:")}
    return Counter(counted)


def test_a_decision_ends_its_legs_with_itself(book: Book) -> None:
    """Rule: DESIGN 4, a vote's end is that of the batch decision it took part in."""
    book.journal.record([(a_result(), ("m1:AAA", "m2:AAA"))])

    assert book.journal.outcome("AAA-1") is Outcome.VETOED
    assert book.journal.outcome("m1:AAA") is Outcome.VETOED
    assert book.ended() == {"vetoed": 2}


def test_what_was_never_opened_has_no_outcome(book: Book) -> None:
    """Rule: None, not an outcome."""
    assert book.journal.outcome("nobody") is None


def test_an_urgent_decision_is_its_own_leg(book: Book) -> None:
    """Rule: its decision id is its leg's; it is one leg, not two."""
    book.journal.record([(a_result("m1:AAA"), ("m1:AAA",))])

    assert book.ended() == {"vetoed": 1}


def test_recording_twice_counts_once(book: Book) -> None:
    """Rule: a job that runs again changes nothing."""
    for _ in range(2):
        book.journal.record([(a_result(), ("m1:AAA", "m2:AAA"))])

    assert book.ended() == {"vetoed": 2}


@pytest.mark.parametrize("earlier", RANKS)
@pytest.mark.parametrize("later_one", RANKS)
def test_a_state_only_moves_forward(book: Book, earlier: Outcome, later_one: Outcome) -> None:
    """Rule: buffered < held < submitted < terminal; the same or an earlier state changes nothing."""
    book.journal.record([(a_result(outcome=earlier), ("m1:AAA",))])
    book.journal.record([(a_result(outcome=later_one), ("m1:AAA",))])
    expected = max(earlier, later_one, key=RANKS.index)

    assert book.journal.outcome("AAA-1") is expected
    assert book.journal.outcome("m1:AAA") is expected


@pytest.mark.parametrize("second", sorted(TERMINAL))
def test_an_end_is_written_once(book: Book, second: Outcome) -> None:
    """Rule: no terminal outcome replaces another."""
    book.journal.record([(a_result(outcome=Outcome.EXECUTED), ("m1:AAA",))])
    book.journal.record([(a_result(outcome=second), ("m1:AAA",))])

    assert book.journal.outcome("m1:AAA") is Outcome.EXECUTED
    assert book.ended() == {"executed": 1}


def test_legs_follow_a_decision_that_ends_later(book: Book) -> None:
    """Rule: a held batch keeps its legs; whoever ends it at the open does not know them."""
    book.journal.record([(a_result(outcome=Outcome.HELD), ("m1:AAA", "m2:AAA"))])
    assert book.ended() == {}

    book.journal.record([(a_result(outcome=Outcome.SUBMITTED), ())])
    book.journal.record([(a_result(outcome=Outcome.EXECUTED), ())])
    assert book.ended() == {"executed": 2}


def test_legs_that_come_late_to_a_final_decision_end_with_it(book: Book) -> None:
    """Rule: the decision is not counted again, each late leg is counted once."""
    book.journal.record([(a_result(), ("m1:AAA",))])
    for _ in range(2):
        book.journal.record([(a_result(), ("m2:AAA",))])

    assert book.journal.outcome("m2:AAA") is Outcome.VETOED
    assert book.ended() == {"vetoed": 2}


def test_a_leg_that_has_its_own_end_keeps_it(book: Book) -> None:
    """Rule: an urgent leg decided for itself is not ended again by the batch it voted in."""
    book.journal.record([(a_result("m1:AAA", Outcome.EXECUTED), ("m1:AAA",))])
    book.journal.record([(a_result("AAA-1", Outcome.NO_CONSENSUS), ("m1:AAA", "m2:AAA"))])

    assert book.journal.outcome("m1:AAA") is Outcome.EXECUTED
    assert book.ended() == {"executed": 1, "no_consensus": 1}


def test_several_results_are_recorded_in_order(book: Book) -> None:
    """Rule: one call, one round trip, the same as one by one."""
    book.journal.record([(a_result("AAA-1"), ("m1:AAA",)), (a_result("AAA-2", Outcome.EXPIRED), ("m1:AAA", "m2:AAA"))])

    assert book.ended() == {"vetoed": 1, "expired": 1}


def test_recording_nothing_is_nothing(book: Book) -> None:
    """Rule: an empty flush."""
    book.journal.record([])

    assert book.ended() == {}


# ---- what only the server has ----------------------------------------------------------------------------


@pytest.fixture
def journal(redis_client: redis.Redis) -> RedisJournal:
    """The real one, with m1:AAA and m2:AAA open."""
    RedisBacklog(redis_client, Keys()).accept([routed(a_message("m1")), routed(a_message("m2"))])
    return RedisJournal(redis_client, Keys())


def test_the_whole_keyspace_of_a_final_decision(journal: RedisJournal, redis_client: redis.Redis) -> None:
    """Rule: everything written for a decision lives 7 days, its votes' marks 2; its list of legs is gone."""
    before = whole_keyspace(redis_client)
    journal.record([(a_result(aggregate=an_aggregate("m1", "m2")), ("m1:AAA", "m2:AAA"))])
    keyspace = assert_bounded(redis_client, "fleet")
    added = {key: facts for key, facts in keyspace.items() if key not in before}

    assert types_of(added) == {
        "fleet:decision:AAA-1": "list",
        "fleet:decisions": "stream",
        "fleet:outcome:AAA-1": "hash",
        "fleet:used:AAA": "zset",
    }
    assert with_life(added) == ["fleet:decision:AAA-1", "fleet:outcome:AAA-1", "fleet:used:AAA"]


@pytest.mark.parametrize(("state", "left"), [("NEW", 0), ("SENT", 1)])
def test_a_decision_that_ends_forgets_the_order_nobody_sent(
    journal: RedisJournal, redis_client: redis.Redis, state: str, left: int
) -> None:
    """A run died after it wrote the order; the next one refused. What was sent is settlement's."""
    keys = Keys()
    redis_client.hset(keys.execution("d1"), mapping={"id": 1, "intent": "entry-1"})
    redis_client.hset(keys.intent("entry-1"), "state", state)
    journal.record([(a_result("d1", Outcome.SUBMITTED), ())])
    assert redis_client.exists(keys.intent("entry-1")) == 1
    journal.record([(a_result("d1", Outcome.EXPIRED), ())])

    assert redis_client.exists(keys.intent("entry-1")) == left


def test_the_legs_of_an_interim_decision_are_kept_with_a_life(journal: RedisJournal, redis_client: redis.Redis) -> None:
    """Rule: the set of legs lives as long as the outcomes and is deleted with the end."""
    journal.record([(a_result(outcome=Outcome.HELD), ("m1:AAA", "m2:AAA"))])
    ttl = redis_client.ttl("fleet:decision-legs:AAA-1")
    assert 0 < int(ttl) <= 7 * 86_400

    journal.record([(a_result(outcome=Outcome.EXECUTED), ())])
    assert not redis_client.exists("fleet:decision-legs:AAA-1")


def test_an_outcome_says_stage_rule_observed_and_limit(journal: RedisJournal, redis_client: redis.Redis) -> None:
    """Rule: DESIGN 4; redis-cli shows them as they are."""
    journal.record([(a_result(), ("m1:AAA",))])

    assert redis_client.hgetall("fleet:outcome:m1:AAA") == {
        "state": "vetoed",
        "stage": "validator",
        "rule": "rsi",
        "observed": "71",
        "limit": "<= 70",
        "at": NOON.isoformat(),
        "decision": "AAA-1",
    }


def test_every_look_at_a_decision_is_kept_for_the_trace(journal: RedisJournal, redis_client: redis.Redis) -> None:
    """Rule: one JSON document, with a version, per state the decision took; a repetition adds none."""
    for outcome in (Outcome.HELD, Outcome.HELD, Outcome.EXECUTED):
        journal.record([(a_result(outcome=outcome, refusal=None), ("m1:AAA",))])
    documents = [orjson.loads(raw) for raw in redis_client.lrange("fleet:decision:AAA-1", 0, -1)]

    assert [(one["v"], one["status"]) for one in documents] == [(1, "held"), (1, "executed")]


def test_the_decisions_stream_has_one_entry_per_end(journal: RedisJournal, redis_client: Any) -> None:
    """Rule: interim states are not told, an end once."""
    for outcome in (Outcome.SUBMITTED, Outcome.EXECUTED, Outcome.EXECUTED):
        journal.record([(a_result(outcome=outcome), ("m1:AAA",))])
    (entry,) = redis_client.xrange("fleet:decisions")

    assert entry[1] == {
        "id": "AAA-1",
        "symbol": "AAA",
        "outcome": "executed",
        "rule": "rsi",
        "at": NOON.isoformat(),
    }


def test_counters_add_up(journal: RedisJournal) -> None:
    """Rule: sum of outcomes = legs; one decision, one rule."""
    journal.record([(a_result(), ("m1:AAA", "m2:AAA"))])
    tally = journal.tally()

    assert (tally["legs"], tally["leg:vetoed"]) == (2, 2)
    assert (tally["decision:vetoed"], tally["rule:vetoed:rsi"]) == (1, 1)


def test_marks_of_used_votes_are_forgotten_after_the_window(journal: RedisJournal, redis_client: redis.Redis) -> None:
    """Rule: a symbol that is decided every day keeps the marks of 2 days, not of a year."""
    for day in range(5):
        result = a_result(f"AAA-{day}", aggregate=an_aggregate(f"v{day}"), at=later(day * 86_400))
        journal.record([(result, ())])

    assert redis_client.zrange("fleet:used:AAA", 0, -1) == ["v3", "v4"]


def test_a_result_without_a_decision_is_a_mistake_of_ours(journal: RedisJournal) -> None:
    """Rule: a failure names the parameter and what is valid."""
    with pytest.raises(ValueError, match=r"decision_id is None; valid: the id of"):
        journal.record([(ProcessResult(Outcome.ERROR, NOON), ())])

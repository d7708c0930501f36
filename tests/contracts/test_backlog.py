"""The backlog, the same over memory and over the real server: routing once, near-duplicates, claims, votes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.models import Outcome
from pipeline.ports import Journal
from pipeline.router import DenyList, Fate
from tests.delivery import (
    NOON,
    a_message,
    a_result,
    an_aggregate,
    assert_bounded,
    later,
    routed,
    types_of,
    with_life,
)
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import Keys
from workers.adapters.votes_cache import CachedVotes

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Store:
    """A backlog with the journal it opens legs in."""

    backlog: MemoryBacklog | RedisBacklog
    journal: Journal


def in_memory() -> Store:
    """The twin."""

    def mark_used(symbol: str, ids: Sequence[str], decided_at: datetime) -> None:
        backlog.mark_used(symbol, ids, decided_at)

    journal = MemoryJournal(mark_used)
    backlog = MemoryBacklog(journal)
    return Store(backlog, journal)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Both, one after the other."""
    if request.param == "memory":
        yield in_memory()
        return
    client = request.getfixturevalue("redis_client")
    yield Store(RedisBacklog(client, Keys()), RedisJournal(client, Keys()))
    assert_bounded(client, "fleet")


# ---- routing ---------------------------------------------------------------------------------------------


def test_a_vote_is_opened_and_waits_in_its_symbols_list(store: Store) -> None:
    """Rule: an accepted leg is `buffered` and one vote."""
    (legs,) = store.backlog.accept([routed(a_message())])

    assert [(leg.leg_id, leg.fate) for leg in legs] == [("m1:AAA", Fate.VOTE)]
    assert store.backlog.sizes() == {"AAA": 1}
    assert store.journal.outcome("m1:AAA") is Outcome.BUFFERED


def test_every_leg_votes_for_its_own_symbol(store: Store) -> None:
    """Rule: leg = message x symbol."""
    store.backlog.accept([routed(a_message(symbols=("AAA", "BBB")))])

    assert store.backlog.sizes() == {"AAA": 1, "BBB": 1}
    assert store.journal.outcome("m1:BBB") is Outcome.BUFFERED


def test_an_urgent_leg_votes_too(store: Store) -> None:
    """Rule: STAGES 3, urgent posts vote."""
    ((leg,),) = store.backlog.accept([routed(a_message(confidence=0.95))])

    assert leg.fate is Fate.URGENT
    assert store.backlog.sizes() == {"AAA": 1}


def test_a_leg_that_is_over_at_once_is_no_vote(store: Store) -> None:
    """Rule: a post without symbols has one null leg, `no_symbol`."""
    store.backlog.accept([routed(a_message(symbols=()))])

    assert store.backlog.sizes() == {}
    assert store.journal.outcome("m1:-") is Outcome.NO_SYMBOL


def test_routing_a_message_again_changes_nothing(store: Store) -> None:
    """Rule: at least once, effect once."""
    store.backlog.accept([routed(a_message())])
    (again,) = store.backlog.accept([routed(a_message())])

    assert again == ()
    assert store.backlog.sizes() == {"AAA": 1}


def test_a_message_muted_after_it_was_routed_is_still_the_same_message(store: Store) -> None:
    """Rule: a redelivery is known by the message's id, whatever the rules have become meanwhile."""
    store.backlog.accept([routed(a_message())])
    (again,) = store.backlog.accept([routed(a_message(), deny=DenyList(authors=frozenset({"author-of-m1"})))])

    assert again == ()
    assert store.journal.outcome("m1:-") is None


# ---- near-duplicates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "ends_as"),
    [(0, Outcome.DUPLICATE), (DAY - 1, Outcome.DUPLICATE), (DAY, None), (DAY + 1, None)],
)
def test_a_text_is_known_for_less_than_24_hours(store: Store, seconds: float, ends_as: Outcome | None) -> None:
    """Rule: STAGES 1, sliding 24 h; exactly 24 h later it is a text of its own again."""
    store.backlog.accept([routed(a_message("m1", fingerprint="same"))])
    store.backlog.accept([routed(a_message("m2", fingerprint="same", at=later(seconds)))])

    assert store.journal.outcome("m2:-") is ends_as
    assert store.backlog.sizes() == {"AAA": 1 if ends_as else 2}


def test_the_window_slides_with_every_repost(store: Store) -> None:
    """Rule: 0 h, 20 h, 40 h: the third is 20 h after the second, although 40 h after the first."""
    for name, hours in (("m1", 0), ("m2", 20), ("m3", 40)):
        store.backlog.accept([routed(a_message(name, fingerprint="same", at=later(hours * 3600)))])

    assert store.journal.outcome("m3:-") is Outcome.DUPLICATE


def test_a_late_repost_does_not_shorten_the_window(store: Store) -> None:
    """Rule: 0 h, 10 h, then one of 2 h that came late; 33 h is 23 h after the latest."""
    for name, hours in (("m1", 0), ("m2", 10), ("m3", 2), ("m4", 33)):
        store.backlog.accept([routed(a_message(name, fingerprint="same", at=later(hours * 3600)))])

    assert store.journal.outcome("m4:-") is Outcome.DUPLICATE


def test_a_near_duplicate_names_the_first_and_has_one_null_leg(store: Store) -> None:
    """Rule: whatever symbols it has, it ends once."""
    store.backlog.accept([routed(a_message("m1", fingerprint="same"))])
    ((leg,),) = store.backlog.accept([routed(a_message("m2", fingerprint="same", symbols=("AAA", "BBB")))])

    assert (leg.leg_id, leg.outcome) == ("m2:-", Outcome.DUPLICATE)
    assert leg.refusal is not None
    assert leg.refusal.observed == "m1"


def test_a_duplicate_routed_again_stays_one(store: Store) -> None:
    """Rule: its redelivery finds the null leg."""
    store.backlog.accept([routed(a_message("m1", fingerprint="same"))])
    copy = routed(a_message("m2", fingerprint="same"))
    store.backlog.accept([copy])

    assert store.backlog.accept([copy]) == [()]
    assert store.backlog.sizes() == {"AAA": 1}


def test_a_post_that_never_counted_does_not_own_its_text(store: Store) -> None:
    """Rule: what ended at once (too old here) is not remembered; the next with its words counts."""
    old = a_message("m1", fingerprint="same", created_at=later(-3600))
    store.backlog.accept([routed(old)])
    store.backlog.accept([routed(a_message("m2", fingerprint="same"))])

    assert store.journal.outcome("m1:AAA") is Outcome.EXPIRED
    assert store.journal.outcome("m2:AAA") is Outcome.BUFFERED


# ---- claims ----------------------------------------------------------------------------------------------


def test_a_claim_takes_the_whole_list_in_its_order(store: Store) -> None:
    """Rule: votes in list order, the list is gone."""
    store.backlog.accept([routed(a_message("m2")), routed(a_message("m1"))])
    (claim_id,) = store.backlog.claim()
    claim = store.backlog.claimed(claim_id)

    assert claim is not None
    assert (claim.claim_id, claim.symbol) == ("AAA-1", "AAA")
    assert [vote.id for vote in claim.votes] == ["m2", "m1"]
    assert store.backlog.sizes() == {}


def test_a_claim_never_changes(store: Store) -> None:
    """Rule: DESIGN 6; votes that come later are of the next claim, which has the next number."""
    store.backlog.accept([routed(a_message("m1"))])
    store.backlog.claim()
    store.backlog.accept([routed(a_message("m2"))])

    assert store.backlog.claim() == ("AAA-2",)
    first, second = store.backlog.claimed("AAA-1"), store.backlog.claimed("AAA-2")
    assert first is not None
    assert second is not None
    assert [vote.id for vote in first.votes] == ["m1"]
    assert [vote.id for vote in second.votes] == ["m2"]


def test_numbers_go_on_after_a_claim_is_finished(store: Store) -> None:
    """Rule: an id is never used twice, or a second order would have the first one's name."""
    for name in ("m1", "m2"):
        store.backlog.accept([routed(a_message(name))])
        for claim_id in store.backlog.claim():
            store.backlog.finish(claim_id)
    store.backlog.accept([routed(a_message("m3"))])

    assert store.backlog.claim() == ("AAA-3",)


def test_each_symbol_counts_for_itself(store: Store) -> None:
    """Rule: a per-symbol sequence, answered by symbol; a class suffix is part of the symbol."""
    store.backlog.accept([routed(a_message("m1", symbols=("BRK.B", "AAA")))])

    assert store.backlog.claim() == ("AAA-1", "BRK.B-1")
    claim = store.backlog.claimed("BRK.B-1")
    assert claim is not None
    assert claim.symbol == "BRK.B"


def test_only_the_symbols_asked_for_are_claimed(store: Store) -> None:
    """Rule: a full list is claimed alone."""
    store.backlog.accept([routed(a_message(symbols=("AAA", "BBB")))])

    assert store.backlog.claim(["BBB", "CCC"]) == ("BBB-1",)
    assert store.backlog.sizes() == {"AAA": 1}


def test_nothing_waiting_is_no_claim(store: Store) -> None:
    """Rule: an empty batch is a no-op."""
    assert store.backlog.claim() == ()
    assert store.backlog.claim(["AAA"]) == ()


def test_a_finished_claim_is_forgotten_and_may_be_finished_again(store: Store) -> None:
    """Rule: idempotent."""
    store.backlog.accept([routed(a_message())])
    (claim_id,) = store.backlog.claim()
    store.backlog.finish(claim_id)
    store.backlog.finish(claim_id)

    assert store.backlog.claimed(claim_id) is None


# ---- votes -----------------------------------------------------------------------------------------------


def test_recent_votes_survive_their_claim_and_come_oldest_first(store: Store) -> None:
    """Rule: look-back and confluence read `since < at <= until`."""
    for name, seconds in (("m3", 30), ("m1", 0), ("m2", 10)):
        store.backlog.accept([routed(a_message(name, at=later(seconds)))])
    store.backlog.claim()

    assert [vote.id for vote in store.backlog.votes("AAA", NOON, later(30))] == ["m2", "m3"]
    assert [vote.id for vote in store.backlog.votes("AAA", later(-1), later(10))] == ["m1", "m2"]
    assert store.backlog.votes("BBB", later(-1), later(30)) == ()


def test_of_more_votes_than_are_read_at_a_time_the_newest_are(store: Store) -> None:
    """Rule: a look-back of a hot symbol costs no more than `lookback_most`; m1 and m2 of four fall out of two."""
    store.backlog.most_votes = 2
    for number in (1, 2, 3, 4):
        store.backlog.accept([routed(a_message(f"m{number}", at=later(number)))])

    assert [vote.id for vote in store.backlog.votes("AAA", NOON, later(30))] == ["m3", "m4"]
    assert [vote.id for vote in store.backlog.votes("AAA", NOON, later(2))] == ["m1", "m2"]


def test_votes_of_a_decision_with_consensus_are_used(store: Store) -> None:
    """Rule: they count in no later decision of the symbol, in those of other symbols they do."""
    store.backlog.accept([routed(a_message("m1")), routed(a_message("m2"))])
    store.journal.record([(a_result(aggregate=an_aggregate("m1")), ("m1:AAA",))])

    assert store.backlog.used("AAA", ["m1", "m2"]) == {"m1"}
    assert store.backlog.used("BBB", ["m1"]) == frozenset()
    assert store.backlog.used("AAA", []) == frozenset()


def test_votes_without_consensus_stay_free(store: Store) -> None:
    """Rule: STAGES 3, votes not yet used in a decision count along."""
    store.backlog.accept([routed(a_message("m1"))])
    store.journal.record([(a_result(outcome=Outcome.NO_CONSENSUS, aggregate=an_aggregate("m1")), ("m1:AAA",))])

    assert store.backlog.used("AAA", ["m1"]) == frozenset()


# ---- what only the server has ----------------------------------------------------------------------------


def test_what_is_loaded_of_a_hot_symbol_answers_as_the_server_does(redis_client: redis.Redis) -> None:
    """Rule: two votes are read at a time, four are used: each is still known as used, m1 too, which is not read."""
    backlog, journal = RedisBacklog(redis_client, Keys(), most_votes=2), RedisJournal(redis_client, Keys())
    for number in (1, 2, 3, 4, 5):
        backlog.accept([routed(a_message(f"m{number}", at=later(number)))])
    journal.record([(a_result(aggregate=an_aggregate("m1", "m2", "m3", "m4")), ("m1:AAA",))])
    votes = CachedVotes(redis_client, Keys(), backlog)
    votes.load({"AAA": (NOON, later(30))})

    assert [vote.id for vote in votes.votes("AAA", NOON, later(30))] == ["m4", "m5"]
    assert [vote.id for vote in votes.votes("AAA", NOON, later(3))] == ["m2", "m3"]
    assert votes.used("AAA", ["m1", "m4", "m5"]) == {"m1", "m4"}


@pytest.fixture
def on_redis(redis_client: redis.Redis) -> RedisBacklog:
    """The real one alone."""
    return RedisBacklog(redis_client, Keys(), lease_s=1)


def test_the_whole_keyspace_after_routing(on_redis: RedisBacklog, redis_client: redis.Redis) -> None:
    """Rule: DESIGN 5, every key with its type; what has no life of its own is bounded otherwise."""
    on_redis.accept([routed(a_message("m1", symbols=("AAA", "BBB"))), routed(a_message("m2", symbols=()))])
    keyspace = assert_bounded(redis_client, "fleet")

    assert types_of(keyspace) == {
        "fleet:batch:AAA": "list",
        "fleet:batch:BBB": "list",
        "fleet:batches": "zset",
        "fleet:outcome:m1:AAA": "hash",
        "fleet:outcome:m1:BBB": "hash",
        "fleet:outcome:m2:-": "hash",
        "fleet:recent:AAA": "zset",
        "fleet:recent:BBB": "zset",
        "fleet:seen:owners": "hash",
        "fleet:seen:texts": "zset",
        "fleet:tally": "hash",
    }
    assert with_life(keyspace) == ["fleet:outcome:m2:-", "fleet:recent:AAA", "fleet:recent:BBB"]


def test_the_whole_keyspace_while_claimed_and_after(on_redis: RedisBacklog, redis_client: redis.Redis) -> None:
    """Rule: a claim is the list itself, renamed; finished, only the sequence remembers it."""
    on_redis.accept([routed(a_message("m1"))])
    on_redis.claim()
    claimed = set(assert_bounded(redis_client, "fleet"))
    on_redis.finish("AAA-1")
    left = set(assert_bounded(redis_client, "fleet"))

    assert {"fleet:claim:AAA-1", "fleet:claims", "fleet:claim-sequence"} <= claimed
    assert not {"fleet:batch:AAA", "fleet:batches"} & claimed
    assert claimed - left == {"fleet:claim:AAA-1", "fleet:claims"}


def test_counters_say_what_waits(on_redis: RedisBacklog, redis_client: redis.Redis) -> None:
    """Rule: `buffered` follows the lists, so that the bound of all lists is one look-up."""
    on_redis.accept([routed(a_message("m1", symbols=("AAA", "BBB"))), routed(a_message("m2"))])
    assert on_redis.buffered() == 3

    on_redis.claim(["AAA"])
    assert on_redis.buffered() == 1
    assert redis_client.hget("fleet:tally", "legs") == "3"


def test_old_texts_are_pruned_while_routing(on_redis: RedisBacklog, redis_client: redis.Redis) -> None:
    """Rule: the memory of texts is bounded by its window."""
    on_redis.accept([routed(a_message("m1"))])
    on_redis.accept([routed(a_message("m2", at=NOON + timedelta(days=2)))])

    assert redis_client.zrange("fleet:seen:texts", 0, -1) == ["text-of-m2"]
    assert redis_client.hkeys("fleet:seen:owners") == ["text-of-m2"]


def test_an_urgent_leg_that_was_never_decided_is_answered_again(on_redis: RedisBacklog) -> None:
    """Rule: the router may die between opening a leg and queueing its job; the redelivery queues it."""
    on_redis.accept([routed(a_message(confidence=0.95, symbols=("AAA", "BBB")))])
    (again,) = on_redis.accept([routed(a_message(confidence=0.95, symbols=("AAA", "BBB")))])

    assert [(leg.leg_id, leg.symbol, leg.fate) for leg in again] == [("m1:AAA", "AAA", Fate.URGENT)]


def test_an_urgent_leg_is_answered_again_even_when_it_is_too_old_by_then(on_redis: RedisBacklog) -> None:
    """Rule: 40 s later the route would be `expired`, but the open leg still needs the job that ends it."""
    message = a_message(confidence=0.95)
    on_redis.accept([routed(message)])
    (again,) = on_redis.accept([routed(message, later(40))])

    assert [(leg.leg_id, leg.fate) for leg in again] == [("m1:AAA", Fate.URGENT)]


def test_an_urgent_leg_that_was_decided_is_not_answered_again(
    on_redis: RedisBacklog, redis_client: redis.Redis
) -> None:
    """Rule: its end is written, there is nothing to queue."""
    message = a_message(confidence=0.95)
    on_redis.accept([routed(message)])
    RedisJournal(redis_client, Keys()).record([(a_result("m1:AAA"), ("m1:AAA",))])

    assert on_redis.accept([routed(message)]) == [()]


def test_a_claim_past_its_deadline_is_answered_once_per_lease(redis_client: redis.Redis) -> None:
    """Rule: any number of janitors, one re-enqueue; the claim keeps its id and its votes."""
    short, other = RedisBacklog(redis_client, Keys(), lease_s=-1), RedisBacklog(redis_client, Keys(), lease_s=60)
    short.accept([routed(a_message())])
    short.claim()

    assert [claim_id for claim_id, _ in other.overdue()] == ["AAA-1"]
    assert other.overdue() == []
    assert other.claimed("AAA-1") is not None


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_claim_is_found_within_a_lease_though_the_servers_clock_is_set(
    on_redis: RedisBacklog, redis_client: Any, hours: int
) -> None:
    """Rule: set back by an hour its deadline would be an hour away: it is a lease away; set ahead it is overdue now."""
    on_redis.accept([routed(a_message("m1"))])
    on_redis.claim()
    redis_client.zincrby("fleet:claims", -hours * 3_600_000, "AAA-1")
    found = [name for name, _ in on_redis.overdue()]
    seconds, _ = redis_client.time()

    assert found == (["AAA-1"] if hours == 1 else [])
    assert redis_client.zscore("fleet:claims", "AAA-1") <= (seconds + 2) * 1000


def test_a_claim_within_its_lease_is_not_overdue(on_redis: RedisBacklog) -> None:
    """Rule: the near miss."""
    on_redis.accept([routed(a_message())])
    on_redis.claim()

    assert on_redis.overdue() == []

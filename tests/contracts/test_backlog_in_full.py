"""What routing and claiming write, to the last field: outcomes, counters, votes, deadlines."""

from datetime import timedelta
from typing import Any

import pytest
import redis

from tests.delivery import NOON, a_message, later, routed
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.keys import OUTCOME_TTL_S, WINDOW_TTL_S, Keys, to_ms
from workers.adapters.route_script import RECENT_WINDOW_MS, Chunk, Unreadable
from workers.adapters.wire_votes import votes_of

KEYS = Keys()


@pytest.fixture
def backlog(redis_client: redis.Redis) -> RedisBacklog:
    """The real one."""
    return RedisBacklog(redis_client, KEYS)


def row(state: str, rule: str = "", observed: str = "", limit: str = "", **facts: str) -> dict[str, str]:
    """A leg's outcome as the router writes it at noon."""
    moment = {"at": NOON.isoformat(), "stage": "router"}
    return {"state": state, "rule": rule, "observed": observed, "limit": limit, **moment, **facts}


def test_every_leg_s_outcome_is_written_with_rule_value_and_limit(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """An urgent leg, a vote, a symbol outside, a post without symbols; each counted by outcome and rule.

    A vote in its list has its time there: a million of them would say it twice.
    """
    outside = a_message("m1", confidence=0.95, symbols=("AAA", "BBB"))
    tickers = outside.tickers.model_copy(update={"outside": ("ZZZ",)})
    backlog.accept([routed(outside.model_copy(update={"tickers": tickers})), routed(a_message("m2", symbols=()))])
    server: Any = redis_client
    waiting = {"state": "buffered"}

    assert server.hgetall("fleet:outcome:m1:AAA") == {**waiting, "at": NOON.isoformat(), "urgent": "1"}
    assert server.hgetall("fleet:outcome:m1:BBB") == waiting
    assert server.hgetall("fleet:outcome:m1:ZZZ") == row("no_symbol", "outside_universe", "ZZZ")
    assert server.hgetall("fleet:outcome:m2:-") == row("no_symbol", "no_cashtag", "0 symbols", ">= 1")
    assert server.hgetall("fleet:tally") == {
        "legs": "4",
        "buffered": "2",
        "leg:no_symbol": "2",
        "rule:no_symbol:outside_universe": "1",
        "rule:no_symbol:no_cashtag": "1",
    }


def test_a_duplicate_s_outcome_names_the_first_and_is_no_vote(backlog: RedisBacklog, redis_client: redis.Redis) -> None:
    """One null leg; the text stays the first message's."""
    backlog.accept([routed(a_message("m1"))])
    backlog.accept([routed(a_message("m2", text="words of m1", fingerprint="text-of-m1"))])
    server: Any = redis_client
    words = ("near_duplicate", "m1", "a text of its own within the window")

    assert server.hgetall("fleet:outcome:m2:-") == row("duplicate", *words)
    assert server.hgetall("fleet:seen:owners") == {"text-of-m1": "m1"}
    assert server.hgetall("fleet:tally") == {
        "legs": "2",
        "buffered": "1",
        "leg:duplicate": "1",
        "rule:duplicate:near_duplicate": "1",
    }


def test_outcomes_and_recent_votes_live_as_long_as_they_are_looked_at(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """Seven days and two; an open leg has no end of its life yet, so that one that never ends is seen."""
    backlog.accept([routed(a_message()), routed(a_message("m2", symbols=()))])
    server: Any = redis_client

    assert server.ttl("fleet:outcome:m1:AAA") == -1
    assert OUTCOME_TTL_S - 600 < server.ttl("fleet:outcome:m2:-") <= OUTCOME_TTL_S
    assert WINDOW_TTL_S - 600 < server.ttl("fleet:recent:AAA") <= WINDOW_TTL_S


@pytest.mark.parametrize("days", [1, 2])
@pytest.mark.parametrize(("younger_ms", "left"), [(0, ["m2"]), (1, ["m1", "m2"])])
def test_a_vote_as_old_as_the_window_is_no_recent_vote(
    redis_client: redis.Redis, days: int, younger_ms: int, left: list[str]
) -> None:
    """A day to the millisecond, or the days that were asked for."""
    backlog = RedisBacklog(redis_client, Keys(), **({} if days == 1 else {"recent_s": days * 86_400}))
    backlog.accept([routed(a_message("m1"))])
    at = NOON + timedelta(milliseconds=days * RECENT_WINDOW_MS - younger_ms)
    backlog.accept([routed(a_message("m2", at=at))])
    server: Any = redis_client

    assert [vote.id for vote in votes_of(server.zrange("fleet:recent:AAA", 0, -1))] == left


def test_a_symbol_waits_since_its_oldest_vote_and_a_text_since_its_newest_post(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """The list's turn does not move with each vote."""
    backlog.accept([routed(a_message("m1")), routed(a_message("m2", at=later(5)))])
    server: Any = redis_client

    assert server.zrange("fleet:batches", 0, -1, withscores=True) == [("AAA", to_ms(NOON))]
    assert dict(server.zrange("fleet:seen:texts", 0, -1, withscores=True)) == {
        "text-of-m1": to_ms(NOON),
        "text-of-m2": to_ms(later(5)),
    }


def test_the_same_message_is_no_duplicate_of_itself_and_is_counted_once(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """Redelivered: its text is its own."""
    for _ in range(2):
        backlog.accept([routed(a_message("m1"))])
    server: Any = redis_client

    assert server.hgetall("fleet:tally") == {"legs": "1", "buffered": "1"}


def test_a_claim_has_a_lease_by_the_server_s_clock(redis_client: redis.Redis) -> None:
    """60 s from now; a janitor that finds it overdue pushes it a lease further and answers the old deadline."""
    server: Any = redis_client
    held, late = RedisBacklog(redis_client, KEYS, lease_s=60), RedisBacklog(redis_client, KEYS, lease_s=-1)

    def now_ms() -> int:
        seconds, micros = server.time()
        return int(seconds) * 1000 + int(micros) // 1000

    held.accept([routed(a_message("m1"))])
    before, claims, after = now_ms(), held.claim(), now_ms()
    assert claims == ("AAA-1",)
    assert before + 60_000 <= server.zscore("fleet:claims", "AAA-1") <= after + 60_000

    late.accept([routed(a_message("m2", symbols=("BBB",)))])
    late.claim()
    deadline = int(server.zscore("fleet:claims", "BBB-1"))
    before, found, after = now_ms(), held.overdue(), now_ms()
    assert found == [("BBB-1", deadline)]
    assert before + 60_000 <= server.zscore("fleet:claims", "BBB-1") <= after + 60_000


def test_no_more_overdue_claims_are_answered_than_were_asked_for(redis_client: redis.Redis) -> None:
    """The rest is answered the next time; each once per lease."""
    short, janitor = RedisBacklog(redis_client, KEYS, lease_s=-1), RedisBacklog(redis_client, KEYS, lease_s=60)
    short.accept([routed(a_message(f"m{n}", symbols=(symbol,))) for n, symbol in enumerate(("AAA", "BBB", "CCC"))])
    short.claim()
    first, second, third = (janitor.overdue(at_most=2) for _ in range(3))

    assert (len(first), len(second), third) == (2, 1, [])
    assert {name for name, _ in first + second} == {"AAA-1", "BBB-1", "CCC-1"}


def test_a_claim_that_is_in_the_way_is_not_overwritten_and_the_list_waits(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """A sequence that was lost: the next turn takes the list under the next number; until then it is counted."""
    server: Any = redis_client
    server.rpush("fleet:claim:AAA-1", "an old vote")
    backlog.accept([routed(a_message("m1"))])

    assert backlog.claim() == ()
    assert (server.lrange("fleet:claim:AAA-1", 0, -1), backlog.buffered()) == (["an old vote"], 1)
    assert backlog.claim() == ("AAA-2",)
    assert (backlog.claim(), backlog.buffered()) == ((), 0)


def test_a_symbol_without_votes_leaves_the_index(backlog: RedisBacklog, redis_client: redis.Redis) -> None:
    """Its list was removed by hand."""
    backlog.accept([routed(a_message("m1"))])
    redis_client.delete("fleet:batch:AAA")

    assert backlog.claim() == ()
    assert redis_client.exists("fleet:batches", "fleet:claim-sequence") == 0


def test_a_message_without_a_primary_is_known_again_by_its_first_leg(
    backlog: RedisBacklog, redis_client: redis.Redis
) -> None:
    """Companies named in words only: no leg of it is the primary's."""
    message = a_message("m1", symbols=("AAA", "BBB"))
    nobody = message.model_copy(update={"tickers": message.tickers.model_copy(update={"primary": None})})

    assert [len(legs) for legs in (*backlog.accept([routed(nobody)]), *backlog.accept([routed(nobody)]))] == [2, 0]
    assert redis_client.hget("fleet:tally", "legs") == "2"


def test_old_texts_are_forgotten_four_at_a_time(backlog: RedisBacklog, redis_client: redis.Redis) -> None:
    """One message's routing has a bounded cost: of six old texts the next one forgets the four oldest."""
    backlog.accept([routed(a_message(f"m{n}", at=later(n))) for n in range(6)])
    backlog.accept([routed(a_message("new", at=NOON + timedelta(days=2)))])
    server: Any = redis_client
    left = ["text-of-m4", "text-of-m5", "text-of-new"]

    assert server.zrange("fleet:seen:texts", 0, -1) == left
    assert sorted(server.hkeys("fleet:seen:owners")) == left


def test_a_message_that_cannot_be_read_ends_once(backlog: RedisBacklog, redis_client: redis.Redis) -> None:
    """One null leg, `error`, with the reason, however often it comes."""
    server: Any = redis_client
    chunk = Chunk()
    chunk.bury(Unreadable("m1", "bad_version", NOON), "")
    for _ in range(2):
        backlog.accept_chunk(chunk)

    assert server.hgetall("fleet:outcome:m1:-") == row("error", "bad_version", "m1", "a message of this version")
    assert server.hgetall("fleet:tally") == {"legs": "1", "leg:error": "1", "rule:error:bad_version": "1"}

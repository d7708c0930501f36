"""Bulk work on a real server: a chunk is the same as its messages one by one, in a counted number of round trips."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from redis.connection import AbstractConnection
from rq import Retry

from pipeline.models import Label, Outcome
from pipeline.router import DenyList
from tests.delivery import NOON, a_message, a_runtime, later, routed
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.keys import Keys
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.wiring import Runtime


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day, on an empty server, that has spoken to it before."""
    fleet = a_runtime(server_url, tmp_path)
    fleet.inbox.append([a_message("first", symbols=("FIRST",), confidence=0.95)])
    router = fleet.router("r1")
    router.step()
    fleet.scheduler.drain()
    fleet.decider.claims(fleet.backlog.unfinished(), NOON)
    return fleet


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often a client sent something and waited: one entry a round trip."""
    trips: list[int] = []
    send = AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, **options: Any) -> Any:
        trips.append(1)
        return send(self, command, **options)  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", counting)
        yield trips


@contextmanager
def commands(client: Any) -> Iterator[dict[str, int]]:
    """What the server did meanwhile, by command, calls of scripts included."""
    before, done = _calls(client), dict[str, int]()
    yield done
    after = _calls(client)
    done |= {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    done.pop("info", None)


def _calls(client: Any) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}


# ---- a job of ours is a job of RQ's --------------------------------------------------------------------------


@pytest.mark.parametrize("retry_max", [1, 3])
def test_a_job_queued_by_a_router_is_as_rq_queues_it(
    server_url: str, redis_client: Any, tmp_path: Path, retry_max: int
) -> None:
    """Field by field; only the moments differ."""
    fleet = a_runtime(server_url, tmp_path, FLEET_WORKERS__RETRY_MAX=str(retry_max))
    fleet.inbox.append([a_message("m1", confidence=0.95)])
    fleet.router("r1").step()
    settings, queue = fleet.settings.workers, fleet.queues.queues[IMMEDIATE]
    ours = fleet.rq_client.hgetall("rq:job:urgent-m1-AAA")
    listed = fleet.rq_client.smembers("rq:queues"), fleet.rq_client.lrange("rq:queue:immediate", 0, -1)
    fleet.rq_client.delete("rq:job:urgent-m1-AAA", "rq:queues", "rq:queue:immediate")
    queue.enqueue_call(
        "workers.jobs.trade",
        args=("m1", "AAA"),
        job_id="urgent-m1-AAA",
        unique=True,
        timeout=settings.job_timeout_s,
        result_ttl=settings.result_ttl_s,
        failure_ttl=settings.failure_ttl_s,
        retry=Retry(max=retry_max),
        description="urgent m1:AAA",
    )
    theirs = fleet.rq_client.hgetall("rq:job:urgent-m1-AAA")
    moments = {b"created_at", b"enqueued_at"}

    assert {name: value for name, value in ours.items() if name not in moments} == {
        name: value for name, value in theirs.items() if name not in moments
    }
    assert {name: len(ours[name]) for name in moments} == {name: len(theirs[name]) for name in moments}
    packed: Any = ours[b"data"]
    assert orjson.loads(zlib.decompress(packed)) == ["workers.jobs.trade", None, ["m1", "AAA"], {}]
    assert listed == (
        fleet.rq_client.smembers("rq:queues"),
        fleet.rq_client.lrange("rq:queue:immediate", 0, -1),
    )
    assert fleet.rq_client.ttl("rq:job:urgent-m1-AAA") == -1


def test_many_jobs_are_queued_in_their_order_once(fleet: Runtime) -> None:
    """A known id stays as it is; the rest goes behind it."""
    jobs = [fleet.queues.pack(IMMEDIATE, "trade", f"urgent-{n}", (f"m{n}", "AAA"), f"urgent {n}") for n in range(3)]

    assert fleet.queues.enqueue_many(IMMEDIATE, jobs[1:2]) == 1
    assert fleet.queues.enqueue_many(IMMEDIATE, jobs) == 2
    assert fleet.queues.queues[IMMEDIATE].job_ids[1:] == ["urgent-1", "urgent-0", "urgent-2"]
    assert fleet.queues.enqueue_many(IMMEDIATE, []) == 0


# ---- a chunk is its messages, one by one ---------------------------------------------------------------------


def mixed() -> list[Any]:
    """Votes, urgent legs, several symbols, none, old, muted, reposts within and past the window, and one twice."""
    day = 86_400
    return [
        routed(a_message("m1", symbols=("AAA", "BBB"), fingerprint="same")),
        routed(a_message("m2", symbols=("AAA",), fingerprint="same", at=later(5))),
        routed(a_message("m3", symbols=("CCC",), confidence=0.95)),
        routed(a_message("m1", symbols=("AAA", "BBB"), fingerprint="same")),
        routed(a_message("m4", symbols=())),
        routed(a_message("m5", created_at=later(-3_600))),
        routed(a_message("m6"), deny=DenyList(authors=frozenset({"author-of-m6"}))),
        routed(a_message("m7", fingerprint="same", at=later(day + 4))),
        routed(a_message("m8", label=Label.NEUTRAL, fingerprint="same", at=later(2 * day + 4))),
        routed(a_message("m9", fingerprint="same", at=later(day + 10))),
    ]


def keyspace(client: Any) -> dict[str, Any]:
    """Every value, but lives."""
    readers = {
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in sorted(client.scan_iter())}


def test_a_chunk_leaves_what_its_messages_leave_one_by_one(redis_client: Any) -> None:
    """Answers and every key."""
    backlog = RedisBacklog(redis_client, Keys())
    singly = [backlog.accept([one])[0] for one in mixed()]
    alone = keyspace(redis_client)
    redis_client.flushall()

    assert backlog.accept(mixed()) == singly
    assert keyspace(redis_client) == alone
    assert [bool(legs) for legs in singly].count(False) == 1


def test_more_than_a_script_takes_is_cut(redis_client: Any) -> None:
    """1,001 messages are three steps; the last answer is the last message's."""
    backlog = RedisBacklog(redis_client, Keys())
    posts = [routed(a_message(f"m{n}", fingerprint=f"f{n % 1000}")) for n in range(1_001)]
    answers = backlog.accept(posts)

    assert backlog.sizes() == {"AAA": 1_000}
    assert (answers[999][0].outcome, answers[1_000][0].outcome) == (None, Outcome.DUPLICATE)


def test_a_list_of_the_wrong_type_harms_its_own_symbol_only(fleet: Runtime) -> None:
    """Its legs end `error` and trade nothing; the chunk goes on and is acknowledged."""
    fleet.client.set("demo:batch:BAD", "no list")
    fleet.inbox.append([a_message("m1", symbols=("BAD",), confidence=0.95), a_message("m2", symbols=("AAA",))])
    fleet.router("r1").step()

    assert fleet.journal.outcome("m1:BAD") is Outcome.ERROR
    assert fleet.journal.outcome("m2:AAA") is Outcome.BUFFERED
    assert "urgent-m1-BAD" not in fleet.queues.queues[IMMEDIATE].job_ids
    assert fleet.inbox.waiting() == 0


@pytest.mark.parametrize("key", ["demo:seen:texts", "demo:seen:owners", "demo:tally", "demo:batches", "rq:queues"])
def test_what_stops_a_chunk_stops_it_before_it_wrote_anything(fleet: Runtime, key: str) -> None:
    """A key of the wrong type: nothing is acknowledged, nothing half done; with the key gone, all is done."""
    kept = fleet.client.dump(key)
    fleet.client.delete(key)
    fleet.client.set(key, "wrong")
    fleet.client.xadd("demo:analyzed", {"id": "m1"})
    fleet.client.xadd("demo:analyzed", {"id": "m2"})
    for name, confidence in (("m1", 0.95), ("m2", 0.7)):
        fleet.client.set(f"demo:message:{name}", a_message(name, confidence=confidence).model_dump_json())
    router = fleet.router("r2")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        router.step()

    assert fleet.journal.outcome("m1:AAA") is None
    assert fleet.client.exists("demo:batch:AAA", "demo:recent:AAA", "rq:job:urgent-m1-AAA") == 0
    assert fleet.inbox.waiting() == 2
    fleet.client.delete(key)
    if kept:
        fleet.client.restore(key, 0, kept)
    router.take_over_idle_ms, router._next_take_over = 0, 0
    assert router.step() == 2
    assert fleet.backlog.sizes() == {"AAA": 2}


# ---- round trips ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [1, 200])
def test_a_chunk_is_three_round_trips(fleet: Runtime, monkeypatch: pytest.MonkeyPatch, messages: int) -> None:
    """What to do, the bodies, and the step; as many for one message as for 200, every tenth of them urgent."""
    fleet.inbox.append([a_message(f"m{n}", confidence=0.7 + 0.25 * (n % 10 == 0)) for n in range(messages)])
    router = fleet.router("r1")
    router._next_take_over = float("inf")
    with counted(monkeypatch) as trips:
        assert router.step() == messages

    assert len(trips) == 3


def test_what_the_server_does_for_a_chunk_of_votes(fleet: Runtime) -> None:
    """100 votes on one symbol: one call a message opens its leg; everything else is once a chunk."""
    fleet.inbox.append([a_message(f"m{n}") for n in range(100)])
    router = fleet.router("r1")
    router._next_take_over = float("inf")
    with commands(fleet.client) as done:
        router.step()
    each = {name: done.pop(name) for name in ("exists", "hset", "expire")}

    assert each == {"exists": 1, "hset": 101, "expire": 1}
    assert done == {
        "evalsha": 2, "mget": 1, "get": 1, "hget": 2, "hkeys": 3, "time": 1, "xreadgroup": 1,
        "zcard": 1, "llen": 1, "scard": 1, "hmget": 1, "zmscore": 1, "rpush": 1, "zadd": 3, "zremrangebyscore": 1,
        "hincrby": 2, "zrangebyscore": 1, "xack": 1, "xdel": 1,
    }  # fmt: skip


@pytest.mark.parametrize("symbols", [1, 60])
def test_a_drain_is_three_round_trips(fleet: Runtime, monkeypatch: pytest.MonkeyPatch, symbols: int) -> None:
    """The index, the claims, the jobs; never a scan."""
    names = [f"A{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(symbols)]
    fleet.backlog.accept([routed(a_message(f"m{n}", symbols=(name,))) for n, name in enumerate(names)])
    with counted(monkeypatch) as trips, commands(fleet.client) as done:
        assert fleet.scheduler.drain() == symbols
    trips_of_counting = 2

    assert len(trips) - trips_of_counting == 3
    assert "scan" not in done
    assert "keys" not in done
    jobs = len(fleet.queues.queues[CONSENSUS].job_ids) - 1
    assert jobs == -(-symbols // fleet.settings.workers.claims_per_job)


@pytest.mark.parametrize("claims", [1, 40])
def test_a_job_of_claims_without_consensus_is_five_round_trips(
    fleet: Runtime, monkeypatch: pytest.MonkeyPatch, claims: int
) -> None:
    """The claims, recent votes, known outcomes, what is recorded, the end of the claims; however many."""
    names = [f"A{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(claims)]
    fleet.backlog.accept([routed(a_message(f"m{n}", symbols=(name,))) for n, name in enumerate(names)])
    ids = fleet.backlog.claim()
    with counted(monkeypatch) as trips:
        assert fleet.decider.claims(ids, later(60)) == {"decided": claims}

    assert len(trips) == 5


def test_an_urgent_decision_is_eighteen_round_trips(fleet: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the leg's outcome to its end; lived through what works, reserved in one, sent in one."""
    for name, symbol in (("warm", "TVRN"), ("order", "ZELK")):
        fleet.inbox.append([a_message(name, symbols=(symbol,), confidence=0.95)])
    fleet.decider.urgent("warm", "TVRN", NOON)
    with counted(monkeypatch) as trips:
        assert fleet.decider.urgent("order", "ZELK", NOON) == "submitted"

    # outcome, body, orders at work, what the venue says of them, run, votes, state, denials, book, reservation,
    # intent known, new, made smaller (2) and sent, the order itself, its report, the end
    assert len(trips) == 16

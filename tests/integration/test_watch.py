"""The watcher on a real server: what it sees, whom it tells, and what is left of that when it dies."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from redis.client import Pipeline

from config.settings import load_settings
from config.watch import ExpectedProcesses, WatchSettings
from pipeline.models import OrchestratorState, TradingState
from tests.money import keyspace
from workers.adapters.alarms import Alarm, Notice
from workers.adapters.control_memory import Act
from workers.adapters.keys import to_ms
from workers.adapters.notify import NotToldError
from workers.control import _active
from workers.process import Heartbeat
from workers.standing import Standing
from workers.tell import Teller
from workers.watch import Watcher
from workers.watch_rules import Bounds
from workers.wiring import Runtime

NOBODY = ExpectedProcesses(collect=0, route=0, schedule=0, immediate=0, consensus=0, maintenance=0)
QUIET = {"expected": NOBODY, "stream_messages": 1, "stream_s": 1e9, "recover_s": 0, "call_s": 1, "retry_s": 1}


class Ear:
    """Who is told; `deaf` while nobody listens."""

    def __init__(self) -> None:
        self.heard: list[Notice] = []
        self.deaf = False

    def tell(self, notices: Sequence[Notice]) -> None:
        if self.deaf:
            raise NotToldError("no answer in time")
        self.heard.extend(notices)


@pytest.fixture
def fleet(redis_client: redis.Redis, server_url: str) -> Runtime:
    """An empty fleet that was started by a person."""
    variables = {"FLEET_PROFILE": "paper", "FLEET_REDIS_URL": server_url, "FLEET_REDIS__KEY_PREFIX": "test"}
    fleet = Runtime(load_settings(environ=variables))
    now = fleet.clock.now()
    fleet.control.set(TradingState.ACTIVE, "eve", "start", now)
    fleet.state.write(OrchestratorState.RUNNING, "eve", now)
    return fleet


def a_watcher(fleet: Runtime, ear: Ear, clock: Callable[[], float] = lambda: 1e6, **settings: Any) -> Watcher:
    """One that was born long ago, expects nobody and calls one message too many."""
    known = WatchSettings(**QUIET | settings)
    watcher = fleet.watcher()
    watcher.teller = Teller(fleet.alarms, ear, known, clock)
    watcher.bounds, watcher.monotonic, watcher._born = Bounds(known, 100), clock, 0.0
    watcher.alarms.decide((), (), fleet.clock.now(), timedelta(0))
    return watcher


def test_the_first_look_at_an_empty_fleet_says_what_is_missing(fleet: Runtime) -> None:
    """With the settings as shipped; the embedded server of the tests writes no file, which is told too."""
    ear = Ear()
    watcher = a_watcher(fleet, ear, expected=ExpectedProcesses())
    watcher.step()

    assert sorted({(one.code, one.subject) for one in ear.heard}) == [
        *(("process_missing", role) for role in ("consensus", "immediate", "maintenance", "route", "schedule")),
        ("redis_unsafe", "append_only"),
        ("source_down", ""),
    ]
    assert watcher.latest is not None


def test_what_every_start_looks_like_is_no_alarm_for_half_a_minute(fleet: Runtime) -> None:
    """At 29.9 s of its life nobody is missed, at 30 s they are."""
    ear, clock = Ear(), [29.9]
    watcher = a_watcher(fleet, ear, lambda: clock[0], expected=ExpectedProcesses())
    watcher.step()
    assert {one.code for one in ear.heard} == {"redis_unsafe"}
    clock[0] = 30.0
    watcher.step()

    assert {one.code for one in ear.heard} == {"redis_unsafe", "process_missing", "source_down"}


def test_a_standing_holds_what_the_keys_say(fleet: Runtime, redis_client: redis.Redis) -> None:
    """Lag in messages and seconds, lists, claims, queues, signs of life, dead letters, counters."""
    server: Any = redis_client
    now = fleet.clock.now()
    ago = to_ms(now) - 40_000
    server.xadd("test:analyzed", {"id": "m1"}, id=f"{ago}-0")
    server.xadd("test:analyzed", {"id": "m2"})
    server.zadd("test:batches", {"AAA": ago, "BBB": ago + 10_000})
    server.hset("test:tally", mapping={"buffered": 7, "accepted": 9})
    server.zadd("test:claims", {"AAA-1": to_ms(now) - 59_000, "BBB-1": to_ms(now) - 61_000})
    server.zadd("test:followups", {"{}": 1})
    fleet.queues.enqueue("immediate", "trade", "urgent-m1-AAA", ("m1", "AAA"), "urgent")
    Heartbeat(fleet.client, fleet.keys, "route-here-1", "route")(0)
    fleet.inbox.bury("collector", "not_json", "", b"")
    standing = fleet.watcher().reader.read(now)

    assert (standing.stream.waiting, round(standing.stream.oldest_s)) == (2, 40)
    assert (standing.lists.waiting, round(standing.lists.oldest_s), standing.symbols_waiting) == (7, 40, 2)
    assert (standing.claims, standing.claims_overdue, standing.followups, standing.held) == (2, 1, 1, 0)
    assert standing.queues["immediate"].lag.waiting == 1
    assert 0 <= standing.queues["immediate"].lag.oldest_s < 3600
    assert standing.queues["immediate"].jobs["queued"] == 1
    assert list(standing.processes) == ["route"]
    assert (standing.dead, standing.tally["refused:not_json"], standing.tally["accepted"]) == (1, 1, 9)
    assert standing.message_age_s is not None
    assert (standing.trading, standing.trading_why) == (TradingState.ACTIVE, "eve: start")
    assert standing.redis.memory_bytes > 0


def test_looking_changes_nothing(fleet: Runtime) -> None:
    """A metric must not open a session or clean a registry; only an open alarm says when it was seen last."""
    fleet.watcher().step()
    before = keyspace(fleet.client)
    fleet.watcher().step()
    now = keyspace(fleet.client)

    assert [key for key in now if now[key] != before.get(key)] == ["test:open-alarms"]
    assert before.keys() == now.keys()


def test_lost_work_is_an_alarm_for_the_window_also_what_was_lost_before_the_watcher_came(fleet: Runtime) -> None:
    """A worker's dead letter is work given up; a collector's is a refused post, of which one is none."""
    fleet.inbox.bury("worker", "three_strikes", "killed", b"job", refused=False)
    fleet.inbox.bury("collector", "not_json", "", b"")
    ear = Ear()
    watcher = a_watcher(fleet, ear)
    watcher.step()
    assert ("dead_letter", "three_strikes") in [(one.code, one.subject) for one in ear.heard]
    fleet.inbox.bury("worker", "damaged_votes", "AAA-1", b"", refused=False)
    watcher.step()

    assert [one.subject for one in ear.heard if one.code == "dead_letter"] == ["three_strikes", "damaged_votes"]


def test_a_deaf_address_keeps_nothing_from_being_decided(fleet: Runtime) -> None:
    """What could not be told is told when somebody listens again."""
    ear, clock = Ear(), [1e6]
    ear.deaf = True
    watcher = a_watcher(fleet, ear, lambda: clock[0])
    fleet.client.xadd("test:analyzed", {"id": "m1"})
    for _ in range(2):
        watcher.step()
        clock[0] += 0.1
    assert "stream_lag" in [alarm.code for alarm in fleet.alarms.open()]
    assert ear.heard == []
    ear.deaf, clock[0] = False, clock[0] + 60
    expire_leases(fleet)
    watcher.step()

    assert "stream_lag" in [one.code for one in ear.heard]


def expire_leases(fleet: Runtime) -> None:
    """What tellers have in hand is anybody's again, as after two calls' time."""
    server: Any = fleet.client
    pending = [row["message_id"] for row in server.xpending_range("test:alarms", "tellers", "-", "+", 100)]
    if pending:
        server.xclaim("test:alarms", "tellers", "tellers", 0, pending, idle=1_000_000)


# ---- Redis is away ---------------------------------------------------------------------------------------


class Away:
    """A reader that Redis does not answer, while it is so."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.away = reader, True

    def read(self, now: datetime) -> Standing:
        if self.away:
            raise redis.ConnectionError("refused")
        found: Standing = self.reader.read(now)
        return found

    def dead_since(self, since: datetime) -> dict[str, int]:
        found: dict[str, int] = self.reader.dead_since(since)
        return found


def test_a_server_that_does_not_answer_is_told_by_the_watcher_itself(fleet: Runtime) -> None:
    """Once, from 30 s on, and again when it answers; the turn fails all the same, for the loop to pause."""
    ear, clock = Ear(), [1e6]
    watcher = a_watcher(fleet, ear, lambda: clock[0])
    away: Any = Away(watcher.reader)
    watcher.reader = away
    for seconds in (0.0, 29.9, 30.0, 45.0):
        clock[0] = 1e6 + seconds
        with pytest.raises(redis.ConnectionError):
            watcher.step()
        assert len(ear.heard) == (seconds >= 30)
    away.away = False
    watcher.step()
    told = [(one.event, one.code) for one in ear.heard if one.code == "redis_down"]

    assert told == [("raised", "redis_down"), ("recovered", "redis_down")]
    assert len({one.id for one in ear.heard if one.code == "redis_down"}) == 1


def test_while_it_does_not_answer_it_is_told_again(fleet: Runtime) -> None:
    """Told at 30 s, and every 4 hours after that: not at 14,429 s, at 14,430 s."""
    ear, clock = Ear(), [1e6]
    watcher = a_watcher(fleet, ear, lambda: clock[0])
    away: Any = Away(watcher.reader)
    watcher.reader = away
    for seconds in (0.0, 30.0, 14_429.0, 14_430.0, 14_500.0):
        clock[0] = 1e6 + seconds
        with pytest.raises(redis.ConnectionError):
            watcher.step()

    assert [one.event for one in ear.heard if one.code == "redis_down"] == ["raised", "reminded"]


# ---- deaths ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """A SIGKILL: nothing catches it."""


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Calls to Redis that are left to live for, half of them: an even number dies before a call, an odd one after."""
    left = [10**9]

    def mortal(original: Any) -> Any:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            for moment in range(2):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                if moment == 0:
                    answer = original(self, *args, **options)
            return answer

        return call

    monkeypatch.setattr(redis.Redis, "execute_command", mortal(redis.Redis.execute_command))
    monkeypatch.setattr(Pipeline, "execute", mortal(Pipeline.execute))
    yield left
    left[0] = 10**9


def test_wherever_a_watcher_dies_every_change_is_told(fleet: Runtime, fate: list[int]) -> None:
    """It is killed before and after each call, over an alarm that is raised and one that recovers; then another comes.

    What is told twice has the same id, and the stream holds each change once.
    """
    places = 0
    for place in range(1, 200):
        fleet.client.delete("test:alarms", "test:open-alarms", "test:analyzed")
        ear, survived = Ear(), True
        for waiting in (True, False):
            fleet.client.xtrim("test:analyzed", 0)
            if waiting:
                fleet.client.xadd("test:analyzed", {"id": "m1"})
            watcher = a_watcher(fleet, ear)
            fate[0] = place if waiting else max(1, place // 2)
            try:
                watcher.step()
            except Killed:
                survived = False
            fate[0] = 10**9
            expire_leases(fleet) if fleet.client.exists("test:alarms") else None
            a_watcher(fleet, ear).step()
            places += 1
        rows = [(row["event"], row["code"]) for row in fleet.alarms.history(99) if row["code"] == "stream_lag"]
        entries: Any = fleet.client.xrange("test:alarms")
        assert rows == [("recovered", "stream_lag"), ("raised", "stream_lag")], place
        assert {entry_id for entry_id, _ in entries} == {one.id for one in ear.heard}, place
        if survived:
            break

    assert survived
    assert places > 20


def test_alarms_that_a_person_answers_close_with_resume_others_with_their_cause(fleet: Runtime) -> None:
    """`resume` says nothing about a lag."""
    now = datetime(2026, 1, 5, tzinfo=UTC)
    for code in ("week_loss", "stream_lag"):
        fleet.alarms.sound(Alarm(code, "", "", now))
    _active(fleet, Act(TradingState.ACTIVE, "eve", "looked", now))

    assert [alarm.code for alarm in fleet.alarms.open()] == ["stream_lag"]

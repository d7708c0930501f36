"""What many processes raise and many watchers tell is raised once, told at least once, and recovers once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from workers.adapters.alarms import GROUP, Alarm, Notice, RedisAlarms
from workers.adapters.keys import Keys

KEYS = Keys("test")
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOLD = timedelta(seconds=30)
LAG = Alarm("stream_lag", "", "6000 messages", NOON)
LEASE_MS = 60_000


@pytest.fixture
def alarms(redis_client: redis.Redis) -> RedisAlarms:
    """With their group of tellers, on an empty server."""
    found = RedisAlarms(redis_client, KEYS)
    found.open_group()
    return found


def events(alarms: RedisAlarms) -> list[tuple[str, str]]:
    """Every change, oldest first."""
    return [(row["event"], row["code"]) for row in reversed(alarms.history(100))]


def after(seconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(seconds=seconds)


def look(alarms: RedisAlarms, at: datetime, found: Sequence[Alarm] = ()) -> None:
    """What a watcher does that looks for two codes."""
    alarms.decide(found, ["stream_lag", "queue_lag"], at, HOLD)


def test_any_number_of_watchers_raises_an_alarm_once(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """And it recovers once, though each of them looks."""
    watchers = [alarms, RedisAlarms(redis_client, KEYS), RedisAlarms(redis_client, KEYS)]
    for seconds in (0, 5):
        for watcher in watchers:
            look(watcher, after(seconds), [Alarm("stream_lag", "", "6000 messages", after(seconds))])
    for watcher in watchers:
        look(watcher, after(60))

    assert events(alarms) == [("raised", "stream_lag"), ("recovered", "stream_lag")]


def test_an_alarm_recovers_when_its_cause_is_gone_for_the_hold(alarms: RedisAlarms) -> None:
    """Seen last at 10 s: open at 39.9 s, closed at 40 s. What flickers is one alarm."""
    look(alarms, after(0), [LAG])
    look(alarms, after(5))
    look(alarms, after(10), [LAG])
    look(alarms, after(39.9))
    assert [alarm.name for alarm in alarms.open()] == ["stream_lag"]
    look(alarms, after(40))

    assert alarms.open() == ()
    assert events(alarms) == [("raised", "stream_lag"), ("recovered", "stream_lag")]


def test_only_what_was_looked_for_recovers(alarms: RedisAlarms) -> None:
    """Another owner's alarm stays, and another subject of the same code."""
    alarms.sound(Alarm("book_drift", "AAA", "1 and 2", NOON))
    first, second = (Alarm("queue_lag", queue, "many", NOON) for queue in ("consensus", "immediate"))
    look(alarms, after(0), [first, second])
    look(alarms, after(60), [second])

    assert [alarm.name for alarm in alarms.open()] == ["book_drift:AAA", "queue_lag:immediate"]


def test_an_open_alarm_says_since_when_and_what_was_seen_last(alarms: RedisAlarms) -> None:
    """The first moment, the newest words."""
    look(alarms, after(0), [LAG])
    look(alarms, after(5), [Alarm("stream_lag", "", "7000 messages", after(5))])

    assert alarms.open() == (Alarm("stream_lag", "", "7000 messages", NOON),)


def test_an_alarm_of_the_release_before_recovers_too(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """Its row has no last sight, its stream entry no event: it was raised."""
    old = '{"v":1,"code":"stream_lag","subject":"","detail":"many","at":"2026-01-05T11:00:00Z"}'
    redis_client.hset(KEYS.open_alarms(), "stream_lag", old)
    redis_client.xadd(
        KEYS.alarms(), {"code": "stream_lag", "subject": "", "detail": "many", "at": "2026-01-05T11:00:00Z"}
    )
    look(alarms, after(0))

    assert alarms.open() == ()
    assert [(one.event, one.code) for one in alarms.untold(9, LEASE_MS)] == [
        ("raised", "stream_lag"),
        ("recovered", "stream_lag"),
    ]


def test_what_stays_open_is_told_again_and_only_while_it_stays(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """Every 60 s: not at 59.9 s, at 60 s, not at 119.9 s, at 125 s; once, however many watchers look."""
    watchers = [alarms, RedisAlarms(redis_client, KEYS)]
    for seconds in (0, 59.9, 60, 119.9, 125):
        for watcher in watchers:
            seen = [Alarm("stream_lag", "", f"{seconds:.0f} s", after(seconds))]
            watcher.decide(seen, ["stream_lag"], after(seconds), HOLD, timedelta(seconds=60))
    alarms.decide([], ["stream_lag"], after(200), HOLD, timedelta(seconds=60))
    told = alarms.untold(9, LEASE_MS)

    assert [(one.event, one.detail) for one in told] == [
        ("raised", "0 s"),
        ("reminded", "60 s"),
        ("reminded", "125 s"),
        ("recovered", "125 s"),
    ]
    assert {one.since for one in told} == {NOON.isoformat()}
    assert [one.at for one in told] == [after(seconds).isoformat() for seconds in (0, 60, 125, 200)]


def test_what_a_job_raised_is_told_again_too_until_somebody_answers(alarms: RedisAlarms) -> None:
    """A watcher does not look for it; another look without a reminder says nothing, nor does raising it again."""
    alarms.sound(Alarm("book_drift", "AAA", "1 and 2", NOON))
    alarms.sound(Alarm("book_drift", "AAA", "1 and 3", after(90)))
    look(alarms, after(100))
    assert events(alarms) == [("raised", "book_drift")]
    alarms.decide([], ["stream_lag"], after(100), HOLD, timedelta(seconds=60))
    alarms.quiet("book_drift", after(101))
    alarms.decide([], ["stream_lag"], after(300), HOLD, timedelta(seconds=60))

    assert events(alarms) == [("raised", "book_drift"), ("reminded", "book_drift"), ("recovered", "book_drift")]
    assert alarms.history(9)[1]["detail"] == "1 and 3"


# ---- the outbox ------------------------------------------------------------------------------------------


def names(notices: Sequence[Notice]) -> list[tuple[str, str, str]]:
    """What they say."""
    return [(notice.event, notice.code, notice.detail) for notice in notices]


def test_every_change_is_to_be_told_oldest_first(alarms: RedisAlarms) -> None:
    """Raised, recovered, raised again."""
    look(alarms, after(0), [LAG])
    look(alarms, after(60))
    look(alarms, after(61), [LAG])

    assert names(alarms.untold(9, LEASE_MS)) == [
        ("raised", "stream_lag", "6000 messages"),
        ("recovered", "stream_lag", "6000 messages"),
        ("raised", "stream_lag", "6000 messages"),
    ]


def test_what_one_teller_has_in_hand_is_no_other_s(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """Until it was told, or its time is over: a dead teller's are anybody's, under the same id."""
    alarms.sound(LAG)
    other = RedisAlarms(redis_client, KEYS)
    (mine,) = alarms.untold(9, LEASE_MS)

    assert other.untold(9, LEASE_MS) == []
    assert other.untold(9, 0) == [mine]


def test_what_was_told_is_not_told_again(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """Nothing is left in the group; the entry itself stays, for `fleet inspect alarms`."""
    alarms.sound(LAG)
    alarms.told(alarms.untold(9, LEASE_MS))
    alarms.told([])

    assert alarms.untold(9, 0) == []
    server: Any = redis_client
    assert server.xpending(KEYS.alarms(), GROUP)["pending"] == 0
    assert len(alarms.history(9)) == 1


def test_no_more_is_taken_than_asked_for(alarms: RedisAlarms) -> None:
    """A storm is told in portions."""
    for subject in "ABC":
        alarms.sound(Alarm("book_drift", subject, "1 and 2", NOON))

    assert [len(alarms.untold(2, LEASE_MS)) for _ in range(3)] == [2, 1, 0]


def test_the_group_is_opened_once_and_forgets_nothing(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """What was raised before the first watcher is told by it."""
    redis_client.delete(KEYS.alarms())
    alarms.sound(LAG)
    alarms.open_group()
    alarms.open_group()

    assert names(alarms.untold(9, LEASE_MS)) == [("raised", "stream_lag", "6000 messages")]


def test_a_server_that_forgot_the_group_gets_it_again(alarms: RedisAlarms, redis_client: redis.Redis) -> None:
    """It came back with an older file, or was emptied: the watcher goes on."""
    redis_client.delete(KEYS.alarms())
    assert alarms.untold(9, LEASE_MS) == []
    alarms.sound(LAG)

    assert names(alarms.untold(9, LEASE_MS)) == [("raised", "stream_lag", "6000 messages")]

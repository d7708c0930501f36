"""The breaker: five failures in 60 s hold entries back, fleet-wide. The same in memory and on the real server."""

from typing import Any

import pytest
import redis

from config.venue import BreakerSettings
from pipeline.errors import TransientError
from tests.contracts.conftest import KEYS
from tests.money import keyspace
from workers.adapters.breaker_memory import MemoryBreaker
from workers.adapters.breaker_redis import RedisBreaker

SETTINGS = BreakerSettings()  # 5 failures in 60 s, 30 s of cool-down, 10 s for a trial


class Bench:
    """A breaker whose time can be made to pass. `other` is the same breaker as another process sees it."""

    def __init__(self, client: redis.Redis | None) -> None:
        self.client: Any = client
        self._now = 1000.0
        memory = MemoryBreaker(SETTINGS, lambda: self._now)
        self.breaker = memory if client is None else RedisBreaker(client, KEYS, SETTINGS)
        self.other = memory if client is None else RedisBreaker(client, KEYS, SETTINGS)

    def later(self, seconds: float) -> None:
        """Let time pass; on the server everything that is kept becomes older instead."""
        self._now += seconds
        if self.client is None:
            return
        for name, score in self.client.zrange(KEYS.breaker_failures(), 0, -1, withscores=True):
            self.client.zadd(KEYS.breaker_failures(), {name: score - seconds * 1000})
        for name, value in self.client.hgetall(KEYS.breaker()).items():
            self.client.hset(KEYS.breaker(), name, int(value) - round(seconds * 1000))

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed()

    def lets_through(self) -> bool:
        return self.other.permit() is None

    def state(self) -> str:
        return self.other.state().state

    def keys(self) -> set[str]:
        """What the server holds, without the prefix; in memory nothing."""
        return set() if self.client is None else {key.removeprefix("test:") for key in keyspace(self.client)}


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """A closed breaker over both kinds of memory."""
    return Bench(None if request.param == "memory" else request.getfixturevalue("redis_client"))


def test_a_venue_that_never_failed_gets_everything(bench: Bench) -> None:
    """And nothing is kept."""
    assert (bench.lets_through(), bench.state()) == (True, "closed")
    bench.breaker.succeeded()
    assert bench.keys() == set()


def test_the_fifth_failure_opens_and_no_earlier_one(bench: Bench) -> None:
    """4 pass, the 5th holds back, in every process at once."""
    bench.fail(4)
    assert (bench.lets_through(), bench.state(), bench.other.state().failures) == (True, "closed", 4)
    bench.fail(1)

    refusal = bench.other.permit()
    assert bench.state() == "open"
    assert refusal is not None
    assert (refusal.stage.value, refusal.rule, refusal.limit) == (
        "executor",
        "breaker_open",
        "< 5 failed calls in 60 s",
    )
    assert bench.keys() <= {"breaker"}


@pytest.mark.parametrize(("age", "opens"), [(59, True), (60, False)])
def test_only_failures_younger_than_60_s_count(bench: Bench, age: float, *, opens: bool) -> None:
    """Four failures 59 s ago and one now are five; four of 60 s ago are forgotten."""
    bench.fail(4)
    bench.later(age)
    bench.fail(1)

    assert bench.lets_through() is not opens
    assert bench.other.state().failures == (0 if opens else 1)


def test_failures_are_forgotten_without_another_call(bench: Bench) -> None:
    """The server lets them expire: a quiet fleet leaves no key."""
    bench.fail(4)
    if bench.client is not None:
        assert 0 < bench.client.pttl(KEYS.breaker_failures()) <= 60_000
    bench.later(60)

    assert bench.other.state().failures == 0


def test_answers_in_between_do_not_wash_failures_away(bench: Bench) -> None:
    """A venue that answers every second order is as unsafe."""
    for _ in range(4):
        bench.fail(1)
        bench.breaker.succeeded()
    assert bench.lets_through()
    bench.fail(1)

    assert not bench.lets_through()


def test_an_open_breaker_stays_open_for_30_s_whatever_happens(bench: Bench) -> None:
    """Neither failures (of exits) nor answers change the cool-down."""
    bench.fail(5)
    bench.later(15)
    bench.fail(9)
    bench.breaker.succeeded()
    bench.later(14)
    assert (bench.lets_through(), bench.state()) == (False, "open")
    bench.later(1)

    assert (bench.state(), bench.lets_through()) == ("half_open", True)


def test_half_open_lets_one_trial_through_at_a_time(bench: Bench) -> None:
    """The next one after the trial's 10 s: its process may have died."""
    bench.fail(5)
    bench.later(30)
    assert bench.lets_through()
    assert not bench.lets_through()
    bench.later(9)
    assert not bench.lets_through()
    bench.later(1)

    assert bench.lets_through()


def test_a_trial_that_is_answered_closes(bench: Bench) -> None:
    """And the count starts anew: four failures pass again."""
    bench.fail(5)
    bench.later(30)
    assert bench.lets_through()
    bench.breaker.succeeded()
    assert (bench.state(), bench.lets_through(), bench.keys()) == ("closed", True, set())
    bench.fail(4)

    assert bench.lets_through()


def test_a_trial_that_fails_opens_for_another_30_s(bench: Bench) -> None:
    """One failure is enough while half open."""
    bench.fail(5)
    bench.later(30)
    assert bench.lets_through()
    bench.fail(1)
    assert (bench.lets_through(), bench.state()) == (False, "open")
    bench.later(29)
    assert not bench.lets_through()
    bench.later(1)

    assert bench.lets_through()


def test_a_server_that_does_not_answer_lets_nothing_through() -> None:
    """The executor sends nothing when the breaker cannot be asked."""
    with redis.Redis.from_url("redis://127.0.0.1:1/0", decode_responses=True) as nobody:
        breaker = RedisBreaker(nobody, KEYS, SETTINGS)
        for ask in (breaker.permit, breaker.failed, breaker.succeeded, breaker.state):
            with pytest.raises(TransientError, match="cannot be asked"):
                ask()

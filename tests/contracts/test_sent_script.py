"""A script whose caller works meanwhile: the work is done once, and the answer is had whatever happens to it."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from workers.adapters.sent_script import SentScript

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


class Work:
    """What is done meanwhile, and what had been written by then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.times = 0
        self._error = error

    def __call__(self) -> None:
        self.times += 1
        if self._error is not None:
            raise self._error


@pytest.fixture
def counting(redis_client: redis.Redis) -> Iterator[SentScript]:
    """A script that counts, which the server knows; every connection is given back."""
    made = SentScript(redis_client, COUNT)
    redis_client.script_load(COUNT)
    yield made
    assert not redis_client.connection_pool._in_use_connections


def test_the_work_is_done_before_the_answer_is_read(counting: SentScript, redis_client: redis.Redis) -> None:
    """By the same client on another connection: the script is on its way, so this waits behind it."""
    seen: list[Any] = []

    assert counting(["n"], [3], lambda: seen.append(redis_client.get("n"))) == 3
    assert seen == ["3"]
    assert counting(["n"], [4]) == 7


def test_a_script_the_server_does_not_know_is_told_to_it(counting: SentScript, redis_client: redis.Redis) -> None:
    """As after its restart."""
    redis_client.script_flush()
    work = Work()

    assert counting(["n"], [3], work) == 3
    assert work.times == 1


def test_an_answer_that_is_lost_is_asked_for_again(counting: SentScript, redis_client: redis.Redis) -> None:
    """The server did it and hung up: done twice, as its caller must bear, and the work once."""
    work = Work()

    def hang_up() -> None:
        work()
        redis_client.client_kill_filter(_type="normal", skipme=True)

    assert counting(["n"], [3], hang_up) in (3, 6)
    assert work.times == 1


def test_work_that_fails_leaves_the_script_done_and_the_connection_usable(
    counting: SentScript, redis_client: redis.Redis
) -> None:
    """Its error is the caller's."""
    with pytest.raises(ZeroDivisionError):
        counting(["n"], [3], Work(ZeroDivisionError()))

    assert redis_client.get("n") == "3"
    assert counting(["n"], [1], Work()) == 4


def test_what_is_wrong_with_the_script_is_raised(redis_client: redis.Redis) -> None:
    """After the work; a script that failed has changed nothing, so a second try does no harm."""
    redis_client.set("n", "a word")
    work = Work()

    with pytest.raises(redis.ResponseError, match="not an integer"):
        SentScript(redis_client, COUNT)(["n"], [3], work)
    assert work.times == 1


def test_a_server_that_cannot_be_reached_is_tried_with_all_patience() -> None:
    """Nobody listens at port 1; the work is done all the same, its result may be wanted later."""
    work, nobody = Work(), redis.Redis(port=1, decode_responses=True)

    with pytest.raises(redis.ConnectionError):
        SentScript(nobody, COUNT)(["n"], [3], work)
    assert work.times == 1

"""The inbox on a real server: accepted once, delivered at least once, and what cannot be used is kept."""

from typing import Any

import pytest

from pipeline.models import OrchestratorState
from tests.delivery import NOON, a_message, assert_bounded, types_of
from workers.adapters.inbox_redis import RAW_LIMIT, RedisInbox
from workers.adapters.keys import MESSAGE_TTL_S, Keys
from workers.adapters.state_redis import RedisState


@pytest.fixture
def inbox(redis_client: Any) -> RedisInbox:
    """An empty inbox with its group, of a fleet that runs."""
    RedisState(redis_client, Keys()).write(OrchestratorState.RUNNING, "test", NOON)
    inbox = RedisInbox(redis_client, Keys())
    inbox.open_group()
    return inbox


def names(inbox: RedisInbox, consumer: str = "a", count: int = 10) -> list[str]:
    """The message ids of the next delivery."""
    return [delivery.message_id for delivery in inbox.take(consumer, count).deliveries]


def stranded(inbox: RedisInbox, idle_ms: int) -> list[str]:
    """What another router takes over of entries that were idle for so long."""
    return [one.message_id for one in inbox.take("alive", 10, idle_ms=idle_ms).deliveries]


def test_a_message_is_accepted_once(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: the same id changes nothing, also with another body, also within one call."""
    assert inbox.append([a_message("m1"), a_message("m1", text="other words")]) == [True, False]
    assert inbox.append([a_message("m1")]) == [False]

    assert inbox.waiting() == 1
    assert redis_client.hget("fleet:tally", "accepted") == "1"
    kept = inbox.message("m1")
    assert kept is not None
    assert kept.message.text == "words of m1"


def test_a_message_routed_and_forgotten_by_the_stream_is_still_known(inbox: RedisInbox) -> None:
    """Rule: the body's 7 days are the memory of ids."""
    inbox.append([a_message("m1")])
    inbox.acknowledge([one.entry_id for one in inbox.take("a", 10).deliveries])

    assert inbox.append([a_message("m1")]) == [False]
    assert inbox.waiting() == 0


def test_the_whole_keyspace_of_an_accepted_message(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: DESIGN 5; the body expires, the stream is emptied by the routers."""
    inbox.append([a_message("m1")])
    keyspace = assert_bounded(redis_client, "fleet")

    assert types_of(keyspace) == {
        "fleet:analyzed": "stream",
        "fleet:state": "string",
        "fleet:message:m1": "string",
        "fleet:tally": "hash",
    }
    assert MESSAGE_TTL_S - 10 <= keyspace["fleet:message:m1"][1] <= MESSAGE_TTL_S


def test_appending_nothing_is_nothing(inbox: RedisInbox) -> None:
    """Rule: an empty chunk is no round trip."""
    assert inbox.append([]) == []


# ---- the group -------------------------------------------------------------------------------------------


def test_each_message_goes_to_one_router_in_order(inbox: RedisInbox) -> None:
    """Rule: a consumer group; any number of routers share the work."""
    inbox.append([a_message(name) for name in ("m1", "m2", "m3")])

    assert names(inbox, "a", 2) == ["m1", "m2"]
    assert names(inbox, "b") == ["m3"]
    assert names(inbox, "b") == []


def test_messages_that_came_before_the_first_router_are_read(redis_client: Any) -> None:
    """Rule: the group begins at the stream's beginning."""
    RedisState(redis_client, Keys()).write(OrchestratorState.RUNNING, "test", NOON)
    inbox = RedisInbox(redis_client, Keys())
    inbox.append([a_message("m1")])
    inbox.open_group()

    assert names(inbox) == ["m1"]


def test_opening_the_group_again_changes_nothing(inbox: RedisInbox) -> None:
    """Rule: every router opens it at its start."""
    inbox.append([a_message("m1")])
    names(inbox)
    inbox.open_group()

    assert names(inbox) == []


def test_a_body_comes_with_its_entry(inbox: RedisInbox) -> None:
    """Rule: one look-up for a whole chunk."""
    message = a_message("m1")
    inbox.append([message])
    (delivery,) = inbox.take("a", 10).deliveries

    assert delivery.body == message.model_dump_json().encode()


def test_a_missing_body_is_delivered_as_none(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: the router keeps it as a dead letter; its neighbours are not harmed."""
    inbox.append([a_message("m1"), a_message("m2")])
    redis_client.delete("fleet:message:m1")

    assert [(one.message_id, one.body is None) for one in inbox.take("a", 10).deliveries] == [
        ("m1", True),
        ("m2", False),
    ]


# ---- a dead router ---------------------------------------------------------------------------------------


def test_what_a_dead_router_had_read_is_taken_over(inbox: RedisInbox) -> None:
    """Rule: handed over first, acknowledged after; what nobody acknowledged comes again."""
    inbox.append([a_message("m1"), a_message("m2")])
    names(inbox, "dead")

    assert names(inbox, "alive") == []
    assert stranded(inbox, 0) == ["m1", "m2"]


def test_what_a_living_router_is_busy_with_is_left_to_it(inbox: RedisInbox) -> None:
    """Rule: the near miss: not idle long enough."""
    inbox.append([a_message("m1")])
    names(inbox, "busy")

    assert stranded(inbox, 60_000) == []


def test_an_acknowledged_entry_is_gone_for_everybody(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: XACK alone would fill Redis; XDEL too."""
    inbox.append([a_message("m1")])
    entries = [one.entry_id for one in inbox.take("a", 10).deliveries]
    inbox.acknowledge(entries)
    inbox.acknowledge(entries)
    inbox.acknowledge([])

    assert stranded(inbox, 0) == []
    assert redis_client.xlen("fleet:analyzed") == 0
    assert redis_client.xpending("fleet:analyzed", "routers")["pending"] == 0


# ---- dead letters ----------------------------------------------------------------------------------------


def test_a_dead_letter_keeps_the_raw_bytes_and_the_reason(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: what is not UTF-8 is shown as such, never an error."""
    inbox.bury("collector", "not_json", "line is no JSON", b"\xff{")

    (letter,) = inbox.dead_letters(10)
    assert {name: letter[name] for name in ("stage", "reason", "detail", "raw")} == {
        "stage": "collector",
        "reason": "not_json",
        "detail": "line is no JSON",
        "raw": "\ufffd{",
    }
    assert redis_client.hget("fleet:tally", "refused:not_json") == "1"


def test_what_died_inside_the_fleet_is_not_counted_as_refused(inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: accepted + refused = read; a job's death is neither."""
    inbox.bury("worker", "three_strikes", "", b"job", refused=False)

    assert redis_client.hgetall("fleet:tally") == {"dead:three_strikes": "1"}


def test_a_huge_line_is_cut(inbox: RedisInbox) -> None:
    """Rule: a 10 MB line must not fill the dead letters."""
    inbox.bury("collector", "line_too_long", "d" * 10_000, b"x" * 10_000_000)

    (letter,) = inbox.dead_letters(10)
    assert (len(letter["raw"]), len(letter["detail"])) == (RAW_LIMIT, 500)


def test_the_newest_dead_letters_come_first(inbox: RedisInbox) -> None:
    """Rule: what went wrong now is what people look for."""
    for number in range(3):
        inbox.bury("collector", "not_json", str(number), b"")

    assert [letter["detail"] for letter in inbox.dead_letters(2)] == ["2", "1"]

"""The collector's turn on a real server: what can be used is handed over once, the rest is kept, nothing is lost."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.models import AnalyzedMessage, OrchestratorState, SocialMessage
from tests.delivery import NOON, a_message, assert_bounded
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.keys import Keys
from workers.adapters.marks_redis import RedisMarks
from workers.adapters.source_jsonl import JsonlSource
from workers.adapters.state_redis import RedisState
from workers.collect import Collector, Intake


class WordyAnalyzer:
    """An analyzer that finds nothing and breaks on one word."""

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        if "break" in message.text:
            raise RuntimeError(message.message_id)
        return a_message(symbols=()).model_copy(update={"message": message})

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        return [self.analyze(message) for message in messages]


@pytest.fixture
def inbox(redis_client: Any) -> RedisInbox:
    """An empty inbox of a fleet that runs."""
    RedisState(redis_client, Keys()).write(OrchestratorState.RUNNING, "test", NOON)
    return RedisInbox(redis_client, Keys())


@pytest.fixture
def intake(inbox: RedisInbox) -> Intake:
    """Hands that know the source `test` only."""
    return Intake(inbox, WordyAnalyzer(), frozenset({"test"}))


def a_line(name: str = "1", **changes: Any) -> bytes:
    """A post of noon."""
    post = {"id": name, "created_at": NOON.isoformat(), "source": "test", "author": "ann", "text": f"words {name}"}
    return json.dumps(post | changes).encode()


BAD = {
    "not_json": b"{",
    "missing_field": b'{"source":"test"}',
    "number_not_finite": a_line()[:-1] + b',"confidence":NaN}',
    "line_too_long": a_line(text="x" * 1_100_000),
    "unknown_source": a_line(source="stranger"),
    "bad_source": a_line(source="../x"),
    "bad_time": a_line(created_at="soon"),
    "time_in_future": a_line(created_at=(NOON + timedelta(seconds=31)).isoformat()),
    "analyzer_error": a_line(text="break"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_kept_and_its_neighbours_are_accepted(intake: Intake, inbox: RedisInbox, reason: str) -> None:
    """Rule: one dead letter with its reason; nothing else is lost and the collector goes on."""
    fresh = intake.take([a_line("1"), BAD[reason], a_line("2")], NOON)

    assert [message.message_id for message in fresh] == ["test-1", "test-2"]
    assert [letter["reason"] for letter in inbox.dead_letters(10)] == [reason]
    assert (intake.read, intake.accepted, intake.refused) == (3, 2, {reason: 1})


def test_all_of_them_at_once_add_up(intake: Intake, inbox: RedisInbox, redis_client: Any) -> None:
    """Rule: accepted + refused = read; counted in Redis as well."""
    intake.take([*BAD.values(), a_line("1")], NOON)

    assert intake.read == intake.accepted + sum(intake.refused.values()) == len(BAD) + 1
    tally = redis_client.hgetall("fleet:tally")
    assert tally == {"accepted": "1", **{f"refused:{reason}": "1" for reason in BAD}}
    assert_bounded(redis_client, "fleet")


def test_an_id_seen_before_is_refused_without_a_dead_letter(intake: Intake, inbox: RedisInbox) -> None:
    """Rule: feeds repeat themselves; that is no damage."""
    intake.take([a_line("1")], NOON)
    assert intake.take([a_line("1", text="edited"), a_line("2"), a_line("2")], NOON) != []

    assert intake.refused == {"duplicate_id": 2}
    assert inbox.dead_letters(10) == []
    assert inbox.waiting() == 2


@pytest.mark.parametrize("given", ["2025-09-17T16:00:00", "2025-09-17T12:00:00-04:00", "2025-09-17 16:00:00Z"])
def test_a_naive_time_is_utc_and_a_zone_is_understood(intake: Intake, given: str) -> None:
    """Rule: STAGES 0."""
    (message,) = intake.take([a_line(created_at=given)], NOON)

    assert message.message.created_at == NOON


# ---- the high-water mark ---------------------------------------------------------------------------------


Open = Callable[..., Collector]


@pytest.fixture
def collector(intake: Intake, redis_client: Any, path: Path) -> Iterator[Open]:
    """`collector(chunk=)`: a new life of the channel `posts`, connected; its file is closed after the test."""
    with ExitStack() as files:

        def open_(chunk: int = 2) -> Collector:
            source = JsonlSource(path, tail=True)
            files.callback(source.close)
            marks = RedisMarks(redis_client, Keys())
            life = Collector(intake, source, marks, "posts", lambda: OrchestratorState.RUNNING, lambda: NOON, chunk)
            life.connect()
            return life

        yield open_


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with five posts and one bad line."""
    file = tmp_path / "posts.jsonl"
    lines = [a_line("1"), a_line("2"), b"{", a_line("3"), a_line("4"), a_line("5")]
    file.write_bytes(b"\n".join([*lines, b""]))
    return file


def test_a_restart_goes_on_where_the_last_life_stopped(intake: Intake, collector: Open) -> None:
    """Rule: the mark survives; nothing is read twice, nothing is left out."""
    assert collector().step() == 2
    second = collector()

    assert [second.step(), second.step(), second.step()] == [2, 2, 0]
    assert (intake.read, intake.accepted, intake.refused) == (6, 5, {"not_json": 1})


def test_a_death_between_handing_over_and_the_mark_changes_nothing(
    intake: Intake, inbox: RedisInbox, collector: Open
) -> None:
    """Rule: hand over first, mark after; the chunk comes again and is known."""
    dying = collector()
    intake.take([post.line for post in dying.source.read(2)], NOON)
    again = collector(chunk=10)
    again.step()

    assert intake.refused == {"duplicate_id": 2, "not_json": 1}
    assert inbox.waiting() == 5


def test_what_is_appended_later_is_read_and_half_a_line_waits(collector: Open, path: Path) -> None:
    """Rule: a tailed file grows while it is read."""
    life = collector(chunk=10)
    life.step()
    with path.open("ab") as file:
        file.write(a_line("6") + b"\n" + a_line("7")[:20])
    assert life.step() == 1

    with path.open("ab") as file:
        file.write(a_line("7")[20:] + b"\n")
    assert life.step() == 1


@pytest.mark.parametrize("state", [OrchestratorState.STOPPED, OrchestratorState.STOPPING])
def test_nothing_is_read_unless_the_fleet_runs(intake: Intake, collector: Open, state: OrchestratorState) -> None:
    """Rule: stop = intake ends; the posts stay in the source."""
    life = collector()
    life.state = lambda: state

    assert life.step() == 0
    assert intake.read == 0


def test_posts_in_hand_when_redis_goes_away_are_handed_over_later(
    intake: Intake, inbox: RedisInbox, collector: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: the source has moved on by then, so nobody else would bring them again in this life."""
    life = collector(chunk=2)

    def away(*_: object) -> Any:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as outage:
        outage.setattr(inbox, "append", away)
        with pytest.raises(redis.ConnectionError):
            life.step()
    turns = [life.step() for _ in range(4)]

    assert turns == [2, 2, 2, 0]
    assert inbox.waiting() == 5


def test_a_full_stream_pauses_the_intake(inbox: RedisInbox, collector: Open) -> None:
    """Rule: routers that are down press back on the source, not on Redis' memory."""
    life = collector(chunk=2)
    life.max_waiting = 2

    assert [life.step(), life.step()] == [2, 0]
    inbox.open_group()
    inbox.acknowledge([one.entry_id for one in inbox.take("r", 10).deliveries])
    assert life.step() == 2

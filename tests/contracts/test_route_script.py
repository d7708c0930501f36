"""One step of the server for a chunk from the stream: what is new is opened, what was routed before is not touched."""

from datetime import timedelta
from typing import Any

import pytest
import redis

from pipeline.models import AnalyzedMessage
from pipeline.router import Fate, Leg
from tests.delivery import NOON, a_message, later, routed
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.inbox_redis import GROUP, RedisInbox
from workers.adapters.keys import Keys, to_ms
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.route_script import RECENT_WINDOW_MS, Chunk, Turn, Unreadable

KEYS = Keys()
LINE = Line("queue-of-jobs", "queues")


class Chain:
    """A stream with its group, and the lists behind it."""

    def __init__(self, client: redis.Redis) -> None:
        self.server: Any = client
        self.inbox, self.backlog = RedisInbox(client, KEYS), RedisBacklog(client, KEYS)
        self.inbox.open_group()

    def deliver(self, *messages: AnalyzedMessage) -> dict[str, str]:
        """Append and read them; the stream entry of each."""
        self.inbox.append(messages)
        read = self.server.xreadgroup(GROUP, "r1", {KEYS.analyzed(): ">"}, count=100)
        streams = read.values() if isinstance(read, dict) else (entries for _, entries in read)
        entries = [one for stream in streams for one in (stream[0] if isinstance(stream[0], list) else stream)]
        return {fields["id"]: entry for entry, fields in entries}

    def route(self, chunk: Chunk) -> list[tuple[Leg, ...]]:
        """Hand the chunk over."""
        return self.backlog.accept_chunk(chunk, LINE)[0]

    @property
    def in_stream(self) -> list[str]:
        """Messages whose entries are not forgotten."""
        return [fields["id"] for _, fields in self.server.xrange(KEYS.analyzed())]

    @property
    def pending(self) -> int:
        """Entries that were read and not acknowledged."""
        return int(self.server.xpending(KEYS.analyzed(), GROUP)["pending"])

    def votes(self, symbol: str) -> list[str]:
        """Messages of the symbol's list."""
        return [text.split('"')[1] for text in self.server.lrange(KEYS.batch(symbol), 0, -1)]

    def recent(self, symbol: str) -> list[tuple[str, float]]:
        """Messages of the symbol's recent votes with their moments (ms)."""
        rows = self.server.zrange(KEYS.recent(symbol), 0, -1, withscores=True)
        return [(text.split('"')[1], float(score)) for text, score in rows]


@pytest.fixture
def chain(redis_client: redis.Redis) -> Chain:
    """On an empty server."""
    return Chain(redis_client)


def a_chunk(entries: dict[str, str], *messages: AnalyzedMessage, job: PackedJob | None = None) -> Chunk:
    """The messages with their legs, and the job of whichever has an urgent one."""
    chunk = Chunk()
    for message in messages:
        _, legs = routed(message)
        urgent = any(leg.fate is Fate.URGENT for leg in legs)
        chunk.add(Turn(message, legs, entries.get(message.message_id, ""), job if urgent else None))
    return chunk


def a_job(name: str = "urgent-m2-AAA", symbol_of: str = "m2") -> PackedJob:
    """As RQ would write it, shortened."""
    return PackedJob(f"job:{name}", name, b"\x00data", ("origin", "immediate", "args", symbol_of))


def test_of_a_chunk_only_what_was_not_routed_before_is_opened(chain: Chain) -> None:
    """The second of five was: it answers no legs, and its entry is forgotten like the others'."""
    posts = [a_message(f"m{n}") for n in range(5)]
    chain.backlog.accept([routed(posts[1])])
    answers = chain.route(a_chunk(chain.deliver(*posts), *posts))

    assert [len(legs) for legs in answers] == [1, 0, 1, 1, 1]
    assert chain.votes("AAA") == ["m1", "m0", "m2", "m3", "m4"]
    assert chain.server.hget(KEYS.tally(), "legs") == "5"
    assert (chain.in_stream, chain.pending) == ([], 0)


def test_a_message_that_is_twice_in_a_chunk_is_routed_once(chain: Chain) -> None:
    """Its second entry is forgotten too."""
    first = chain.deliver(a_message("m1"))
    chain.server.delete(KEYS.message("m1"))
    second = chain.deliver(a_message("m1"))
    chunk = a_chunk(first, a_message("m1"))
    chunk.add(Turn(*routed(a_message("m1")), second["m1"]))

    assert [len(legs) for legs in chain.route(chunk)] == [1, 0]
    assert (chain.votes("AAA"), chain.in_stream) == (["m1"], [])


def test_every_vote_of_a_chunk_is_recent_at_its_own_moment(chain: Chain) -> None:
    """Three on one symbol, one on another; what is a day older than the newest of them is recent no more."""
    old = a_message("m0", at=NOON - timedelta(milliseconds=RECENT_WINDOW_MS - 2_000))
    posts = [a_message(f"m{n}", at=later(n)) for n in (1, 2, 3)] + [a_message("m4", symbols=("BBB",), at=later(4))]
    chain.backlog.accept([routed(old)])
    chain.route(a_chunk({}, *posts))

    assert chain.recent("AAA") == [(f"m{n}", to_ms(later(n))) for n in (1, 2, 3)]
    assert chain.recent("BBB") == [("m4", to_ms(later(4)))]


def test_an_urgent_leg_is_queued_once_with_its_job_as_it_was_packed(chain: Chain) -> None:
    """The second time its job is known; when the job is done and gone while the leg is open, only the answer tells."""
    post, job = a_message("m2", confidence=0.95), a_job()
    chain.route(a_chunk(chain.deliver(post), post, job=job))

    assert chain.server.lrange(LINE.key, 0, -1) == ["urgent-m2-AAA"]
    assert chain.server.smembers(LINE.queues) == {LINE.key}
    assert chain.server.hgetall("job:urgent-m2-AAA") == {"data": "\x00data", "origin": "immediate", "args": "m2"}
    assert (chain.in_stream, chain.pending) == ([], 0)

    (again,) = chain.route(a_chunk({}, post, job=job))
    assert [(leg.fate, leg.vote) for leg in again] == [(Fate.URGENT, None)]
    assert chain.server.llen(LINE.key) == 1


def test_an_urgent_leg_that_still_needs_its_job_keeps_its_entry(chain: Chain) -> None:
    """Whoever opened it died; its neighbours in the chunk are forgotten."""
    post, other = a_message("m2", confidence=0.95), a_message("m3", symbols=("BBB",))
    chain.backlog.accept([routed(post)])
    chain.route(a_chunk(chain.deliver(post, other), post, other))

    assert (chain.in_stream, chain.pending) == (["m2"], 1)


def test_a_job_that_is_known_is_not_queued_again(chain: Chain) -> None:
    """Its hash is there: it waits, runs or ended."""
    post = a_message("m2", confidence=0.95)
    chain.server.hset("job:urgent-m2-AAA", "data", "as it was")
    chain.route(a_chunk({}, post, job=a_job()))

    assert chain.server.hgetall("job:urgent-m2-AAA") == {"data": "as it was"}
    assert not chain.server.exists(LINE.key)


def test_a_repost_in_the_same_chunk_is_a_duplicate_and_queues_nothing(chain: Chain) -> None:
    """Of three with one text the first votes; the urgent one among the others brings no job."""
    first = a_message("m1", fingerprint="one text")
    urgent = a_message("m2", confidence=0.95, fingerprint="one text", at=later(1))
    third = a_message("m3", fingerprint="one text", at=later(2))
    answers = chain.route(a_chunk(chain.deliver(first, urgent, third), first, urgent, third, job=a_job()))

    assert [leg.leg_id for legs in answers for leg in legs] == ["m1:AAA", "m2:-", "m3:-"]
    assert chain.votes("AAA") == ["m1"]
    assert not chain.server.exists(LINE.key)
    assert chain.server.zscore(KEYS.seen_texts(), "one text") == to_ms(later(2))
    assert chain.server.hgetall(KEYS.seen_owners()) == {"one text": "m1"}
    assert chain.in_stream == []


def test_a_body_that_cannot_be_read_is_a_dead_letter_once(chain: Chain) -> None:
    """With its reason, what is wrong, and itself; counted, and its entry forgotten."""
    entries, chunk = chain.deliver(a_message("m1")), Chunk()
    chunk.bury(Unreadable("m1", "invalid_message", NOON, "v: 2", b'{"v":2}'), entries["m1"])
    for _ in range(2):
        chain.route(chunk)
    (letter,) = chain.inbox.dead_letters(10)

    words = {"stage": "router", "reason": "invalid_message", "detail": "v: 2", "raw": '{"v":2}'}
    assert {name: value for name, value in letter.items() if name != "id"} == words
    assert chain.server.hget(KEYS.tally(), "dead:invalid_message") == "1"
    assert chain.in_stream == []


def test_a_list_of_the_wrong_type_ends_the_legs_of_its_own_symbol(chain: Chain) -> None:
    """An urgent one among them brings no job; its neighbours on other symbols are buffered."""
    chain.server.set(KEYS.batch("AAA"), "a word")
    urgent, other = a_message("m2", confidence=0.95), a_message("m3", symbols=("BBB",))
    chain.route(a_chunk(chain.deliver(urgent, other), urgent, other, job=a_job()))
    facts = {"state": "error", "stage": "router", "rule": "unusable_list", "observed": "AAA"}

    assert chain.server.hgetall(KEYS.outcome("m2:AAA")) == facts | {"limit": "a list of votes", "at": NOON.isoformat()}
    assert (chain.votes("BBB"), chain.server.hget(KEYS.tally(), "buffered")) == (["m3"], "1")
    assert not chain.server.exists(LINE.key)


def test_a_full_list_is_told_by_its_symbol(chain: Chain) -> None:
    """Two votes fill it; one does not."""
    posts = [a_message("m1"), a_message("m2"), a_message("m3", symbols=("BBB",))]

    assert chain.backlog.accept_chunk(a_chunk({}, *posts), LINE, 2)[1] == ["AAA"]


def test_a_turn_after_an_unreadable_message_is_refused() -> None:
    """Answers are numbered: those that cannot be read come last."""
    chunk = Chunk()
    chunk.bury(Unreadable("m1", "invalid_message", NOON), "1-0")

    with pytest.raises(ValueError, match="valid: before them"):
        chunk.add(Turn(*routed(a_message("m2"))))

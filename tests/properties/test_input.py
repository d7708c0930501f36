"""Whatever comes in ends as an accepted post or a counted refusal, and every accepted post has legs with a fate.

`make test` tries some thousand lines, messages and bodies; `make fuzz` more than 100,000, and counts them.
"""

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.analyzer import LexiconAnalyzer
from pipeline.errors import InvalidInputError
from pipeline.models import TERMINAL, AnalyzedMessage, Label, OrchestratorState, Sentiment, SocialMessage, TickerReading
from pipeline.router import DenyList, Fate, RouterSettings, is_high_signal, route
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.posts import BOM, MAX_TEXT_BYTES, parse_post
from workers.adapters.route_script import Chunk, Turn, Unreadable
from workers.adapters.take_script import Delivery, Taken
from workers.collect import Intake
from workers.route import Router

NOW = datetime(2014, 6, 2, 15, tzinfo=UTC)
ANALYZER = LexiconAnalyzer(frozenset({"AAPL", "BRK.B", "T", "TSLA"}))
TRIED: Counter[str] = Counter()
REASONS = {
    "line_too_long", "not_json", "number_not_finite", "too_deep", "not_an_object", "missing_field", "wrong_type",
    "too_long", "bad_source", "unknown_source", "bad_time", "time_out_of_range", "time_in_future", "duplicate_id",
}  # fmt: skip
POST = {
    "id": "1",
    "created_at": "2014-06-02T14:59:58+00:00",
    "source": "twitter",
    "author": "ann",
    "followers": 5,
    "text": "$AAPL breaks out, $TSLA too",
}


@pytest.fixture(autouse=True, scope="module")
def _silence() -> Iterator[None]:
    """A hundred thousand refusals need not be printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


# ---- lines ---------------------------------------------------------------------------------------------------

NASTY = st.sampled_from([
    "", " ", "\x00", "\x1b[2J", "\u202e", "<img src=x onerror=alert(1)>", "../../etc/passwd", "$AAPL", "$T $T", "NaN",
    "9" * 400, "0001-01-01T00:00:00", "9999-12-31T23:59:59+14:00", "9999-12-31T23:59:59-23:59", "2014-06-02",
    "2014-06-02T15:00:00Z", "2014-06-02T15:00:31Z", "2014-06-02 15:00", "2014-02-30T00:00:00", "2014-06-02T24:00",
    "x" * 257, "é" * 9_000, "\U0001f680" * 5_000, "h" + "0" * 24,
])  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**60, max_value=10**40),
    st.floats(),
    st.text(max_size=40),
    NASTY,
    st.datetimes().map(datetime.isoformat),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
CHANGES = st.dictionaries(st.sampled_from([*POST, "received_at", "confidence"]), VALUES, max_size=3)


def as_line(fields: Any, *, ascii_only: bool = True) -> bytes:
    """JSON as a careless source writes it: NaN and lone surrogates included."""
    return json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid line with some bytes cut, repeated or replaced."""
    line = as_line(POST | draw(CHANGES))
    first = draw(st.integers(0, len(line)))
    last = draw(st.integers(first, len(line)))
    return line[:first] + draw(st.sampled_from([b"", line[first:last] * 2, b"\xff", b"\x00", b"{", b'"'])) + line[last:]


LINES = st.one_of(
    st.binary(max_size=200),
    st.builds(as_line, CHANGES.map(lambda changes: POST | changes), ascii_only=st.booleans()),
    st.builds(as_line, VALUES),
    damaged(),
    st.integers(0, 3_000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(1, 12).map(lambda depth: as_line(POST | {"x": json.loads("[" * depth + "]" * depth)})),
    st.sampled_from([b"1e999", b'{"id":1e999}', b'{"id":NaN}', b'{"id":-Infinity}', b'{"a":' * 2_000]),
)


def read(line: bytes) -> SocialMessage | str:
    """The post, or the reason of its refusal."""
    try:
        return parse_post(line, NOW)
    except InvalidInputError as error:
        return error.reason


@dataclass
class MemoryInbox:
    """Accepts an id once, keeps letters in memory; `bodies` is what the stream delivers."""

    seen: set[str] = field(default_factory=set)
    letters: list[tuple[str, str]] = field(default_factory=list)

    def append(self, messages: list[AnalyzedMessage]) -> list[bool]:
        answers = []
        for message in messages:
            message.model_dump_json().encode()
            answers.append(message.message_id not in self.seen)
            self.seen.add(message.message_id)
        return answers

    def bury(self, stage: str, reason: str, detail: str, raw: bytes, *, refused: bool = True) -> None:
        (detail + raw[:4_096].decode("utf-8", "replace")).encode()
        self.letters.append((stage, reason))


def levels(value: Any) -> int:
    """How deep containers nest, 0 for a scalar; every number on the way is finite."""
    assert not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, dict | list):
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(levels, inside), default=0)


@given(lines=st.lists(LINES, max_size=4), clock=st.sampled_from([NOW, None]))
@example(lines=[as_line(POST), as_line(POST)], clock=NOW)
@example(lines=[as_line(POST | {"text": "\ud800"})], clock=NOW)
@example(lines=[b"\xef\xbb\xbf" * 2 + as_line(POST)], clock=None)
def test_each_line_is_accepted_or_refused_with_a_counted_reason(lines: list[bytes], clock: datetime | None) -> None:
    """Read = accepted + refused, letters = refusals but those of known ids; nothing else is ever raised."""
    TRIED["lines"] += len(lines)
    inbox: Any = MemoryInbox()
    intake = Intake(inbox, ANALYZER)
    fresh = intake.take(lines, clock)

    assert intake.read == len(lines) == intake.accepted + sum(intake.refused.values())
    assert intake.accepted == len(fresh) == len(inbox.seen)
    assert intake.refused.keys() <= REASONS
    assert Counter(reason for _, reason in inbox.letters) == Counter(intake.refused) - Counter(
        {"duplicate_id": intake.refused.get("duplicate_id", 0)}
    )


@given(line=LINES)
def test_what_is_accepted_keeps_within_the_caps(line: bytes) -> None:
    """16 KiB of text, 8 levels, finite numbers, aware times in order, ids that fit a key and a job's name."""
    TRIED["lines"] += 1
    post = read(line)
    if isinstance(post, str):
        assert post in REASONS
        return

    assert len(post.text.encode()) <= MAX_TEXT_BYTES == 16_384
    assert post.message_id.replace("-", "").replace("_", "").isalnum()
    assert len(post.message_id) <= 120
    assert levels(json.loads(line.removeprefix(BOM), parse_constant=float)) <= 8
    assert post.created_at.utcoffset() == timedelta(0)
    assert max(post.created_at, post.received_at) <= NOW + timedelta(seconds=30)
    assert SocialMessage.model_validate_json(post.model_dump_json()) == post


# ---- legs ------------------------------------------------------------------------------------------------------

SYMBOLS = st.sampled_from(["AAPL", "BRK.B", "T", "TSLA", "ZZZ", "A", "GME"])
UNIT = st.floats(0, 1) | st.sampled_from([0.0, 0.84999, 0.85, 0.85001, 1.0])


@st.composite
def messages(draw: st.DrawFn) -> AnalyzedMessage:
    """Analyzed messages as the collector may push them, extremes included."""
    inside = draw(st.lists(SYMBOLS, unique=True, max_size=5))
    outside = draw(st.lists(SYMBOLS.filter(lambda s: s not in inside), unique=True, max_size=3))
    age = timedelta(seconds=draw(st.floats(-30, 200) | st.sampled_from([0.0, 30.0, 30.001, 120.0, 120.001])))
    message = SocialMessage(
        message_id=f"x-{draw(st.integers(0, 9))}",
        source="x",
        source_id="1",
        created_at=NOW - age,
        received_at=NOW,
        author=draw(st.sampled_from(["ann", "bob", "\x1b[2J"])),
        text=draw(st.text(max_size=20)),
    )
    return AnalyzedMessage(
        message=message,
        sentiment=Sentiment(
            label=draw(st.sampled_from(Label)), score=draw(st.floats(-1, 1)), confidence=draw(UNIT), model="m"
        ),
        tickers=TickerReading(
            symbols=tuple(inside),
            outside=tuple(outside),
            primary=draw(st.sampled_from([None, *inside, *outside])),
            cashtags=draw(st.integers(len(inside) + len(outside), 12)),
        ),
        fingerprint="f",
        spam=draw(st.sampled_from([None, "promo_template"])),
    )


@given(
    message=messages(),
    denied=st.frozensets(SYMBOLS, max_size=2),
    muted=st.frozensets(st.sampled_from(["ann", "bob"]), max_size=1),
    threshold=UNIT,
)
def test_every_message_has_legs_and_every_leg_a_fate(
    message: AnalyzedMessage, denied: frozenset[str], muted: frozenset[str], threshold: float
) -> None:
    """At least one leg, each once; an end has a word and a rule, a vote a ballot; only the primary's leg is urgent."""
    TRIED["messages"] += 1
    legs = route(message, NOW, DenyList(symbols=denied, authors=muted), RouterSettings(), threshold)
    whole = (*message.tickers.symbols, *message.tickers.outside)

    assert len({leg.leg_id for leg in legs}) == len(legs) >= 1
    assert [leg.symbol for leg in legs] in ([None], list(whole))
    for leg in legs:
        ended = leg.fate is Fate.END
        assert (leg.outcome in TERMINAL, leg.refusal is not None, leg.vote is None) == (ended, ended, ended)
        if leg.fate is Fate.URGENT:
            assert is_high_signal(message, threshold)
            assert leg.symbol == message.tickers.primary
    assert sum(leg.fate is Fate.URGENT for leg in legs) <= 1


# ---- bodies in the stream -----------------------------------------------------------------------------------------

BODY = AnalyzedMessage(
    message=SocialMessage(
        message_id="x-1", source="x", source_id="1", created_at=NOW, received_at=NOW, author="ann", text="$AAPL"
    ),
    sentiment=Sentiment(label=Label.BULLISH, score=0.5, confidence=0.9, model="m"),
    tickers=TickerReading(symbols=("AAPL",), primary="AAPL", cashtags=1),
    fingerprint="f",
).model_dump_json()


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """What a hand might leave where a message's body belongs; Redis hands it over as text."""
    kind = draw(st.sampled_from(["text", "value", "part", "splice"]))
    if kind == "text":
        return draw(st.text(max_size=100))
    if kind == "value":
        return json.dumps(draw(VALUES))
    if kind == "part":
        fields = json.loads(BODY)
        part = fields[draw(st.sampled_from(["message", "sentiment", "tickers"]))]
        part[draw(st.sampled_from(sorted(part)))] = draw(VALUES)
        return json.dumps(fields)
    cut = draw(st.integers(0, len(BODY)))
    return BODY[:cut] + draw(st.text(max_size=5)) + BODY[cut:]


@dataclass
class MemoryJobs:
    """Keeps what was queued."""

    ids: list[str] = field(default_factory=list)

    def pack(self, queue: str, job: str, job_id: str, args: tuple[str, ...], description: str) -> PackedJob:
        self.ids.append(job_id)
        return PackedJob(f"rq:job:{job_id}", job_id, b"", ())

    def line(self, queue: str) -> Line:
        return Line(queue, "queues")


@dataclass
class OpenBacklog:
    """Opens every leg it is given, and ends each message that cannot be read once."""

    accepted: list[Turn] = field(default_factory=list)
    ended: list[Unreadable] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)

    def accept_chunk(self, chunk: Chunk, _line: Line, _full: int, _meanwhile: Any) -> Any:
        turns, unreadable = chunk.turns, chunk.unreadable
        self.accepted += turns
        self.ended += [one for one, _ in unreadable]
        self.acknowledged |= {turn.entry_id for turn in turns} | {entry for _, entry in unreadable}
        return [turn.legs for turn in turns], []


@given(found=st.lists(st.one_of(st.none(), bodies(), st.just(BODY)), max_size=4))
@example(found=[BODY])
@example(found=[BODY.replace("0.9", "NaN")])
@example(found=[BODY.replace("0.9", "1e999")])
@example(found=[BODY.replace('"bullish"', '"BULLISH"')])
@example(found=["[" * 5_000])
def test_each_body_in_the_stream_is_routed_or_a_dead_letter(found: list[str | None]) -> None:
    """Deliveries = routed + ended with a letter; a bad body never loses its neighbour nor becomes an order by luck."""
    TRIED["bodies"] += len(found)
    backlog, jobs = OpenBacklog(), MemoryJobs()
    nothing: Any = None
    parts: Any = (backlog, jobs)
    router = Router(
        consumer="r1",
        inbox=nothing,
        backlog=parts[0],
        queues=parts[1],
        scheduler=nothing,
        clock="event",
        settings=RouterSettings(),
        threshold=0.85,
        max_buffer_size=1_000,
        max_buffered_total=100_000,
    )
    bodies = [None if body is None else body.encode("utf-8", "surrogatepass") for body in found]
    deliveries = tuple(Delivery(f"{n}-0", f"x-{n}", body) for n, body in enumerate(bodies))
    router._route(router._decide_all(Taken(OrchestratorState.RUNNING, 0, DenyList(), NOW, deliveries)), None)

    assert len(backlog.accepted) + len(backlog.ended) == len(found)
    assert backlog.acknowledged == {one.entry_id for one in deliveries}
    assert all(turn.legs for turn in backlog.accepted)
    assert {one.reason for one in backlog.ended} <= {"message_missing", "invalid_message"}
    assert len(jobs.ids) == sum(leg.fate is Fate.URGENT for turn in backlog.accepted for leg in turn.legs)


def test_a_long_run_tries_more_than_a_hundred_thousand_cases(capsys: pytest.CaptureFixture[str]) -> None:
    """What the tests above tried, said aloud; a short run tries some hundred of each kind."""
    with capsys.disabled():
        sys.stdout.write(f" tried {dict(TRIED)} ")
    long_run = settings().max_examples > 1_000

    assert TRIED["lines"] + TRIED["messages"] + TRIED["bodies"] >= (100_000 if long_run else 0)
    assert min(TRIED.values(), default=0) >= (20_000 if long_run else 0)

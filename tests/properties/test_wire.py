"""Two readers of one body: what the router's light one accepts, the model accepts, and both route it the same way."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading, Vote
from pipeline.router import DenyList, RouterSettings, route
from workers.adapters.wire_posts import LightMessage, post_of
from workers.adapters.wire_votes import named_by, vote_fields, vote_json, votes_of

NOON = datetime(2025, 9, 17, 16, tzinfo=UTC)
SYMBOLS = st.sampled_from(["AAPL", "BRK.B", "T"])
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 # bounds
TEXTS = st.text(max_size=60)
SENTIMENTS = st.builds(
    Sentiment,
    label=st.sampled_from(Label),
    score=st.floats(-1, 1),
    confidence=st.floats(0, 1),
    model=TEXTS,
)
MESSAGES = st.builds(
    AnalyzedMessage,
    message=st.builds(
        SocialMessage,
        message_id=st.from_regex(r"\A[A-Za-z0-9_-]{1,20}\Z"),
        source=st.just("x"),
        source_id=TEXTS,
        created_at=MOMENTS,
        received_at=MOMENTS,
        author=TEXTS,
        followers=st.none() | st.integers(),
        text=TEXTS,
    ),
    sentiment=SENTIMENTS,
    tickers=st.builds(
        TickerReading,
        symbols=st.lists(SYMBOLS, unique=True, max_size=3).map(tuple),
        outside=st.lists(TEXTS, max_size=2).map(tuple),
        primary=st.none() | SYMBOLS,
        cashtags=st.integers(0, 5),
        named=st.lists(SYMBOLS, unique=True, max_size=2).map(tuple),
    ),
    fingerprint=TEXTS,
    spam=st.none() | TEXTS,
    by_symbol=st.dictionaries(SYMBOLS | TEXTS, SENTIMENTS, max_size=2),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from(["bullish", "2025-09-17T16:00:00"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def body_of(message: AnalyzedMessage) -> bytes:
    """As the collector writes it."""
    return message.model_dump_json().encode()


BODY = body_of(
    AnalyzedMessage(
        message=SocialMessage(
            message_id="x-1", source="x", source_id="1", created_at=NOON, received_at=NOON, author="ann", text="$AAPL"
        ),
        sentiment=Sentiment(label=Label.BULLISH, score=0.5, confidence=0.9, model="m"),
        tickers=TickerReading(symbols=("AAPL",), primary="AAPL", cashtags=1),
        fingerprint="f",
    )
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body in which something was cut in, cut out, exchanged, or written twice."""
    whole = body_of(draw(MESSAGES))
    kind = draw(st.sampled_from(["splice", "cut", "value", "loose"]))
    at = draw(st.integers(0, len(whole)))
    if kind == "splice":
        return whole[:at] + draw(st.binary(max_size=4)) + whole[at:]
    if kind == "cut":
        return whole[:at] + whole[at + draw(st.integers(1, 9)) :]
    fields = json.loads(whole)
    if kind == "value":
        part = draw(st.sampled_from([fields, fields["message"], fields["sentiment"], fields["tickers"]]))
        part[draw(st.sampled_from([*sorted(part), "stranger"]))] = draw(VALUES)
    return json.dumps(fields, indent=draw(st.none() | st.integers(0, 2))).encode()


def assert_same(body: bytes) -> None:
    """Refused by the light reader, or read alike by both."""
    try:
        light = post_of(body)
    except ValueError:
        return
    message = AnalyzedMessage.model_validate_json(body)
    settings, deny = RouterSettings(), DenyList()
    for as_of in (NOON, message.message.created_at + timedelta(seconds=1)):
        assert route(light, as_of, deny, settings, 0.85) == route(message, as_of, deny, settings, 0.85)
    assert (light.message_id, light.fingerprint) == (message.message_id, message.fingerprint)
    assert light.message.received_at == message.message.received_at


@given(body=damaged())
@example(body=BODY.replace(b"0.9", b"NaN"))
@example(body=BODY.replace(b"0.9", b"1e999"))
@example(body=BODY.replace(b"0.9", b"-0"))
@example(body=BODY.replace(b"16:00:00Z", b"16:00:60Z"))
@example(body=BODY.replace(b"16:00:00Z", b"16:00:00.1234567Z"))
@example(body=BODY.replace(b"16:00:00Z", b"16:00:00+24:00"))
@example(body=BODY.replace(b"16:00:00Z", b"16:00:00"))
@example(body=BODY.replace(b'"x-1"', b'"x-1\\n"'))
@example(body=BODY.replace(b'"ann"', b'"\\ud800"'))
@example(body=BODY.replace(b'"ann"', b'"\xff"'))
@example(body=BODY.replace(b'"ann"', b'"\xed\xa0\x80"'))
@example(body=b"[" * 100_000)
def test_what_the_model_refuses_is_refused(body: bytes) -> None:
    """And what both accept goes the same way, leg by leg."""
    assert_same(body)


@given(message=MESSAGES)
def test_what_the_collector_writes_is_read(message: AnalyzedMessage) -> None:
    """Whatever the analyzer found."""
    post_of(body_of(message))
    assert_same(body_of(message))


def test_a_usual_body_is_read_by_the_light_reader() -> None:
    """Moments, floats and words beyond ASCII come out as the model writes them; else nothing would be gained."""
    message = AnalyzedMessage.model_validate_json(BODY.replace(b"16:00:00Z", b"16:00:00.123400Z").replace(b"0.9", b"1"))
    told = message.model_copy(
        update={"message": message.message.model_copy(update={"text": '$AAPL \u2192 "up"\n\u00e9'})}
    )

    assert isinstance(post_of(body_of(told)), LightMessage)


@pytest.mark.parametrize(
    "twice",
    [
        BODY.replace(b'"v":1,', b'"v":1,"v":1,'),
        BODY.replace(b'"score":0.5,', b'"score":0.5,"score":-0.5,'),
        BODY.replace(b'"by_symbol":{}', b'"by_symbol":{},"by_symbol" :{}'),
        BODY.replace(b'"author":"ann"', b'"author":"bob","author":"ann"'),
        BODY.replace(b'"spam":null', b'"spam":"x","\\u0073pam":null'),
    ],
)
def test_a_name_twice_is_refused(twice: bytes) -> None:
    """JSON readers keep the last: two readers of one body must not disagree on what it says."""
    AnalyzedMessage.model_validate_json(twice)
    with pytest.raises(ValueError, match="a name is there twice"):
        post_of(twice)


def test_a_refusal_holds_no_value_of_the_body() -> None:
    """Letters are read by people, and their details are logged."""
    for body in (
        BODY.replace(b'"bullish"', b'"secret"'),
        BODY.replace(b'"x-1"', b'"secret!"'),
        b'"secret',
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011 # the words are what is asked about
            post_of(body)
        assert "secret" not in str(refusal.value)


# ---- votes ------------------------------------------------------------------------------------------------

VOTES = st.builds(
    Vote,
    id=TEXTS,
    by=TEXTS,
    label=st.sampled_from(Label),
    score=st.floats(-1, 1),
    confidence=st.floats(0, 1),
    created_at=MOMENTS,
    at=MOMENTS,
    text=TEXTS,
    urgent=st.booleans(),
)


@given(vote=VOTES)
def test_a_vote_is_read_as_it_was_written(vote: Vote) -> None:
    """To the microsecond and the last bit."""
    assert votes_of([vote_json(vote)]) == [vote]


def first_version(**changes: Any) -> bytes:
    """A vote as the release before wrote it."""
    fields: dict[str, Any] = {"v": 1, "id": "m1", "by": "ann", "label": "bullish", "score": 0.5, "confidence": 0.7}
    moments = {"created_at": "2025-09-17T16:00:00Z", "at": "2025-09-17T16:00:00Z"}
    return json.dumps(fields | moments | {"text": "f", "urgent": False} | changes).encode()


def test_a_vote_of_the_release_before_is_read() -> None:
    """Lists outlive an upgrade."""
    assert votes_of([first_version()]) == [Vote("m1", "ann", Label.BULLISH, 0.5, 0.7, NOON, NOON, "f")]
    assert vote_fields(first_version())["by"] == "ann"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"[3]",
        first_version(score=1.01),
        first_version(score=-1.01),
        first_version(confidence=1.01),
        first_version(confidence=-0.01),
        first_version(id=None),
        b'[2,null,"ann","bullish",0.5,0.7,"2025-09-17T16:00:00Z","2025-09-17T16:00:00Z","f",false]',
        first_version(at="2025-09-17T16:00:00"),
        first_version(label="up"),
        b'[2,"m1","ann","bullish",1.5,0.7,"2025-09-17T16:00:00Z","2025-09-17T16:00:00Z","f",false]',
        b'[2,"m1","ann","bullish",0.5,NaN,"2025-09-17T16:00:00Z","2025-09-17T16:00:00Z","f",false]',
        b'[2,"m1","ann","bullish",0.5,0.7,"2025-09-17T16:00:00Z","2025-09-17T16:00:00","f",false]',
        b'[2,"m1","ann","bullish",0.5,0.7,"2025-09-17T16:00:00Z","2025-09-17T16:00:00Z","f",false,1]',
    ],
)
def test_what_is_no_vote_is_refused(text: bytes) -> None:
    """Out of range, not finite, without a zone, too short, too long."""
    with pytest.raises(ValueError, match=r".+"):
        votes_of([text])


def test_a_damaged_vote_still_names_its_message() -> None:
    """So that its leg ends; an urgent one has an end of its own."""
    assert named_by(b'[2,"m1","ann","bullish",7]') == "m1"
    assert named_by(first_version(score="high")) == "m1"
    assert named_by(first_version(urgent=True)) is None
    assert named_by(b'[2,"m1","ann","bullish",0,0,"","","f",true]') is None
    assert [named_by(text) for text in (b"", b"7", b"[2]", b'{"id":7}')] == [None] * 4

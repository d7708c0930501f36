"""Raw lines: what makes a post, what is refused, and under which reason it is counted."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidInputError
from pipeline.models import SocialMessage
from workers.adapters.posts import MAX_LINE_BYTES, message_id, parse_post

NOW = datetime(2014, 1, 2, 15, 0, 0, tzinfo=UTC)


def a_line(**changes: Any) -> bytes:
    """A valid line; a change to ... takes the field away."""
    fields = {
        "id": "418169902613008384",
        "created_at": "2014-01-02T14:59:58+00:00",
        "source": "twitter",
        "author": "9430f166708b",
        "followers": 545,
        "text": "$AAPL breaks out",
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def reason(line: bytes, now: datetime | None = NOW, known: tuple[str, ...] = ()) -> str:
    """Why the line is refused."""
    with pytest.raises(InvalidInputError) as refused:
        parse_post(line, now, known)
    return refused.value.reason


def test_a_full_line_becomes_a_message() -> None:
    """Every field arrives, times as aware UTC."""
    assert parse_post(a_line(received_at="2014-01-02T16:00:00+01:00"), NOW) == SocialMessage(
        message_id="twitter-418169902613008384",
        source="twitter",
        source_id="418169902613008384",
        created_at=datetime(2014, 1, 2, 14, 59, 58, tzinfo=UTC),
        received_at=NOW,
        author="9430f166708b",
        followers=545,
        text="$AAPL breaks out",
    )


@pytest.mark.parametrize("absent", [..., None])
def test_followers_and_received_at_may_be_missing(absent: object) -> None:
    """A source need not know them: received is now."""
    message = parse_post(a_line(followers=absent, received_at=absent), NOW)

    assert (message.followers, message.received_at) == (None, NOW)


def test_in_replay_a_post_is_known_when_it_was_posted() -> None:
    """Without a clock the message's own time is the time."""
    message = parse_post(a_line(), None)

    assert message.received_at == message.created_at


def test_more_fields_than_we_know_are_ignored() -> None:
    """Sources may say more; a post carries no sentiment of its own."""
    assert parse_post(a_line(confidence=-1, lang="en"), NOW) == parse_post(a_line(), NOW)


def test_a_naive_time_is_utc() -> None:
    """STAGES 0."""
    assert parse_post(a_line(created_at="2014-01-02T14:00:00"), NOW).created_at.hour == 14


@pytest.mark.parametrize("seconds", [0, 29, 30])
def test_a_clock_that_is_up_to_30_s_ahead_is_forgiven(seconds: int) -> None:
    """The limit itself passes."""
    ahead = NOW + timedelta(seconds=seconds)

    assert parse_post(a_line(created_at=ahead.isoformat()), NOW).created_at == ahead


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": (NOW + timedelta(seconds=30, microseconds=1)).isoformat()},
        {"received_at": (NOW + timedelta(seconds=31)).isoformat()},
        {"created_at": "2014-01-02T14:00:00", "received_at": "2014-01-02T13:59:29"},
    ],
)
def test_a_time_more_than_30_s_in_the_future_is_refused(changes: dict[str, str]) -> None:
    """Of now, and of the moment the post was received."""
    assert reason(a_line(**changes)) == "time_in_future"


def test_in_replay_a_post_received_before_it_was_posted_is_refused() -> None:
    """Without a clock the line must still agree with itself."""
    line = a_line(created_at="2014-01-02T14:00:00", received_at="2014-01-02T13:59:29")

    assert reason(line, now=None) == "time_in_future"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (b'{"id": 1', "not_json"),
        (b"{'id': 1}", "not_json"),
        (b'{"id": "\xff"}', "not_json"),
        (rb'{"id": "\ud800"}', "not_json"),
        (b'{"confidence": NaN}', "number_not_finite"),
        (b'{"confidence": -Infinity}', "number_not_finite"),
        (b'{"confidence": 1e999}', "number_not_finite"),
        (b'{"a": -1e999}', "number_not_finite"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"[" * 8 + b"]" * 8, "not_an_object"),
        (b"[" * 9 + b"]" * 9, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "too_deep"),
        (b" " * (MAX_LINE_BYTES + 1), "line_too_long"),
    ],
)
def test_a_line_that_is_no_object_is_refused(line: bytes, expected: str) -> None:
    """Each kind of broken line is counted under its own reason."""
    assert reason(line) == expected


@pytest.mark.parametrize("field", ["id", "created_at", "source", "author", "text"])
@pytest.mark.parametrize("absent", [..., None])
def test_a_missing_field_is_refused_by_name(field: str, absent: object) -> None:
    """A field that is null is missing."""
    with pytest.raises(InvalidInputError, match=f"{field} is missing") as refused:
        parse_post(a_line(**{field: absent}), NOW)

    assert refused.value.reason == "missing_field"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": True}, "wrong_type"),
        ({"id": 1.5}, "wrong_type"),
        ({"id": ["a"]}, "wrong_type"),
        ({"id": ""}, "missing_field"),
        ({"id": "x" * 257}, "too_long"),
        ({"author": 7}, "wrong_type"),
        ({"author": "  "}, "missing_field"),
        ({"author": "x" * 257}, "too_long"),
        ({"text": {"full": "x"}}, "wrong_type"),
        ({"followers": -1}, "wrong_type"),
        ({"followers": "12"}, "wrong_type"),
        ({"followers": True}, "wrong_type"),
        ({"followers": 1.0}, "wrong_type"),
        ({"source": 1}, "wrong_type"),
        ({"source": "Twitter"}, "bad_source"),
        ({"source": "../x"}, "bad_source"),
        ({"source": "a\n"}, "bad_source"),
        ({"source": "x" * 33}, "bad_source"),
        ({"created_at": 1388674798}, "wrong_type"),
        ({"created_at": "yesterday"}, "bad_time"),
        ({"created_at": "2014-01-02"}, "bad_time"),
        ({"created_at": "20140102T150000"}, "bad_time"),
        ({"created_at": "2014-02-30T00:00:00"}, "bad_time"),
        ({"created_at": "2014-01-02T25:00:00"}, "bad_time"),
        ({"created_at": "9999-12-31T23:59:59-14:00"}, "bad_time"),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, "bad_time"),
        ({"created_at": "1989-12-31T23:59:59"}, "time_out_of_range"),
        ({"received_at": "soon"}, "bad_time"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused(changes: dict[str, Any], expected: str) -> None:
    """Nothing is guessed."""
    assert reason(a_line(**changes)) == expected


def test_an_unknown_source_is_refused_when_sources_are_listed() -> None:
    """A list of known sources is closed; an empty one is open."""
    assert reason(a_line(source="rss"), known=("twitter",)) == "unknown_source"
    assert parse_post(a_line(source="rss"), NOW).source == "rss"


def test_a_refusal_never_repeats_the_words_of_the_post() -> None:
    """Exception strings are logged and kept."""
    with pytest.raises(InvalidInputError) as refused:
        parse_post(b'{"text": "private words', NOW)

    assert "private" not in str(refused.value)


def test_a_line_of_exactly_one_mebibyte_is_read() -> None:
    """The cap itself passes; its text is cut."""
    line = a_line(text="x").replace(b'"x"', b'"%s"')
    full = line % (b"x" * (MAX_LINE_BYTES - len(line) + 2))

    assert len(full) == MAX_LINE_BYTES
    assert len(parse_post(full, NOW).text) == 16_384


def test_a_long_text_is_cut_at_a_characters_end() -> None:
    """16 KiB of UTF-8: 5461 euro signs of 3 bytes are 16383 bytes, the next would be torn."""
    assert parse_post(a_line(text="€" * 6000), NOW).text == "€" * 5461


def test_an_empty_text_is_a_post() -> None:
    """A picture without words ends as no_symbol, like any post that names none."""
    assert parse_post(a_line(text=""), NOW).text == ""


def test_a_byte_order_mark_is_passed_over() -> None:
    """Files written elsewhere begin with one."""
    assert parse_post(b"\xef\xbb\xbf" + a_line(), NOW) == parse_post(a_line(), NOW)


def test_a_number_as_id_is_its_text() -> None:
    """Twitter's ids come both ways."""
    assert parse_post(a_line(id=418169902613008384), NOW).message_id == "twitter-418169902613008384"


# ---- ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", ["a", "A-b_9", "x" * 64, "h" + "0" * 23, "h" + "0" * 25])
def test_a_plain_id_stays_readable(plain: str) -> None:
    """Letters, digits, hyphen and underscore, up to 64."""
    assert message_id("rss", plain) == f"rss-{plain}"


@pytest.mark.parametrize("odd", ["x" * 65, "a/b", "a b", "é", "a\n", "https://e.com/1", "h" + "0" * 24])
def test_another_id_is_hashed(odd: str) -> None:
    """RQ and Redis keys bear only plain ids; an id that looks like our hash cannot pose as one."""
    hashed = message_id("rss", odd)

    assert hashed != f"rss-{odd}"
    assert len(hashed) == len("rss-h") + 24


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_ids_never_become_one(one: str, other: str) -> None:
    """Distinct posts of a source keep distinct ids."""
    assert (message_id("rss", one) == message_id("rss", other)) == (one == other)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_end_in_anything_but_a_refusal(line: bytes) -> None:
    """The collector survives whatever it is fed."""
    assert reason(line) in {"not_json", "not_an_object", "missing_field", "number_not_finite"}

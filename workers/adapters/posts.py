"""One raw JSON line -> a SocialMessage, or InvalidInputError with a reason that can be counted."""

import hashlib
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import orjson

from pipeline.errors import InvalidInputError
from pipeline.models import SocialMessage

MAX_LINE_BYTES: Final = 1_048_576
MAX_TEXT_BYTES: Final = 16_384
MAX_NAME_CHARACTERS: Final = 256
MAX_DEPTH: Final = 8
FUTURE_TOLERANCE: Final = timedelta(seconds=30)
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
BOM: Final = b"\xef\xbb\xbf"
SOURCE: Final = re.compile(r"[a-z0-9_]{1,32}")
PLAIN_ID: Final = re.compile(r"(?!h[0-9a-f]{24}\Z)[A-Za-z0-9_-]{1,64}")
_CONTAINERS: Final = (dict, list)
TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*")


def parse_post(line: bytes, now: datetime | None, known_sources: Collection[str] = ()) -> SocialMessage:
    """The post on this line: `id, created_at, source, author, followers?, text, received_at?`; more is ignored.

    `now`: the clock's time, aware UTC; None in replay, where a post is known when it was posted. A naive time is
    UTC. `known_sources`: names that may occur; empty = any well-formed one. The text is cut at 16 KiB of UTF-8.

    Raises InvalidInputError: line_too_long, not_json, number_not_finite, too_deep, not_an_object, missing_field,
    wrong_type, too_long, bad_source, unknown_source, bad_time, time_out_of_range, time_in_future. Its text names the
    field and the limit, never the post's words.
    """
    fields = _object(line)
    source = _source(fields, known_sources)
    source_id = _source_id(fields)
    created_at = _time(fields, "created_at")
    received_at = _time(fields, "received_at") if fields.get("received_at") is not None else now or created_at
    _refuse_future(created_at, received_at, now)
    return SocialMessage(
        message_id=message_id(source, source_id),
        source=source,
        source_id=source_id,
        created_at=created_at,
        received_at=received_at,
        author=_name(fields, "author"),
        followers=_followers(fields),
        text=_cut(_text(fields, "text")),
    )


def message_id(source: str, source_id: str) -> str:
    """`{source}-{id}`, or `{source}-h{hash}` for an id that is long, has other characters, or looks like a hash.

    A pure function of its arguments; `source` has no hyphen, so two sources never share an id.
    """
    if PLAIN_ID.fullmatch(source_id):
        return f"{source}-{source_id}"
    return f"{source}-h{hashlib.sha256(source_id.encode()).hexdigest()[:24]}"


def _refuse(reason: str, message: str) -> NoReturn:
    """The one way out for a line that cannot be used."""
    raise InvalidInputError(reason, message)


# ---- the line ------------------------------------------------------------------------------------------


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object on the line."""
    if len(line) > MAX_LINE_BYTES:
        _refuse("line_too_long", f"line has more than {MAX_LINE_BYTES} bytes")
    try:
        value = orjson.loads(line.removeprefix(BOM))
    except orjson.JSONDecodeError as broken:
        raise _why_not_json(line, broken) from None
    if isinstance(value, _CONTAINERS) and _depth_passes(value, MAX_DEPTH):
        _refuse("too_deep", f"nesting passes {MAX_DEPTH} levels")
    if not isinstance(value, dict):
        _refuse("not_an_object", f"line holds a JSON {type(value).__name__}; valid: an object")
    return value


def _why_not_json(line: bytes, broken: orjson.JSONDecodeError) -> InvalidInputError:
    """The refusal of a line the strict parser will not read, told apart with the lenient one of the library."""
    try:
        json.loads(line.removeprefix(BOM), parse_constant=_not_finite, parse_float=_finite)
    except InvalidInputError as known:
        return known
    except RecursionError:
        return InvalidInputError("too_deep", f"nesting passes {MAX_DEPTH} levels")
    except ValueError:
        pass
    return InvalidInputError("not_json", f"line is no JSON: {broken.msg} at byte {broken.pos}")


def _not_finite(word: str) -> NoReturn:
    """NaN, Infinity, -Infinity."""
    _refuse("number_not_finite", f"number {word}; valid: finite numbers")


def _finite(word: str) -> float:
    """The number, unless it is too large for one."""
    number = float(word)
    return number if abs(number) != float("inf") else _not_finite(word[:32])


def _depth_passes(value: Any, limit: int) -> bool:
    """Whether containers nest deeper than `limit`; level by level, so without recursion."""
    level = [value]
    for _ in range(limit):
        inner = (container.values() if isinstance(container, dict) else container for container in level)
        level = [child for children in inner for child in children if isinstance(child, _CONTAINERS)]
        if not level:
            return False
    return True


# ---- the fields -------------------------------------------------------------------------------------------


def _field(fields: dict[str, Any], name: str) -> Any:
    """The field's value, which must be there."""
    if fields.get(name) is None:
        _refuse("missing_field", f"{name} is missing")
    return fields[name]


def _text(fields: dict[str, Any], name: str) -> str:
    """The field's text."""
    value = _field(fields, name)
    if not isinstance(value, str):
        _refuse("wrong_type", f"{name} is a JSON {type(value).__name__}; valid: text")
    return value


def _name(fields: dict[str, Any], name: str) -> str:
    """A text of 1 to 256 characters."""
    value = _text(fields, name)
    if not value.strip():
        _refuse("missing_field", f"{name} is empty")
    if len(value) > MAX_NAME_CHARACTERS:
        _refuse("too_long", f"{name} has {len(value)} characters; valid: 1..{MAX_NAME_CHARACTERS}")
    return value


def _source(fields: dict[str, Any], known: Collection[str]) -> str:
    """The source's name."""
    value = _name(fields, "source")
    if not SOURCE.fullmatch(value):
        _refuse("bad_source", f"source = {value[:40]!r}; valid: 1..32 of a-z 0-9 _")
    if known and value not in known:
        _refuse("unknown_source", f"source = {value}; valid: {', '.join(sorted(known))}")
    return value


def _source_id(fields: dict[str, Any]) -> str:
    """The source's own id, a text or a whole number, as text."""
    value = _field(fields, "id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _name(fields, "id")


def _followers(fields: dict[str, Any]) -> int | None:
    """How many follow the author, if the source says."""
    value = fields.get("followers")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse("wrong_type", f"followers is {value if isinstance(value, int) else type(value).__name__}; valid: >= 0")
    return value


def _cut(text: str) -> str:
    """The text's first 16 KiB, at a character's end."""
    if len(text) * 4 <= MAX_TEXT_BYTES:
        return text
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")


# ---- times --------------------------------------------------------------------------------------------------


def _time(fields: dict[str, Any], name: str) -> datetime:
    """An ISO 8601 date and time as aware UTC; a naive one is UTC."""
    value = _text(fields, name)
    at = _instant(value)
    if at is None:
        _refuse("bad_time", f"{name} = {value[:40]!r}; valid: ISO 8601 such as 2014-01-02T15:04:05+00:00")
    if at < EARLIEST:
        _refuse("time_out_of_range", f"{name} = {at.isoformat()}; valid: {EARLIEST.isoformat()} or later")
    return at


def _instant(text: str) -> datetime | None:
    """The moment this text names; None when it names none (a date alone is none)."""
    if not TIME.fullmatch(text):
        return None
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _refuse_future(created_at: datetime, received_at: datetime, now: datetime | None) -> None:
    """No post is known more than 30 s before it was posted, nor from more than 30 s ahead of the clock."""
    if created_at - received_at > FUTURE_TOLERANCE:
        _refuse("time_in_future", f"created_at = {created_at.isoformat()}; valid: <= received + 30 s, {received_at}")
    if now is not None and max(created_at, received_at) - now > FUTURE_TOLERANCE:
        _refuse("time_in_future", f"received_at = {received_at.isoformat()}; valid: <= now + 30 s, {now.isoformat()}")

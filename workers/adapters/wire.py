"""Nouns as JSON text for Redis: a schema version first, decimals as strings, times in ISO, sets sorted."""

from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter

T = TypeVar("T")


def dump(value: object) -> str:
    """A dataclass as one JSON object that starts with `"v":1`. The same value always gives the same text."""
    return '{"v":1,' + orjson.dumps(value, default=_plain).decode()[1:]


def load(kind: type[T], text: str) -> T:
    """The noun a text of `dump` holds. Raises pydantic.ValidationError for any other text."""
    value: T = _adapter(kind).validate_json(text)
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")

"""Nouns as JSON text for Redis: a schema version first, decimals as strings, times in ISO, sets sorted."""

from functools import cache, lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from workers.adapters.codec import VERSION, dumps

T = TypeVar("T")


def dump(value: object) -> str:
    """A dataclass as one JSON object that starts with `"v":1`. The same value always gives the same text."""
    return f'{{"v":{VERSION},{dumps(value)[1:]}'


def load(kind: type[T], text: str) -> T:
    """The noun a text of `dump` holds. Raises pydantic.ValidationError for any other text."""
    name: Any = kind
    value: T = _adapter(name).validate_json(text)
    return value


@lru_cache(maxsize=4096)
def load_frozen(kind: type[T], text: str) -> T:
    """The same for a noun that nothing can change: a text that was read before is not read again."""
    return load(kind, text)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)

"""Answers of a pure function, kept while there is room."""

from collections.abc import Callable, Mapping
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")
_ROOM = 1 << 16
_LONGEST = 30


class Memo(dict[_K, _V]):
    """`memo[key]` is `function(key)`, asked once; emptied when it holds `room` answers. Safe to share between threads.

    The function must be pure of its key.
    """

    def __init__(self, function: Callable[[_K], _V], room: int = _ROOM) -> None:
        super().__init__()
        self._function = function
        self._room = room

    def __missing__(self, key: _K) -> _V:
        if len(self) >= self._room:
            self.clear()
        value = self._function(key)
        self[key] = value
        return value

    def keep(self, answers: Mapping[_K, _V]) -> None:
        """Answers that were found together, and so sooner."""
        if len(self) + len(answers) > self._room:
            self.clear()
        self.update(answers)


class TextMemo(Memo[str, _V]):
    """A memo by text that keeps no key of more than 30 characters: links and hostile texts do not come twice."""

    def __missing__(self, key: str) -> _V:
        return super().__missing__(key) if len(key) <= _LONGEST else self._function(key)

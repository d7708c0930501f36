"""The companies of the gazetteer: which one a name means, and who of them rates others."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

_HEAD = re.compile(r"[A-Z3](?<![\w@#$&./-].)[\w&]*(?:[-'’.][A-Z]\w*)*(?:['’][sS])?")
_OPENING = re.compile(r"\w+")
_POSSESSIVE = ("'s", "’s", "'S", "’S")
_RATES = re.compile(
    r"\b(?:(?:up|down)grad\w+|price (?:target|objective)s?|pt|targets?|analysts?|ratings?|"
    r"(?:over|under|equal)[- ]?weight|(?:out|under)perform\w*|initiat\w+|reiterat\w+|maintains?|conviction|"
    r"strategists?|economists?|says?|sees|expects?|warns?|recommends?|buy rating|sell rating|top pick)\b",
    re.IGNORECASE,
)
_MOVES = re.compile(
    r"\b(?:cuts?|raises?|lifts?|slashe?s?|hikes?|trims?|boosts?|starts|adds|names|likes|keeps|at)\b", re.IGNORECASE
)
_JOINS = frozenset("-@_&")


class Place(NamedTuple):
    """Where a text names a company: its symbol (None: it has none here), `start` and `end`, and how.

    `how`: "cashtag", "listing" (exchange prefix or option symbol), "bare" (capitals) or "name".
    """

    symbol: str | None
    start: int
    end: int
    how: str


class Gazetteer:
    """The table of `data/companies.json`, read once; pure of the text and thread-safe."""

    def __init__(self) -> None:
        table = json.loads(files("pipeline").joinpath("data/companies.json").read_text("utf-8"))
        self.brokers = frozenset(table["brokers"])
        self.words = frozenset(table["words"])
        self.talk = frozenset(table["talk"])
        self._heads: dict[str, list[tuple[str, str | None]]] = {}
        self._spelled = {symbol: tuple(name.lower() for name in names) for symbol, names in table["companies"].items()}
        for symbol, names in table["companies"].items():
            for name in names:
                self._add(name, symbol)
        for name in table["others"]:
            self._add(name, None)
        self._words = frozenset(filter(str.isalnum, self._heads))
        self._joined = self._heads.keys() - self._words
        self._openings = frozenset(_OPENING.findall(head)[0] for head in self._joined)
        for entries in self._heads.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def _add(self, name: str, symbol: str | None) -> None:
        head = _HEAD.match(name)
        self._heads.setdefault(head[0] if head else name, []).append((name, symbol))

    def lacks(self, symbol: str, text: str) -> bool:
        """Whether the symbol's company is in the table and none of its names is in the text, whatever the case."""
        names = self._spelled.get(symbol)
        lower = text.lower()
        return names is not None and not any(name in lower for name in names)

    def may_name(self, text: str, capitals: frozenset[str]) -> bool:
        """Whether a text whose words in capitals are these may name a company at all."""
        if not self._words.isdisjoint(capitals):
            return True
        return not self._openings.isdisjoint(capitals) and any(head in text for head in self._joined)

    def _entries(self, head: str) -> list[tuple[str, str | None]] | None:
        """The names that begin so, with their symbols; the longest first."""
        word = head[:-2] if head.endswith(_POSSESSIVE) else head
        return self._heads.get(head, self._heads.get(word))

    def places(self, text: str) -> Iterator[Place]:
        """Companies by name, in order; capitals as written, whole words, the longest name first."""
        end = 0
        for match in _HEAD.finditer(text):
            entries = self._entries(match[0])
            if entries is not None and match.start() >= end:
                found = _longest(text, match.start(), entries)
                if found is not None:
                    end = found.end
                    yield found


def speaks_of_others(text: str, *, alone: bool) -> bool:
    """Whether a text rates companies, so that a broker it names is its speaker; `alone`: no other company is named."""
    return _RATES.search(text) is not None or (not alone and _MOVES.search(text) is not None)


def _longest(text: str, start: int, entries: list[tuple[str, str | None]]) -> Place | None:
    for name, symbol in entries:
        end = start + len(name)
        beyond = text[end : end + 1]
        if text.startswith(name, start) and not beyond.isalnum() and beyond not in _JOINS:
            return Place(symbol, start, end, "name")
    return None

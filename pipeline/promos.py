"""The phrases of posts that want something of their reader: rooms, services, coaches, gifts, followers."""

import json
import re
from importlib.resources import files
from typing import NamedTuple

_LETTERS = bytes(code if code in b"abcdefghijklmnopqrstuvwxyz" else ord(" ") for code in range(256))
# Letters written as digits and signs, or spaced out: whoever writes a word of promos so hides it from filters.
_HIDDEN = re.compile(r"(?<![\w@$#./])[a-z]+[0134@!][a-z0134@!]*(?![\w@./])")
_HINT = re.compile(r"[0134@!](?<=[a-z].)[a-z0134]")
_SPACED = re.compile(r"(?<!\S)(?:[a-z] ){4,}[a-z](?!\S)")
_PLAIN = str.maketrans("0134@!", "oieaai")
_SINGLE = frozenset("abcdefghijklmnopqrstuvwxyz")
_MANY = 4


class _Rule(NamedTuple):
    """A kind of promo: all of its patterns are found."""

    name: str
    patterns: tuple[re.Pattern[str], ...]


class Promos:
    """The table of `data/promos.json`, read once; pure of the text and thread-safe."""

    def __init__(self) -> None:
        table = json.loads(files("pipeline").joinpath("data/promos.json").read_text("utf-8"))
        self._rules = tuple(
            _Rule(
                rule["name"],
                tuple(re.compile(rf"\b(?:{'|'.join(each)})", re.DOTALL) for each in rule["patterns"]),
            )
            for rule in table["rules"]
        )
        self._tried: dict[str, set[int]] = {}
        for number, rule in enumerate(table["rules"]):
            for word in rule["triggers"].split():
                self._tried.setdefault(word, set()).add(number)
        self._triggers = frozenset(self._tried)
        self._offer = tuple(frozenset(words.split()) for words in table["offer"].values())
        self._guarded = frozenset(table["guarded"].split())

    def read(self, text: str, plain: str) -> str | None:
        """What kind of promo a text is by its phrases, or None; `plain`: the text without links."""
        lower = text.lower().replace("’", "'").replace("t.me/", "telegram ")
        words = frozenset(lower.encode("ascii", "replace").translate(_LETTERS).decode("ascii").split())
        triggers = words & self._triggers
        if triggers:
            lower = " ".join(lower.split())
            for number in sorted(set().union(*map(self._tried.__getitem__, triggers))):
                name, patterns = self._rules[number]
                if all(pattern.search(lower) is not None for pattern in patterns):
                    return name
        if not any(map(words.isdisjoint, self._offer)):
            return "offer"
        return "hidden" if self._hides(plain.lower(), words) else None

    def _hides(self, lower: str, words: frozenset[str]) -> bool:
        """Whether a guarded word is spelled so that filters miss it: `disc0rd`, `t e l e g r a m`."""
        if _HINT.search(lower) is not None:
            leet = (match[0].translate(_PLAIN) for match in _HIDDEN.finditer(lower))
            if not self._guarded.isdisjoint(leet):
                return True
        if len(words & _SINGLE) < _MANY:
            return False
        return not self._guarded.isdisjoint(match[0].replace(" ", "") for match in _SPACED.finditer(lower))

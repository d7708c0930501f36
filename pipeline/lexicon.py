"""What the words of a post say: tokens, negation, intensity, option positions, and the counts made of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from pipeline.text import without_links

_TOKEN = re.compile(
    r"(?P<tag>\$[a-z]{1,5}(?:\.[a-z]{1,2})?(?![a-z0-9$]))"
    r"|(?P<user>@\w+)"
    r"|(?P<percent>[+-]?\$?\d[\d,.]*\s?(?:%|percent\b|pct\b))"
    r"|(?P<money>[+-]?[$€£]\d[\d,.]*\s?(?:[kmb]n?\b|million|billion)?)"
    r"|(?P<ordinal>\b52[\s-]?w(?:ee)?k\b)"
    r"|(?P<number>[+-]?\d[\d,.]*)"
    r"|(?P<word>[a-z]+(?:['’][a-z]+)?)"
    r"|(?P<emoji>[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff])"
    r"|(?P<mark>[?!]+)"
    r"|(?P<stop>[.;:,\n])",
)
_PHRASE_WORDS = 4
_POSITION_REACH = 4
_STOP = "."
_CLAUSE_ENDS = frozenset({_STOP, "!", "?", "but", "however"})


def tokens(text: str) -> list[str]:
    """The tokens of a cleaned text in lower case, numbers, cashtags and users by kind; `.` ends a clause."""
    found = []
    for match in _TOKEN.finditer(without_links(text).lower()):
        kind, token = match.lastgroup, match[0]
        if kind == "word" or kind == "emoji":
            found.append(token.replace("’", "'"))
        elif kind == "percent":
            found.append(_signed(token, "%"))
        elif kind == "money":
            found.append(_signed(token, "$"))
        elif kind == "number":
            found.append(_signed(token, "#"))
        elif kind == "tag":
            found.append("<tag>")
        elif kind == "user":
            found.append("<user>")
        elif kind == "ordinal":
            found.extend(("52", "week"))
        elif kind == "mark":
            found.append(token[0])
        elif found and found[-1] != _STOP:
            found.append(_STOP)
    return found


def _signed(token: str, unit: str) -> str:
    return f"<{token[0]}{unit}>" if token[0] in "+-" else f"<{unit}>"


@dataclass(frozen=True, slots=True)
class Reading:
    """A post through the lexicon: `bullish` and `bearish` are sums >= 0 of valence, `marked` the tokens with negation."""

    bullish: float
    bearish: float
    marked: tuple[str, ...]


class Lexicon:
    """The finance lexicon of `data/lexicon.json`, read once."""

    def __init__(self) -> None:
        table = json.loads(files("pipeline").joinpath("data/lexicon.json").read_text("utf-8"))
        groups = {name: frozenset(words) for name, words in table["groups"].items()}
        self._valence: dict[str, float] = table["valence"]
        self._heads = frozenset(phrase.split()[0] for phrase in self._valence if " " in phrase)
        self._negations = groups["negations"]
        self._factors = dict.fromkeys(groups["intensifiers"], 1.5) | dict.fromkeys(groups["diminishers"], 0.5)
        self._verbs = dict.fromkeys(groups["opening_verbs"], 1) | dict.fromkeys(groups["closing_verbs"], -1)
        self._options = dict.fromkeys(groups["calls"], 1) | dict.fromkeys(groups["puts"], -1)

    def read(self, words: Sequence[str]) -> Reading:
        """The valence of tokens and the tokens themselves, `not_` before those a negation reaches."""
        bullish = bearish = 0.0
        factor, negated_until, verb, verb_at = 1.0, -1, 0, -99
        marked = []
        index = 0
        while index < len(words):
            word = words[index]
            negated = index <= negated_until
            length = 1
            value = 0.0
            if word in _CLAUSE_ENDS:
                negated_until, factor = -1, 1.0
            elif word in self._negations:
                negated_until = index + 4
            elif word in self._options and index - verb_at <= _POSITION_REACH:
                value = 2.0 * verb * self._options[word] - 1.0 * verb
            else:
                length, value = self._phrase(words, index)
            if word in self._verbs:
                verb, verb_at = self._verbs[word], index
            if value:
                value *= factor * (-0.7 if negated else 1.0)
                factor = 1.0
                bullish, bearish = bullish + max(value, 0.0), bearish + max(-value, 0.0)
            elif word in self._factors:
                factor = self._factors[word]
            marked.extend(("not_" + token if negated else token) for token in words[index : index + length])
            index += length
        return Reading(bullish, bearish, tuple(marked))

    def _phrase(self, words: Sequence[str], index: int) -> tuple[int, float]:
        """(length, valence) of the longest known phrase that starts here; (1, 0.0) for an unknown word."""
        if words[index] in self._heads:
            for length in range(min(_PHRASE_WORDS, len(words) - index), 1, -1):
                value = self._valence.get(" ".join(words[index : index + length]))
                if value is not None:
                    return length, value
        return 1, self._valence.get(words[index], 0.0)

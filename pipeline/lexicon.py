"""What the words of a post say: tokens, negation, intensity, option positions, and the counts made of them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from pipeline.text import without_links

_TOKEN = re.compile(
    r"(?P<tag>\$[a-z]{1,5}(?:\.[a-z]{1,2})?(?![a-z0-9$]))"
    r"|(?P<user>@\w+)"
    r"|(?P<percent>[+-]?\$?\d[\d,.]*\s?(?:%|percent\b|pct\b))"
    r"|(?P<money>[+-]?[$€£]\d[\d,.]*\s?(?:[kmb]n?\b|million|billion)?)"
    r"|(?P<year_week>\b52[\s-]?w(?:ee)?k\b)"
    r"|(?P<number>[+-]?\d[\d,.]*)"
    r"|(?P<word>[a-z]+(?:['’][a-z]+)?)"
    r"|(?P<emoji>[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff])"
    r"|(?P<mark>[?!]+)"
    r"|(?P<stop>[.;:,\n])",
)
_PHRASE_WORDS = 4
_POSITION_REACH = 4
_NEGATION_REACH = 4
_NEGATED = -0.7
_STOP = "."
_CLAUSE_ENDS = frozenset({_STOP, "!", "?", "but", "however"})


def tokens(text: str) -> list[str]:
    """The tokens of a cleaned text in lower case; cashtags, users and numbers by kind; `.` ends a clause."""
    found: list[str] = []
    for match in _TOKEN.finditer(without_links(text).lower()):
        kind = match.lastgroup or ""
        if kind != "stop":
            found.append(_SPELLED[kind](match[0]))
        elif found and found[-1] != _STOP:
            found.append(_STOP)
    return found


def _number(unit: str) -> Callable[[str], str]:
    """Numbers by sign and unit: `<+%>`, `<-$>`, `<#>`."""
    return lambda token: f"<{token[0]}{unit}>" if token[0] in "+-" else f"<{unit}>"


_SPELLED: dict[str, Callable[[str], str]] = {
    "tag": lambda _: "<tag>",
    "user": lambda _: "<user>",
    "percent": _number("%"),
    "money": _number("$"),
    "number": _number("#"),
    "year_week": lambda _: "52week",
    "word": lambda token: token.replace("’", "'"),
    "emoji": str,
    "mark": lambda token: token[0],
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A post through the lexicon: sums of valence >= 0 for each side, and the tokens with `not_` where negated."""

    bullish: float
    bearish: float
    marked: tuple[str, ...]


@dataclass(slots=True)
class _Pass:
    """One pass over a post: sums so far, and what the words before do to the next one."""

    bullish: float = 0.0
    bearish: float = 0.0
    factor: float = 1.0
    negated_until: int = -1
    verb: int = 0
    verb_at: int = -_POSITION_REACH - 1
    marked: list[str] = field(default_factory=list)

    def add(self, value: float, *, negated: bool) -> None:
        """Count a word's valence with the intensity before it; a negation turns it round, a little weaker."""
        value *= self.factor * (_NEGATED if negated else 1.0)
        self.factor = 1.0
        self.bullish += max(value, 0.0)
        self.bearish += max(-value, 0.0)


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
        state = _Pass()
        index = 0
        while index < len(words):
            index += self._step(state, words, index)
        return Reading(state.bullish, state.bearish, tuple(state.marked))

    def _step(self, state: _Pass, words: Sequence[str], index: int) -> int:
        """Read the word or phrase at `index`; how many tokens it was."""
        word = words[index]
        negated = index <= state.negated_until
        length, value = self._meaning(state, words, index)
        if value:
            state.add(value, negated=negated)
        elif word in self._factors:
            state.factor = self._factors[word]
        if word in _CLAUSE_ENDS:
            state.negated_until, state.factor = -1, 1.0
        elif word in self._negations:
            state.negated_until = index + _NEGATION_REACH
        elif word in self._verbs:
            state.verb, state.verb_at = self._verbs[word], index
        read = words[index : index + length]
        state.marked.extend(["not_" + token for token in read] if negated else read)
        return length

    def _meaning(self, state: _Pass, words: Sequence[str], index: int) -> tuple[int, float]:
        """(tokens, valence) at `index`. Options take their meaning from the verb shortly before: sold puts are bullish.

        The verb itself has been counted as one by then, so that is taken back.
        """
        option = self._options.get(words[index])
        if option is not None and index - state.verb_at <= _POSITION_REACH:
            return 1, 2.0 * state.verb * option - 1.0 * state.verb
        return self._phrase(words, index)

    def _phrase(self, words: Sequence[str], index: int) -> tuple[int, float]:
        """(tokens, valence) of the longest known phrase that starts here; (1, 0.0) for an unknown word."""
        if words[index] in self._heads:
            for length in range(min(_PHRASE_WORDS, len(words) - index), 1, -1):
                value = self._valence.get(" ".join(words[index : index + length]))
                if value is not None:
                    return length, value
        return 1, self._valence.get(words[index], 0.0)

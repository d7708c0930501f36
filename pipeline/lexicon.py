"""What the words of a post say: tokens, negation, intensity, option positions, and the counts made of them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, pairwise

from pipeline.memo import TextMemo

_TOKEN = re.compile(
    r"(?P<word>(?![hw](?:ttps?(?::|…)|ww\.))[a-z]++(?!['’][a-z]))"
    r"|(?P<link>https?(?::\S*|…)|www\.\S*)"
    r"|(?P<tag>\$[a-z]{1,5}(?:\.[a-z]{1,2})?(?![a-z0-9$]))"
    r"|(?P<user>@\w+)"
    r"|(?P<percent>[+-]?\$?\d[\d,.]*\s?(?:%|percent\b|pct\b))"
    r"|(?P<money>[+-]?[$€£]\d[\d,.]*\s?(?:[kmb]n?\b|million|billion)?)"
    r"|(?P<year_week>\b52[\s-]?w(?:ee)?k\b)"
    r"|(?P<number>[+-]?\d[\d,.]*)"
    r"|(?P<quoted>[a-z]+['’][a-z]+)"
    r"|(?P<emoji>[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff])"
    r"|(?P<mark>[?!]+)"
    r"|(?P<stop>[.;:,\n])",
)
_RAW = re.compile(f" ?+({re.sub(r'[?]P<[a-z_]+>', '?:', _TOKEN.pattern)})")
_PHRASE_WORDS = 4
_POSITION_REACH = 4
_NEGATION_REACH = 4
_TURNED = -0.7
_LONGEST_WORD = 30
NEGATED = "not_"
"""Mark of a token that a negation reaches."""
_STOP = "."
_CLAUSE_ENDS = frozenset({_STOP, "!", "?", "but", "however"})


def tokens(text: str) -> list[str]:
    """The tokens of a cleaned text in lower case; cashtags, users, links and numbers by kind; `.` ends a clause."""
    spelled = map(_SPELLINGS.__getitem__, _RAW.findall(text.lower()))
    return [token for before, token in pairwise(chain((_STOP,), spelled)) if token != _STOP or before != _STOP]


def _number(unit: str) -> Callable[[str], str]:
    """Numbers by sign and unit: `<+%>`, `<-$>`, `<#>`."""
    return lambda token: f"<{token[0]}{unit}>" if token[0] in "+-" else f"<{unit}>"


_SPELLED: dict[str, Callable[[str], str]] = {
    "link": lambda _: "<link>",
    "tag": lambda _: "<tag>",
    "user": lambda _: "<user>",
    "percent": _number("%"),
    "money": _number("$"),
    "number": _number("#"),
    "year_week": lambda _: "52week",
    "quoted": lambda token: token.replace("’", "'"),
    "word": str,
    "emoji": str,
    "stop": lambda _: _STOP,
    "mark": lambda token: token[0],
}


def _spelled(raw: str) -> str:
    """The token for what stands in the text."""
    match = _TOKEN.match(raw)
    kind = "word" if match is None else match.lastgroup or "word"
    return _SPELLED[kind](raw)[:_LONGEST_WORD]


_SPELLINGS = TextMemo(_spelled)


@dataclass(frozen=True, slots=True)
class Reading:
    """A post through the lexicon: sums of valence >= 0 for each side, and the tokens with `not_` where negated."""

    bullish: float
    bearish: float
    marked: tuple[str, ...]


@dataclass(slots=True)
class _Pass:
    """One pass over a post: its tokens, sums so far, and what the words before do to the next one."""

    marked: list[str]
    bullish: float = 0.0
    bearish: float = 0.0
    factor: float = 1.0
    negated_until: int = -1
    verb: int = 0
    verb_at: int = -_POSITION_REACH - 1

    def negate(self, start: int, end: int) -> None:
        """Mark the tokens from `start` to before `end` that a negation reaches."""
        if start <= self.negated_until:
            self.mark(start, min(end, self.negated_until + 1))

    def mark(self, start: int, end: int) -> None:
        """Mark the tokens from `start` to before `end` as negated."""
        self.marked[start:end] = [NEGATED + token for token in self.marked[start:end]]

    def add(self, value: float, *, negated: bool) -> None:
        """Count a word's valence with the intensity before it; a negation turns it round, a little weaker."""
        value *= self.factor * (_TURNED if negated else 1.0)
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
        self._telling = _CLAUSE_ENDS.union(
            self._valence, self._heads, self._negations, self._factors, self._verbs, self._options
        )

    def read(self, words: Sequence[str]) -> Reading:
        """The valence of tokens and the tokens themselves, `not_` before those a negation reaches."""
        telling = self._telling
        if telling.isdisjoint(words):
            return Reading(0.0, 0.0, tuple(words))
        state, end = _Pass(list(words)), 0
        for index in [index for index, word in enumerate(words) if word in telling]:
            if index >= end:
                state.negate(end, index)
                end = index + self._step(state, words, index)
        state.negate(end, len(words))
        return Reading(state.bullish, state.bearish, tuple(state.marked))

    def _step(self, state: _Pass, words: Sequence[str], index: int) -> int:
        """Read the word or phrase at `index`; how many tokens it was."""
        word = words[index]
        negated = index <= state.negated_until
        length, value = self._meaning(state, words, index)
        if negated:
            state.mark(index, index + length)
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

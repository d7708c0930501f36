"""What the words of a post say: tokens, negation, intensity, option positions, and the counts made of them."""

import json
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import chain, compress, count, pairwise
from typing import NamedTuple

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
    if raw.isascii() and raw.isalpha():
        return raw[:_LONGEST_WORD]
    match = _TOKEN.match(raw)
    kind = "word" if match is None else match.lastgroup or "word"
    return _SPELLED[kind](raw)[:_LONGEST_WORD]


_SPELLINGS = TextMemo(_spelled)


class Reading(NamedTuple):
    """A post through the lexicon: sums of valence >= 0 for each side, and the tokens with `not_` where negated."""

    bullish: float
    bearish: float
    marked: Sequence[str]


class _Word(NamedTuple):
    """What the lexicon knows of a token, alone or as the first of a phrase.

    `option`: 1 for calls, -1 for puts. `verb`: 1 opens a position, -1 closes one. `is_head`: phrases begin with it.
    """

    value: float
    option: int
    verb: int
    factor: float
    negates: bool
    ends: bool
    is_head: bool


class Lexicon:
    """The finance lexicon of `data/lexicon.json`, read once."""

    def __init__(self) -> None:
        table = json.loads(files("pipeline").joinpath("data/lexicon.json").read_text("utf-8"))
        groups = {name: frozenset(words) for name, words in table["groups"].items()}
        self._valence: dict[str, float] = table["valence"]
        self._heads = frozenset(phrase.split()[0] for phrase in self._valence if " " in phrase)
        factors = dict.fromkeys(groups["intensifiers"], 1.5) | dict.fromkeys(groups["diminishers"], 0.5)
        verbs = dict.fromkeys(groups["opening_verbs"], 1) | dict.fromkeys(groups["closing_verbs"], -1)
        options = dict.fromkeys(groups["calls"], 1) | dict.fromkeys(groups["puts"], -1)
        self._known = {
            word: _Word(
                value=self._valence.get(word, 0.0),
                option=options.get(word, 0),
                verb=verbs.get(word, 0),
                factor=factors.get(word, 0.0),
                negates=word in groups["negations"],
                ends=word in _CLAUSE_ENDS,
                is_head=word in self._heads,
            )
            for word in _CLAUSE_ENDS.union(self._valence, self._heads, groups["negations"], factors, verbs, options)
        }
        self._telling = frozenset(self._known) - _CLAUSE_ENDS

    def read(self, words: Sequence[str]) -> Reading:  # noqa: C901  # one pass with its state in locals: half the time
        """The valence of tokens and the tokens themselves, `not_` before those a negation reaches."""
        if self._telling.isdisjoint(words):
            return Reading(0.0, 0.0, words)
        known, marked = self._known, list(words)
        bullish = bearish = 0.0
        factor, verb, verb_at, negated_until, end = 1.0, 0, -_POSITION_REACH - 1, -1, 0
        for index in compress(count(), map(known.__contains__, words)):
            if index < end:
                continue
            word = known[words[index]]
            length, value = 1, word.value
            if word.option or word.is_head:
                length, value = self._meaning(words, index, verb if index - verb_at <= _POSITION_REACH else None)
            if end <= negated_until:
                _mark(marked, end, index + length if index <= negated_until else negated_until + 1)
            if value:
                value *= factor * (_TURNED if index <= negated_until else 1.0)
                factor = 1.0
                bullish += max(value, 0.0)
                bearish += max(-value, 0.0)
            elif word.factor:
                factor = word.factor
            if word.ends:
                negated_until, factor = -1, 1.0
            elif word.negates:
                negated_until = index + _NEGATION_REACH
            elif word.verb:
                verb, verb_at = word.verb, index
            end = index + length
        _mark(marked, end, negated_until + 1)
        return Reading(bullish, bearish, marked)

    def _meaning(self, words: Sequence[str], index: int, verb: int | None) -> tuple[int, float]:
        """(tokens, valence) of the longest known phrase that starts here; of the word alone where there is none.

        An option takes its meaning from the verb shortly before: sold puts are bullish. The verb itself has been
        counted as one by then, so that is taken back.
        """
        word = self._known[words[index]]
        if word.option and verb is not None:
            return 1, 2.0 * verb * word.option - 1.0 * verb
        if not word.is_head:
            return 1, word.value
        for length in range(min(_PHRASE_WORDS, len(words) - index), 1, -1):
            value = self._valence.get(" ".join(words[index : index + length]))
            if value is not None:
                return length, value
        return 1, word.value


def _mark(marked: list[str], start: int, end: int) -> None:
    """Mark the tokens from `start` to before `end` as negated; none where that is no later."""
    marked[start:end] = [NEGATED + token for token in marked[start:end]]

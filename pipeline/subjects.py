"""What a post that names several companies says of each: clauses, exchanges of one for another, and who only speaks."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import Field

from pipeline.companies import Gazetteer, Place, speaks_of_others
from pipeline.models import Frozen, Label, Sentiment
from pipeline.tickers import Survey

_BREAK = re.compile(
    r"[;:!?\n|]|\.(?:\s|$)|,|\s[-–—]+\s|\b(?:but|while|whereas|though|and|versus|vs|meanwhile|into|yet|as|then|now|also|with"
    r"|to (?:buy|sell|short|go))\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_TAG = re.compile(r"[$#@][\w.]+")
_A, _B = "\x02", "\x03"
_GAP = r"[^.;!?\x02\x03]{0,24}?"
_UNWRITTEN = r"^(?!.*\b(?:sold|sell\w*|wr[io]t\w*|short\w*|clos\w+)\b).*?"
_LEFT = (
    r"\b(?:sold|sell(?:ing)?|dump(?:ed|ing)|trim(?:med|ming)?|exit(?:ed|ing)?|swap(?:ped|ping)?|switch(?:ed|ing)?"
    r"|rotat(?:e|ed|ing)|mov(?:ed?|ing)|out of|profits? (?:in|on|from)|ditch(?:ed|ing)?|clos(?:ed|ing))\b<gap><a><gap>"
    r"\b(?:to buy|(?:in)?to|for|(?:and )?(?:bought|buying|adding|added)|and put)\b<gap><b>"
)
_TAKEN = r"\b(?:bought|buy(?:ing)?|add(?:ed|ing)|into)\b<gap><a><gap>\b(?:instead of|rather than|out of)\b<gap><b>"
_PREFERRED = (
    r"\b(?:prefer(?:red|ring)?|like|favou?r|choose|rather own|rather have|i'?ll take|give me)\b<gap><a><gap>"
    r"\b(?:over|to|than|instead of|rather than)\b<gap><b>"
)
_EATEN = (
    r"<a><gap>\b(?:is |are )?(?:eating|eats|crushing|crushes|beating|killing|stealing|taking|winning)\b<gap><b>"
    r"(?:['’]s)?<gap>\b(?:lunch|share|customers|business|market share)\b"
)
# What is done with the first and the second of two stocks, <a> and <b>: +1 is for it, -1 against it.
_WORDINGS: tuple[tuple[int, int, str], ...] = (
    (-1, 1, _LEFT),
    (1, -1, _TAKEN),
    (1, -1, _PREFERRED),
    (1, -1, _EATEN),
    (1, -1, r"\blong\b<gap><a><gap>\bshort\b<gap><b>"),
    (-1, 1, r"\bshort\b<gap><a><gap>\blong\b<gap><b>"),
    (1, -1, r"<a>\s*>{1,3}\s*<b>"),
    (-1, 1, r"<a>\s*<{1,3}\s*<b>"),
    (1, -1, r"<a><gap>\b(?:outperform\w*|better than|stronger than|cheaper than)\b<gap><b>"),
    (-1, 1, r"<a><gap>\b(?:underperform\w*|worse than|weaker than)\b<gap><b>"),
    (1, -1, _UNWRITTEN + r"\bcalls?\b<gap><a><gap>\bputs?\b<gap><b>"),
    (-1, 1, _UNWRITTEN + r"\bputs?\b<gap><a><gap>\bcalls?\b<gap><b>"),
)
_TRADES = tuple(
    (
        first,
        second,
        re.compile(words.replace("<a>", _A).replace("<b>", _B).replace("<gap>", _GAP), re.IGNORECASE | re.DOTALL),
    )
    for first, second, words in _WORDINGS
)
# What stands between the two in every one of these wordings; none goes beyond the end of a sentence.
_BRIDGE = re.compile(
    r"[<>]|\b(?:to|into|for|bought|buying|add|and put|instead|rather|out|over|than|eat|crush|beating|killing|stealing"
    r"|taking|winning|short|long|underperform|better|stronger|cheaper|worse|weaker|calls?|puts?)",
    re.IGNORECASE,
)
_SENTENCE_ENDS = frozenset(".;!?")
# Where the wording cannot be taken at its word: negations, questions, wishes, stories of the past.
_DOUBT = re.compile(
    r"\?|\b(?:not|never|no|nobody|if|should|would|could|might|wish|had|regret|why|or|anyone|ago"
    r"|swapped \$?\d[\d,.]*k?|last (?:week|month|year))\b|n['’]t\b",
    re.IGNORECASE,
)
_SPEAKS = re.compile(
    r"\s*(?:['’]s (?:\w+ )?)?(?:(?:analysts?|strategists?|economists?|securities|research|desk|note|capital)\b\W*)*"
    r"(?:says?|sees|cuts?|raises?|lifts?|upgrades?|downgrades?|slashe?s?|hikes?|trims?|initiates|starts|warns?|"
    r"expects?|recommends?|maintains?|reiterates?|keeps?|adds|names|likes|calls|boosts?|moves|"
    r"upgraded|downgraded|drops|opens)\b"
    r"(?! (?:its|his|her|own|to|by|at|from|dividend|profit|outlook|guidance|jobs|staff|revenue|forecast|loss|earnings|"
    r"quarterly|strong|weak|record|higher|lower|\d))",
    re.IGNORECASE,
)
_HEARD = re.compile(
    r"\b(?:(?:up|down)grad\w+|initiated|maintained|reiterated|coverage|overweight|underweight|neutral|outperform|"
    r"buy|sell|hold|rating|target|pt|raised|cut|lowered|added|removed|resumed|"
    r"started)\b[^.;!?]{0,40}?\b(?:at|by|from) (?:the )?$",
    re.IGNORECASE,
)
_DESK = re.compile(
    r"\b(?:analysts?|strategists?) (?:at|from|there)\b|\b(?:at|by) the (?:bank|broker|firm)\b", re.IGNORECASE
)


_MOST_PLACES = 4
_FIRST_WORDS = 2


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one symbol: a text to read, or a direction known from the wording; neither = nothing."""

    text: str = ""
    sign: int = 0


class SubjectSettings(Frozen):
    """How surely the wording alone speaks, whatever the model says. Below the urgent threshold: it never trades."""

    per_symbol: bool = Field(default=True, description="read what a post says of each company it names")
    confidence: float = Field(default=0.75, ge=0, le=1, description="P(label is right) of a reading by wording alone")
    score: float = Field(default=0.5, gt=0, le=1, description="size of the score of a direction by wording alone")


def by_symbol(
    said: Mapping[str, Said], read: Callable[[str], Sentiment], model: str, settings: SubjectSettings
) -> dict[str, Sentiment]:
    """The sentiment of each symbol; `read` is any model's reading of a text, asked once for each clause.

    Clauses count when they say opposite things of two symbols, or when the post is not about another one it names;
    else the whole post's reading is the better one.
    """
    texts = {symbol: what.text for symbol, what in said.items() if what.text}
    silent = any(not what.text and not what.sign for what in said.values())
    found = {symbol: read(text) for symbol, text in texts.items()} if silent else _opposed(texts, read)
    return {
        symbol: found[symbol] if what.text else _worded(what.sign, model, settings)
        for symbol, what in said.items()
        if symbol in found or not what.text
    }


def _opposed(texts: Mapping[str, str], read: Callable[[str], Sentiment]) -> dict[str, Sentiment]:
    """The readings of the texts where two say opposite things, else {}; the last is not read where that settles it."""
    found: dict[str, Sentiment] = {}
    for symbol, text in texts.items():
        labels = {sentiment.label for sentiment in found.values()}
        if len(found) == len(texts) - 1 and labels <= {Label.NEUTRAL}:
            return {}
        found[symbol] = read(text)
    return found if {sentiment.label for sentiment in found.values()} >= {Label.BULLISH, Label.BEARISH} else {}


def _worded(sign: int, model: str, settings: SubjectSettings) -> Sentiment:
    """A direction, or none, by wording alone."""
    label = {1: Label.BULLISH, -1: Label.BEARISH, 0: Label.NEUTRAL}[sign]
    return Sentiment(label=label, score=settings.score * sign, confidence=settings.confidence, model=model)


class SubjectReader:
    """Tells what a post says of each company it names. Pure of the post and thread-safe."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._gazetteer = gazetteer

    def read(self, survey: Survey) -> dict[str, Said]:
        """What is said of single symbols where it differs from the whole post, by symbol; {} = nothing differs.

        Time is linear in the text: only posts with at most four places of companies are looked at.
        """
        places = survey.places
        if not 1 <= len(places) <= _MOST_PLACES or self._is_one(places):
            return {}
        speakers = self._speakers(survey)
        subjects = _distinct([place for place in places if place.symbol not in speakers])
        found = _traded(survey.text, subjects)
        if found is None:
            found = self._another(survey, subjects) or _clauses(survey, subjects)
        return {**found, **dict.fromkeys(speakers, Said())}

    def _is_one(self, places: Sequence[Place]) -> bool:
        """Whether one company is named, once or more, that is no broker: then it is what the post is about."""
        symbol = places[0].symbol
        if symbol is None or symbol in self._gazetteer.brokers:
            return False
        return all(place.symbol == symbol for place in places)

    def _speakers(self, survey: Survey) -> frozenset[str]:
        """Brokers of the post that rate another company and are not rated themselves."""
        brokers = {place.symbol for place in survey.places if place.symbol in self._gazetteer.brokers}
        alone = len({place.symbol or place.start for place in survey.places}) == 1
        if not brokers or not speaks_of_others(survey.text, alone=alone):
            return frozenset()
        return frozenset(symbol for symbol in brokers if symbol and _is_speaker(survey, symbol))

    def _another(self, survey: Survey, places: Sequence[Place]) -> dict[str, Said]:
        """A post about a company named first, under another's cashtag at its edge: "Huawei unveils a phone $AAPL".

        Only where the primary's own names are known and none is in the post; brokers are no such companies.
        """
        names = [place for place in places if place.how == "name" and place.symbol not in self._gazetteer.brokers]
        primary = survey.reading.primary
        if not names or primary is None or not self._gazetteer.lacks(primary, survey.text):
            return {}
        first, text = names[0], survey.text
        tags = [place for place in places if place.how != "name"]
        opening = _WORD.findall(_TAG.sub(" ", text[: first.start]))
        at_edge = all(tag.end <= first.start or _WORD.search(_TAG.sub(" ", text[tag.end :])) is None for tag in tags)
        if len(opening) >= _FIRST_WORDS or not at_edge:
            return {}
        found = {tag.symbol: Said() for tag in tags if tag.symbol is not None}
        others = {place.symbol for place in names}
        return {**found, first.symbol: Said(text=text)} if first.symbol is not None and len(others) == 1 else found


def _is_speaker(survey: Survey, symbol: str) -> bool:
    text, own = survey.text, [place for place in survey.places if place.symbol == symbol]
    if _DESK.search(text) is not None:
        return True
    return any(
        _SPEAKS.match(text, place.end) is not None or _HEARD.search(text[max(0, place.start - 80) : place.start])
        for place in own
    )


def _distinct(places: Sequence[Place]) -> list[Place]:
    """Places without the second of two neighbours that mean the same company: "Apple $AAPL"."""
    return [place for index, place in enumerate(places) if not index or not _same(places[index - 1], place)]


def _same(one: Place, other: Place) -> bool:
    return one.symbol is not None and one.symbol == other.symbol


def _traded(text: str, places: Sequence[Place]) -> dict[str, Said] | None:
    """One stock exchanged for, or set over, another: "sold $AAPL to buy $TSLA", "prefer $MA over $AXP".

    {} when such a wording is negated, asked or wished; None when there is none.
    """
    if len(places) != 2 or places[0].symbol is None or places[1].symbol is None or _same(*places):  # noqa: PLR2004
        return None
    one, other = places
    between = text[one.end : other.start]
    if _BRIDGE.search(between) is None or not _SENTENCE_ENDS.isdisjoint(between):
        return None
    marked = f"{text[: one.start][-60:]}{_A}{between}{_B}{text[other.end :][:40]}"
    for first, second, pattern in _TRADES:
        if pattern.search(marked) is not None:
            doubtful = _DOUBT.search(text) is not None
            return {} if doubtful else {places[0].symbol: Said(sign=first), places[1].symbol: Said(sign=second)}
    return None


def _clauses(survey: Survey, places: Sequence[Place]) -> dict[str, Said]:
    """The clause of each symbol, where every company has one of its own: "$AMD beats, $INTC misses"."""
    if len({place.symbol or place.start for place in places}) < 2:  # noqa: PLR2004
        return {}
    parts = _parts(survey.text, places)
    if parts is None:
        return {}
    said: dict[str, str] = {}
    for place, part in zip(places, parts, strict=True):
        if place.symbol is not None:
            said[place.symbol] = f"{said.get(place.symbol, '')} {part}".strip()
    return {symbol: Said(text=part) for symbol, part in said.items()}


def _parts(text: str, places: Sequence[Place]) -> list[str] | None:
    """The text cut between places of different companies; None where two share a clause or one has no words."""
    cuts = [0]
    for one, other in pairwise(places):
        cut = one.end if _same(one, other) else _cut(text, one, other)
        if cut is None:
            return None
        cuts.append(cut)
    parts = [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return parts if all(_WORD.search(_TAG.sub(" ", part)) for part in parts) else None


def _cut(text: str, one: Place, other: Place) -> int | None:
    found = _BREAK.search(text, one.end, other.start)
    return None if found is None else found.start()

"""Which stocks a post names: by cashtag, exchange prefix, option, company name, or capitals with a second sign."""

import json
import re
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from pydantic import Field

from pipeline import mentions
from pipeline.companies import Gazetteer, Place, speaks_of_others
from pipeline.errors import InvalidInputError
from pipeline.models import Frozen, TickerReading
from pipeline.text import clean, without_links, without_repeat_marks

_CANONICAL = re.compile(r"[A-Z]{1,5}(?:\.[A-Z]{1,2})?")
_CASHTAG = re.compile(r"\$([A-Z]{1,5}|[a-z]{3,5})(?![A-Za-z])")
_CLASS = re.compile(r"(?:\.([A-Z]{1,2}|[a-z])|[-/]([A-Z]))(?![A-Za-z0-9_$])(?!\.[A-Za-z])")
_STRANGE_CLASS = re.compile(r"\.(?:[A-Za-z]{1,3}|[A-Z]{4})(?![A-Za-z])")
_AMOUNT = re.compile(r"\s?[\d.,]+\s?(?:[kmb]|mm|mn|bn|tn|mln|million|billion|thousand)\b", re.IGNORECASE)
_LEET = re.compile(r"[^\W\d_]\$[^\W\d_]")
_PRICE = re.compile(r"\$\d|(?<![\d.,])\d{1,5}\.\d{1,2}(?![\d.])|\d%")
_WORDS = re.compile(r"[a-z][a-z0-9&]+")
_EMAIL = re.compile(r"[\w.+$-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,4}\.[A-Za-z]{2,24}(?!\w)")
_BARE_LINK = re.compile(
    r"\b[\w-]{1,64}\.(?:com|net|org|io|co|ly|me|gl|app|finance|tv|us|uk|de|info)/\S*", re.IGNORECASE
)
_CODE = re.compile(
    r"\$\(|\$\{|\{\s*print\b|<\?php|#!/|\becho \$|\bprint \$|&& ?\$|\bsudo \w|/(?:usr|bin|etc|home)/|~/\.\w"
    r"|\b(?:bash|zsh|export|environment variable|env var)\b[^$]{0,40}\$[A-Z]|\$(?:PATH|HOME)\b[:/=]"
    r"|\$[A-Z]+ ?=[^=]|;\s*\$[A-Z]+\s*[-.]?=|\$[A-Z]+->"
)
_CODE_HINTS = (
    "{",
    "=",
    "~",
    "->",
    "/",
    "$(",
    "#!",
    "<?",
    "&&",
    "echo",
    "sudo",
    "bash",
    "zsh",
    "export",
    "env",
    "$PATH",
    "$HOME",
)
_CAPITALS = re.compile(r"(?<![\w$@#])[A-Z3]\w*")
_PLAIN = frozenset(".,;:!?()[]\"'“”‘’«»-–—/|")
_JOINS = frozenset("-'’")
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class TickerSettings(Frozen):
    """How strictly cashtags are read (rules of the trade, section 1)."""

    short_letters: int = Field(
        default=2, ge=0, le=5, description="symbols of up to so many letters need plain surroundings and a second sign"
    )
    names: bool = Field(default=True, description="read company names and capitals with a second sign")
    max_named: int = Field(
        default=3, ge=1, le=100, description="symbols named without a cashtag; a post that names more names none"
    )
    max_kept: int = Field(default=50, ge=1, le=1000, description="symbols kept per post; all cashtags are counted")


def canonical(symbol: str) -> str:
    """The one spelling of a symbol: `BRK.B` for `brk-b`, `BRK/B`, `BRK-B`. Raises InvalidInputError (`bad_symbol`)."""
    name = symbol.strip().upper().replace("-", ".").replace("/", ".")
    if _CANONICAL.fullmatch(name) is None:
        shown = symbol[:20]
        raise InvalidInputError(
            "bad_symbol", f"symbol: {shown!r} is not 1 to 5 letters with an optional class of 1 or 2 letters (BRK.B)"
        )
    return name


def file_name(symbol: str) -> str:
    """The symbol as a file's stem: `BRK-B` for `BRK.B`. Raises InvalidInputError for anything but a symbol."""
    return canonical(symbol).replace(".", "-")


class _Tag(NamedTuple):
    """A well-formed cashtag: its canonical symbol, whether it needs a second sign, its start (the `$`) and end."""

    symbol: str
    is_short: bool
    start: int
    end: int


class _Proof(NamedTuple):
    """What a post offers as second signs: other cashtags, words, talk of the market, where its first word starts."""

    cashtags: frozenset[str]
    words: frozenset[str]
    is_market: bool
    start: int


class Survey(NamedTuple):
    """A reading with its evidence: the text it stands in (no links, no repeat marks) and every place, in order.

    Places with symbols outside the universe and companies without a symbol are among them.
    """

    reading: TickerReading
    text: str
    places: tuple[Place, ...]


class TickerReader:
    """Reads the stocks of posts against a universe of tradable symbols (any spelling `canonical` understands)."""

    def __init__(self, universe: frozenset[str], settings: TickerSettings | None = None) -> None:
        tables = json.loads(files("pipeline").joinpath("data/symbols.json").read_text("utf-8"))
        self._universe = frozenset(canonical(symbol) for symbol in universe)
        self._settings = settings or TickerSettings()
        self._aliases: dict[str, list[str]] = tables["aliases"]
        self._exchanges = frozenset(tables["us_exchange_suffixes"])
        self._dropped = frozenset(tables["currencies"]) - self._universe
        self._names = {symbol: frozenset(names) for symbol, names in tables["names"].items()}
        self._market_words = frozenset(tables["market_words"])
        self.gazetteer = Gazetteer()
        self._spellings = self._universe | self._aliases.keys()
        self._business = self._market_words | self.gazetteer.talk

    def read(self, text: str) -> TickerReading:
        """The symbols of a post. Time is linear in the text; never raises on any text."""
        return self.survey(text).reading

    def survey(self, text: str) -> Survey:
        """The symbols of a post and where they stand."""
        text = _readable(text)
        tags = self._proven(text) if "$" in text else []
        tagged = [Place(tag.symbol, tag.start, tag.end, "cashtag") for tag in tags]
        if not self._settings.names or len(tagged) > self._settings.max_kept:
            return Survey(self._reading(tagged, [], []), text, tuple(tagged))
        taken = {place.start for place in tagged}
        listed = [place for place in self._listed(text) if place.start not in taken and place.start - 1 not in taken]
        capitals = frozenset(_CAPITALS.findall(text))
        names: list[Place] = []
        if not self.gazetteer.starts.isdisjoint(capitals):
            names = [self._listing(place) for place in self.gazetteer.places(text)]
        bare = [] if self._spellings.isdisjoint(capitals) else list(self._bare(text, names))
        places = tuple(sorted((*tagged, *listed, *names, *bare), key=lambda place: place.start))
        said = self._said(text, places)
        return Survey(self._reading(tagged, listed, said), text, places)

    def _proven(self, text: str) -> "list[_Tag]":
        """The cashtags that count; none in code."""
        tags = [] if _is_code(text) else list(self._tags(text))
        if any(tag.is_short for tag in tags):
            proof = self._proof(text, tags)
            tags = [tag for tag in tags if not tag.is_short or self._is_proven(tag, proof)]
        return tags

    def _listed(self, text: str) -> "Iterator[Place]":
        """Symbols that an exchange or an option names; canonical."""
        for place in mentions.listings(text):
            symbol = place.symbol or ""
            base, _, suffix = symbol.replace("-", ".").replace("/", ".").partition(".")
            resolved = self._resolve(base, suffix)
            if resolved not in self._dropped:
                yield place._replace(symbol=resolved)

    def _listing(self, place: Place) -> Place:
        """The place with the tradable listing of its company."""
        base, _, suffix = (place.symbol or "").partition(".")
        return place._replace(symbol=self._resolve(base, suffix)) if base else place

    def _bare(self, text: str, names: list[Place]) -> "Iterator[Place]":
        """Tradable capitals with a second sign; everyday words only beside their company's name."""
        named = {place.symbol for place in names}
        for found in (*mentions.options(text), *mentions.bare(text)):
            place = self._listing(found)
            if place.symbol in self._universe and (found.symbol not in self.gazetteer.words or place.symbol in named):
                yield place

    def _said(self, text: str, places: tuple[Place, ...]) -> list[Place]:
        """Tradable companies by capitals, and by name in talk of business unless they rate others in it."""
        if not any(place.how in {"name", "bare"} and place.symbol in self._universe for place in places):
            return []
        alone = len({place.symbol or place.start for place in places}) == 1
        silent = self.gazetteer.brokers if speaks_of_others(text, alone=alone) else frozenset[str]()
        counted = {"name", "bare"} if self._is_market(text) else {"bare"}
        return [
            place
            for place in places
            if place.how in counted and place.symbol in self._universe and place.symbol not in silent
        ]

    def _is_market(self, text: str) -> bool:
        """Whether the post speaks of the market at all; names of companies count in no other post."""
        return _PRICE.search(text) is not None or not self._business.isdisjoint(_WORDS.findall(text.lower()))

    def _reading(self, tagged: list[Place], listed: list[Place], said: list[Place]) -> TickerReading:
        tags = [place.symbol or "" for place in tagged]
        known = dict.fromkeys(tags)
        explicit = [symbol for symbol in (*known, *_others(listed, known)) if symbol not in self._dropped]
        named = _others(said, dict.fromkeys(explicit))
        if len(named) > self._settings.max_named:
            named = []
        shown = explicit or named
        kept = shown[: self._settings.max_kept]
        return TickerReading(
            symbols=tuple(symbol for symbol in kept if symbol in self._universe),
            outside=tuple(symbol for symbol in kept if symbol not in self._universe),
            primary=shown[0] if explicit or len(named) == 1 else None,
            cashtags=len(tags) + len(_others(listed, known)),
            named=tuple(named) if explicit else (),
        )

    def _tags(self, text: str) -> "Iterator[_Tag]":
        """Well-formed cashtags in order: right spelling and boundaries, short ones not yet proven."""
        for match in _CASHTAG.finditer(text):
            if not _is_glued(text, match.start() - 1) and (tag := self._tag(text, match)) is not None:
                yield tag

    def _tag(self, text: str, match: re.Match[str]) -> "_Tag | None":
        base, suffix, end = _split_class(text, match)
        is_short = len(base) <= self._settings.short_letters
        if suffix is None or _is_glued(text, end) or _is_truncated(text, end, is_short=is_short):
            return None
        symbol = self._resolve(base.upper(), suffix.upper())
        if base.islower() and symbol not in self._universe:
            return None
        if is_short and not _stands_alone(text, match.start(), end):
            return None
        return _Tag(symbol, is_short, match.start(), end)

    def _resolve(self, base: str, suffix: str) -> str:
        """The symbol meant: itself, else another spelling of the same company that is in the universe."""
        full = f"{base}.{suffix}" if suffix else base
        names: list[str] = [full, *self._aliases.get(full, [])]
        for name in names:
            if name in self._universe:
                return name
        if suffix in self._exchanges:
            return self._resolve(base, "")
        return full

    def _proof(self, text: str, tags: "list[_Tag]") -> "_Proof":
        """What the post offers as second signs for its short symbols."""
        is_leet = _LEET.search(text) is not None
        others = {tag.symbol for tag in tags if self._counts_as_sign(tag, is_leet=is_leet)}
        words = frozenset(_WORDS.findall(_CASHTAG.sub(" ", text).lower()))
        is_market = not is_leet and (not words.isdisjoint(self._market_words) or _PRICE.search(text) is not None)
        start = -1 if is_leet else _first_word(text)
        return _Proof(frozenset(others), words, is_market, start)

    def _counts_as_sign(self, tag: "_Tag", *, is_leet: bool) -> bool:
        if is_leet:
            return not tag.is_short and tag.symbol in self._universe
        return tag.symbol in self._universe or not (tag.is_short or tag.symbol in self._dropped)

    def _is_proven(self, tag: "_Tag", proof: "_Proof") -> bool:
        """Whether a short symbol has a second sign: the market, its place, another cashtag, the company's name."""
        return (
            proof.is_market
            or tag.start == proof.start
            or not proof.cashtags <= {tag.symbol}
            or not proof.words.isdisjoint(self._names.get(tag.symbol, ()))
        )


def _readable(text: str) -> str:
    """The cleaned text without links, e-mail addresses and repeat marks, which name no stocks."""
    text = without_links(clean(text))
    if "@" in text:
        text = without_repeat_marks(_EMAIL.sub(" ", text))
    return _BARE_LINK.sub(" ", text) if "/" in text else text


def _is_code(text: str) -> bool:
    """Whether the text is a program, a shell command or a formula, where `$` starts a variable."""
    return any(hint in text for hint in _CODE_HINTS) and _CODE.search(text) is not None


def _others(places: list[Place], known: dict[str, None]) -> list[str]:
    """Symbols of the places that are not known yet, in order, no repeats."""
    return [symbol for symbol in dict.fromkeys(place.symbol or "" for place in places) if symbol not in known]


def _is_glued(text: str, index: int) -> bool:
    """Whether the character there would make the cashtag part of a longer word: letter, digit, mark, currency sign."""
    if not 0 <= index < len(text):
        return False
    char = text[index]
    if char.isascii():
        return char.isalnum() or char in "_$"
    category = unicodedata.category(char)
    is_mark = category in {"Mn", "Mc"} and ord(char) not in _VARIATION_SELECTORS
    return category[0] in "LN" or category == "Sc" or is_mark


def _split_class(text: str, match: re.Match[str]) -> tuple[str, str | None, int]:
    """(base, class or "", end) of a cashtag; the class is None when what follows the dot is no class of ours."""
    base, end = match[1], match.end()
    found = _CLASS.match(text, end)
    if found is not None and (found[1] or found[2]).isupper() == base.isupper():
        return base, found[1] or found[2], found.end()
    return base, None if _STRANGE_CLASS.match(text, end) else "", end


def _is_truncated(text: str, end: int, *, is_short: bool) -> bool:
    """Whether the post was cut right here (`$G…`), so that the symbol may be longer than what is left of it."""
    if is_short:
        return text.startswith(("…", ".."), end)
    return text.startswith("…", end) and not text[end + 1 :].strip()


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether white space or plain punctuation surrounds a short symbol, and no amount follows ("$C 200M")."""
    return (
        _is_plain(text, start - 1, start - 2)
        and (_is_plain(text, end, end + 1) or re.match(r"['’]s\b", text[end : end + 3]) is not None)
        and _AMOUNT.match(text, end) is None
    )


def _is_plain(text: str, index: int, beyond: int) -> bool:
    """Whether the neighbour is white space, an edge, or punctuation that does not join it to a word beyond."""
    if not 0 <= index < len(text) or text[index].isspace():
        return True
    joined = text[index] in _JOINS and 0 <= beyond < len(text) and text[beyond].isalnum()
    return text[index] in _PLAIN and not joined


def _first_word(text: str) -> int:
    """Index of the first character that is neither white space nor plain punctuation."""
    return next((index for index, char in enumerate(text) if not (char.isspace() or char in _PLAIN)), -1)

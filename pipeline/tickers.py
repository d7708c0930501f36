"""Which stocks a post names: by cashtag, exchange prefix, option, company name, or capitals with a second sign."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from operator import attrgetter
from typing import NamedTuple

from pydantic import Field

from pipeline import mentions
from pipeline.cashtags import cashtags, first_word, is_leet, without_cashtags
from pipeline.companies import Gazetteer, Place, speaks_of_others
from pipeline.errors import InvalidInputError
from pipeline.memo import Memo
from pipeline.models import Frozen, TickerReading
from pipeline.text import View, view, without_repeat_marks

_CANONICAL = re.compile(r"[A-Z]{1,5}(?:\.[A-Z]{1,2})?")
_PRICE = re.compile(r"\$\d|(?<![\d.,])\d{1,5}\.\d{1,2}(?![\d.])|\d%")
_PRICE_HINT = re.compile(r"[.%$](?:(?<=\$)(?=\d)|(?<=\d%)|(?<=\d\.)(?=\d))")
_WORDS = re.compile(r"[a-z][a-z0-9&]+")
_EMAIL = re.compile(r"[\w.+$-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,4}\.[A-Za-z]{2,24}(?!\w)")
_BARE_LINK = re.compile(
    r"\b[\w-]{1,64}\.(?:com|net|org|io|co|ly|me|gl|app|finance|tv|us|uk|de|info)/\S*", re.IGNORECASE
)
_CODE = re.compile(
    r"\$\(|\$\{|\{\s*print\b|<\?php|#!/|\becho \$|\bprint \$|&& ?\$|\bsudo \w|/(?:usr|bin|etc|home)/|~/\.\w"
    r"|\b(?:bash|zsh|export|environment variable|env var)\b[^$]{0,40}\$[A-Z]|\$(?:PATH|HOME)\b[:/=]"
    r"|\$[A-Z]+ ?= ?[^=;\s][^=;]{0,40};|;\s*\$[A-Z]+\s*[-.]?=|\$[A-Z]+->|\[ -[a-z] \$"
    r"|\[\[ (?:-[a-z] )?[\"']?\$|\bPS [A-Z]:\\|\$[A-Z]+ = (?:Get|New|Set)-"
    r"|\$[A-Z]+(?:\(\)|\[(?:\d+|[\"']\w+[\"'])\]|\+\+;|--;|\{)|\$[A-Z] ?= ?[^$\n]{1,40}[^$\s]\$(?![A-Za-z\d])"
    r"|\\(?:cup|cap|frac|times|cdot|sum|prod|int|sqrt|alpha|beta|sigma|mu|mathbb|mathcal|text|leq|geq|neq|approx|infty)\b"
    r"|&\w+=\$[A-Z]|\b\w+=[\"']\$[A-Z]|\bSELECT\b.{1,60}\bFROM\b"
)
# What a program or formula has at least one of, behind a sign that is quicker to look for.
_CODE_HINTS = (
    *((sign, (sign,)) for sign in ("{", "=", "~", "\\", "[", "#!", "$PATH", "$HOME", "SELECT ")),
    *((word, (word,)) for word in ("echo", "sudo", "bash", "zsh", "export", "env")),
    ("/", ("/usr/", "/bin/", "/etc/", "/home/")),
    ("(", ("$(", "()")),
    (";", ("++;", "--;")),
    (">", ("->",)),
    ("<", ("<?",)),
    ("&", ("&&",)),
)
_SCHEME = re.compile(r"\b[a-z]{2,12}://\S*", re.IGNORECASE)
_EMPHASIS = re.compile(r"(?<![\w$])(_{1,2})(\$[A-Za-z.]{1,8})\1(?![\w$])")
_CAPITALS = re.compile(r"[A-Z3](?<![\w$@#].)\w*")
_EMAIL_HINT = re.compile(r"@(?<=[\w.+$-]@)[\w-]+\.")
_BARE_LINK_HINT = re.compile(r"\.(?:com|net|org|io|co|ly|me|gl|app|finance|tv|us|uk|de|info)/", re.IGNORECASE)
_START = attrgetter("start")
_NOWHERE = frozenset[Place]()
_REMEMBERED_TAGS = 3
_READINGS = 4096
_Evidence = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


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
        self._readings = Memo(self._reading, _READINGS)
        self._counted = Memo(self._tag, _READINGS)

    def read(self, text: str) -> TickerReading:
        """The symbols of a post. Time is linear in the text; never raises on any text."""
        return self.survey(view(text)).reading

    def survey(self, post: View) -> Survey:
        """The symbols of a post and where they stand."""
        return self.survey_all((post,))[0]

    def survey_all(self, posts: Iterable[View]) -> list[Survey]:
        """The same for many posts, in order."""
        texts = list(map(_readable, posts))
        code = _are_code(texts)
        tagged = [
            self._tagged(text) if "$" in text and not is_code else [] for text, is_code in zip(texts, code, strict=True)
        ]
        listed = list(map(mentions.listings, texts))
        capitals = [frozenset(_CAPITALS.findall(text)) for text in texts]
        return list(map(self._survey, texts, tagged, listed, capitals))

    def _survey(self, text: str, tagged: list[Place], listed: list[Place], capitals: frozenset[str]) -> Survey:
        if not self._settings.names or len(tagged) > self._settings.max_kept:
            return Survey(self._reading_of(tagged, [], []), text, tuple(tagged))
        if listed:
            listed = list(self._tradable(listed))
            taken = {place.start for place in tagged}
            listed = [place for place in listed if place.start not in taken and place.start - 1 not in taken]
        names: list[Place] = []
        if self.gazetteer.may_name(text, capitals):
            names = [self._listing(place) for place in self.gazetteer.places(text)]
        bare = [] if self._spellings.isdisjoint(capitals) else list(self._bare(text, names))
        if not (listed or names or bare):
            return Survey(self._reading_of(tagged, [], []), text, tuple(tagged))
        places = tuple(sorted((*tagged, *listed, *names, *bare), key=_START))
        return Survey(self._reading_of(tagged, listed, self._said(text, places)), text, places)

    def _tagged(self, text: str) -> list[Place]:
        """The cashtags that count; short ones only with a second sign."""
        places: list[Place] = []
        short: list[Place] = []
        for base, suffix, start, end in cashtags(text, self._settings.short_letters):
            symbol = self._counted[base, suffix]
            if symbol is not None:
                places.append(Place(symbol, start, end, "cashtag"))
                if len(base) <= self._settings.short_letters:
                    short.append(places[-1])
        refused = self._unproven(text, places, short) if short else _NOWHERE
        return [place for place in places if place not in refused] if refused else places

    def _tag(self, tag: tuple[str, str]) -> str | None:
        """The symbol of a cashtag's letters and class, or None: in lower case it has to be in the universe."""
        symbol = self._resolve(tag[0].upper(), tag[1].upper())
        return symbol if symbol in self._universe or tag[0].isupper() else None

    def _unproven(self, text: str, places: list[Place], short: list[Place]) -> frozenset[Place]:
        """Short symbols without a second sign: their place, another cashtag, the market, the company's name."""
        leet = is_leet(text)
        signs = self._signs(places, short, leet=leet)
        doubtful = [place for place in short if signs <= {place.symbol}]
        if doubtful and not leet:
            start = first_word(text)
            doubtful = [place for place in doubtful if place.start != start]
        if not doubtful:
            return _NOWHERE
        words = frozenset(_WORDS.findall(without_cashtags(text).lower()))
        if not leet and (not words.isdisjoint(self._market_words) or _names_price(text)):
            return _NOWHERE
        return frozenset(place for place in doubtful if words.isdisjoint(self._names.get(place.symbol or "", ())))

    def _signs(self, places: list[Place], short: list[Place], *, leet: bool) -> set[str | None]:
        """The symbols whose presence speaks for others; where dollar signs stand for letters, only the surest."""
        if leet:
            surest = self._universe.difference(place.symbol or "" for place in short)
            return {place.symbol for place in places if place.symbol in surest}
        weak = {place.symbol for place in short}
        symbols = {place.symbol for place in places}
        return {name for name in symbols if name in self._universe or not (name in weak or name in self._dropped)}

    def _tradable(self, listed: list[Place]) -> "Iterator[Place]":
        """Symbols that an exchange or an option names; canonical, without currencies."""
        for place in listed:
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
        silent = self._silent(text, places)
        counted = {"name", "bare"} if self._is_market(text) else {"bare"}
        return [
            place
            for place in places
            if place.how in counted and place.symbol in self._universe and place.symbol not in silent
        ]

    def _silent(self, text: str, places: tuple[Place, ...]) -> frozenset[str]:
        """The brokers, where the text names one that rates others."""
        brokers = self.gazetteer.brokers
        if brokers.isdisjoint([place.symbol for place in places if place.symbol is not None]):
            return frozenset()
        alone = len({place.symbol or place.start for place in places}) == 1
        return brokers if speaks_of_others(text, alone=alone) else frozenset()

    def _is_market(self, text: str) -> bool:
        """Whether the post speaks of the market at all; names of companies count in no other post."""
        return _names_price(text) or not self._business.isdisjoint(_WORDS.findall(text.lower()))

    def _reading_of(self, tagged: list[Place], listed: list[Place], said: list[Place]) -> TickerReading:
        evidence = _symbols(tagged), _symbols(listed) if listed else (), _symbols(said) if said else ()
        return self._readings[evidence] if len(tagged) <= _REMEMBERED_TAGS else self._reading(evidence)

    def _reading(self, evidence: _Evidence) -> TickerReading:
        tags, listed, said = evidence
        known = dict.fromkeys(tags)
        others = [symbol for symbol in dict.fromkeys(listed) if symbol not in known]
        explicit = [symbol for symbol in (*known, *others) if symbol not in self._dropped]
        named = [symbol for symbol in dict.fromkeys(said) if symbol not in explicit]
        if len(named) > self._settings.max_named:
            named = []
        shown = explicit or named
        kept = shown[: self._settings.max_kept]
        return TickerReading(
            symbols=tuple(symbol for symbol in kept if symbol in self._universe),
            outside=tuple(symbol for symbol in kept if symbol not in self._universe),
            primary=shown[0] if explicit or len(named) == 1 else None,
            cashtags=len(tags) + len(others),
            named=tuple(named) if explicit else (),
        )

    def _resolve(self, base: str, suffix: str) -> str:
        """The symbol meant: itself, else another spelling of the same company that is in the universe."""
        full = f"{base}.{suffix}" if suffix else base
        if full in self._universe:
            return full
        for name in self._aliases.get(full, ()):
            if name in self._universe:
                return name
        return self._resolve(base, "") if suffix in self._exchanges else full


def _readable(post: View) -> str:
    """The text without links, e-mail addresses and repeat marks, which name no stocks."""
    text = post.plain
    if "@" in text:
        text = without_repeat_marks(_EMAIL.sub(" ", text) if _EMAIL_HINT.search(text) is not None else text)
    if "/" in text:
        text = _SCHEME.sub(" ", text) if "://" in text else text
        text = _BARE_LINK.sub(" ", text) if _BARE_LINK_HINT.search(text) is not None else text
    return _EMPHASIS.sub(r" \2 ", text) if "_" in text else text


def _names_price(text: str) -> bool:
    """Whether there is a price or a percentage; the hint, which every one of them has, is five times as fast."""
    return _PRICE_HINT.search(text) is not None and _PRICE.search(text) is not None


def _are_code(texts: Sequence[str]) -> list[bool]:
    """Whether texts are programs, shell commands or formulas, where `$` starts a variable."""
    together = "\n".join(texts)
    hints = [hint for sign, hints in _CODE_HINTS if sign in together for hint in hints if hint in together]
    return [_hints_at_code(text, hints) and _CODE.search(text) is not None for text in texts]


def _hints_at_code(text: str, hints: Sequence[str]) -> bool:
    for hint in hints:  # noqa: SIM110  # twice as fast as any()
        if hint in text:
            return True
    return False


def _symbols(places: list[Place]) -> tuple[str, ...]:
    return tuple([place.symbol or "" for place in places])

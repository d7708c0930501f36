"""Symbols without a dollar sign: after an exchange's name, inside an option, or bare capitals with a second sign."""

import re
from collections.abc import Iterator

from pipeline.companies import Place

_EXCHANGE = re.compile(
    r"(?<![\w$@#./-])(?:nasdaq(?:gs|gm|cm)?|nyse(?: ?(?:american|arca|mkt))?|amex|otc(?:qb|qx|mkts)?|bats|cboe) ?: ?"
    r"(?P<symbol>(?-i:[A-Z]{1,5}(?:[.\-/][A-Z]{1,2})?))(?![\w$@]|[./-][A-Za-z0-9])",
    re.IGNORECASE,
)
_OCC = re.compile(
    r"(?<![\w$.@#/-])[$.]{0,2}(?P<symbol>[A-Z]{1,5}) {0,5}\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[CP]"
    r"\d{1,8}(?:\.\d{1,3})?(?!\w)"
)
_EXCHANGES = ("nasdaq", "nyse", "amex", "otc", "bats", "cboe")
_OCC_HINT = re.compile(r"[CP](?<=\d{6}.)\d")
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?(?: ?'?\d{1,4})?"
_DATE = rf"(?:\d{{1,2}}[/-]\d{{1,2}}(?:[/-]\d{{2,4}})?|{_MONTH}|\d{{1,2}} ?{_MONTH}|weekly|weeklies|0dte|leaps?)"
_OPTION = re.compile(
    rf"(?<![\w$@#./-])(?P<symbol>(?-i:[A-Z]{{1,5}}))(?: {_DATE}){{0,2}} \$?\d{{1,5}}(?:\.\d{{1,2}})? ?"
    r"(?:c|p|calls?|puts?)(?![\w-])",
    re.IGNORECASE,
)
_BARE = re.compile(r"(?<![\w$@#＄＠＃.&/=<>\"'`+*-])\(?(?P<symbol>[A-Z]{3,5})\)?(?=[\s,;:!?)]|\.(?:\s|$)|['’]s\b|$)")
_BEFORE = re.compile(
    r"\b(?:long|short|shorting|buy|buying|bought|sell|selling|sold|hold|holding|own|owning|added|adding|trim(?:med|ming)?|"
    r"shares of|stock of|calls on|puts on|bullish on|bearish on|into|upgrades?|downgrades?|covered|covering)"
    r"(?: (?:some|more|my|all|the|\d+))? ?\(?$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\)?(?:['’]s)? (?:shares?|stock|calls?|puts?|longs?|shorts?|bulls?|bears?|earnings|eps|guidance|price target|pt|"
    r"beats?|miss(?:es)?|upgraded|downgraded|breaking (?:out|down)|breakout|breakdown|dividend|buyback|"
    r"(?:is )?(?:up|down) \$?\d|[+-]\d+(?:\.\d+)?%|\$\d+)(?!\w)",
    re.IGNORECASE,
)
_ABROAD = re.compile(
    r"\b(?:LON|LSE|ETR|XETRA|FRA|TSX[VE]?|CVE|CSE|ASX|HKEX?|HKG|SEHK|EPA|AMS|BIT|BME|SWX|STO|NSE|BSE|TYO|TSE|KRX|SHA|SHE|SSE|SZSE"
    r"|EURONEXT|BINANCE|COINBASE|KRAKEN|BYBIT|OKX|FX|OANDA) ?: ?$"
)
_NEAR = 24
_SHOUTED = 0.6


def listings(text: str) -> list[Place]:
    """Symbols after an exchange of the United States ("NASDAQ: AAPL") and inside OCC option symbols."""
    found: list[Place] = []
    if ":" in text and _names_exchange(text.casefold()):
        found = [_place(match, "listing") for match in _EXCHANGE.finditer(text)]
    if _OCC_HINT.search(text) is not None:
        found += [_place(match, "listing") for match in _OCC.finditer(text)]
    return found


def _names_exchange(folded: str) -> bool:
    for name in _EXCHANGES:  # noqa: SIM110  # twice as fast as any()
        if name in folded:
            return True
    return False


def options(text: str) -> Iterator[Place]:
    """Capitals with a strike and a side behind them: "AAPL 150c", "AAPL 1/19 150 calls"."""
    return (_place(match, "bare") for match in _OPTION.finditer(text))


def bare(text: str) -> Iterator[Place]:
    """Capitals of three letters or more that a word of the trade stands right beside: "long AAPL", "AAPL calls".

    Nothing in a text that shouts: there capitals tell nothing.
    """
    if _is_shouted(text):
        return
    for match in _BARE.finditer(text):
        before, after = text[max(0, match.start() - _NEAR) : match.start("symbol")], text[match.end("symbol") :][:_NEAR]
        if (_BEFORE.search(before) or _AFTER.match(after)) is not None and _ABROAD.search(before) is None:
            yield _place(match, "bare")


def _place(match: re.Match[str], how: str) -> Place:
    return Place(match["symbol"], match.start("symbol"), match.end("symbol"), how)


def _is_shouted(text: str) -> bool:
    letters = [char for char in text[:400] if char.isalpha()]
    return sum(map(str.isupper, letters)) > _SHOUTED * len(letters)

"""Cashtags as they are spelled: a dollar sign, one to five letters, a class, and nothing that makes it another word."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_CASHTAG = re.compile(r"\$([A-Z]{1,5}|[a-z]{3,5})(?![A-Za-z])")
_CLASS = re.compile(r"(?:\.([A-Z]{1,2}|[a-z])|[-/]([A-Z]))(?![A-Za-z0-9_$])(?!\.[A-Za-z])")
_STRANGE_CLASS = re.compile(
    r"\.(?:[A-Za-z]{1,3}|[A-Z]{4})(?![A-Za-z])|/(?:USD[TC]?|BUSD|EUR|BTC|ETH|SOL)(?![A-Za-z])|-PERP(?![A-Za-z])"
)
_AMOUNT = re.compile(r"\s?[\d.,]+\s?(?:[kmb]|mm|mn|bn|tn|mln|million|billion|thousand)\b", re.IGNORECASE)
_LEET = re.compile(r"\$(?<=[^\W\d_]\$)[^\W\d_]")
_CUT_OFF = re.compile(r"…\s*\Z")
_PLAIN = frozenset(".,;:!?()[]\"'“”‘’«»-–—/|")
_PLAIN_START = re.compile(rf"[\s{re.escape(''.join(sorted(_PLAIN)))}]*")
_JOINS = frozenset("-'’")
# Neighbours that settle every question of spelling at once: most cashtags have these, or an edge of the text.
_OPENS = frozenset(("", " ", "\n", "(", ","))
_CLOSES = frozenset(("", " ", "\n", ")", ",", ":", ";", "!", "?"))
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class Cashtag(NamedTuple):
    """A well-formed cashtag: letters and class as written ("" without one), its start (the `$`) and end."""

    base: str
    suffix: str
    start: int
    end: int


def cashtags(text: str, short_letters: int) -> Iterator[Cashtag]:
    """Well-formed cashtags in order; those of up to `short_letters` letters stand between white space or plain marks.

    None is part of a longer word, of a foreign listing (`$SHOP.TO` stays whole) or may have been cut off.
    """
    for match in _CASHTAG.finditer(text):
        base, start, end = match[1], match.start(), match.end()
        is_short = len(base) <= short_letters
        if text[start - 1 : start] in _OPENS and text[end : end + 1] in _CLOSES:
            if not (is_short and _AMOUNT.match(text, end)):
                yield Cashtag(base, "", start, end)
        elif not _is_glued(text, start - 1):
            suffix, end = _class(text, base, end)
            if suffix is not None and _is_whole(text, start, end, is_short=is_short):
                yield Cashtag(base, suffix, start, end)


def without_cashtags(text: str) -> str:
    """The text with a space for everything that looks like a cashtag."""
    return _CASHTAG.sub(" ", text)


def is_leet(text: str) -> bool:
    """Whether a dollar sign stands for a letter somewhere (A$AP)."""
    return _LEET.search(text) is not None


def first_word(text: str) -> int:
    """Index of the first character that is neither white space nor plain punctuation; -1 without one."""
    start = _PLAIN_START.match(text).end()  # type: ignore[union-attr]  # it may be empty, so it always matches
    return start if start < len(text) else -1


def _class(text: str, base: str, end: int) -> tuple[str | None, int]:
    """(class or "", end) of a cashtag; the class is None when what follows the dot is no class of ours."""
    found = _CLASS.match(text, end)
    if found is not None and (found[1] or found[2]).isupper() == base.isupper():
        return found[1] or found[2], found.end()
    return None if _STRANGE_CLASS.match(text, end) else "", end


def _is_whole(text: str, start: int, end: int, *, is_short: bool) -> bool:
    if _is_glued(text, end) or _is_truncated(text, end, is_short=is_short):
        return False
    return not is_short or _stands_alone(text, start, end)


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


def _is_truncated(text: str, end: int, *, is_short: bool) -> bool:
    """Whether the post was cut right here (`$G…`), so that the symbol may be longer than what is left of it."""
    if is_short:
        return text.startswith(("…", ".."), end)
    return _CUT_OFF.match(text, end) is not None


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

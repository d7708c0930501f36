"""The words of a post made comparable: cut, cleaned and fingerprinted."""

import html
import re
from hashlib import blake2s
from typing import NamedTuple

# Invisible characters that join or split nothing a reader can see (soft hyphen, zero width, BOM, bidi marks).
_INVISIBLE = dict.fromkeys(
    map(
        ord,
        "\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff",
    ),
)
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINK = re.compile(r"[hHwW](?:(?<=[hH])[tT][tT][pP][sS]?(?::\S*|…)|(?<=[wW])[wW]{2}\.\S*)")
_REPEATED = re.compile(r"""(?:\W{0,4}\b(?:rt|mt)\b\W{0,3}@\w{1,30}:?|\W{0,3}["“]@\w{1,30}:?)\s*""", re.IGNORECASE)
_TAG = re.compile(r"[$#@](?=[^\W\d])[\w.]+")
_CAMPAIGN_WORDS = (
    10  # on the tweets of 2014 all equal sentences of this length under other tickers were promos or reposts
)
# What identifies a post: signed numbers with their unit, words, emoji. Everything else is decoration.
_IDENTITY = re.compile(
    r" ?+([^\W\d]\w*|\d+(?:[.,]\d+)*%?|[+-]\$?\d+(?:[.,]\d+)*%?|\$\d+(?:[.,]\d+)*%?"
    r"|[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff])"
)


def cut(text: str, limit_bytes: int) -> str:
    """The text, or its longest beginning that fits `limit_bytes` of UTF-8 and an ellipsis where it was cut.

    A split character is dropped. The ellipsis tells readers that the last word may be incomplete.
    """
    if len(text) * 4 <= limit_bytes:
        return text
    encoded = text[: limit_bytes + 1].encode("utf-8", "surrogatepass")
    if len(encoded) <= limit_bytes:
        return text
    return encoded[:limit_bytes].decode("utf-8", "ignore") + "…"


def clean(text: str) -> str:
    """The text as a reader sees it: HTML entities resolved (some posts are escaped twice), no invisible marks."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return text if text.isascii() or text.isprintable() else text.translate(_INVISIBLE)


class View(NamedTuple):
    """A post as all its readers see it, prepared once.

    `text`: cleaned. `plain`: the same with a space for every web address. `has_link`: whether there was one.
    """

    text: str
    plain: str
    has_link: bool


def view(text: str) -> View:
    """The view of a text, cleaned first."""
    cleaned = clean(text)
    plain, links = _LINK.subn(" ", cleaned)
    return View(cleaned, plain, links > 0)


def is_readable(text: str) -> bool:
    """Whether the text is words rather than binary: no control characters, lone surrogates or bidi marks."""
    return text.isprintable() or _UNREADABLE.search(text) is None


def without_repeat_marks(text: str) -> str:
    """The text without the marks of repeating somebody: `RT @user:`, `MT @user`, `"@user:` at its beginning."""
    if "@" not in text:
        return text
    start = 0
    while (match := _REPEATED.match(text, start)) is not None:
        start = match.end()
    return text[start:]


def normalise(plain: str) -> str:
    """What identifies a cleaned text without links: words, signed numbers and emoji, folded, one space between.

    From `_CAMPAIGN_WORDS` words on, cashtags, hashtags and users are left out: campaigns publish one sentence under
    ever new tickers.
    """
    folded = without_repeat_marks(plain).casefold()
    untagged, tags = _TAG.subn(" ", folded)
    sentence = _IDENTITY.findall(untagged)
    return " ".join(sentence if len(sentence) >= _CAMPAIGN_WORDS or not tags else _IDENTITY.findall(folded))


def fingerprint(text: str) -> str:
    """Identity of near-duplicates, 20 hex characters.

    Equal for reposts that differ in RT/MT marks, links, case, white space, punctuation or HTML entities, and for long
    posts that differ in their tags; a post of nothing else is identified by its whole text. Signs of numbers, emoji
    and, in short posts, symbols make a difference.
    """
    return fingerprint_of(view(text))


def fingerprint_of(post: View) -> str:
    """The `fingerprint` of a prepared text."""
    identity = normalise(post.plain) or post.text
    return blake2s(identity.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()

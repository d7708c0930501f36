"""Recognises posts that want something of their reader: promos, testimonials, bait, bare links and lists."""

import re
from itertools import islice

from pydantic import Field

from pipeline.models import Frozen
from pipeline.promos import Promos
from pipeline.text import View, without_repeat_marks

_TAG_OR_WORD = re.compile(r"[$#@][\w.]+|([^\W\d_]+)(?:['’][^\W\d_]+)?")
_BEHIND_SPACE = re.compile(r" [^\W\d_]")
_HEADLINE = re.compile(r"(?:\$[A-Z.]{1,7},? )+ ?[-–—:] \w+ \w+ \w+")
_FOREIGN = re.compile("[\u0370-\u03ff\u0400-\u04ff]")
_LOOK_ALIKE = re.compile(r"[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]")
_PROMOS = Promos()
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")


class SpamSettings(Frozen):
    """When a post is a promo (rules of the trade, section 1). Each verdict has a name; None means it is none."""

    min_cashtags: int = Field(default=3, ge=1, le=100, description="cashtags from which a post may be a template")
    max_words: int = Field(default=8, ge=0, le=100, description="words (no tags, no links) a template has at most")
    wall_cashtags: int = Field(default=6, ge=2, le=1000, description="cashtags from which few words make a bare list")
    promos: bool = Field(default=True, description="recognise promos, testimonials, service ads and follower bait")
    read_characters: int = Field(default=1200, ge=100, le=16_384, description="characters searched for promo phrases")


LISTS = frozenset({"cashtag_link", "cashtag_wall"})
"""Verdicts on posts that name too many stocks: they are never routed, but what they say is still read."""


def spam_verdict(post: View, cashtags: int, settings: SpamSettings) -> str | None:
    """What makes a post spam, or None.

    `cashtag_link`: `min_cashtags` or more, a link, at most `max_words` words (a wire's
    "$A $B $C - headline" is none). `link_only`: a link and no word.
    `cashtag_wall`: `wall_cashtags` or more and fewer words than cashtags. `mixed_script`: Latin words spelled with
    Greek or Cyrillic letters. `group_promo`, `testimonial`, `service_ad`, `follower_bait`, `tout`: by their phrases.
    `offer`: words of an offer, of a call and of a lure in one post. `hidden`: a word of promos in disguise (`disc0rd`).
    """
    most = settings.read_characters
    return (_PROMOS.read(post.text[:most], post.plain[:most]) if settings.promos else None) or _by_shape(
        post, cashtags, settings
    )


def _by_shape(post: View, cashtags: int, settings: SpamSettings) -> str | None:
    if post.has_link and not _has_word(post) and _EMOJI.search(post.text) is None:
        return "link_only"
    if post.has_link and cashtags >= settings.min_cashtags and _is_template(post, settings):
        return "cashtag_link"
    if cashtags >= settings.wall_cashtags and _words(post, cashtags) < cashtags:
        return "cashtag_wall"
    return "mixed_script" if _is_mixed(post.text, settings) else None


def _is_template(post: View, settings: SpamSettings) -> bool:
    most = settings.max_words
    return _words(post, most + 1) <= most and _HEADLINE.match(post.text) is None


def _has_word(post: View) -> bool:
    """Whether there is a word at all; one behind a space settles it, unless it may be of a user who is repeated."""
    return ("@" not in post.plain and _BEHIND_SPACE.search(post.plain) is not None) or _words(post, 1) > 0


def _words(post: View, enough: int) -> int:
    """Words besides tags, users and links, counted up to `enough`."""
    found = (match for match in _TAG_OR_WORD.finditer(without_repeat_marks(post.plain)) if match[1] is not None)
    return sum(1 for _ in islice(found, enough))


def _is_mixed(text: str, settings: SpamSettings) -> bool:
    """Whether Greek or Cyrillic letters stand inside a Latin word: the spelling of those who hide from filters."""
    if text.isascii() or _FOREIGN.search(text) is None:
        return False
    return _LOOK_ALIKE.search(text, 0, settings.read_characters) is not None

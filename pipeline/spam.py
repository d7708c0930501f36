"""Recognises posts that want something of their reader: promos, testimonials, bait, bare links and lists."""

import re
from itertools import islice

from pydantic import Field

from pipeline.models import Frozen
from pipeline.text import View, without_repeat_marks

_TAG_OR_WORD = re.compile(r"[$#@][\w.]+|([^\W\d_]+)(?:['’][^\W\d_]+)?")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_HEADLINE = re.compile(r"(?:\$[A-Z.]{1,7},? )+ ?[-–—:] \w+ \w+ \w+")
_FOREIGN = re.compile("[\u0370-\u03ff\u0400-\u04ff]")
_LOOK_ALIKE = re.compile(r"[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]")
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")
_LETTERS = bytes(code if code in b"abcdefghijklmnopqrstuvwxyz" else ord(" ") for code in range(256))

_PLACE = re.compile(
    r"\b(?:chat ?rooms?|trading rooms?|discord|telegram|(?:on|our|my|via|add me on|join) whats ?app"
    r"|whats ?app (?:group|me|him|her|us|\+?\d)|(?:telegram|discord|slack|youtube|vip) channel"
    r"|(?:vip|signals?|chat|private|premium|trading|alerts?|options?|stocks?|our|my|this|facebook|\$?fb) "
    r"(?:trading |chat |alerts? |options? |stocks? |discord |signals? |winning )?"
    r"(?:group|server|community|chat|network)s?"
    r"|alerts? service)\b"
)
_PULL = re.compile(
    r"\b(?:join|sign ?up|subscribe|link|bio|click|free|dm|inbox|limited time|opening|check out|come (?:learn"
    r"|see|join)"
    r"|visit|access|invite|don'?t miss|below|learn|look|best|thanks?|recommend\w*|accura\w+|patient"
    r"|every (?:day|morning)|make money"
    r"|(?:huge|big|insane|massive|real|consistent|daily|amazing|great) (?:profits?|gains?|wins?|money)"
    r"|\d+% ?\+? (?:profit|gains?|win)|called it)\b"
    r"|\b(?:made|make|making|earned?|gained?|banked|won|paid|profited|up)\b[^.!?]{0,40}?\d"
)
_JOIN = re.compile(
    r"\bjoin (?:us|our|my|with us|this)\b|\bjoin (?:now|today|here|free|the (?:best|most|winning|hype|team))\b"
    r"|\b(?:come|to) join\b.{0,30}\bfree\b|\bin (?:(?:our|my|the) discord|(?:our|my) (?:room|group|chat|telegram))\b"
    r"|\bour (?:\w+ )?(?:members|subscribers)\b|\bvip members\b"
    r"|\bsent to (?:our |my |all )?(?:members|subscribers) (?:this|at|in|before|already|last|on)\b"
    r"|\blink in (?:my |our |the )?bio\b|\bmembership (?:is )?open\b|\b(?:my|our) (?:\w+ )?(?:telegram|discord"
    r"|whatsapp)\b"
    r"|\bwhats ?app:? \+?\d|\bcheck out (?:this|these) (?:chat|guys?|group|team|page)\b"
    r"|\bour traders\b.{0,20}\b(?:made|banked|up)\b"
)
_TESTIMONIAL = re.compile(
    r"\b(?:by|with|from|following|to|of|for) (?:their|his|her|your|these|this guy'?s|@\w+'s) (?:\w+ ){0,2}?"
    r"(?:alerts?|signals?|tips|picks|teachings?|mentorship|swings|trade ideas)\b"
    r"|\b(?:made|make|earned|gained|turned)\b[^.!?]{0,40}?\d[^.!?]{0,40}?"
    r"\b(?:with|from|by|thanks to|following) (?:them|him|her|@\w+|this (?:guy|group|team))\b"
    r"|\b(?:gains?|profits?|win|made|paid|return)\b.*\b(?:for|more) (?:details|info)\W*$"
    r"|\b(?:dm|inbox|whatsapp|text|message) (?:me|him|her|us|them)\b(?: (?:now|for|to (?:get|join|learn|start)"
    r"|asap|today))"
    r"|\b(?:dm|inbox|whatsapp) (?:me|him|her|them)\W*$|\b(?:changed|change) my life\b"
    r"|\b(?:made|earned|gained|up|turned)\b.{0,40}\d.{0,30}\b(?:with|thanks to|by"
    r"|from) (?:\w+ )?\w+'s (?:signals?|alerts?|picks|tips)\b"
    r"|\b(?:gains?|profits?)\b.{0,80}\b(?:dm|inbox|message|text|follow|whatsapp) (?:me|him|her|us|@\w+)\b",
    re.DOTALL,
)
_SERVICE = re.compile(
    r"\bfree (?:\w+ ){0,3}?trial\b|\b\d+[- ]days? (?:free )?trial\b|\btrial\b.*\bno (?:payment|credit card)\b"
    r"|\b(?:sign ?up|subscribe) (?:now|today|here|free|for (?:free|our|my|a)|to (?:our|my|get)|at|and join)\b"
    r"|\bto learn more,? sign ?up\b|\bfor real[- ]time prints\b"
    r"|\bprints?\b.*\b(?:join|click)\b|\btrade alert originally called\b"
    r"|\buse (?:my|our) (?:referral )?link\b"
    r"|\bnew alert (?:at|via)\b|\breceived a new alert\b|\bfind active market alerts\b|\bnot a member yet\b"
    r"|\btry (?:it|us) free\b"
    r"|\bfree for \d+ (?:days?|hours?|weeks?)\b|\breserve (?:your|a) (?:seat|spot)\b|\bfree e-?book\b"
    r"|\bbuy my (?:\w+ )?course\b"
    r"|\b(?:stock|free|great|awesome|our|my) newsletters?\b|#newsletter|\bclick\W*$|\bclick (?:here|for|to|the)\b"
    r"|\b(?:subscribers?|members|memberships?)\b[^!?]{0,40}?(?<![\d.])(?:\d{1,3}(?:,\d{3})+|\d{3,5})(?:\.\d+)?%"
    r" gains?\b"
    r"|\b(?:subscribers?|members)\b[^!?]{0,40}?\bgain(?:ed)? (?:\d{1,3}(?:,\d{3})+|\d{3,5})(?:\.\d+)?%"
    r"|\bpenny stock (?:alert|pick)s?\b[^!?]{0,40}?\b(?:coming|early|first|free)\b"
    r"|\balert courtesy of\b"
    r"|\balerts?\b.*\bone time fee\b|\bour (?:\w+ ){0,3}?(?:alerts?|picks|signals)\b"
    r"|\bfree (?:\w+ )?(?:signals|alerts|picks|trades?|watchlist|stock!?)\b.*\b(?:link|sign|join|bio|up|at|via"
    r"|here)\b",
    re.DOTALL,
)
_BAIT = re.compile(
    r"\bfollow ?trick\b|\bgive ?a?ways?\b|\bair ?drops?\b|\b\d+ (?:retweets|rts|likes)\b"
    r"|\bfirst \d+ (?:followers|people|members|to (?:follow|join|dm|reply))\b"
    r"|\b(?:retweet|rt|like|fav|comment) (?:this |it )?(?:and|&|\+|or|if|for|to) (?!.{0,20}@\w+:)"
    r"(?:\w+ ){0,3}?(?:follow|like|retweet|win|get|you|alert|ticker|rt|share|comment|chance)\b"
    r"|(?:^|[.!?:\n]\W*)follow (?:me|us|back|everyone|all|him|her|@\w+|for)\b|\$follow\b"
    r"|\bfollow(?:ed)? back\b|\bdrop (?:me )?(?:some|your|a) (?:tickers?|favou?rites?|picks?)\b"
    r"|\bcomment (?:your|below)\b"
)
# Which words must stand in a post before a rule is tried: nine in ten posts are settled by these sets alone.
_RULES: tuple[tuple[str, frozenset[str], tuple[re.Pattern[str], ...]], ...] = (
    (
        "group_promo",
        _set(
            "chat chatroom chatrooms chats room rooms discord telegram whatsapp whats channel group groups server "
            "community network service alert alerts"
        ),
        (_PLACE, _PULL),
    ),
    (
        "group_promo",
        _set(
            "join members subscribers discord telegram whatsapp whats room group chat bio membership traders "
            "guys guy team page"
        ),
        (_JOIN,),
    ),
    (
        "testimonial",
        _set(
            "alert alerts signal signals tips picks mentorship teaching teachings swings "
            "ideas them him her guy group team details info dm inbox message text whatsapp message life thanks "
            "following"
        ),
        (_TESTIMONIAL,),
    ),
    (
        "service_ad",
        _set(
            "trial sign signup subscribe print prints link alert alerts member newsletter newsletters click picks "
            "signals watchlist free course reserve ebook subscriber subscribers members membership memberships penny "
            "courtesy"
        ),
        (_SERVICE,),
    ),
    (
        "follower_bait",
        _set(
            "follow followed followtrick giveaway giveaways giveway give airdrop airdrops air retweet retweets rts "
            "likes comment drop fav first"
        ),
        (_BAIT,),
    ),
)

# One word of each of these is an offer, a call and a lure: a promo in words no rule above knows.
_OFFERS = _set(
    "discord telegram whatsapp chatroom chatrooms group room vip mentor mentorship course webinar signal "
    "signals alert "
    "alerts picks newsletter service trades tickers levels community family coach"
)
_CALLS = _set(
    "join subscribe sign signup dm inbox contact click tag follow retweet comment text link learn reserve visit"
)
_LURES = _set(
    "free winner winners win wins profit profits gains spots lucky daily trial best seat bio below pro morning pros"
)
_TRIGGERS = frozenset().union(*(triggers for _, triggers, _ in _RULES))


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
    Greek or Cyrillic letters. `group_promo`, `testimonial`, `service_ad`, `follower_bait`: by their phrases. `offer`:
    words of an offer, of a call and of a lure in one post.
    """
    return (_by_phrase(post.text, settings) if settings.promos else None) or _by_shape(post, cashtags, settings)


def _by_shape(post: View, cashtags: int, settings: SpamSettings) -> str | None:
    if post.has_link and _words(post, 1) == 0 and _EMOJI.search(post.text) is None:
        return "link_only"
    if post.has_link and cashtags >= settings.min_cashtags and _is_template(post, settings):
        return "cashtag_link"
    if cashtags >= settings.wall_cashtags and _words(post, cashtags) < cashtags:
        return "cashtag_wall"
    return "mixed_script" if _is_mixed(post.text, settings) else None


def _is_template(post: View, settings: SpamSettings) -> bool:
    most = settings.max_words
    return _words(post, most + 1) <= most and _HEADLINE.match(post.text) is None


def _words(post: View, enough: int) -> int:
    """Words besides tags, users and links, counted up to `enough`."""
    found = (match for match in _TAG_OR_WORD.finditer(without_repeat_marks(post.plain)) if match[1] is not None)
    return sum(1 for _ in islice(found, enough))


def _is_mixed(text: str, settings: SpamSettings) -> bool:
    """Whether Greek or Cyrillic letters stand inside a Latin word: the spelling of those who hide from filters."""
    if text.isascii() or _FOREIGN.search(text) is None:
        return False
    return _LOOK_ALIKE.search(text, 0, settings.read_characters) is not None


def _by_phrase(text: str, settings: SpamSettings) -> str | None:
    lower = text[: settings.read_characters].lower().replace("’", "'").replace("t.me/", "telegram ")
    words = frozenset(lower.encode("ascii", "replace").translate(_LETTERS).decode("ascii").split())
    if not words.isdisjoint(_TRIGGERS):
        lower = " ".join(lower.split())
        for name, triggers, patterns in _RULES:
            if not words.isdisjoint(triggers) and all(pattern.search(lower) is not None for pattern in patterns):
                return name
    is_offer = not (words.isdisjoint(_OFFERS) or words.isdisjoint(_CALLS) or words.isdisjoint(_LURES))
    return "offer" if is_offer else None

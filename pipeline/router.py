"""Which way each leg of a message goes: to the market at once, to a vote, or to its end (STAGES 2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from pydantic import Field

from pipeline.models import Frozen, Label, Outcome, Refusal, Stage, Vote

NO_SYMBOL: Final = "-"  # in a leg's id


class RouterSettings(Frozen):
    """Numbers of the router. Ages are counted from `created_at` to the moment of routing."""

    max_age_urgent_s: float = Field(default=30, gt=0, le=86_400, description="seconds; older urgent legs end expired")
    max_age_batch_s: float = Field(default=120, gt=0, le=604_800, description="seconds; older votes end expired")
    max_cashtags: int = Field(default=3, ge=1, le=100, description="cashtags; a post with more is a list post")
    duplicate_window_s: float = Field(default=86_400, ge=0, le=604_800, description="seconds a text stays known")


class Post(Protocol):
    """What routing asks of a post. `SocialMessage` has it."""

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def author(self) -> str: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def received_at(self) -> datetime: ...  # noqa: D102


class Reading(Protocol):
    """What routing asks of a sentiment. `Sentiment` has it."""

    @property
    def label(self) -> Label: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def confidence(self) -> float: ...  # noqa: D102


class Symbols(Protocol):
    """What routing asks of the symbols of a post. `TickerReading` has it."""

    @property
    def symbols(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def outside(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def primary(self) -> str | None: ...  # noqa: D102
    @property
    def cashtags(self) -> int: ...  # noqa: D102
    @property
    def named(self) -> tuple[str, ...]: ...  # noqa: D102


class Routable(Protocol):
    """What routing asks of an analyzed message. `AnalyzedMessage` has it, and lighter readings of the same body."""

    @property
    def message_id(self) -> str: ...  # noqa: D102
    @property
    def message(self) -> Post: ...  # noqa: D102
    @property
    def sentiment(self) -> Reading: ...  # noqa: D102
    @property
    def tickers(self) -> Symbols: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def spam(self) -> str | None: ...  # noqa: D102
    @property
    def by_symbol(self) -> Mapping[str, Reading]: ...  # noqa: D102


class Fate(StrEnum):
    """Where a leg goes."""

    URGENT = "urgent"
    VOTE = "vote"
    END = "end"


@dataclass(frozen=True, slots=True)
class Leg:
    """One message for one symbol (None: for no symbol) and where it goes.

    `vote` is what the symbol's list gets: for VOTE and URGENT legs. `outcome` and `refusal` are set at END.
    """

    leg_id: str
    message_id: str
    symbol: str | None
    fate: Fate
    vote: Vote | None = None
    outcome: Outcome | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class DenyList:
    """What people forbade: symbols, authors and sources."""

    symbols: frozenset[str] = field(default_factory=frozenset)
    authors: frozenset[str] = field(default_factory=frozenset)
    sources: frozenset[str] = field(default_factory=frozenset)


def leg_id(message_id: str, symbol: str | None) -> str:
    """The leg's id, a pure function of the message's id and the symbol ("-" for none)."""
    return f"{message_id}:{symbol or NO_SYMBOL}"


def first_leg_id(message: Routable) -> str:
    """The leg by which a message routed before is known: a pure function of the post, whatever the rules are by now.

    A post refused as a whole has its null leg instead.
    """
    return leg_id(message.message_id, first_symbol(message))


def first_symbol(message: Routable) -> str | None:
    """The symbol of that leg."""
    tickers = message.tickers
    return next(iter(tickers.symbols or tickers.outside), None)


def is_high_signal(message: Routable, threshold: float) -> bool:
    """Whether the post is urgent: confidence at or over the threshold and not neutral (seed)."""
    return message.sentiment.label is not Label.NEUTRAL and message.sentiment.confidence >= threshold


def route(
    message: Routable, as_of: datetime, deny: DenyList, settings: RouterSettings, threshold: float
) -> tuple[Leg, ...]:
    """Every leg of the message, at least one, in the post's order; a post refused as a whole has one null leg.

    Near-duplicates need memory and are found where it is (`end_as_duplicate`).
    """
    refused = _refuse_whole(message, deny, settings)
    if refused is not None:
        return (_end(message, None, *refused),)
    urgent = is_high_signal(message, threshold)
    inside = [
        _route_leg(message, symbol, as_of, deny, settings, urgent=urgent and symbol == message.tickers.primary)
        for symbol in (*message.tickers.symbols, *_voices(message))
    ]
    outside = [
        _end(message, symbol, Outcome.NO_SYMBOL, "outside_universe", symbol) for symbol in message.tickers.outside
    ]
    return (*inside, *outside)


def _voices(message: Routable) -> tuple[str, ...]:
    """Companies named in words of which the post says something of their own: they vote."""
    return tuple(symbol for symbol in message.tickers.named if symbol in message.by_symbol)


def end_as_duplicate(message: Routable, first: str) -> tuple[Leg, ...]:
    """The one null leg of a near-duplicate of the message `first`."""
    return (_end(message, None, Outcome.DUPLICATE, "near_duplicate", first, "a text of its own within the window"),)


def remembers_text(legs: tuple[Leg, ...]) -> bool:
    """Whether the message's text must be looked up and kept: some leg would trade or vote."""
    return any(leg.fate is not Fate.END for leg in legs)


def _refuse_whole(message: Routable, deny: DenyList, settings: RouterSettings) -> tuple[Outcome, str, str, str] | None:
    tickers = message.tickers
    if message.message.source in deny.sources:
        return Outcome.SPAM, "denied_source", message.message.source, ""
    if message.message.author in deny.authors:
        return Outcome.SPAM, "muted_author", message.message.author, ""
    if not tickers.symbols and not tickers.outside:
        return Outcome.NO_SYMBOL, "no_cashtag", "0 symbols", ">= 1"
    if tickers.cashtags > settings.max_cashtags:
        return Outcome.LIST_POST, "max_cashtags", f"{tickers.cashtags} cashtags", f"<= {settings.max_cashtags}"
    if message.spam is not None:
        return Outcome.SPAM, message.spam, f"{tickers.cashtags} cashtags", ""
    return None


def _route_leg(
    message: Routable,
    symbol: str,
    as_of: datetime,
    deny: DenyList,
    settings: RouterSettings,
    *,
    urgent: bool,
) -> Leg:
    if symbol in deny.symbols:
        return _end(message, symbol, Outcome.NO_SYMBOL, "denied_symbol", symbol)
    age = as_of - message.message.created_at
    limit = settings.max_age_urgent_s if urgent else settings.max_age_batch_s
    if age > timedelta(seconds=limit):
        rule = "max_age_urgent" if urgent else "max_age_batch"
        return _end(message, symbol, Outcome.EXPIRED, rule, f"{age.total_seconds():.1f} s", f"<= {limit:g} s")
    return Leg(
        leg_id=leg_id(message.message_id, symbol),
        message_id=message.message_id,
        symbol=symbol,
        fate=Fate.URGENT if urgent else Fate.VOTE,
        vote=vote_of(message, symbol, as_of, urgent=urgent),
    )


def vote_of(message: Routable, symbol: str, as_of: datetime, *, urgent: bool) -> Vote:
    """What the message says of the symbol as one compact vote that counts from `as_of` on."""
    sentiment = message.by_symbol.get(symbol, message.sentiment)
    return Vote(
        id=message.message_id,
        by=message.message.author,
        label=sentiment.label,
        score=sentiment.score,
        confidence=sentiment.confidence,
        created_at=message.message.created_at,
        at=as_of,
        text=message.fingerprint,
        urgent=urgent,
    )


def _end(message: Routable, symbol: str | None, outcome: Outcome, rule: str, observed: str, limit: str = "") -> Leg:
    return Leg(
        leg_id=leg_id(message.message_id, symbol),
        message_id=message.message_id,
        symbol=symbol,
        fate=Fate.END,
        outcome=outcome,
        refusal=Refusal(Stage.ROUTER, rule, observed, limit),
    )

"""Votes as their lists hold them: a JSON array of at most 10 words, half the bytes of an object.

`[2,"x-17","ann","bullish",0.62,0.81,"2025-09-17T16:00:00Z","2025-09-17T16:00:01.5Z","ab12...",false]`: version, message
id, author, label, score, confidence, created_at, at, fingerprint, urgent. Version 1, an object with these names, is
read as well.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from pipeline.models import Label, Vote

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Swing = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    v: Literal[2]
    id: str
    by: str
    label: Label
    score: Swing
    confidence: Share
    created_at: Moment
    at: Moment
    text: str
    urgent: bool


class _First(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    v: Literal[1]
    id: str
    by: str
    label: Label
    score: Swing
    confidence: Share
    created_at: Moment
    at: Moment
    text: str
    urgent: bool = False


_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(_Row).decode
_decode_first = msgspec.json.Decoder(_First).decode


def vote_json(vote: Vote) -> bytes:
    """The vote as an element of its list; the same vote always gives the same text."""
    return _encode(
        (
            *(2, vote.id, vote.by, vote.label, vote.score, vote.confidence),
            *(vote.created_at, vote.at, vote.text, vote.urgent),
        )
    )


def votes_of(texts: Iterable[bytes | str]) -> list[Vote]:
    """The votes that these elements hold. Raises ValueError for one that is none."""
    return [_vote(text) for text in texts]


def vote_fields(text: bytes | str) -> dict[str, Any]:
    """An element by the names of its words, for people. Raises ValueError for one that is no vote."""
    row = _row(text)
    return {name: getattr(row, name) for name in row.__struct_fields__}


def named_by(text: bytes | str) -> str | None:
    """The message of a vote of its own that may otherwise be damaged; None for an urgent one or for no id."""
    try:
        words = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    if isinstance(words, list):
        words = dict(zip(_Row.__struct_fields__, words, strict=False))
    name = words.get("id") if isinstance(words, dict) and not words.get("urgent") else None
    return name if isinstance(name, str) else None


def _vote(text: bytes | str) -> Vote:
    row = _row(text)
    return Vote(row.id, row.by, row.label, row.score, row.confidence, row.created_at, row.at, row.text, row.urgent)


def _row(text: bytes | str) -> "_Row | _First":
    return _decode_first(text) if text[:1] in (b"{", "{") else _decode_row(text)

"""Bodies of accepted messages as a router reads them: the same fields and rules as `AnalyzedMessage`, in light structs.

Their fields stand in the model's order, so that they are written as the model writes them.

What the model refuses is refused here too, and a body with a name twice, of which JSON readers keep the last.
"""

import json
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import ValidationError

from pipeline.models import AnalyzedMessage, Label

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Swing = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
MessageId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,120}\Z")]
SourceName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_]{1,32}\Z")]


class LightPost(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """`SocialMessage`."""

    message_id: MessageId
    source: SourceName
    source_id: str
    created_at: Moment
    received_at: Moment
    author: str
    followers: int | None = None
    text: str


class LightSentiment(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """`Sentiment`."""

    label: Label
    score: Swing
    confidence: Share
    model: str


class LightTickers(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """`TickerReading`."""

    symbols: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    primary: str | None = None
    cashtags: Annotated[int, msgspec.Meta(ge=0)] = 0
    named: tuple[str, ...] = ()


class LightMessage(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """`AnalyzedMessage`."""

    v: Literal[1] = 1
    message: LightPost
    sentiment: LightSentiment
    tickers: LightTickers
    fingerprint: str
    spam: str | None = None
    by_symbol: dict[str, LightSentiment] = {}

    @property
    def message_id(self) -> str:
        """The post's id."""
        return self.message.message_id


_decode = msgspec.json.Decoder(LightMessage).decode
_encode = msgspec.json.Encoder().encode


def post_of(body: bytes) -> LightMessage | AnalyzedMessage:
    """The message of a body. Raises ValueError with a reason that holds no value of the body's.

    A body that is byte for byte as we write what we read has every name once and nothing that two readers could see
    differently; any other is read by the model.
    """
    try:
        light = _decode(body)
        if _encode(light) == body:
            return light
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # the model says what is wrong with it
    return _read_by_the_model(body)


def _read_by_the_model(body: bytes) -> AnalyzedMessage:
    try:
        message = AnalyzedMessage.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_context=False)
        raise ValueError("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)) from None
    json.loads(body, object_pairs_hook=_unique)
    return message


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice; valid: every name once")
    return found

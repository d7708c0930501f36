"""Values of the core as JSON a person can read with redis-cli, and signals back again."""

from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
from pydantic import TypeAdapter

from pipeline.models import Outcome, ProcessResult, Signal

VERSION = 1
_SIGNALS = TypeAdapter(Signal)


def dumps(value: Any) -> str:
    """JSON with exact decimals as text, times as ISO UTC, sets sorted."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def result_json(result: ProcessResult) -> str:
    """Everything a trace explains; a batch without consensus keeps only its counts."""
    if result.outcome is Outcome.NO_CONSENSUS:
        document: dict[str, Any] = {"aggregate": result.aggregate, "refusal": result.refusal}
    else:
        document = {name: value for name, value in asdict(result).items() if value is not None}
    return dumps({"v": VERSION, "status": result.status, "at": result.timestamp, "symbol": result.symbol, **document})


def signal_json(signal: Signal) -> str:
    """A signal, to be decided again later."""
    return dumps({"v": VERSION, **asdict(signal)})


def signal_from(raw: str | bytes) -> Signal:
    """The signal of `signal_json`. Raises ValueError for another version."""
    document = orjson.loads(raw)
    if document.pop("v", None) != VERSION:
        raise ValueError(f"signal document has another version; valid: {VERSION}")
    return _SIGNALS.validate_python(document, strict=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here")

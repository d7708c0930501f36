"""Values of the core as JSON a person can read with redis-cli."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

from pipeline.models import Outcome, ProcessResult

VERSION = 1


def dumps(value: Any) -> str:
    """JSON with exact decimals as text, times as ISO UTC, sets sorted."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY).decode()


_NO_CONSENSUS = ("aggregate", "refusal")
_TOLD = ("recommendation", "execution_result", "error", "refusal", "aggregate", "reservation", "gate")


def result_json(result: ProcessResult, settings: str) -> str:
    """Everything a trace explains, with the settings' fingerprint; without consensus only the counts."""
    told = _NO_CONSENSUS if result.outcome is Outcome.NO_CONSENSUS else _TOLD
    if result.recommendation is None:
        told = (*told, "validation")
    facts = {name: getattr(result, name) for name in told}
    head = {
        "v": VERSION,
        "status": result.status,
        "at": result.timestamp,
        "symbol": result.symbol,
        "settings": settings,
    }
    return dumps(head | {name: value for name, value in facts.items() if value is not None})


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

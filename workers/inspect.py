"""What Redis holds, row by row, for people who do not want to remember key names."""

from dataclasses import asdict
from typing import Any

import orjson

from pipeline.errors import SettingsError
from workers.adapters.wire_votes import vote_fields
from workers.wiring import Runtime

WORDS = ("decisions", "orders", "positions", "lists", "claims", "control", "alarms", "keys")


def inspect(fleet: Runtime, what: str, limit: int) -> list[dict[str, Any]]:
    """Rows of one of WORDS, or the waiting votes of a symbol. Raises SettingsError for another word."""
    readers = {
        "decisions": _decisions,
        "orders": _orders,
        "positions": _positions,
        "lists": _lists,
        "claims": _claims,
        "control": _acts,
        "alarms": lambda fleet, limit: [dict(row) for row in fleet.alarms.history(limit)],
        "keys": _keys,
    }
    if what in readers:
        return readers[what](fleet, limit)
    if what.isupper():
        return [vote_fields(vote) for vote in _any(fleet).lrange(fleet.keys.batch(what), 0, limit - 1)]
    raise SettingsError(f"WHAT is {what!r}; valid: {', '.join(WORDS)}, or a symbol in capitals")


def _any(fleet: Runtime) -> Any:
    return fleet.client


def _decisions(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    return [dict(fields) for _, fields in _any(fleet).xrevrange(fleet.keys.decisions(), count=limit)]


def _orders(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    rows = [orjson.loads(raw) for raw in fleet.ledger.fill_rows()]
    return sorted(rows, key=lambda row: str(row["fill"]["at"]), reverse=True)[:limit]


def _positions(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    positions = sorted(fleet.broker.positions().items())[:limit]
    return [{"symbol": s, "quantity": p.quantity, "average_price": f"{p.average_price:.4f}"} for s, p in positions]


def _lists(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    return [{"symbol": symbol, "votes": size} for symbol, size in list(fleet.backlog.sizes().items())[:limit]]


def _claims(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    found = _any(fleet).zrange(fleet.keys.claims(), 0, limit - 1, withscores=True)
    return [{"claim": name, "deadline_ms": int(score)} for name, score in found]


def _acts(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    return [asdict(act) for act in fleet.control.history(limit)]


def _keys(fleet: Runtime, limit: int) -> list[dict[str, Any]]:
    client = _any(fleet)
    found = []
    for key in client.scan_iter(f"{fleet.keys.prefix}:*", count=1000):
        found.append({"key": key, "type": client.type(key), "ttl_s": client.ttl(key)})
        if len(found) >= limit:
            break
    return found

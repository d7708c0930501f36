"""One message's or decision's way through the fleet, with every number, gathered from Redis."""

from collections.abc import Iterable
from typing import Any

import orjson

from pipeline.executor import CLOSE, ENTRY, client_order_id
from pipeline.models import Side
from workers.wiring import Runtime


def trace(fleet: Runtime, wanted: str) -> dict[str, Any] | None:
    """Everything known of a message id, a leg id or a decision id; None when Redis knows nothing of it."""
    message = _message(fleet, wanted.split(":", 1)[0])
    legs = _legs(fleet, wanted, message)
    decisions = {leg["decision"] for leg in legs.values() if leg.get("decision")}
    if message is None and wanted not in decisions and _hash(fleet, fleet.keys.outcome(wanted)):
        decisions.add(wanted)
    if message is None and not decisions:
        return None
    return {
        "id": wanted,
        "message": message,
        "legs": legs,
        "decisions": {decision: _decision(fleet, decision) for decision in sorted(decisions)},
    }


def _message(fleet: Runtime, message_id: str) -> dict[str, Any] | None:
    raw: Any = fleet.client.get(fleet.keys.message(message_id))
    return dict(orjson.loads(raw)) if raw else None


def _legs(fleet: Runtime, wanted: str, message: dict[str, Any] | None) -> dict[str, dict[str, str]]:
    if message is None:
        return {}
    message_id = message["message"]["message_id"]
    tickers = message["tickers"]
    names: Iterable[str] = [wanted] if ":" in wanted else [f"{message_id}:{s}" for s in _symbols(tickers)]
    found = {name: _hash(fleet, fleet.keys.outcome(name)) for name in names}
    return {name: fields for name, fields in found.items() if fields}


def _symbols(tickers: dict[str, Any]) -> list[str]:
    return [*tickers["symbols"], *tickers["outside"], "-"]


def _decision(fleet: Runtime, decision_id: str) -> dict[str, Any]:
    documents: Any = fleet.client.lrange(fleet.keys.decision(decision_id), 0, -1)
    story = [dict(orjson.loads(document)) for document in documents]
    symbol = next((one["symbol"] for one in story if one.get("symbol")), "")
    return {
        "outcome": _hash(fleet, fleet.keys.outcome(decision_id)),
        "story": story,
        "orders": [order for order in _orders(fleet, decision_id, symbol) if order],
    }


def _orders(fleet: Runtime, decision_id: str, symbol: str) -> list[dict[str, Any]]:
    environment = fleet.settings.environment
    ids = [client_order_id(environment, decision_id, symbol, side, role) for side in Side for role in (ENTRY, CLOSE)]
    return [_order(fleet, one) for one in ids]


def _order(fleet: Runtime, order_id: str) -> dict[str, Any]:
    intent = _hash(fleet, fleet.keys.intent(order_id))
    if not intent:
        return {}
    venue: Any = fleet.client.get(fleet.keys.paper_order(order_id))
    return {"client_order_id": order_id, "intent": _unpacked(intent), "venue": orjson.loads(venue) if venue else None}


def _unpacked(fields: dict[str, str]) -> dict[str, Any]:
    return {name: orjson.loads(value) if value[:1] in "{[" else value for name, value in fields.items()}


def _hash(fleet: Runtime, key: str) -> dict[str, str]:
    found: Any = fleet.client.hgetall(key)
    return dict(found)

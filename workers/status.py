"""How the fleet stands, in one value for people and for --json."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson

from pipeline.errors import BrokerError, TransientError
from workers.replay import count_outcomes
from workers.standing import Lag
from workers.wiring import Runtime

LAST_ACTS = 5
ROLES = ("collect", "route", "schedule", "watch")


def status(fleet: Runtime) -> dict[str, Any]:
    """State, control, lag, queues, processes, outcomes and the book."""
    now = fleet.clock.now()
    standing = fleet.standing(now)
    return {
        "at": now.isoformat(),
        "profile": fleet.settings.profile,
        "state": fleet.state.read().value,
        "state_by": fleet.state.by(),
        "control": _control(fleet),
        "venue": _venue(fleet),
        "alarms": [asdict(alarm) for alarm in fleet.alarms.open()],
        "stream": _lag(standing.stream),
        "lists": {
            "symbols": standing.symbols_waiting,
            "votes": standing.lists.waiting,
            "oldest_s": standing.lists.oldest_s,
        },
        "claims": standing.claims,
        "followups": standing.followups,
        "held": standing.held,
        "queues": {
            name: {**_lag(queue.lag), "running": queue.jobs["started"]} for name, queue in standing.queues.items()
        },
        "limits": {name: round(used, 4) for name, used in sorted(standing.limits.items())},
        "processes": processes(fleet, now),
        "workers": fleet.queues.worker_names(),
        **count_outcomes(standing.tally),
        "dead": standing.dead,
        "book": book(fleet),
    }


def processes(fleet: Runtime, now: datetime) -> list[dict[str, Any]]:
    """Processes with a fresh heartbeat."""
    names = [name for role in ROLES for name in fleet.state.fresh(role, now)]
    raw: Any = fleet.client.mget([fleet.keys.heartbeat(name) for name in names]) if names else []
    cards = [orjson.loads(text) for text in raw if text]
    return [
        {
            "role": card["role"],
            "host": card["host"],
            "pid": card["pid"],
            "age_s": round((now - datetime.fromisoformat(card["at"])).total_seconds(), 1),
        }
        for card in cards
    ]


def book(fleet: Runtime) -> dict[str, Any]:
    """Account and positions at the broker; why they are unknown while it cannot be asked."""
    if fleet.settings.venue.kind == "paper" and fleet.settings.market.bars_dir is None:
        return {"unknown": "market.bars_dir is not set here (FLEET_MARKET__BARS_DIR)", "positions": {}}
    if fleet.settings.venue.kind == "http" and fleet.settings.venue.api_key is None:
        return {"unknown": "venue.api_key is not known here; the book in Redis is in fleet:positions", "positions": {}}
    try:
        account, positions = fleet.broker.account(), fleet.broker.positions()
    except (BrokerError, TransientError) as error:
        return {"unknown": str(error), "positions": {}}
    return {
        "cash": str(account.cash),
        "equity": str(account.equity),
        "positions": {
            symbol: {"quantity": position.quantity, "average_price": f"{position.average_price:.4f}"}
            for symbol, position in sorted(positions.items())
        },
    }


def _control(fleet: Runtime) -> dict[str, Any]:
    why = fleet.control.why()
    return {
        "trading_state": fleet.control.trading_state().value,
        "by": why.by if why else "",
        "reason": why.reason if why else "nobody set it",
        "at": why.at if why else None,
        "history": [asdict(act) for act in fleet.control.history(LAST_ACTS)],
    }


def _venue(fleet: Runtime) -> dict[str, Any]:
    """Where orders go, and whether its failures hold entries back."""
    found = fleet.breaker.state()
    return {
        "kind": fleet.settings.venue.kind,
        "breaker": found.state,
        "failures": found.failures,
        "waits": fleet.why_entries_wait(),
        "trial_at": found.trial_at.isoformat() if found.trial_at else None,
    }


def _lag(lag: Lag) -> dict[str, Any]:
    return {"waiting": lag.waiting, "oldest_s": lag.oldest_s}

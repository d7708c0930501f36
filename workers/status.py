"""How the fleet stands, in one value for people and for --json."""

from datetime import datetime
from typing import Any

import orjson

from workers.replay import count_outcomes
from workers.wiring import Runtime


def status(fleet: Runtime) -> dict[str, Any]:
    """State, control, lag, queues, processes, outcomes and the book."""
    now = fleet.clock.now()
    return {
        "at": now.isoformat(),
        "profile": fleet.settings.profile,
        "state": fleet.state.read().value,
        "control": _control(fleet),
        "stream": {"waiting": fleet.inbox.waiting()},
        "lists": {"symbols": len(fleet.backlog.sizes()), "votes": fleet.backlog.buffered()},
        "claims": int(fleet.client.zcard(fleet.keys.claims())),
        "followups": int(fleet.client.zcard(fleet.keys.followups())),
        "held": int(fleet.client.zcard(fleet.keys.held())),
        "queues": {
            name: {"waiting": depth, "running": running}
            for (name, depth), running in zip(
                fleet.queues.depths().items(), fleet.queues.running().values(), strict=True
            )
        },
        "processes": processes(fleet, now),
        "workers": fleet.queues.worker_names(),
        **count_outcomes(fleet.journal.tally()),
        "dead": int(fleet.client.xlen(fleet.keys.dead())),
        "book": book(fleet),
    }


def processes(fleet: Runtime, now: datetime) -> list[dict[str, Any]]:
    """Processes with a fresh heartbeat."""
    found: list[dict[str, Any]] = []
    for key in fleet.client.scan_iter(fleet.keys.heartbeat("*"), count=500):
        raw: Any = fleet.client.get(key)
        if raw:
            card = orjson.loads(raw)
            age = (now - datetime.fromisoformat(card["at"])).total_seconds()
            found.append({"role": card["role"], "host": card["host"], "pid": card["pid"], "age_s": round(age, 1)})
    return sorted(found, key=lambda card: (card["role"], card["host"], card["pid"]))


def book(fleet: Runtime) -> dict[str, Any]:
    """Our own positions, and the account at the broker."""
    account = fleet.broker.account()
    positions = fleet.broker.positions()
    return {
        "cash": str(account.cash),
        "equity": str(account.equity),
        "positions": {
            symbol: {"quantity": position.quantity, "average_price": f"{position.average_price:.4f}"}
            for symbol, position in sorted(positions.items())
        },
    }


def _control(fleet: Runtime) -> dict[str, str]:
    why = fleet.control.why()
    state = fleet.control.trading_state().value
    return {"trading_state": state, "by": why.by if why else "", "reason": why.reason if why else "nobody set it"}


def _queues(fleet: Runtime) -> list[tuple[str, int, int]]:
    running = fleet.queues.running()
    return [(name, depth, running[name]) for name, depth in fleet.queues.depths().items()]

"""Acts of a person on the whole fleet: resume after a look at the books, flatten with a word on what is in flight."""

from datetime import datetime
from typing import Any

from pipeline.errors import FleetError
from pipeline.models import ExecutionResult, TradingState
from workers.adapters.control_memory import Act
from workers.reconcile import Drift
from workers.wiring import Runtime


class DriftError(FleetError):
    """Our book is not the broker's; `resume` needs --accept, or a look at why."""


def resume(fleet: Runtime, who: str, why: str, *, accept: bool) -> tuple[Drift, ...]:
    """Trade again; the drift that was accepted. Raises DriftError while drift persists and is not accepted.

    The week's loss counts anew. In event time (a replay) neither happens: now is not the events' time.
    """
    now = fleet.clock.now()
    drifts = fleet.reconciler.look(now) if fleet.settings.clock == "live" else ()
    if drifts and not accept:
        raise DriftError(f"{'; '.join(map(str, drifts))}. --accept takes the broker's book as ours")
    if drifts:
        fleet.reconciler.accept(now)
        fleet.control.note(Act("accept drift", who, "; ".join(map(str, drifts))[:400], now))
    if fleet.settings.clock == "live":
        fleet.ledger.forgive_week(fleet.sessions.session_of(now))
    fleet.control.set(TradingState.ACTIVE, who, why, now)
    for alarm in fleet.alarms.open():
        fleet.alarms.quiet(alarm.code)
    return drifts


def flatten(fleet: Runtime, who: str, why: str, now: datetime) -> list[dict[str, Any]]:
    """Withdraw every working order and close every position; a row for each, orders in flight included."""
    fleet.control.note(Act("flatten", who, why, now))
    results = fleet.executor.flatten(now, why)
    fleet.decider.settle(now)
    return [_row(result) for result in results]


def _row(result: ExecutionResult) -> dict[str, Any]:
    """`in_flight`: the broker has not answered for this order; it may still arrive, so flatten again."""
    return {
        "symbol": result.symbol,
        "quantity": result.quantity,
        "order": result.client_order_id,
        "status": result.report.status if result.report else "in flight" if result.unknown else "failed",
        "in_flight": result.unknown,
        "error": result.error,
        "refused": result.refusal.rule if result.refusal else None,
    }

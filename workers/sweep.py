"""What a dead worker left: reservations and NEW intents older than a bound of which no order was sent."""

from datetime import datetime

from pipeline.executor import TradeExecutor
from pipeline.ports import Ledger


def sweep(ledger: Ledger, executor: TradeExecutor, bound_s: float, as_of: datetime) -> list[str]:
    """Take over and give back every decision whose reservation is older than `bound_s` seconds; their ids.

    A worker that is only slow is fenced off by that: it cannot send any more. What was sent is left to settlement.
    """
    old = [name for name, made in ledger.reservations().items() if (as_of - made).total_seconds() > bound_s]
    return [decision_id for decision_id in old if executor.abandon(decision_id)]

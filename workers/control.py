"""Acts of a person on the whole fleet: resume after a look at the books, flatten with a word on what is in flight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.errors import FleetError
from pipeline.models import ExecutionResult, TradingState
from workers.adapters.control_memory import Act
from workers.alarm_codes import WATCHED
from workers.drift import Drift
from workers.wiring import Runtime


class DriftError(FleetError):
    """Our book is not the broker's; `resume` needs --accept, or a look at why."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `resume` did. `change`: dollars the accepted drift changed our book by, without the cash flow."""

    state: TradingState
    drifts: tuple[Drift, ...] = ()
    change: Decimal = Decimal(0)


def resume(fleet: Runtime, who: str, why: str, *, accept: bool = False, cash_flow: Decimal = Decimal(0)) -> Resumed:
    """Trade again. Raises DriftError while drift persists and is not accepted, or when a cash flow explains nothing.

    The week's loss counts anew, but for what is accepted: that is a loss of today, unless `cash_flow` names it as
    money that came (> 0) or went (< 0), in dollars. Where it reaches the week's limit the state is REDUCING again.
    In event time (a replay) only the state is set: now is not the events' time.
    """
    now = fleet.clock.now()
    act = Act(TradingState.ACTIVE, who, why, now)
    if fleet.settings.clock != "live":
        return Resumed(_active(fleet, act))
    drifts = fleet.reconciler.look(now)
    if drifts and not accept:
        raise DriftError(f"{'; '.join(map(str, drifts))}. --accept takes the broker's book as ours")
    if cash_flow and not drifts:
        raise DriftError(f"the books agree, a cash flow of {cash_flow:+.2f} USD explains nothing")
    fleet.ledger.forgive_week(fleet.sessions.session_of(now))
    change = _accept(fleet, act, drifts, cash_flow) if drifts else Decimal(0)
    state = _active(fleet, act)
    if drifts:
        fleet.settlement.review(fleet.sessions.session_of(now), now)
        state = fleet.control.trading_state()
    return Resumed(state, drifts, change)


def _accept(fleet: Runtime, act: Act, drifts: Sequence[Drift], cash_flow: Decimal) -> Decimal:
    """The broker's book is ours; what was accepted is kept before it happens, what it came to after."""
    named = f"cash flow {cash_flow:+.2f} USD; " if cash_flow else ""
    fleet.control.note(replace(act, what="accept drift", reason=f"{named}{'; '.join(map(str, drifts))}"[:400]))
    change = fleet.reconciler.accept(act.at, cash_flow)
    fleet.control.note(replace(act, what="drift accepted", reason=counted(change)))
    return change


def counted(change: Decimal) -> str:
    """What becomes of an accepted change of our book, in words."""
    if change < 0:
        return f"a loss of {-change:.2f} USD counts for the day and the week"
    return f"a gain of {change:.2f} USD counts for no limit" if change else "no loss and no gain"


def _active(fleet: Runtime, act: Act) -> TradingState:
    """ACTIVE, and every alarm closed that a person answers; what `fleet watch` sees closes with its cause."""
    fleet.control.set(TradingState.ACTIVE, act.by, act.reason, act.at)
    for alarm in fleet.alarms.open():
        if alarm.code not in WATCHED:
            fleet.alarms.quiet(alarm.code, act.at)
    return TradingState.ACTIVE


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

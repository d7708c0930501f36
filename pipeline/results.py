"""How a signal's way through the stages becomes one result: endings, failures and the broker's words."""

from datetime import datetime
from typing import Any

from pipeline.models import (
    ExecutionResult,
    OrderStatus,
    Outcome,
    ProcessResult,
    Refusal,
    Signal,
    Stage,
)


def describe(error: Exception) -> str:
    """The error's type and message, as a trace shows it."""
    return f"{type(error).__name__}: {error}"


def ended(signal: Signal, outcome: Outcome, refusal: Refusal | None, **facts: Any) -> ProcessResult:
    """The signal's end at its own `as_of`, with the facts a trace shows."""
    return ProcessResult(
        status=outcome,
        timestamp=signal.decided_at,
        symbol=signal.symbol,
        decision_id=signal.decision_id,
        refusal=refusal,
        **facts,
    )


def failed(
    stage: Stage, error: Exception, decision_id: str, as_of: datetime, symbol: str | None = None, **facts: Any
) -> ProcessResult:
    """The end `error` by a failing stage; it counts under the exception's name."""
    return ProcessResult(
        status=Outcome.ERROR,
        timestamp=as_of,
        symbol=symbol,
        decision_id=decision_id,
        error=describe(error),
        refusal=Refusal(stage, type(error).__name__, describe(error), "no error"),
        **facts,
    )


def expired(signal: Signal) -> ProcessResult:
    """The end of a signal that is decided after `expires_at`."""
    age = (signal.decided_at - signal.created_at).total_seconds()
    limit = (signal.expires_at - signal.created_at).total_seconds()
    return ended(signal, Outcome.EXPIRED, Refusal(Stage.VALIDATOR, "max_age", f"{age:.1f} s old", f"<= {limit:.1f} s"))


_BY_ORDER_STATUS = {
    OrderStatus.ACCEPTED: Outcome.SUBMITTED,
    OrderStatus.PARTIALLY_FILLED: Outcome.SUBMITTED,
    OrderStatus.FILLED: Outcome.EXECUTED,
    OrderStatus.UNFILLED: Outcome.UNFILLED,
    OrderStatus.CANCELLED: Outcome.UNFILLED,
    OrderStatus.REJECTED: Outcome.BROKER_REJECTED,
}


def executed(signal: Signal, execution: ExecutionResult) -> ProcessResult:
    """What the executor's answer means for the signal."""
    outcome, refusal = _judge(execution)
    return ended(signal, outcome, refusal, execution_result=execution, error=execution.error)


def _refused(refusal: Refusal) -> Outcome:
    """The outcome of an order that we refused in the last step."""
    if refusal.stage is Stage.GATE:
        return Outcome.GATE_CLOSED
    return Outcome.EXPIRED if refusal.rule == "max_age" else Outcome.RISK_REJECTED


def _judge(execution: ExecutionResult) -> tuple[Outcome, Refusal | None]:
    if execution.refusal is not None:
        return _refused(execution.refusal), execution.refusal
    if execution.error is not None and not execution.unknown:
        return Outcome.ERROR, Refusal(Stage.EXECUTOR, "error", execution.error, "no error")
    if execution.report is None:
        return Outcome.SUBMITTED, None
    reason = execution.report.reason
    refusal = Refusal(Stage.EXECUTOR, reason, reason, "accepted by the broker") if reason else None
    return _BY_ORDER_STATUS[execution.report.status], refusal

"""The memory of what was asked of the broker, in memory: the intents' twin for one process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from threading import RLock

from pipeline.models import BracketOrder, OrderReport, Refusal, Stage, TradingState
from pipeline.ports import ALREADY_ENDED, ALREADY_SENT, TAKEN_OVER, UNRECONCILED, Control, Execution, Intent
from workers.adapters.executions import MemoryExecutions
from workers.adapters.truth import MemoryTruth


def sending_refusal(rule: str, observed: str, limit: str) -> Refusal:
    """Why SENT was not written."""
    return Refusal(Stage.EXECUTOR, rule, observed, limit)


class MemoryIntents:
    """Intents of one process; asks `control` for the trading state in the step that writes SENT.

    `ended(decision_id)`: whether the decision has a terminal outcome, after which nothing is sent for it. `truth` is
    asked before an entry.
    """

    def __init__(
        self,
        control: Control,
        executions: MemoryExecutions | None = None,
        ended: Callable[[str], bool] = lambda _: False,
        truth: MemoryTruth | None = None,
    ) -> None:
        self._truth = truth
        self._control = control
        self._executions = executions or MemoryExecutions()
        self._ended = ended
        self._lock = RLock()
        self._intents: dict[str, Intent] = {}

    def begin(self, decision_id: str) -> Execution:
        """Start a run of the decision; every earlier run is taken over."""
        return self._executions.begin(decision_id)

    def create(self, order: BracketOrder, execution: int | None = None) -> Intent:
        """Write NEW, or answer the intent that is already there. Raises TakenOverError for an older execution."""
        with self._lock:
            self._executions.refuse_old(order.decision_id, execution)
            if execution is not None:
                self._forget_new(order.decision_id, but=order.client_order_id)
            fresh = Intent(order.client_order_id, order.decision_id, order.symbol, "NEW", order)
            return self._intents.setdefault(order.client_order_id, fresh)

    def discard(self, decision_id: str, execution: int) -> None:
        """Forget a NEW intent of the decision; nothing for an older execution or when it was sent."""
        with self._lock:
            if self._executions.is_old(decision_id, execution):
                return
            self._forget_new(decision_id)

    def _forget_new(self, decision_id: str, but: str = "") -> None:
        mine = [name for name, i in self._intents.items() if i.decision_id == decision_id and i.state == "NEW"]
        for name in mine:
            if name != but:
                del self._intents[name]

    def adopt(self, order: BracketOrder, report: OrderReport, *, ours: bool) -> bool:
        """Take up an order of the venue that is not known here as sent; False when it is."""
        name, decision = order.client_order_id, order.decision_id
        with self._lock:
            known = self._intents.get(name)
            lost = known is not None and known.state == "DONE" and not (known.report and known.report.fills)
            if known is not None and known.state != "NEW" and not lost:
                return False
            self._intents[name] = Intent(name, decision, order.symbol, "SENT", order, report, entry_settled=not ours)
            if ours:
                self._executions.note_sent(decision, name)
            return True

    def mark_sent(
        self,
        client_order_id: str,
        now: datetime,
        expires_at: datetime,
        *,
        under_halt: bool = False,
        execution: int | None = None,
    ) -> Refusal | None:
        """NEW -> SENT, asking execution, outcome, trading state and age last; None means SENT."""
        with self._lock:
            intent = self._intents.get(client_order_id)
            if intent is None:
                return sending_refusal("intent_missing", "missing", "NEW")
            if intent.state != "NEW":
                return sending_refusal(ALREADY_SENT, intent.state, "NEW")
            if self._executions.is_old(intent.decision_id, execution):
                return sending_refusal(TAKEN_OVER, "an older execution", "the decision's newest execution")
            if (refusal := self._last_refusal(intent, now, expires_at, under_halt=under_halt)) is not None:
                del self._intents[client_order_id]
                return refusal
            self._intents[client_order_id] = replace(intent, state="SENT")
            self._executions.note_sent(intent.decision_id, client_order_id)
            return None

    def _last_refusal(self, intent: Intent, now: datetime, expires_at: datetime, *, under_halt: bool) -> Refusal | None:
        """What forbids a NEW intent at its last moment: outcome, trading state, age."""
        if self._ended(intent.decision_id):
            return sending_refusal(ALREADY_ENDED, "a terminal outcome", "no outcome yet")
        state = self._control.trading_state()
        allowed = {TradingState.ACTIVE} | ({TradingState.REDUCING} if intent.order.reduce_only else set())
        if not under_halt and state not in allowed:
            return sending_refusal("trading_state", state, TradingState.ACTIVE)
        asked = self._truth is not None and not under_halt and not intent.order.reduce_only
        why = self._truth.untrusted() if asked and self._truth is not None else None
        if why is not None:
            return sending_refusal(UNRECONCILED, why, "lately")
        if now > expires_at:
            return sending_refusal("max_age", now.isoformat(), expires_at.isoformat())
        return None

    def record(self, client_order_id: str, report: OrderReport | None) -> None:
        """Keep the broker's answer; None = UNKNOWN. An older answer never replaces a newer."""
        with self._lock:
            intent = self._intents[client_order_id]
            if intent.state == "DONE":
                return
            if report is None:
                if intent.report is None:
                    self._intents[client_order_id] = replace(intent, state="UNKNOWN")
            elif _newer(report, intent.report):
                self._intents[client_order_id] = replace(intent, state="SENT", report=report)

    def booked(self, client_order_id: str, report: OrderReport) -> None:
        """Keep a report whose fills are all in the ledger; a closed one makes the intent DONE."""
        with self._lock:
            intent = self._intents[client_order_id]
            if intent.state == "DONE" or not _newer(report, intent.report):
                return
            state = "DONE" if report.closed else "SENT"
            self._intents[client_order_id] = replace(intent, state=state, report=report, booked=len(report.fills))

    def acknowledge(self, client_order_ids: Sequence[str]) -> None:
        """The entries' outcomes are written. Idempotent."""
        with self._lock:
            for name in client_order_ids:
                self._intents[name] = replace(self._intents[name], entry_settled=True)

    def open(self) -> tuple[Intent, ...]:
        """Intents that were sent and are not yet both DONE and acknowledged, by client order id."""
        with self._lock:
            return tuple(
                intent
                for _, intent in sorted(self._intents.items())
                if intent.state != "NEW" and not (intent.state == "DONE" and intent.entry_settled)
            )

    def get(self, client_order_id: str) -> Intent | None:
        """One intent."""
        with self._lock:
            return self._intents.get(client_order_id)


def _newer(report: OrderReport, known: OrderReport | None) -> bool:
    """Whether a report says at least as much: reports only ever gain fills, and closing is final."""
    if known is None:
        return True
    return len(report.fills) >= len(known.fills) and (report.closed or not known.closed)

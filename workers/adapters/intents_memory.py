"""The memory of what was asked of the broker, in memory: the intents' twin for one process."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from threading import RLock

from pipeline.models import BracketOrder, OrderReport, Refusal, Stage, TradingState
from pipeline.ports import ALREADY_SENT, Control, Intent


def sending_refusal(rule: str, observed: str, limit: str) -> Refusal:
    """Why SENT was not written."""
    return Refusal(Stage.EXECUTOR, rule, observed, limit)


class MemoryIntents:
    """Intents of one process; asks `control` for the trading state in the step that writes SENT."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = RLock()
        self._intents: dict[str, Intent] = {}

    def create(self, order: BracketOrder) -> Intent:
        """Write NEW, or answer the intent that is already there."""
        with self._lock:
            fresh = Intent(order.client_order_id, order.decision_id, order.symbol, "NEW", order)
            return self._intents.setdefault(order.client_order_id, fresh)

    def mark_sent(
        self, client_order_id: str, now: datetime, expires_at: datetime, *, under_halt: bool = False
    ) -> Refusal | None:
        """NEW -> SENT, asking trading state and age last; None means SENT."""
        with self._lock:
            intent = self._intents[client_order_id]
            if intent.state != "NEW":
                return sending_refusal(ALREADY_SENT, intent.state, "NEW")
            state = self._control.trading_state()
            allowed = {TradingState.ACTIVE} | ({TradingState.REDUCING} if intent.order.reduce_only else set())
            if not under_halt and state not in allowed:
                return sending_refusal("trading_state", state, TradingState.ACTIVE)
            if now > expires_at:
                return sending_refusal("max_age", now.isoformat(), expires_at.isoformat())
            self._intents[client_order_id] = replace(intent, state="SENT")
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

"""Executor: turns a reservation into one bracket order at the broker, at most once. Source: STAGES 8."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from pydantic import Field

from pipeline.errors import FleetError, TakenOverError, TransientError
from pipeline.models import (
    BracketOrder,
    Direction,
    ExecutionResult,
    Frozen,
    GateVerdict,
    Levels,
    Position,
    Refusal,
    Reservation,
    Side,
    Signal,
    Stage,
    TradeRecommendation,
)
from pipeline.ports import (
    ALREADY_SENT,
    TAKEN_OVER,
    Breaker,
    Broker,
    Execution,
    Intent,
    Intents,
    Ledger,
    Sessions,
)

FLATTEN_PREFIX = "flatten-"
ENTRY, CLOSE = "entry", "close"


class ExecutorSettings(Frozen):
    """What every bracket carries to the venue, and how long it may be there without its stop."""

    max_gap: Decimal = Field(
        Decimal("0.05"), gt=0, le=1, description="distance of the first price from the reference, as a fraction"
    )
    max_hold_sessions: int = Field(10, ge=1, le=250, description="sessions after which a position is closed")
    stop_grace_s: int = Field(15, ge=1, le=600, description="seconds after its fill until an entry must have its stop")


def client_order_id(environment: str, decision_id: str, symbol: str, side: Side, role: str) -> str:
    """The order's name at the broker: a pure function of its facts, at most 40 characters of `A-Za-z0-9_-`."""
    facts = f"{environment}\x1f{decision_id}\x1f{symbol}\x1f{side}\x1f{role}"
    digest = hashlib.sha256(facts.encode()).hexdigest()[:24]
    return f"{role[:5]}-{re.sub('[^A-Za-z0-9]', '', symbol)[:8]}-{digest}"


def is_own(environment: str, order: BracketOrder) -> bool:
    """Whether the order has the name that this fleet, and no other, gives an order of these facts."""
    role = CLOSE if order.reduce_only else ENTRY
    return order.client_order_id == client_order_id(environment, order.decision_id, order.symbol, order.side, role)


def close_of_session(sessions: Sessions, at: datetime, count: int) -> datetime:
    """The close of the `count`-th session counted from `at`, the one `at` belongs to being the first."""
    close = sessions.session_of(at).close
    for _ in range(count - 1):
        close = sessions.session_of(close).close
    return close


@dataclass(frozen=True, slots=True)
class LastLook:
    """What is asked in the step that writes SENT. `ask` asks the gate again; None where it cannot have changed."""

    expires_at: datetime
    gate: GateVerdict
    ask: Callable[[], GateVerdict] | None
    execution: int | None

    def refusal(self) -> Refusal | None:
        """Why the gate forbids the order now: it closed, or lets less through than the order was made for."""
        now = self.ask() if self.ask is not None else self.gate
        if (closed := _closed(now)) is not None:
            return closed
        if now.factor < self.gate.factor:
            return Refusal(Stage.GATE, "gate_narrowed", f"factor {now.factor}", f"factor {self.gate.factor}")
        return None


class TradeExecutor:
    """Sends brackets, each exactly once: NEW is written first, SENT before the request, then the answer."""

    def __init__(
        self,
        broker: Broker,
        intents: Intents,
        ledger: Ledger,
        sessions: Sessions,
        settings: ExecutorSettings,
        environment: str,
        breaker: Breaker | None = None,
    ) -> None:
        self._broker = broker
        self._breaker = breaker
        self._intents = intents
        self._ledger = ledger
        self._sessions = sessions
        self._settings = settings
        self._environment = environment

    def begin(self, signal: Signal) -> Execution | ExecutionResult:
        """A new run of the decision, which takes over every earlier one; or what became of the order one sent.

        Raises TransientError.
        """
        execution = self._intents.begin(signal.decision_id)
        if execution.sent is None:
            return execution
        intent = self._intents.get(execution.sent)
        if intent is None:
            return _failed(execution.sent, signal.symbol, _side(signal), FleetError("its order is no longer kept"))
        return self._look_up(intent.order)

    def abandon(self, decision_id: str) -> bool:
        """Take the decision over and give back what it did not send; False when an order of it was sent.

        Raises TransientError.
        """
        execution = self._intents.begin(decision_id)
        if execution.sent is not None:
            return False
        self._intents.discard(decision_id, execution.id)
        return self._ledger.release(decision_id, unused=True, execution=execution.id)

    def execute(
        self,
        recommendation: TradeRecommendation,
        reservation: Reservation,
        gate: GateVerdict,
        as_of: datetime,
        execution: int | None = None,
        ask_again: Callable[[], GateVerdict] | None = None,
    ) -> ExecutionResult:
        """What became of the order. A failure before the request is an error, after it `unknown`.

        Raises TransientError, and nothing else, before the request only: a later run of the decision does it again.
        `execution` is the run's id, None where nobody else runs the decision. `ask_again` is the gate's last look,
        right before SENT. Where nothing was sent the risk is given back here, unless a newer run needs it: that is
        the refusal `taken_over`, and no end of the decision.
        """
        try:
            order = self._bracket(recommendation, reservation, gate, as_of)
            last_look = LastLook(recommendation.signal.expires_at, gate, ask_again, execution)
            result = self._execute(order, reservation, last_look)
        except TakenOverError as error:
            return _refused(self._bracket(recommendation, reservation, gate, as_of), _no(TAKEN_OVER, str(error), ""))
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - the stage's contract: a failure is a result, nothing was sent
            self._give_back(reservation, execution)
            return _failed("", reservation.symbol, reservation.side, error)
        if result.refusal is not None:
            self._give_back(reservation, execution)
        return result

    def flatten(self, as_of: datetime, reason: str) -> list[ExecutionResult]:
        """Withdraw everything that works and close every position, one result each; works while HALTED.

        Repeating one act (same `as_of` and `reason`) sends nothing twice. Never raises.
        """
        try:
            results = [self._withdraw(intent, as_of) for intent in self._intents.open()]
            failed = [result for result in results if result is not None]
            positions = self._broker.positions()
        except Exception as error:  # noqa: BLE001 - what cannot be asked cannot be closed: the caller must know
            return [_failed("", "*", Side.SELL, error)]
        return failed + [self._close(positions[symbol], as_of, reason) for symbol in sorted(positions)]

    # ---- one order ---------------------------------------------------------------------------------------

    def _execute(self, order: BracketOrder, reservation: Reservation, last_look: LastLook) -> ExecutionResult:
        """Not sent before: the last refusals, the intent, the smaller reservation, the last look, the request."""
        if last_look.execution is None:  # else `begin` has asked what the decision's earlier runs sent
            known = self._intents.get(order.client_order_id)
            if known is not None and known.state != "NEW":
                return self._look_up(known.order)
        if (refusal := self._refusal(order, last_look.gate)) is not None:
            return _refused(order, refusal)
        as_of, intent = order.submitted_at, self._intents.create(order, last_look.execution)
        order = intent.order
        if intent.state != "NEW":
            return self._look_up(order)
        self._ledger.shrink(order.decision_id, order.quantity, order.quantity * reservation.price)
        if (refusal := last_look.refusal()) is not None:
            return _refused(order, refusal)
        return self._send(order, last_look.expires_at, as_of, execution=last_look.execution)

    def _refusal(self, order: BracketOrder, gate: GateVerdict) -> Refusal | None:
        """Why no intent is written."""
        if (refusal := _closed(gate)) is not None:
            return refusal
        if order.quantity == 0:
            return _no("gate_factor", "0 shares", ">= 1 share")
        return None if order.reduce_only or self._breaker is None else self._breaker.permit()

    def _give_back(self, reservation: Reservation, execution: int | None) -> None:
        """Intent and risk of what was not sent, if Redis answers; else the job's repetition or the janitor does it."""
        with suppress(Exception):
            if execution is not None:
                self._intents.discard(reservation.decision_id, execution)
            self._ledger.release(reservation.decision_id, unused=True, execution=execution)

    def _send(
        self,
        order: BracketOrder,
        expires_at: datetime,
        as_of: datetime,
        *,
        under_halt: bool = False,
        execution: int | None = None,
    ) -> ExecutionResult:
        """The request itself, made only by who wrote SENT."""
        refusal = self._intents.mark_sent(
            order.client_order_id, as_of, expires_at, under_halt=under_halt, execution=execution
        )
        if refusal is not None and refusal.rule == ALREADY_SENT:
            return self._look_up(order)
        if refusal is not None:
            return _refused(order, refusal)
        try:
            report = self._broker.submit(order)
            self._intents.record(order.client_order_id, report)
        except Exception as error:  # noqa: BLE001 - no definite answer: settled by looking the id up
            return self._unknown(order, error)
        return ExecutionResult(order.client_order_id, order.symbol, order.side, order.quantity, report)

    def _look_up(self, order: BracketOrder) -> ExecutionResult:
        """What the broker knows of an order that was sent before; never sends it again."""
        try:
            report = self._broker.order(order.client_order_id)
        except Exception as error:  # noqa: BLE001 - as above
            return self._unknown(order, error)
        return ExecutionResult(
            order.client_order_id, order.symbol, order.side, order.quantity, report, unknown=report is None
        )

    def _unknown(self, order: BracketOrder, error: Exception) -> ExecutionResult:
        try:
            self._intents.record(order.client_order_id, None)
        except Exception as second:  # noqa: BLE001 - SENT is as open a question as UNKNOWN
            error = second
        return ExecutionResult(
            order.client_order_id, order.symbol, order.side, order.quantity, None, unknown=True, error=_words(error)
        )

    def _bracket(
        self, recommendation: TradeRecommendation, reservation: Reservation, gate: GateVerdict, as_of: datetime
    ) -> BracketOrder:
        """The order of this decision; its quantity is the reservation's x the gate's factor, floored."""
        quantity = reservation.quantity
        if not reservation.reduce_only:
            quantity = int((quantity * gate.factor).to_integral_value(ROUND_FLOOR))
        return self._order(
            decision_id=reservation.decision_id,
            symbol=reservation.symbol,
            side=reservation.side,
            quantity=quantity,
            levels=recommendation.levels,
            as_of=as_of,
            reduce_only=reservation.reduce_only,
        )

    def _order(
        self,
        *,
        decision_id: str,
        symbol: str,
        side: Side,
        quantity: int,
        levels: Levels,
        as_of: datetime,
        reduce_only: bool,
    ) -> BracketOrder:
        """An entry lives until its session's close; a closing order as long as a position might be held."""
        role = CLOSE if reduce_only else ENTRY
        lives = self._settings.max_hold_sessions if reduce_only else 1
        return BracketOrder(
            client_order_id=client_order_id(self._environment, decision_id, symbol, side, role),
            decision_id=decision_id,
            symbol=symbol,
            side=side,
            quantity=quantity,
            levels=levels,
            submitted_at=as_of,
            good_until=close_of_session(self._sessions, as_of, lives),
            max_gap=self._settings.max_gap,
            max_hold_sessions=self._settings.max_hold_sessions,
            reduce_only=reduce_only,
        )

    # ---- flatten -----------------------------------------------------------------------------------------

    def _withdraw(self, intent: Intent, as_of: datetime) -> ExecutionResult | None:
        """Cancel what works of one bracket; its fills are booked by settlement. A failure is a result.

        An order the broker has not heard of may still be on its way: it is reported as `unknown`, flatten again.
        """
        try:
            report = self._broker.cancel(intent.client_order_id, as_of)
        except Exception as error:  # noqa: BLE001 - the others must still be flattened
            return _failed(intent.client_order_id, intent.symbol, intent.order.side, error)
        if report is not None:
            return None
        order = intent.order
        return ExecutionResult(order.client_order_id, order.symbol, order.side, order.quantity, None, unknown=True)

    def _close(self, position: Position, as_of: datetime, reason: str) -> ExecutionResult:
        """One closing order, named by the act of flattening, so that repeating the act repeats nothing."""
        try:
            order = self.closing(position, as_of, f"{as_of.isoformat()}\x1f{reason}")
            return self.close(order, as_of, under_halt=True)
        except Exception as error:  # noqa: BLE001 - the others must still be flattened
            return _failed("", position.symbol, Side.SELL if position.quantity > 0 else Side.BUY, error)

    # ---- one position ------------------------------------------------------------------------------------

    def closing(self, position: Position, as_of: datetime, act: str) -> BracketOrder:
        """The order that closes the whole position, named by the act; it ends no decision."""
        name = hashlib.sha256(f"{act}\x1f{position.symbol}".encode()).hexdigest()[:24]
        price = position.average_price
        return self._order(
            decision_id=f"{FLATTEN_PREFIX}{name}",
            symbol=position.symbol,
            side=Side.SELL if position.quantity > 0 else Side.BUY,
            quantity=abs(position.quantity),
            levels=Levels(price, Decimal(0), Decimal(0), price, price, Decimal("0.0001")),
            as_of=as_of,
            reduce_only=True,
        )

    def close(self, order: BracketOrder, as_of: datetime, *, under_halt: bool = False) -> ExecutionResult:
        """Send a closing order, once; a repetition looks it up. Raises TransientError before it is sent only."""
        known = self._intents.create(order)
        return self._send(known.order, order.good_until, as_of, under_halt=under_halt)


def _closed(gate: GateVerdict) -> Refusal | None:
    """Why the gate is closed, None when it is open."""
    return None if gate.open else gate.refusal or Refusal(Stage.GATE, "gate", "closed", "open")


def _side(signal: Signal) -> Side:
    return Side.BUY if signal.direction is Direction.LONG else Side.SELL


def _refused(order: BracketOrder, refusal: Refusal) -> ExecutionResult:
    return ExecutionResult(order.client_order_id, order.symbol, order.side, order.quantity, None, refusal=refusal)


def _failed(name: str, symbol: str, side: Side, error: Exception) -> ExecutionResult:
    """Nothing was sent."""
    return ExecutionResult(name, symbol, side, 0, None, error=_words(error))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _no(rule: str, observed: str, limit: str) -> Refusal:
    return Refusal(Stage.EXECUTOR, rule, observed, limit)

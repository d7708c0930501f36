"""Our own book in Redis, shared by every worker: each method is one script, every test and write one atomic step."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis

from pipeline.book import Booking, book_fill, in_dollars, in_micros
from pipeline.errors import AccountUnknownError, LedgerConflictError, SymbolBusyError, UnreconciledError
from pipeline.models import Direction, Fill, Refusal, Reservation, Session, Side, Signal
from pipeline.ports import BookSnapshot, ReservationRequest, Statement
from workers.adapters import ledger_scripts as lua
from workers.adapters.executions import taken_over
from workers.adapters.keys import FILLS_TTL_S, LEDGER_TTL_S, WINDOW_TTL_S, Keys, to_ms
from workers.adapters.ledger_rows import (
    FillRow,
    PositionRow,
    ReservedRow,
    checked_smaller,
    ledger_refusal,
    position_row,
    reserved_row,
    restored_row,
)
from workers.adapters.redis_edge import asking_redis
from workers.adapters.wire import dump, load, load_frozen

NO_ACCOUNT = -2
ATTEMPTS = 200  # eight writers on one symbol lose 7 of 8 tries each: 0.875^200 is never, 0.875^20 was one in 14


class RedisLedger:
    """The book of the whole fleet.

    `starting_cash` in dollars opens the account when Redis has none; None: the venue's first statement does.
    `truth_max_age_s`: seconds a comparison with the broker counts for an entry; None: nobody asks.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, starting_cash: Decimal | None, truth_max_age_s: float | None = None
    ) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._opening: list[str | int] = ["" if starting_cash is None else in_micros(starting_cash), LEDGER_TTL_S]
        self._truth_max_age_ms: str | int = "" if truth_max_age_s is None else round(truth_max_age_s * 1000)
        self._reserved = ("", "")  # the last decision that reserved here, and its row
        self._snapshot = client.register_script(lua.SNAPSHOT)
        self._reserve = client.register_script(lua.RESERVE)
        self._shrink = client.register_script(lua.SHRINK)
        self._release = client.register_script(lua.RELEASE)
        self._hold = client.register_script(lua.HOLD)
        self._held = client.register_script(lua.HELD)
        self._adopt = client.register_script(lua.ADOPT)
        self._open = client.register_script(lua.OPEN)
        self._apply = client.register_script(lua.APPLY)
        self._mark = client.register_script(lua.MARK)
        self._forgive = client.register_script(lua.FORGIVE)

    def fills(self) -> list[Fill]:
        """Every fill that is booked and still kept (90 days), in order of time."""
        rows = [load(FillRow, text).fill for text in self.fill_rows()]
        return sorted(rows, key=lambda fill: (fill.at, fill.fill_id))

    def fill_rows(self) -> list[str]:
        """The same as JSON, as it is kept."""
        with asking_redis():
            pipe = self._redis.pipeline(transaction=False)
            for name in self._redis.zrange(self._keys.filled(), 0, -1):
                pipe.hvals(self._keys.fills(name))
            return [text for texts in pipe.execute() for text in texts]

    def snapshot(self, session: Session) -> BookSnapshot:
        """The book now, read in one step; opens the session and its week when first seen."""
        keys = [*self._book_keys(session), self._keys.reservations(), self._keys.held_signals()]
        with asking_redis():
            raw = self._snapshot(keys=keys, args=self._opening)
        if not raw:
            raise _no_account()
        account, positions, marks, day, week, reserved, held = (_pairs(row) for row in raw)
        return _snapshot(account, (positions, marks), (day, week), (reserved, held))

    def peek(self, session: Session) -> BookSnapshot | None:
        """The same for who only looks: nothing is opened. None before the account or the session was opened."""
        with asking_redis():
            pipe = self._redis.pipeline(transaction=True)
            for key in [*self._book_keys(session), self._keys.reservations(), self._keys.held_signals()]:
                pipe.hgetall(key)
            account, positions, marks, day, week, reserved, held = pipe.execute()
        if not (account and day and week):
            return None
        return _snapshot(account, (positions, marks), (day, week), (reserved, held))

    def reserve(self, request: ReservationRequest) -> Reservation | Refusal:
        """Test every counter and set the risk aside, or refuse and change nothing."""
        with asking_redis():
            asked = [*_reserve_args(request), self._truth_max_age_ms]
            verdict, *words = self._reserve(keys=self._reserve_keys(request), args=asked)
        if verdict == "taken_over":
            raise taken_over(request.decision_id)
        if verdict == "unreconciled":
            raise UnreconciledError(f"the broker's book was compared {words[0]}; an entry waits for the next time")
        if verdict == "busy":
            raise SymbolBusyError(f"{request.symbol} is held by decision {words[0]}")
        if verdict == "reserved":
            self._reserved = (request.decision_id, words[0])
            return load(ReservedRow, words[0]).reservation
        rule, observed, limit = words
        return ledger_refusal(rule, int(observed), int(limit))

    def restore(self, reservation: Reservation, as_of: datetime) -> None:
        """Set aside the risk of an order that works at the venue and was forgotten here. Idempotent."""
        with asking_redis():
            row = dump(restored_row(reservation, as_of))
            self._redis.hsetnx(self._keys.reservations(), reservation.decision_id, row)

    def shrink(self, decision_id: str, quantity: int, notional: Decimal) -> None:
        """Lower what a reservation counts for. Raises ValueError for a growth.

        One round trip while the row is what `reserve` answered here last.
        """
        key, micro = self._keys.reservations(), in_micros(notional)
        known, self._reserved = self._reserved, ("", "")
        for attempt in range(ATTEMPTS):
            with asking_redis():
                fresh = attempt == 0 and known[0] == decision_id
                text = known[1] if fresh else self._redis.hget(key, decision_id)
            row = checked_smaller(load(ReservedRow, text) if text else None, decision_id, quantity, micro)
            smaller = dump(replace(row, counted_quantity=quantity, counted_micro=micro))
            with asking_redis():
                if self._shrink(keys=[key], args=[decision_id, text, smaller]):
                    return
        raise LedgerConflictError(f"reservation {decision_id} changed {ATTEMPTS} times while it was shrunk")

    def release(self, decision_id: str, *, unused: bool = False, execution: int | None = None) -> bool:
        """Give the risk back; unused risk leaves the rates too. False for an older execution or a sent order."""
        keys = [self._keys.reservations(), self._keys.entries(), self._keys.execution(decision_id)]
        with asking_redis():
            return bool(self._release(keys=keys, args=[decision_id, int(unused), _id(execution)]))

    def hold(self, signal: Signal, until: datetime, execution: int | None = None) -> None:
        """Turn a reservation into a held signal; the rates forget it. Raises TakenOverError."""
        side = Side.BUY if signal.direction is Direction.LONG else Side.SELL
        keys = [
            self._keys.reservations(),
            self._keys.entries(),
            self._keys.entries(signal.symbol),
            self._keys.held(),
            self._keys.held_signals(),
            self._keys.execution(signal.decision_id),
        ]
        with asking_redis():
            held = self._hold(keys=keys, args=[signal.decision_id, side, to_ms(until), dump(signal), _id(execution)])
        if not held:
            raise taken_over(signal.decision_id)

    def reservations(self) -> dict[str, datetime]:
        """Open reservations: decision id -> the `as_of` it was made for."""
        with asking_redis():
            rows = self._redis.hgetall(self._keys.reservations())
        return {name: load(ReservedRow, text).at for name, text in sorted(rows.items())}

    def open(self, statement: Statement) -> bool:
        """Begin the book with what the broker has; False when there is an account."""
        with asking_redis():
            return bool(self._open(keys=self._statement_keys(), args=self._statement_args(statement)))

    def adopt(self, statement: Statement, session: Session, cash_flow: Decimal = Decimal(0)) -> Decimal:
        """Replace cash, positions and marks by the broker's; a loss it shows is a result of session and week."""
        day, week = self._keys.risk(_day(session)), self._keys.risk(_week(session.week))
        value, (starting, ttl) = in_micros(statement.value), self._opening
        args = [*self._statement_args(statement), value, in_micros(cash_flow), ttl, starting]
        with asking_redis():
            change = self._adopt(keys=[*self._statement_keys(), day, week], args=args)
        if change == "":
            raise _no_account()
        return in_dollars(int(change))

    def held(self, until: datetime) -> tuple[Signal, ...]:
        """Held signals due by then, by (due, symbol, decision id)."""
        with asking_redis():
            raw = self._held(keys=[self._keys.held(), self._keys.held_signals()], args=[to_ms(until)])
        found = [(float(due), load(Signal, text)) for due, text in zip(raw[::2], raw[1::2], strict=True)]
        return tuple(s for _, s in sorted(found, key=lambda row: (row[0], row[1].symbol, row[1].decision_id)))

    def forgive_week(self, session: Session) -> None:
        """Count the week's loss from here on: a person resumed after it. Idempotent."""
        with asking_redis():
            self._forgive(keys=[self._keys.risk(_week(session.week))])

    def unhold(self, decision_ids: Sequence[str]) -> None:
        """Forget held signals, all in one step. Idempotent."""
        if not decision_ids:
            return
        with asking_redis():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(self._keys.held(), *decision_ids)
            pipe.hdel(self._keys.held_signals(), *decision_ids)
            pipe.execute()

    def apply(self, decision_id: str, fill: Fill, session: Session) -> bool:
        """Book one fill by compare-and-set on its position. False when it was booked before."""
        keys = [*self._book_keys(session), self._keys.fills(fill.client_order_id), self._keys.filled()]
        kept: list[str | int] = [FILLS_TTL_S, fill.client_order_id]
        for _ in range(ATTEMPTS):
            with asking_redis():
                before = self._redis.hget(self._keys.positions(), fill.symbol) or ""
                done = self._apply(keys=keys, args=[*self._opening, *_apply_args(decision_id, fill, before), *kept])
            if done >= 0:
                return bool(done)
            if done == NO_ACCOUNT:
                raise _no_account()
        raise LedgerConflictError(f"position in {fill.symbol} changed {ATTEMPTS} times while {fill.fill_id} was booked")

    def mark(self, prices: dict[str, Decimal]) -> None:
        """Value held symbols at these prices."""
        if not prices:
            return
        args = [word for symbol, price in prices.items() for word in (symbol, in_micros(price))]
        with asking_redis():
            self._mark(keys=[self._keys.positions(), self._keys.marks()], args=args)

    def _statement_args(self, statement: Statement) -> list[str | int]:
        rows: list[str | int] = [
            word
            for symbol, position in sorted(statement.positions.items())
            for word in (symbol, dump(position_row(position, Decimal(0))), in_micros(statement.marks[symbol]))
        ]
        fills: list[str | int] = [
            word
            for decision, fill in statement.fills
            for word in (fill.client_order_id, fill.fill_id, dump(FillRow(decision, fill, Decimal(0))))
        ]
        head: list[str | int] = [self._keys.prefix, FILLS_TTL_S, in_micros(statement.cash), len(statement.positions)]
        return [*head, *rows, *fills]

    # ---- keys --------------------------------------------------------------------------------------------

    def _statement_keys(self) -> list[str]:
        keys = self._keys
        return [keys.account(), keys.positions(), keys.marks(), keys.filled()]

    def _book_keys(self, session: Session) -> list[str]:
        """Account, positions, marks, session, week: what a session's opening needs."""
        keys = self._keys
        return [
            keys.account(),
            keys.positions(),
            keys.marks(),
            keys.risk(_day(session)),
            keys.risk(_week(session.week)),
        ]

    def _reserve_keys(self, request: ReservationRequest) -> list[str]:
        keys = self._keys
        return [
            keys.reservations(),
            keys.positions(),
            keys.marks(),
            keys.held_signals(),
            keys.risk(request.session.isoformat()),
            keys.risk(_week(request.week)),
            keys.entries(),
            keys.entries(request.symbol),
            keys.account(),
            keys.execution(request.decision_id),
            keys.truth(),
        ]


def _no_account() -> AccountUnknownError:
    return AccountUnknownError("the book has no account; the first reconciliation with the venue opens it")


def _id(execution: int | None) -> int | str:
    """An execution id for a script; '' when nobody is asked."""
    return "" if execution is None else execution


def _reserve_args(request: ReservationRequest) -> list[str | int]:
    return [
        request.decision_id,
        request.symbol,
        request.side,
        dump(reserved_row(request)),
        in_micros(request.notional),
        to_ms(request.as_of),
        request.expected_position,
        request.max_open_positions,
        in_micros(request.max_gross_exposure),
        in_micros(request.max_session_loss),
        in_micros(request.max_week_loss),
        request.same_side_window_s * 1000,
        request.max_per_symbol_per_minute,
        request.max_per_minute,
        request.max_entries_per_hour_after_loss,
        int(request.reduce_only),
        WINDOW_TTL_S,
        _id(request.execution),
    ]


def _apply_args(decision_id: str, fill: Fill, before: str) -> list[str | int]:
    """What the script needs to book the fill on the position it was computed from."""
    row = load(PositionRow, before) if before else None
    booking = book_fill(row.position if row else None, row.running if row else Decimal(0), fill)
    return [
        fill.fill_id,
        dump(FillRow(decision_id, fill, booking.realised)),
        fill.symbol,
        before,
        dump(position_row(booking.position, booking.running)) if booking.position else "",
        in_micros(booking.cash),
        in_micros(booking.realised),
        in_micros(fill.price),
        _ended(booking, fill),
    ]


def _ended(booking: Booking, fill: Fill) -> str:
    """'' for no trade ended, 'won' for one that did not lose, else when it lost (ms)."""
    if booking.trade is None:
        return ""
    return "won" if booking.trade >= 0 else str(to_ms(fill.at))


def _snapshot(
    account: dict[str, str],
    book: tuple[dict[str, str], dict[str, str]],
    results: tuple[dict[str, str], dict[str, str]],
    waiting: tuple[dict[str, str], dict[str, str]],
) -> BookSnapshot:
    """The hashes as a book."""
    positions = {symbol: load_frozen(PositionRow, text).position for symbol, text in book[0].items()}
    marks = {symbol: in_dollars(int(micro)) for symbol, micro in book[1].items()}
    cash, (day, week) = in_dollars(int(account["cash_micro"])), results
    rows = [load_frozen(ReservedRow, text) for text in waiting[0].values()]
    lost = account.get("last_loss_ms")
    return BookSnapshot(
        equity=cash + sum((p.quantity * marks[s] for s, p in positions.items()), Decimal(0)),
        cash=cash,
        positions=positions,
        marks=marks,
        reserved={row.symbol: in_dollars(row.counted_micro) for row in rows},
        held=frozenset(load_frozen(Signal, text).symbol for text in waiting[1].values()),
        realised_session=in_dollars(int(day["realised_micro"])),
        realised_week=in_dollars(int(week["realised_micro"])),
        worst_session=in_dollars(int(day["worst_micro"])),
        worst_week=in_dollars(int(week["worst_micro"]) - int(week.get("forgiven_micro", 0))),
        start_equity_session=in_dollars(int(day["start_equity_micro"])),
        start_equity_week=in_dollars(int(week["start_equity_micro"])),
        last_losing_trade=datetime.fromtimestamp(int(lost) / 1000, UTC) if lost else None,
    )


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _day(session: Session) -> str:
    return session.day.isoformat()


def _week(week: tuple[int, int]) -> str:
    return f"{week[0]}-W{week[1]:02}"

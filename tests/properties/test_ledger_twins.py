"""The ledger in memory and on the real server give the same answers, whatever is asked of them in whatever order."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.errors import FleetError
from pipeline.models import Direction, Position, Session, Side, TradingState
from pipeline.ports import Statement
from tests.money import NOW, D, WeekdaySessions, a_fill, a_request, a_signal, an_order, at
from workers.adapters.control_memory import MemoryControl
from workers.adapters.control_redis import RedisControl
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.keys import Keys
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.ledger_redis import RedisLedger

KEYS, CASH = Keys("twins"), D(100_000)
SESSIONS = WeekdaySessions()

# Few values, all on one grid: limits are met exactly as often as they are passed.
symbols = st.sampled_from(["HOT", "HOT", "AAA", "BBB"])
decisions = st.integers(1, 3).map(lambda n: f"d{n}")
sides = st.sampled_from(list(Side))
moments = st.one_of(
    st.integers(0, 4).map(lambda n: NOW + timedelta(seconds=30 * n)),
    st.sampled_from([NOW + timedelta(hours=1), at("15:00", 3), at("13:30", 9)]),
)
prices = st.one_of(st.integers(8, 12).map(Decimal), st.integers(1, 200_000).map(lambda n: Decimal(n) / 10_000))
amounts = st.integers(0, 6).map(lambda n: Decimal(n) * 10)
counts = st.integers(0, 4)
turns = st.sampled_from([None, "old", "new"])


def asked(ask: Callable[[], Any]) -> Any:
    """The answer, or the kind and words of the error."""
    try:
        return ask()
    except (FleetError, ValueError) as error:
        return type(error).__name__, str(error)


class Twins(RuleBasedStateMachine):
    """Every rule asks both the same and compares the answers; the invariant compares the books."""

    client: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.client.flushall()
        executions = MemoryExecutions()
        self.memory = MemoryLedger(CASH, executions)
        self.redis = RedisLedger(self.client, KEYS, CASH)
        control = MemoryControl()
        self.controls = (control, RedisControl(self.client, KEYS))
        for one in self.controls:
            one.set(TradingState.ACTIVE, "ann", "test", NOW)
        self.intents = (MemoryIntents(control, executions), RedisIntents(self.client, KEYS, "event"))
        self.runs: dict[str, list[tuple[int, int]]] = {}
        self.session: Session = SESSIONS.session_of(NOW)
        self.fills = 0

    def both(self, ask: Callable[[Any, int], Any]) -> Any:
        """The same question to both; the twin's number picks its execution ids."""
        mine, theirs = asked(partial(ask, self.memory, 0)), asked(partial(ask, self.redis, 1))
        assert mine == theirs
        return mine

    def run_id(self, decision: str, turn: str | None) -> tuple[int | None, int | None]:
        """The id of the first or of the last run of the decision, each twin's own; None without runs."""
        runs = self.runs.get(decision)
        if turn is None or not runs:
            return None, None
        return runs[0] if turn == "old" else runs[-1]

    @rule(decision=decisions)
    def take_over(self, decision: str) -> None:
        mine, theirs = (one.begin(decision) for one in self.intents)
        assert mine.sent == theirs.sent
        self.runs.setdefault(decision, []).append((mine.id, theirs.id))

    @rule(
        decision=decisions,
        symbol=symbols,
        side=sides,
        as_of=moments,
        notional=amounts,
        expected=st.sampled_from([0, 0, 0, 0, 10, -10]),
        positions=st.integers(0, 5),
        rates=st.tuples(counts, counts, counts, st.sampled_from([1, 30, 60])),
        losses=st.tuples(*[st.one_of(amounts, st.just(Decimal(1_000)))] * 2),
        gross=st.one_of(amounts, st.just(Decimal(10_000))),
        reduce_only=st.booleans(),
        turn=turns,
    )
    def reserve(
        self,
        *,
        decision: str,
        symbol: str,
        side: Side,
        as_of: datetime,
        notional: Decimal,
        expected: int,
        positions: int,
        rates: tuple[int, int, int, int],
        losses: tuple[Decimal, Decimal],
        gross: Decimal,
        reduce_only: bool,
        turn: str | None,
    ) -> None:
        session, ids = SESSIONS.session_of(as_of), self.run_id(decision, turn)
        request = {
            "decision_id": decision,
            "side": side,
            "as_of": as_of,
            "notional": notional,
            "session": session.day,
            "week": session.week,
            "expected_position": expected,
            "max_open_positions": positions,
            "max_per_symbol_per_minute": rates[0],
            "max_per_minute": rates[1],
            "max_entries_per_hour_after_loss": rates[2],
            "same_side_window_s": rates[3],
            "max_session_loss": losses[0],
            "max_week_loss": losses[1],
            "max_gross_exposure": gross,
            "reduce_only": reduce_only,
        }
        self.both(lambda one, n: one.reserve(a_request(symbol, **request, execution=ids[n])))

    @rule(decision=decisions, quantity=st.integers(0, 12), notional=amounts)
    def shrink(self, decision: str, quantity: int, notional: Decimal) -> None:
        self.both(lambda one, _: one.shrink(decision, quantity, notional))

    @rule(decision=decisions, unused=st.booleans(), turn=turns)
    def release(self, *, decision: str, unused: bool, turn: str | None) -> None:
        ids = self.run_id(decision, turn)
        self.both(lambda one, n: one.release(decision, unused=unused, execution=ids[n]))

    @rule(decision=decisions, symbol=symbols, direction=st.sampled_from(list(Direction)), until=moments, turn=turns)
    def hold(self, decision: str, symbol: str, direction: Direction, until: datetime, turn: str | None) -> None:
        ids = self.run_id(decision, turn)
        signal = a_signal(symbol, direction, decision_id=decision)
        self.both(lambda one, n: one.hold(signal, until, ids[n]))

    @rule(decision=decisions)
    def unhold(self, decision: str) -> None:
        self.both(lambda one, _: one.unhold(decision))

    @rule(until=moments)
    def held(self, until: datetime) -> None:
        self.both(lambda one, _: one.held(until))

    @rule(decision=decisions, symbol=symbols, turn=turns)
    def send(self, decision: str, symbol: str, turn: str | None) -> None:
        order = an_order(symbol, decision_id=decision, client_order_id=f"o-{decision}")
        ids = self.run_id(decision, turn)

        def act(n: int) -> Any:
            self.intents[n].create(order, ids[n])
            refusal = self.intents[n].mark_sent(f"o-{decision}", NOW, NOW, execution=ids[n])
            return refusal and refusal.rule

        mine, theirs = (asked(partial(act, n)) for n in (0, 1))
        assert mine == theirs

    @rule(
        symbol=symbols,
        side=sides,
        quantity=st.sampled_from([1, 10]),
        price=prices,
        as_of=moments,
        fee=st.sampled_from([D(0), D(0), D(10)]),
        again=st.booleans(),
    )
    def fill(
        self,
        *,
        symbol: str,
        side: Side,
        quantity: int,
        price: Decimal,
        as_of: datetime,
        fee: Decimal,
        again: bool,
    ) -> None:
        self.fills += not again
        fill = a_fill(side, quantity, str(price), symbol=symbol, fill_id=f"f{self.fills}", at=as_of, fee=fee)
        self.both(lambda one, _: one.apply("d", fill, SESSIONS.session_of(as_of)))

    @rule(symbol=symbols, price=prices)
    def mark(self, symbol: str, price: Decimal) -> None:
        self.both(lambda one, _: one.mark({symbol: price}))

    @rule(
        symbol=symbols,
        quantity=st.integers(-9, 9).filter(bool),
        cash=st.one_of(amounts, st.just(CASH), prices),
        price=prices,
        flow=st.sampled_from([D(0), D(0), D(50), D(-100_000)]),
        made=st.integers(0, 3),
    )
    def adopt(self, *, symbol: str, quantity: int, cash: Decimal, price: Decimal, flow: Decimal, made: int) -> None:
        position = Position(symbol, quantity, quantity * price, NOW)
        fill = a_fill(symbol=symbol, fill_id=f"f{self.fills + made}")
        statement = Statement(cash, {symbol: position}, {symbol: price}, (("d", fill),))
        self.both(lambda one, _: one.open(statement))
        self.both(lambda one, _: one.adopt(statement, self.session, flow))

    @rule(moment=moments)
    def look_from(self, moment: datetime) -> None:
        self.session = SESSIONS.session_of(moment)

    @invariant()
    def the_books_are_the_same(self) -> None:
        if hasattr(self, "memory"):
            self.both(lambda one, _: one.snapshot(self.session))
            self.both(lambda one, _: one.reservations())


@pytest.mark.timeout(120)
def test_memory_and_server_answer_alike(redis_client: redis.Redis) -> None:
    """Reserve, shrink, release, hold, send, fill, mark, adopt and runs that take over, in random order."""
    Twins.client = redis_client
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Twins, settings=settings(max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=checks)
    )

"""Three runs of one decision at once, in every order of their steps: at most one order, one outcome, no stray risk."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import product
from threading import Semaphore, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SymbolBusyError
from pipeline.models import TERMINAL, GateVerdict, Outcome, TradingState
from tests.deciding import CLOSED, Gate, Worker, nothing
from tests.money import NOW, D, WeekdaySessions, an_open_gate
from workers.adapters.control_memory import MemoryControl
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.paper_memory import MemoryPaperStore
from workers.endings import Release, release_held
from workers.sweep import sweep

LEG = "d-AAA:AAA"
HELD = GateVerdict(open=False, factor=D(0), checks=(), refusal=CLOSED.refusal, hold_until=NOW + timedelta(days=1))
DEADLINE_S = 20


class Killed(BaseException):
    """The process is gone."""


class Stage:
    """Lets one actor at a time take one step; `script` says whose turn it is, None as a turn kills."""

    def __init__(self, actors: int) -> None:
        self.go = [Semaphore(0) for _ in range(actors)]
        self.arrived = [Semaphore(0) for _ in range(actors)]
        self.over = [False] * actors
        self.dead = [False] * actors

    def wait(self, actor: int) -> None:
        """Called by an actor before each step that others can see."""
        self.arrived[actor].release()
        assert self.go[actor].acquire(timeout=DEADLINE_S)
        if self.dead[actor]:
            raise Killed

    def step(self, actor: int, *, kill: bool) -> None:
        """One more step of the actor, or its death."""
        if self.over[actor]:
            return
        self.dead[actor] = kill
        self.go[actor].release()
        assert self.arrived[actor].acquire(timeout=DEADLINE_S)


class Stepwise:
    """A port whose every call waits for its actor's turn."""

    def __init__(self, port: Any, stage: Stage, actor: int) -> None:
        self._port, self._stage, self._actor = port, stage, actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def call(*args: Any, **facts: Any) -> Any:
            self._stage.wait(self._actor)
            return method(*args, **facts)

        return call


class Scene:
    """Shared memory, and one actor for each gate; the actors' orders arrive at one venue."""

    def __init__(self, gates: Sequence[GateVerdict]) -> None:
        executions, control = MemoryExecutions(), MemoryControl()
        control.set(TradingState.ACTIVE, "ann", "test", NOW)
        self.journal = MemoryJournal(sent=executions.sent)
        ended = lambda decision: self.journal.outcome(decision) in TERMINAL  # noqa: E731 # one word
        self.ports: dict[str, Any] = {
            "control": control,
            "ledger": MemoryLedger(D(100_000), executions),
            "intents": MemoryIntents(control, executions, ended),
            "paper": MemoryPaperStore(D(100_000)),
            "journal": self.journal,
        }
        self.plain = Worker(SimpleNamespace(**self.ports))
        self.stage = Stage(len(gates))
        self.submitted: list[str] = []
        self.plain.broker.submit = self.counted(self.plain.broker.submit)
        self.threads = [Thread(target=self.act, args=(n, gate), daemon=True) for n, gate in enumerate(gates)]
        for n, thread in enumerate(self.threads):
            thread.start()
            assert self.stage.arrived[n].acquire(timeout=DEADLINE_S)

    def counted(self, submit: Callable[[Any], Any], wait: Callable[[], object] = nothing) -> Callable[[Any], Any]:
        """The venue's `submit`, which writes down what arrives."""

        def call(order: Any) -> Any:
            wait()
            self.submitted.append(order.client_order_id)
            return submit(order)

        return call

    def act(self, actor: int, gate: GateVerdict) -> None:
        """One run of the decision."""
        ports = {name: Stepwise(port, self.stage, actor) for name, port in self.ports.items() if name != "paper"}
        worker = Worker(SimpleNamespace(**ports, paper=self.ports["paper"]), gate=Gate([gate]))
        worker.broker.submit = self.counted(worker.broker.submit, lambda: self.stage.wait(actor))
        try:
            worker.decide()
        except (SymbolBusyError, Killed):
            pass
        finally:
            self.stage.over[actor] = True
            self.stage.arrived[actor].release()

    def play(self, script: Sequence[tuple[int, bool]]) -> None:
        """The script's steps, then everybody to the end."""
        for actor, kill in script:
            self.stage.step(actor, kill=kill)
        for actor, thread in enumerate(self.threads):
            while not self.stage.over[actor]:
                self.stage.step(actor, kill=False)
            thread.join(DEADLINE_S)

    def tidy(self) -> None:
        """What the follow-up, the janitor and the next open do later."""
        sweep(self.ports["ledger"], self.plain.executor, 180, NOW + timedelta(minutes=10))
        if self.journal.outcome(LEG) is None:
            self.plain.decide(expires_at=NOW + timedelta(hours=1))
        opened = Release(NOW + timedelta(days=1), WeekdaySessions(), timedelta(days=1))
        release_held(self.plain.orchestrator, self.ports["ledger"], self.journal, opened)

    def holds(self) -> None:
        """After all is tidied up: one order or none, its reservation or none, and the one outcome that fits."""
        self.tidy()
        sent, ledger = self.ports["intents"].open(), self.ports["ledger"]

        assert len(self.submitted) == len(self.plain.orders) <= 1
        assert len(self.submitted) <= len(sent) <= 1
        assert self.journal.outcome(LEG) is (Outcome.SUBMITTED if sent else Outcome.GATE_CLOSED)
        assert len(ledger.reservations()) == len(sent)
        assert ledger.held(NOW + timedelta(days=2)) == ()


STEPS_OF_A_RUN = 15
STEPS = 45  # a run that sends takes about 15 steps
orders = st.lists(st.integers(0, 2), min_size=STEPS, max_size=STEPS)
deaths = st.dictionaries(st.integers(0, 2 * STEPS), st.just(value=True), max_size=2)
gates = st.lists(st.sampled_from([an_open_gate(), an_open_gate("0.5"), CLOSED, HELD]), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(gates, orders, deaths)
def test_whatever_the_order_of_steps_and_deaths_one_decision_sends_at_most_one_order(
    verdicts: list[GateVerdict], order: list[int], deaths: dict[int, bool]
) -> None:
    """Sent once, reserved exactly while it works, ended by the order's fate; else ended without an order or risk."""
    scene = Scene(verdicts)
    scene.play([(actor, deaths.get(n, False)) for n, actor in enumerate(order)])

    scene.holds()


PAIRS = [(an_open_gate(), an_open_gate()), (an_open_gate(), CLOSED), (CLOSED, an_open_gate()), (HELD, an_open_gate())]


@pytest.mark.parametrize("pair", PAIRS, ids=["open-open", "open-closed", "closed-open", "held-open"])
def test_every_order_of_two_runs_with_three_switches(pair: tuple[GateVerdict, GateVerdict]) -> None:
    """The first runs i steps, the second j, the first k more, then the second and the first to their ends."""
    for first, second, again in product(range(STEPS_OF_A_RUN), range(STEPS_OF_A_RUN), (0, 1, 2, 3)):
        scene = Scene(pair)
        scene.play([(0, False)] * first + [(1, False)] * second + [(0, False)] * again + [(1, False)] * STEPS_OF_A_RUN)

        scene.holds()

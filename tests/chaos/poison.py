"""Posts that kill their work-horse, hang in C or eat memory: three strikes each, and nobody else waits for them.

The poison is in the validator, by symbol: what a native library may do to the process that calls it.
"""

import ctypes
import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from pipeline.models import AnalyzedMessage, Label, Outcome
from pipeline.validator import TechnicalValidator
from tests.chaos.drill import Drill
from tests.chaos.feed import COLD, a_post
from tests.chaos.report import Plan

BEHIND_S: Final = 5.0
END_S: Final = 120.0  # three strikes of a job time-out each, and what lies between
KILLS, HANGS, EATS, HANGS_TOO = COLD[28:32]
WELL: Final = COLD[:6]
NEIGHBOURS: Final = (*COLD[6:8], *COLD[-2:])  # decided before the poison of their chunk, and after it
STRIKES: Final = 3


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    """In C, deaf to the alarm that ends a job in Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    ctypes.CDLL(None).sleep(600)


def _eat() -> None:
    eaten: list[Any] = []
    while True:
        eaten.append(ctypes.create_string_buffer(64 * 1024 * 1024))


DOES: Final = {KILLS: _kill, HANGS: _hang, HANGS_TOO: _hang, EATS: _eat}


class Poison(Drill):
    """Each poison as an urgent post and as votes among neighbours, so many times."""

    rounds = 3
    side_by_side = 3
    kinds: tuple[str, ...] = (KILLS, HANGS, EATS)
    roles: ClassVar[dict[str, int]] = {"work-consensus": 2}  # as the settings have it: one that hangs leaves the other

    def __init__(self, folder: Path, plan: Plan, say: Any) -> None:
        super().__init__(folder, plan, say)
        self._begun = folder / "begun"
        self._number = 5 * 10**11

    def run(self) -> Any:
        """With the poison in every process that is forked from here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        usual = TechnicalValidator.validate
        begun = os.open(self._begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def validate(validator: TechnicalValidator, signal_: Any) -> Any:
            if signal_.symbol in DOES:
                os.write(begun, f"{signal_.decision_id}\n".encode())
                DOES[signal_.symbol]()
            return usual(validator, signal_)

        TechnicalValidator.validate = validate  # type: ignore[method-assign, assignment]
        try:
            return super().run()
        finally:
            TechnicalValidator.validate = usual  # type: ignore[method-assign]

    def _act(self) -> None:
        acts = [partial(how, symbol) for symbol in self.kinds for how in (self._urgent, self._among_neighbours)]
        acts += [partial(self._urgent, HANGS, HANGS_TOO)] if HANGS in self.kinds else []
        for act in self._mine(acts * self.rounds):
            act()
        self._count_strikes()

    def _urgent(self, *symbols: str) -> None:
        """Poisonous posts first in line, one for each worker of the queue, healthy ones behind them."""
        name = DOES[symbols[0]].__name__.strip("_") + " on every worker" * (len(symbols) > 1)
        poison = self._posts(symbols, 0.95)
        time.sleep(0.2)
        healthy = self._posts(WELL, 0.95)
        took = self._live_through(lambda: self._ended(healthy), f"behind {name}")
        self._note(f"{name}: the queue behind", BEHIND_S, took)
        took = self._live_through(lambda: self._error(poison), f"end of {name}")
        self._note(f"{name}: its own end", END_S, took)

    def _among_neighbours(self, symbol: str) -> None:
        """Agreeing votes on the poisonous symbol and on others, in one drain."""
        name = DOES[symbol].__name__.strip("_")
        poison = self._posts([symbol] * 3, 0.8)
        neighbours = self._posts([one for one in NEIGHBOURS for _ in range(2)], 0.8)
        took = self._live_through(lambda: self._ended(neighbours), f"neighbours of {name}")
        self._note(f"{name}: neighbours in its chunk", self._chunk_s(symbol), took)
        self._live_through(lambda: self._error(poison), f"end of the claim that does {name}")

    def _chunk_s(self, symbol: str) -> float:
        """A chunk is split after its first death, which for one that hangs is the job's time-out."""
        drain = self._fleet.settings.orchestrator.batch_interval_seconds
        hangs = self._fleet.settings.workers.job_timeout_s + 1 if symbol == HANGS else 0
        return drain + hangs + BEHIND_S

    def _count_strikes(self) -> None:
        """Nothing was begun more often than three times."""
        for decision, times in Counter(self._begun.read_text().split()).items():
            if times > STRIKES:
                self.faults.append(f"{decision} was begun {times} times, promised {STRIKES}")

    # ---- inside ------------------------------------------------------------------------------------------------

    def _posts(self, symbols: list[str] | tuple[str, ...], confidence: float) -> list[AnalyzedMessage]:
        now, made = self._ask(self._fleet.clock.now), []
        for symbol in symbols:
            self._number += 1
            made.append(a_post(self._number, now, (symbol,), Label.BULLISH, confidence))
        self._feed.made += made
        self._deliver(made)
        return made

    def _states(self, posts: list[AnalyzedMessage]) -> list[Outcome | None]:
        return self._fleet.journal.outcomes([f"{p.message_id}:{p.tickers.symbols[0]}" for p in posts])

    def _ended(self, posts: list[AnalyzedMessage]) -> bool:
        return all(state not in (None, Outcome.BUFFERED) for state in self._states(posts))

    def _error(self, posts: list[AnalyzedMessage]) -> bool:
        """Ended as poison does: an error. A MemoryError in the validator passes it unvalidated, so any end will do."""
        if posts[0].tickers.symbols[0] == EATS:
            return self._ended(posts)
        return set(self._states(posts)) <= {Outcome.ERROR, Outcome.EXPIRED, Outcome.DUPLICATE}


class ShortPoison(Poison):
    """One that kills."""

    rounds = 1
    kinds = (KILLS,)

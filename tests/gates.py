"""Verdicts of a market gate: on Wednesday noon in a calm market, unless told otherwise."""

from datetime import datetime
from decimal import Decimal

import numpy as np

from pipeline.errors import MarketDataError
from pipeline.gate import GateSettings, MarketGate
from pipeline.models import Bars, GateCheck, GateVerdict, Signal
from pipeline.ports import MarketConditions
from tests.market_builders import a_signal, some_bars, xnys
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData

SETTINGS = GateSettings()
QUEUE = GateSettings(gate_queue=True)
STEADY = some_bars(np.arange(100.0, 131.0), symbol="SPY")  # 31 closes, 30 changes, all up: efficiency 1
FINE = MemoryConditions(vix=Decimal(15), index=STEADY, relative_volume=1.0)


class UnknownConditions:
    """Everything is configured and nothing is known."""

    def vix(self, as_of: datetime) -> Decimal | None:
        raise MarketDataError(f"no VIX is known at {as_of:%H:%M}")

    def index_bars(self, as_of: datetime, count: int) -> Bars | None:
        raise MarketDataError(f"no index: {count} bars asked at {as_of:%H:%M}")

    def relative_index_volume(self, as_of: datetime) -> float | None:
        raise MarketDataError(f"no volume at {as_of:%H:%M}")


def verdict_of(
    signal: Signal | None = None,
    conditions: MarketConditions = FINE,
    settings: GateSettings = SETTINGS,
    halted: dict[str, bool] | None = None,
) -> GateVerdict:
    """The verdict on a signal, by default at Wednesday noon in a calm market."""
    market = MemoryMarketData({"AAPL": some_bars()}, sessions=xnys(), halted=halted or {"AAPL": False})
    return MarketGate(xnys(), conditions, market, settings).check(signal or a_signal())


def the_check(verdict: GateVerdict, name: str) -> GateCheck:
    """One recorded check."""
    return next(check for check in verdict.checks if check.name == name)


Record = tuple[str, bool | None, str, str]


def records(verdict: GateVerdict) -> list[Record]:
    """Every check: its name, whether it passed (None: off), what was seen, what is allowed."""
    return [(check.name, check.passed, check.observed, check.limit) for check in verdict.checks]


def failed(verdict: GateVerdict) -> list[str]:
    """The names of the checks that failed."""
    return [check.name for check in verdict.checks if check.passed is False]

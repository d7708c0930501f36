"""Ends what waited: orders whose fate became definite, and signals held for an open."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from pipeline.errors import SymbolBusyError
from pipeline.models import Outcome, ProcessResult, Signal
from pipeline.netting import Netting, net
from pipeline.orchestrator import TradingOrchestrator
from pipeline.ports import Journal, Ledger
from pipeline.results import ended
from workers.settlement import Settled, Settlement


def settle_orders(settlement: Settlement, journal: Journal, as_of: datetime) -> int:
    """Bring the book up to `as_of`; record, then acknowledge the decisions whose order became definite; how many."""
    settled = settlement.settle(as_of)
    journal.record([(_result(one), own_leg(one.decision_id)) for one in settled])
    if settled:
        settlement.acknowledge([one.decision_id for one in settled])
    return len(settled)


def release_held(
    orchestrator: TradingOrchestrator,
    ledger: Ledger,
    journal: Journal,
    as_of: datetime,
    tell: Callable[[ProcessResult], None] = lambda _result: None,
) -> int:
    """Net and decide again, as of the open `as_of`, the signals held for an open by then; how many there were.

    One order per symbol; a symbol that is busy keeps its signal held for the next look at the open. Where that
    session is over already (the fleet was down), the gate holds the signal for the next one.
    """
    held = ledger.held(as_of)
    for _, signals in groupby(sorted(held, key=lambda s: (s.symbol, s.decision_id)), key=lambda s: s.symbol):
        for result in _release_symbol(orchestrator, net(tuple(signals)), as_of):
            journal.record([(result, own_leg(result.decision_id))])
            tell(result)
            if result.outcome is not Outcome.HELD:
                ledger.unhold(result.decision_id or "")
    return len(held)


def own_leg(decision_id: str | None) -> tuple[str, ...]:
    """An urgent decision is its own leg; a batch decision's legs were kept when it was recorded first."""
    return (decision_id,) if decision_id and ":" in decision_id else ()


def _release_symbol(orchestrator: TradingOrchestrator, netting: Netting, as_of: datetime) -> list[ProcessResult]:
    ends = [ended(_at(loser, as_of), Outcome.GATE_CLOSED, netting.refusal) for loser in netting.losers]
    if netting.winner is None:
        return ends
    try:
        return [*ends, orchestrator.decide(_at(netting.winner, as_of))]
    except SymbolBusyError:
        return ends


def _at(signal: Signal, as_of: datetime) -> Signal:
    return replace(signal, decided_at=as_of, expires_at=max(signal.expires_at, as_of), released=True)


def _result(one: Settled) -> ProcessResult:
    return ProcessResult(
        status=one.outcome,
        timestamp=one.as_of,
        symbol=one.symbol,
        decision_id=one.decision_id,
        refusal=one.refusal,
    )

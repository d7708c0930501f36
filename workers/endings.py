"""Ends what waited: orders whose fate became definite, and signals held for an open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from pipeline.errors import SymbolBusyError
from pipeline.models import Outcome, ProcessResult, Signal
from pipeline.netting import net
from pipeline.orchestrator import TradingOrchestrator
from pipeline.ports import Journal, Ledger, Sessions
from pipeline.results import ended
from workers.settlement import Settled, Settlement


def settle_orders(settlement: Settlement, journal: Journal, as_of: datetime) -> int:
    """Bring the book up to `as_of`; record, then acknowledge the decisions whose order became definite; how many."""
    settled = settlement.settle(as_of)
    journal.record([(_result(one), own_leg(one.decision_id)) for one in settled])
    if settled:
        settlement.acknowledge([one.decision_id for one in settled])
    return len(settled)


@dataclass(frozen=True, slots=True)
class Release:
    """How held signals are decided again: as of when, and how long after their open they may still be sent."""

    as_of: datetime
    sessions: Sessions
    max_age: timedelta

    def signal(self, held: Signal) -> Signal:
        """The held signal at its open: its age counts from that open (STAGES 7)."""
        due = self.sessions.next_open(held.decided_at)
        return replace(held, decided_at=self.as_of, expires_at=due + self.max_age, released=True)


def release_held(
    orchestrator: TradingOrchestrator,
    ledger: Ledger,
    journal: Journal,
    release: Release,
    tell: Callable[[ProcessResult], None] = lambda _result: None,
) -> int:
    """Net and decide again the signals held for an open at or before `release.as_of`; how many there were.

    One order per symbol. The losers of the netting end and are forgotten in one step, before the winner is decided,
    so a kill at any moment leaves either the whole set or the winner alone. A symbol that is busy keeps its winner
    held for the next look. `tell` hears of every result that is recorded.
    """
    held = ledger.held(release.as_of)
    for _, signals in groupby(sorted(held, key=lambda s: (s.symbol, s.decision_id)), key=lambda s: s.symbol):
        netting = net(tuple(signals))
        losers = [ended(release.signal(loser), Outcome.GATE_CLOSED, netting.refusal) for loser in netting.losers]
        _end(losers, ledger, journal, tell)
        if netting.winner is not None:
            _end(_decided(orchestrator, release.signal(netting.winner)), ledger, journal, tell)
    return len(held)


def _end(
    results: Sequence[ProcessResult], ledger: Ledger, journal: Journal, tell: Callable[[ProcessResult], None]
) -> None:
    """Record the ends, then forget the signals that are not held any more, all in one step."""
    journal.record([(result, own_leg(result.decision_id)) for result in results])
    for result in results:
        tell(result)
    ledger.unhold([result.decision_id or "" for result in results if result.outcome is not Outcome.HELD])


def _decided(orchestrator: TradingOrchestrator, signal: Signal) -> list[ProcessResult]:
    try:
        return [orchestrator.decide(signal)]
    except SymbolBusyError:
        return []


def own_leg(decision_id: str | None) -> tuple[str, ...]:
    """An urgent decision is its own leg; a batch decision's legs were kept when it was recorded first."""
    return (decision_id,) if decision_id and ":" in decision_id else ()


def _result(one: Settled) -> ProcessResult:
    return ProcessResult(
        status=one.outcome,
        timestamp=one.as_of,
        symbol=one.symbol,
        decision_id=one.decision_id,
        refusal=one.refusal,
    )

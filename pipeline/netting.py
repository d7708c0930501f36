"""What a symbol's held signals come to at the open: one of them, or none (STAGES 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from pipeline.models import Refusal, Signal, Stage


@dataclass(frozen=True, slots=True)
class Netting:
    """`winner` is decided again at the open; `losers` end `gate_closed` with this refusal."""

    winner: Signal | None
    losers: tuple[Signal, ...]
    refusal: Refusal


def net(signals: Sequence[Signal]) -> Netting:
    """Add up direction x conviction of one symbol's held signals; the newest on the net side stands for all.

    A net of exactly zero has no winner. Ties in time go to the larger decision id, so the answer is the same
    whatever the order of arrival.
    """
    total = fsum(signal.direction.sign * signal.conviction for signal in signals)
    side = [signal for signal in signals if signal.direction.sign * total > 0]
    winner = max(side, key=lambda signal: (signal.decided_at, signal.decision_id), default=None)
    losers = tuple(signal for signal in signals if signal is not winner)
    observed = f"net conviction {total:+.3f}" + (f", kept {winner.decision_id}" if winner else "")
    return Netting(winner, losers, Refusal(Stage.GATE, "netted", observed, "one order per symbol at the open"))

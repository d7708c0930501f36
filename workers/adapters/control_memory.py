"""The control port in memory: trading state and deny-lists of one process."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.models import TradingState

KINDS = frozenset({"symbol", "author", "source"})


@dataclass(frozen=True, slots=True)
class Order:
    """Who ordered a control entry, why and when (aware UTC)."""

    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Act:
    """One control act of the past: what was done ("HALTED", "deny symbol TSLA"), by whom, why and when (aware UTC)."""

    what: str
    by: str
    reason: str
    at: datetime


def known_kind(kind: str) -> str:
    """The kind of a deny-list. Raises ValueError for one that nobody reads."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; one of {', '.join(sorted(KINDS))} is needed")
    return kind


class MemoryControl:
    """Control without a server. Nothing set means HALTED."""

    def __init__(self) -> None:
        self._state: tuple[TradingState, Order] | None = None
        self._acts: list[Act] = []
        self._denied: dict[str, dict[str, Order]] = {kind: {} for kind in sorted(KINDS)}

    def trading_state(self) -> TradingState:
        """The state; HALTED when it was never set."""
        return TradingState.HALTED if self._state is None else self._state[0]

    def why(self) -> Order | None:
        """Who set the trading state, None when nobody did."""
        return None if self._state is None else self._state[1]

    def set(self, state: TradingState, by: str, reason: str, at: datetime) -> None:
        """Set the trading state."""
        self._state = (state, Order(by, reason, at))
        self._acts.append(Act(state, by, reason, at))

    def reduce(self, by: str, reason: str, at: datetime) -> None:
        """ACTIVE -> REDUCING; any other state stays."""
        if self.trading_state() is TradingState.ACTIVE:
            self.set(TradingState.REDUCING, by, reason, at)

    def deny(self, kind: str, name: str, by: str, reason: str, at: datetime) -> None:
        """Put a symbol, author or source on its deny-list."""
        self._denied[known_kind(kind)][name] = Order(by, reason, at)
        self._acts.append(Act(f"deny {kind} {name}", by, reason, at))

    def allow(self, kind: str, name: str, by: str, reason: str, at: datetime) -> None:
        """Take a name off its deny-list. Idempotent."""
        self._denied[known_kind(kind)].pop(name, None)
        self._acts.append(Act(f"allow {kind} {name}", by, reason, at))

    def note(self, act: Act) -> None:
        """Keep an act that changed no control key, such as `flatten`."""
        self._acts.append(act)

    def history(self, limit: int) -> tuple[Act, ...]:
        """The last acts, newest first."""
        return tuple(reversed(self._acts[-limit:]))

    def denials(self, kind: str) -> dict[str, Order]:
        """A deny-list, by name."""
        return dict(sorted(self._denied[known_kind(kind)].items()))

    def denied(self, symbol: str, authors: frozenset[str]) -> str | None:
        """The first entry that forbids this trade: the symbol, then the authors in order."""
        if symbol in self._denied["symbol"]:
            return f"symbol:{symbol}"
        names = sorted(authors & self._denied["author"].keys())
        return f"author:{names[0]}" if names else None

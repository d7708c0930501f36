"""How the fleet stands at one moment: the facts that alarms are judged by and metrics are made of."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pipeline.models import OrchestratorState, TradingState
from pipeline.ports import BookSnapshot
from pipeline.risk import RiskSettings


@dataclass(frozen=True, slots=True)
class Lag:
    """What waits: how much, and for how many seconds the oldest of it (0 = nothing waits)."""

    waiting: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """One RQ queue. `jobs`: how many by RQ's status (queued, started, finished, failed, deferred, scheduled)."""

    lag: Lag = Lag()
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerStanding:
    """One RQ worker with its counters since its start. `age_s`: seconds since its last sign of life."""

    name: str
    queue: str
    state: str
    successful: int = 0
    failed: int = 0
    working_s: float = 0.0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RedisStanding:
    """The server. `memory_bytes` of `memory_limit_bytes` (its maxmemory, else the machine's) are in use."""

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    policy: str = "noeviction"
    append_only: bool = True
    write_ok: bool = True

    @property
    def memory_used(self) -> float:
        """Share of the limit in use, 0 when there is none."""
        return self.memory_bytes / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole fleet at `at`.

    `processes`: by role the age in seconds of each process's last sign of life, RQ workers under their queue.
    `given_up` and `refused`: dead letters by reason within the window. `message_age_s`: since a message was accepted
    last, None when none ever was. `compared_age_s`: since our book was compared with a venue over HTTP, None elsewhere.
    `entries_wait`: why entries wait for that. `limits`: how much of each limit is used (1 = reached).
    """

    at: datetime
    state: OrchestratorState = OrchestratorState.RUNNING
    state_by: str = ""
    trading: TradingState = TradingState.ACTIVE
    trading_why: str = ""
    breaker: str = "closed"
    breaker_failures: int = 0
    entries_wait: str | None = None
    compared_age_s: float | None = None
    stream: Lag = Lag()
    message_age_s: float | None = None
    lists: Lag = Lag()
    symbols_waiting: int = 0
    claims: int = 0
    claims_overdue: int = 0
    followups: int = 0
    held: int = 0
    queues: dict[str, QueueStanding] = field(default_factory=dict)
    workers: tuple[WorkerStanding, ...] = ()
    processes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    tally: dict[str, int] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    dead: int = 0
    untold: int = 0
    open_alarms: tuple[str, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    equity_usd: float | None = None
    positions: int = 0
    redis: RedisStanding = RedisStanding()


def limits_used(book: BookSnapshot, limits: RiskSettings) -> dict[str, float]:
    """How much of each limit of the risk stage the book uses: 0 nothing, 1 reached; a gain uses nothing."""
    worth = {symbol: abs(p.quantity) * book.marks.get(symbol, Decimal(0)) for symbol, p in book.positions.items()}
    unrealised = sum(
        (p.quantity * book.marks.get(symbol, p.average_price) - p.cost for symbol, p in book.positions.items()),
        Decimal(0),
    )
    taken = sum(worth.values(), Decimal(0)) + sum(book.reserved.values(), Decimal(0))
    symbols = book.positions.keys() | book.reserved.keys() | book.held
    return {
        "session_loss": _share(-book.worst_session, book.start_equity_session * limits.max_session_loss),
        "week_loss": _share(-book.worst_week, book.start_equity_week * limits.max_week_loss),
        "drawdown": _share(-unrealised, book.equity * limits.warn_drawdown),
        "gross_exposure": _share(taken, book.equity * limits.max_gross_exposure),
        "open_positions": len(symbols) / limits.max_open_positions,
        "largest_position": _share(max(worth.values(), default=Decimal(0)), book.equity * limits.max_position),
    }


def _share(used: Decimal, limit: Decimal) -> float:
    """What is used of a limit; of none at all everything is."""
    if used <= 0:
        return 0.0
    return float(used / limit) if limit > 0 else float("inf")

"""What the fleet page shows, as one document of plain values."""

import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from workers.adapters.keys import to_ms
from workers.standing import Lag, Standing
from workers.wiring import Runtime

CHUNK: Final = 5_000
MOST_AT_ONCE: Final = 50_000
LAST_ACTS: Final = 5
LAST_DECISIONS: Final = 12
MOST_RULES: Final = 6
MOST_USED: Final = 99.0  # of a limit of nothing everything is used
SHOWN: Final = ("id", "symbol", "outcome", "rule", "at")
LIMITS: Final = {
    "session_loss": "loss of the session",
    "week_loss": "loss of the week",
    "drawdown": "unrealised loss",
    "gross_exposure": "gross exposure",
    "open_positions": "open positions",
    "largest_position": "largest position",
    "buffered": "votes waiting",
    "memory": "memory of Redis",
}


@dataclass(slots=True)
class Today:
    """Decisions of this day (UTC) by outcome and rule, counted once each: a look reads only what is new.

    The stream's own ids tell the time. A look reads at most 50,000 of them; the next goes on.
    """

    fleet: Runtime
    _day: date | None = None
    _after: str = ""
    _outcomes: Counter[str] = field(default_factory=Counter)
    _rules: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self, now: datetime) -> dict[str, Any]:
        """Outcomes with their rules, the most frequent first; `complete`: whether all of the day is counted."""
        with self._lock:
            if now.date() != self._day:
                self._begin(now.date())
            complete = self._read_on()
            rows = [self._row(outcome, count) for outcome, count in self._outcomes.most_common()]
            return {"day": str(self._day), "total": self._outcomes.total(), "complete": complete, "rows": rows}

    def _begin(self, day: date) -> None:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        self._day, self._after = day, f"{to_ms(midnight)}-0"
        self._outcomes.clear()
        self._rules.clear()

    def _read_on(self) -> bool:
        client: Any = self.fleet.client
        for _ in range(MOST_AT_ONCE // CHUNK):
            entries = client.xrange(self.fleet.keys.decisions(), min=f"({self._after}", count=CHUNK)
            for name, fields in entries:
                self._after = name
                self._outcomes[fields["outcome"]] += 1
                self._rules[f"{fields['outcome']} {fields['rule']}"] += bool(fields["rule"])
            if len(entries) < CHUNK:
                return True
        return False

    def _row(self, outcome: str, count: int) -> dict[str, Any]:
        mine = [
            {"rule": name.split(" ", 1)[1], "count": times}
            for name, times in self._rules.most_common()
            if times and name.startswith(f"{outcome} ")
        ]
        return {"outcome": outcome, "count": count, "rules": mine[:MOST_RULES]}


def facts(fleet: Runtime, today: Today, now: datetime) -> dict[str, Any]:
    """How the fleet stands, for the page: the texts in it are whatever strangers and people wrote."""
    standing = fleet.standing(now)
    why = fleet.control.why()
    return {
        "at": now.isoformat(timespec="seconds"),
        "profile": fleet.settings.profile,
        "state": {"value": standing.state.value, "by": standing.state_by},
        "trading": {
            "value": standing.trading.value,
            "by": why.by if why else "",
            "reason": why.reason if why else "nobody set it",
            "at": str(why.at)[:19] if why else "",
        },
        "entries_wait": standing.entries_wait,
        "alarms": [_alarm(alarm) for alarm in fleet.alarms.open()],
        "lag": _lags(standing),
        "waiting": _waiting(standing),
        "limits": [
            {"name": LIMITS.get(name, name), "used": min(used, MOST_USED)} for name, used in standing.limits.items()
        ],
        "today": today.counts(now),
        "processes": _processes(standing),
        "book": _book(fleet, now),
        "decisions": _decisions(fleet),
        "acts": [
            {"at": f"{act['at']:%m-%d %H:%M:%S}", "what": act["what"], "by": act["by"], "reason": act["reason"]}
            for act in map(asdict, fleet.control.history(LAST_ACTS))
        ],
        "dead": standing.dead,
    }


def _alarm(alarm: Any) -> dict[str, str]:
    return {"code": alarm.code, "subject": alarm.subject, "detail": alarm.detail, "at": f"{alarm.at:%m-%d %H:%M:%S}"}


def _lags(standing: Standing) -> list[dict[str, Any]]:
    """What waits for whom, and how long its oldest does."""
    rows = [("messages to be routed", standing.stream), ("votes to be drained", standing.lists)]
    rows += [(f"jobs: {name}", queue.lag) for name, queue in standing.queues.items()]
    return [_lag(name, lag) for name, lag in rows]


def _lag(name: str, lag: Lag) -> dict[str, Any]:
    return {"name": name, "waiting": lag.waiting, "oldest_s": round(lag.oldest_s, 1)}


def _waiting(standing: Standing) -> dict[str, Any]:
    return {
        "symbols": standing.symbols_waiting,
        "claims": standing.claims,
        "claims_overdue": standing.claims_overdue,
        "followups": standing.followups,
        "held": standing.held,
        "running": sum(queue.jobs.get("started", 0) for queue in standing.queues.values()),
        "message_age_s": None if standing.message_age_s is None else round(standing.message_age_s),
    }


def _processes(standing: Standing) -> list[dict[str, Any]]:
    """Each role with how many there are, and the oldest sign of life among them."""
    return [
        {"role": role, "number": len(ages), "oldest_s": round(max(ages, default=0.0), 1)}
        for role, ages in sorted(standing.processes.items())
    ]


def _book(fleet: Runtime, now: datetime) -> dict[str, Any] | None:
    """Our own book; None before the account was opened."""
    book = fleet.ledger.peek(fleet.sessions.session_of(now))
    if book is None:
        return None
    return {
        "equity": _money(book.equity),
        "cash": _money(book.cash),
        "session": _money(book.realised_session),
        "week": _money(book.realised_week),
        "positions": [
            {
                "symbol": symbol,
                "quantity": position.quantity,
                "price": f"{position.average_price:.2f}",
                "mark": f"{book.marks.get(symbol, position.average_price):.2f}",
                "result": _money(position.quantity * book.marks.get(symbol, position.average_price) - position.cost),
            }
            for symbol, position in sorted(book.positions.items())
        ],
    }


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _decisions(fleet: Runtime) -> list[dict[str, str]]:
    client: Any = fleet.client
    rows = client.xrevrange(fleet.keys.decisions(), count=LAST_DECISIONS)
    return [{name: str(fields.get(name, "")) for name in SHOWN} for _, fields in rows]

"""Every alarm there is: its stable code, how bad it is, what it means. docs/runbook.md has an entry for each."""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """`watched`: `fleet watch` looks for it in each turn and closes it when it is gone; others have their own owner.

    `settles`: true of every fleet that starts, so a watcher says nothing of it in its own first half minute.
    """

    severity: Severity
    title: str
    watched: bool = True
    settles: bool = False


CODES: Final[dict[str, Code]] = {
    # trading
    "halted": Code("critical", "nothing is sent to the market", settles=True),
    "reducing": Code("warning", "only orders that shrink exposure are sent"),
    "day_lock": Code("warning", "the day's loss limit is reached: no entries until the next session"),
    "week_loss": Code("critical", "the week's loss limit is reached: REDUCING until a person resumes", watched=False),
    "unrealised_drawdown": Code("warning", "what is held has lost much", watched=False),
    # the books
    "book_drift": Code("critical", "our book is not the venue's", watched=False),
    "books_unknown": Code(
        "critical", "entries wait: the venue's book was not compared with ours in time", settles=True
    ),
    "order_restored": Code("warning", "an order that was forgotten here was taken up again", watched=False),
    "close_waiting": Code("critical", "a closing order outlived its session: a position without a stop", watched=False),
    "no_stop": Code("critical", "an entry filled and the venue has no stop for it", watched=False),
    "venue_silent": Code("critical", "the venue could not be asked for its book", watched=False),
    "breaker_open": Code("critical", "the venue fails: it gets no entries"),
    # work
    "dead_letter": Code("critical", "work was given up and ended as an error"),
    "input_refused": Code("warning", "many posts cannot be used"),
    "stream_lag": Code("critical", "messages wait for a router"),
    "lists_lag": Code("warning", "votes wait for their drain"),
    "queue_lag": Code("critical", "jobs wait for a worker"),
    "claims_overdue": Code("warning", "claims are not decided in time"),
    "backlog_full": Code("critical", "so many votes wait that routers read no more"),
    # processes
    "fleet_stopped": Code("critical", "the fleet takes no messages, and no person stopped it", settles=True),
    "source_down": Code("critical", "no collector gives signs of life", settles=True),
    "source_silent": Code("warning", "no new message for long"),
    "process_missing": Code("critical", "fewer processes of a role than there should be", settles=True),
    # Redis
    "redis_down": Code("critical", "Redis does not answer", watched=False),
    "redis_memory": Code("critical", "Redis is nearly full: under noeviction a full one stops the fleet"),
    "redis_unsafe": Code("critical", "Redis may lose what it was told"),
}
WATCHED: Final = tuple(code for code, about in CODES.items() if about.watched)
SETTLING: Final = frozenset(code for code, about in CODES.items() if about.settles)

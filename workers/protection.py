"""Entries that filled and have no stop at the venue: each is an alarm, and is closed."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from pipeline.executor import TradeExecutor
from pipeline.models import FillRole, OrderReport, Position
from pipeline.ports import Intent, Intents
from workers.adapters.alarms import Alarm, Alarms

NO_STOP: Final = "no_stop"
MOST_TRIES: Final = 3  # closing orders for one entry; after that the alarm waits for a person
EXITS: Final = frozenset({FillRole.STOP, FillRole.TARGET, FillRole.TIME_EXIT})


class Protection:
    """Looks at what settlement recorded. `grace`: how long after its fill an entry may wait for its stop."""

    def __init__(self, intents: Intents, executor: TradeExecutor, alarms: Alarms, grace: timedelta) -> None:
        self._intents = intents
        self._executor = executor
        self._alarms = alarms
        self._grace = grace

    def look(self, as_of: datetime) -> int:
        """Close what has no stop; how many there are. While HALTED only the alarm: then a person flattens.

        Repeating it sends nothing twice: a closing order is named by the entry and its number. Raises TransientError.
        """
        intents = self._intents.open()
        bare = [(intent, held) for intent in intents if (held := without_stop(intent, as_of, self._grace)) is not None]
        self._alarms.quiet(NO_STOP, as_of, [intent.client_order_id for intent, _ in bare])
        closing = {intent.symbol for intent in intents if intent.order.reduce_only}
        for intent, held in bare:
            words = (
                f"{held.quantity} {held.symbol} are held without a stop at the venue since {held.opened_at:%H:%M:%S}"
            )
            self._alarms.sound(Alarm(NO_STOP, intent.client_order_id, words, as_of))
            if held.symbol not in closing:
                self._close(intent, held, as_of)
        return len(bare)

    def _close(self, intent: Intent, held: Position, as_of: datetime) -> None:
        """The first closing order that was not sent yet; those before it ended and left the shares."""
        for number in range(1, MOST_TRIES + 1):
            order = self._executor.closing(held, as_of, f"{NO_STOP}\x1f{intent.client_order_id}\x1f{number}")
            known = self._intents.get(order.client_order_id)
            if known is None or known.state == "NEW":
                self._executor.close(order, as_of)
                return


def without_stop(intent: Intent, as_of: datetime, grace: timedelta) -> Position | None:
    """What is held of an entry that has no stop at the venue, None while all is well or it may still come."""
    report = intent.report
    if intent.order.reduce_only or report is None or report.closed or report.stop is not None:
        return None
    entries = [fill for fill in report.fills if fill.role is FillRole.ENTRY]
    held = report.filled_quantity - _left(report)
    if held <= 0 or as_of < max(fill.at for fill in entries) + grace:
        return None
    paid = sum((fill.quantity * fill.price for fill in entries), Decimal(0)) * held / report.filled_quantity
    sign = intent.order.side.sign
    return Position(intent.symbol, sign * held, sign * paid, min(fill.at for fill in entries))


def _left(report: OrderReport) -> int:
    """Shares of the bracket that its exits took."""
    return sum(fill.quantity for fill in report.fills if fill.role in EXITS)

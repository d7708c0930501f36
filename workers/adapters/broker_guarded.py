"""The broker port with its breaker: every call that has no definite answer is counted, none is held back here.

Entries are held back before anything is written, by the executor, which asks `Breaker.permit`. Exits, withdrawals and
questions always go.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import structlog

from pipeline.errors import BrokerError, TransientError
from pipeline.models import Account, BracketOrder, ListedOrder, OrderReport, Position, Quote
from pipeline.ports import Breaker, Broker

T = TypeVar("T")

log = structlog.get_logger()


class GuardedBroker:
    """Passes everything on. What the venue said is what the caller gets, also when the breaker cannot be told."""

    def __init__(self, broker: Broker, breaker: Breaker) -> None:
        self._broker = broker
        self._breaker = breaker

    def submit(self, order: BracketOrder) -> OrderReport:
        """Place the bracket; a definite answer, also a refusal, tells the breaker that the venue works."""
        report = self._call("submit", lambda: self._broker.submit(order))
        with suppress(TransientError):
            self._breaker.succeeded()
        return report

    def order(self, client_order_id: str) -> OrderReport | None:
        """Look one order up."""
        return self._call("order", lambda: self._broker.order(client_order_id))

    def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:
        """Withdraw what has not filled."""
        return self._call("cancel", lambda: self._broker.cancel(client_order_id, as_of))

    def orders(self, closed_since: datetime | None) -> tuple[ListedOrder, ...]:
        """Working orders, and those that ended since."""
        return self._call("orders", lambda: self._broker.orders(closed_since))

    def positions(self) -> dict[str, Position]:
        """Holdings."""
        return self._call("positions", self._broker.positions)

    def account(self) -> Account:
        """Cash and equity."""
        return self._call("account", self._broker.account)

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The venue's last price."""
        return self._call("quote", lambda: self._broker.quote(symbol, as_of))

    def clock(self, as_of: datetime) -> bool:
        """Whether the venue is open."""
        return self._call("clock", lambda: self._broker.clock(as_of))

    def updates(self, as_of: datetime, client_order_ids: Sequence[str]) -> tuple[OrderReport, ...]:
        """Reports of these orders."""
        return self._call("updates", lambda: self._broker.updates(as_of, client_order_ids))

    def _call(self, name: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (BrokerError, TransientError) as error:
            log.warning("broker.failed", call=name, error=f"{type(error).__name__}: {error}")
            with suppress(TransientError):
                self._breaker.failed()
            raise

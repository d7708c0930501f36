"""Settlement: brings our book up to a moment from the broker's reports, and says which decisions are definite."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pipeline.errors import MarketDataError
from pipeline.executor import FLATTEN_PREFIX
from pipeline.models import BracketOrder, Fill, FillRole, OrderReport, OrderStatus, Outcome, Refusal, Session, Stage
from pipeline.ports import Broker, Intent, Intents, Ledger, MarketData, Sessions
from pipeline.risk import RiskManager
from workers.adapters.alarms import Alarm, Alarms

ENTERING = frozenset({FillRole.ENTRY, FillRole.CLOSE})
WORKING = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
LOST_AFTER = timedelta(seconds=180)


@dataclass(frozen=True, slots=True)
class Settled:
    """A decision whose entry became definite; told again until it is acknowledged.

    `as_of` is when that happened, as far as the venue says: the entry's last fill, or the close that an unfilled
    entry lived until; else when it was seen.
    """

    decision_id: str
    symbol: str
    outcome: Outcome
    refusal: Refusal | None
    as_of: datetime


class Settlement:
    """Books fills, releases reservations, reports definite entries. Every step may be repeated and changes nothing."""

    def __init__(
        self,
        broker: Broker,
        intents: Intents,
        ledger: Ledger,
        sessions: Sessions,
        market: MarketData,
        risk: RiskManager,
        alarms: Alarms,
        lost_after: timedelta = LOST_AFTER,
    ) -> None:
        """`lost_after`: how long after its sending a closing order that the venue never heard of counts as lost."""
        self._broker = broker
        self._intents = intents
        self._ledger = ledger
        self._sessions = sessions
        self._market = market
        self._risk = risk
        self._alarms = alarms
        self._lost_after = lost_after

    def settle(self, as_of: datetime) -> tuple[Settled, ...]:
        """Live through to `as_of`: every new fill booked in order of time, each into its own session.

        The decisions whose entry is definite and not acknowledged, by client order id. One round trip when nothing
        is open. Raises TransientError and BrokerError: repeat it.
        """
        intents = self._intents.open()
        if not intents:
            return ()
        reports = self._reports(intents, as_of)
        self._book([(intent, reports[intent.client_order_id]) for intent in intents if _named(intent, reports)])
        self._mark(reports, as_of)
        found = [self._close(intent, reports.get(intent.client_order_id), as_of) for intent in intents]
        return tuple(one for one in found if one is not None)

    def acknowledge(self, decision_ids: Sequence[str]) -> None:
        """The outcomes of these decisions are written: they are not told again. Idempotent."""
        names = [i.client_order_id for i in self._intents.open() if i.decision_id in frozenset(decision_ids)]
        self._intents.acknowledge(names)

    def review(self, session: Session, at: datetime) -> None:
        """Look at the book's results: a lost week sets REDUCING; an alarm for all that is said."""
        for said in self._risk.review(session, at):
            self._alarms.sound(Alarm(said.rule, "", f"{said.observed}, limit {said.limit}", at))

    # ---- inside ------------------------------------------------------------------------------------------

    def _reports(self, intents: Sequence[Intent], as_of: datetime) -> dict[str, OrderReport]:
        """What the broker says; what it forgot as we know it; the end of what it never heard of and takes no more.

        `never_arrived` needs both: the order's time is over, and the venue, asked for this one name, knows nothing. A
        closing order's time is short: should it arrive after all it can only reduce, and a position nobody may close
        for sessions is the greater harm.
        """
        names = [intent.client_order_id for intent in intents]
        reports = {report.client_order_id: report for report in self._broker.updates(as_of, names)}
        for intent in intents:
            if not _named(intent, reports) and intent.report is not None:
                reports[intent.client_order_id] = intent.report
            elif not _named(intent, reports) and as_of >= self._lost_at(intent.order):
                found = self._broker.order(intent.client_order_id)
                reports[intent.client_order_id] = found or _never_arrived(intent)
        return reports

    def _lost_at(self, order: BracketOrder) -> datetime:
        """From when on an order that the venue does not know will not come any more."""
        if not order.reduce_only:
            return order.good_until
        return min(order.good_until, order.submitted_at + self._lost_after)

    def _book(self, pairs: Sequence[tuple[Intent, OrderReport]]) -> None:
        """New fills of all orders in order of time; after each session's fills the week's loss is looked at."""
        fresh = [(fill, intent.decision_id) for intent, report in pairs for fill in report.fills[intent.booked :]]
        touched: dict[Session, datetime] = {}
        for fill, decision_id in sorted(fresh, key=lambda row: (row[0].at, row[0].fill_id)):
            session = self._session_of(fill)
            self._ledger.apply(decision_id, fill, session)
            touched[session] = fill.at
        for session, at in touched.items():
            self.review(session, at)

    def _session_of(self, fill: Fill) -> Session:
        """The session a fill belongs to; one at the very close belongs to the session that closes."""
        return self._sessions.session_of(fill.at - timedelta(microseconds=1))

    def _mark(self, reports: dict[str, OrderReport], as_of: datetime) -> None:
        """Value what is held at the last quotes; a symbol without one keeps its last mark."""
        prices: dict[str, Decimal] = {}
        for symbol in sorted({report.symbol for report in reports.values() if report.fills}):
            try:
                quote = self._market.quote(symbol, as_of)
            except MarketDataError:
                continue
            if quote is not None and quote.price.is_finite() and quote.price > 0:
                prices[symbol] = quote.price
        self._ledger.mark(prices)

    def _close(self, intent: Intent, report: OrderReport | None, as_of: datetime) -> Settled | None:
        """After booking: free the risk of a definite entry, keep the report, tell the decision's end."""
        if report is None:
            return None
        definite = report.status not in WORKING
        if definite and not intent.entry_settled:
            self._ledger.release(intent.decision_id)
        if report != intent.report or len(report.fills) != intent.booked or report.closed != (intent.state == "DONE"):
            self._intents.booked(intent.client_order_id, report)
        if not definite or intent.entry_settled:
            return None
        if intent.decision_id.startswith(FLATTEN_PREFIX):
            self._intents.acknowledge([intent.client_order_id])
            return None
        outcome = _outcome(report)
        moment = _moment(intent, report, as_of)
        return Settled(intent.decision_id, intent.symbol, outcome, _refusal(report, outcome), moment)


def _named(intent: Intent, reports: dict[str, OrderReport]) -> bool:
    return intent.client_order_id in reports


def _never_arrived(intent: Intent) -> OrderReport:
    """Sent, but unknown to the venue until its time ran out: nothing of it can fill any more."""
    return OrderReport(intent.client_order_id, intent.symbol, OrderStatus.UNFILLED, reason="never_arrived", closed=True)


def _moment(intent: Intent, report: OrderReport, as_of: datetime) -> datetime:
    """When the entry became definite, whenever we looked."""
    entries = [fill.at for fill in report.fills if fill.role in ENTERING]
    if entries:
        return max(entries)
    return min(as_of, intent.order.good_until) if report.status is OrderStatus.UNFILLED else as_of


def _outcome(report: OrderReport) -> Outcome:
    """The end of the decision whose entry this is; any filled share makes it executed."""
    if report.filled_quantity > 0:
        return Outcome.EXECUTED
    return Outcome.BROKER_REJECTED if report.status is OrderStatus.REJECTED else Outcome.UNFILLED


def _refusal(report: OrderReport, outcome: Outcome) -> Refusal | None:
    """Why an entry did not become a position, in the venue's words."""
    if outcome is Outcome.EXECUTED:
        return None
    return Refusal(Stage.EXECUTOR, report.reason or str(report.status), report.reason, "accepted by the broker")

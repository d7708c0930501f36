"""Reconciliation: our book against the broker's. Drift reduces the fleet and raises an alarm within one cycle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from pipeline.errors import AccountUnknownError, BrokerError, TransientError
from pipeline.executor import FLATTEN_PREFIX, close_of_session, is_own
from pipeline.models import BracketOrder, ListedOrder, OrderReport, Position, Reservation
from pipeline.ports import BookSnapshot, Broker, Control, Intent, Intents, Ledger, Sessions, Statement
from workers.adapters.alarms import Alarm, Alarms
from workers.adapters.truth import Comparison, Truth
from workers.drift import Drift, Looks
from workers.settlement import WORKING

READINGS = 3  # of the venue's whole book, until nothing filled during one
BY = "reconcile"
DRIFT, RESTORED, SILENT, LATE = "book_drift", "order_restored", "venue_silent", "close_waiting"
CLOCKS_DIFFER_BY = timedelta(minutes=1)  # at most, the venue's and ours
LOOK_BACK = timedelta(days=6)  # an order that ended is known here for 7 days: none is taken for a forgotten one


@dataclass(slots=True)
class _Findings:
    """What the looks found. `undecided`: so much fills that nothing can be said of some difference.

    `restored`: our orders that were forgotten here; `late`: closing orders that wait.
    """

    drifts: tuple[Drift, ...] = ()
    undecided: bool = False
    restored: list[BracketOrder] = field(default_factory=list)
    late: tuple[Intent, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sight:
    """What the venue says it has at one moment, as far as two questions can tell."""

    listed: tuple[ListedOrder, ...]
    positions: dict[str, Position]


class Reconciler:
    """Compares positions, cash and orders; `settle(as_of)` books first what the broker can explain.

    `cash_tolerance`: dollars that cash may differ by. An order at the venue that is not known here is ours when its
    name is the one this `environment` gives it: then it is taken up again with its decision. Any other is drift; it
    is never touched, unless a person accepts it.
    """

    def __init__(
        self,
        broker: Broker,
        intents: Intents,
        ledger: Ledger,
        sessions: Sessions,
        control: Control,
        alarms: Alarms,
        settle: Callable[[datetime], object],
        cash_tolerance: Decimal,
        environment: str,
        truth: Truth,
    ) -> None:
        self._broker = broker
        self._intents = intents
        self._ledger = ledger
        self._sessions = sessions
        self._control = control
        self._alarms = alarms
        self._settle = settle
        self._cash_tolerance = cash_tolerance
        self._environment = environment
        self._truth = truth

    def cycle(self, as_of: datetime) -> tuple[Drift, ...]:
        """One cycle: drift sets REDUCING and an alarm each; what is left to explain.

        Only then entries may count on the broker's book; not after a cycle that could not decide. Raises
        TransientError and BrokerError, after an alarm, when the broker cannot be asked.
        """
        try:
            comparison = self._truth.begin()
            found = self._findings(as_of, comparison)
        except (TransientError, BrokerError) as error:
            self._alarms.sound(Alarm(SILENT, "", f"{type(error).__name__}: {error}", as_of))
            raise
        self._tell(found, as_of)
        if found.drifts:
            self._control.reduce(BY, f"drift: {'; '.join(map(str, found.drifts))[:400]}", as_of)
        if not found.undecided:
            self._truth.confirm(comparison)
        return found.drifts

    def look(self, as_of: datetime) -> tuple[Drift, ...]:
        """The differences that several looks, each after a settlement, found; nothing is changed but the book."""
        return self._findings(as_of, self._truth.begin()).drifts

    def accept(self, as_of: datetime, cash_flow: Decimal = Decimal(0)) -> Decimal:
        """Our book becomes the broker's: a person decided so. Dollars that changed it, less `cash_flow`.

        A loss among them is a result of the session and its week. Strangers' brackets are ours from now on, and
        `flatten` withdraws them. Orders that the broker forgot stay to be settled.
        """
        since = _since(self._truth.begin())
        self._settle(as_of)
        listed, statement = self._statement(as_of, since)
        change = self._ledger.adopt(statement, self._sessions.session_of(as_of), cash_flow)
        for one in self._strangers(listed)[1]:
            if one.order is not None:
                self._intents.adopt(one.order, one.report, ours=False)
        self._alarms.quiet(DRIFT, as_of)
        return change

    # ---- looking -----------------------------------------------------------------------------------------

    def _findings(self, as_of: datetime, comparison: Comparison) -> _Findings:
        found, since = _Findings(), _since(comparison)
        looks = Looks()
        while looks.goes_on:
            sight = self._sight(since)
            own, foreign = self._strangers(sight.listed)
            found.restored += self._take_up(own)
            book = self._book(as_of, since)
            intents = self._intents.open()
            missing = self._missing(intents, sight.listed)
            differences = (*_positions(book, sight), *self._cash(book), *missing, *map(_foreign, foreign))
            looks.add(differences, _moved(sight, self._sight(since)) if differences else ())
            found.late = tuple(intent for intent in intents if self._is_late(intent, as_of))
        found.drifts, found.undecided = looks.drifts, looks.undecided
        return found

    def _sight(self, since: datetime | None) -> _Sight:
        return _Sight(self._broker.orders(since), self._broker.positions())

    def _book(self, as_of: datetime, since: datetime | None) -> BookSnapshot:
        """Our book after a settlement; where it has no account yet, what the broker has opens it."""
        session = self._sessions.session_of(as_of)
        try:
            self._settle(as_of)
            return self._ledger.snapshot(session)
        except AccountUnknownError:
            self._ledger.open(self._statement(as_of, since)[1])
            self._settle(as_of)
            return self._ledger.snapshot(session)

    def _statement(self, as_of: datetime, since: datetime | None) -> tuple[tuple[ListedOrder, ...], Statement]:
        """Orders, positions and cash of one moment: nothing filled while they were read. Raises BrokerError."""
        for _ in range(READINGS):
            listed = self._broker.orders(since)
            positions, cash = self._broker.positions(), self._broker.account().cash
            if self._broker.orders(since) == listed:
                marks = {symbol: self._mark(position, as_of) for symbol, position in positions.items()}
                fills = tuple(
                    (one.order.decision_id if one.order else one.name, fill)
                    for one in listed
                    for fill in one.report.fills
                )
                return listed, Statement(cash, positions, marks, fills)
        raise BrokerError(f"the venue's book changed in each of {READINGS} readings; valid: one without a change")

    def _mark(self, position: Position, as_of: datetime) -> Decimal:
        quote = self._broker.quote(position.symbol, as_of)
        usable = quote is not None and quote.price.is_finite() and quote.price > 0
        return quote.price if quote is not None and usable else position.average_price

    # ---- orders ------------------------------------------------------------------------------------------

    def _take_up(self, own: Sequence[ListedOrder]) -> list[BracketOrder]:
        """Our orders that were forgotten here, taken up: the reservation first, or a death would leave none."""
        restored = []
        for one in own:
            order = one.order
            if order is None:
                continue
            if one.report.status in WORKING and not order.decision_id.startswith(FLATTEN_PREFIX):
                self._ledger.restore(_reservation(order), order.submitted_at)
            if self._intents.adopt(order, one.report, ours=True):
                restored.append(order)
        return restored

    def _strangers(self, listed: Sequence[ListedOrder]) -> tuple[list[ListedOrder], list[ListedOrder]]:
        """Listed orders that are not known here as sent, or of which more is true: our own, and others that work."""
        open_here = {intent.client_order_id for intent in self._intents.open()}
        unknown = [one for one in listed if one.name not in open_here and not self._is_known(one)]
        own = [one for one in unknown if one.order is not None and is_own(self._environment, one.order)]
        return own, [one for one in unknown if one not in own and not one.report.closed]

    def _is_known(self, listed: ListedOrder) -> bool:
        """An order that ended here without a fill, since it seemed lost, may have arrived late: asked by its name."""
        intent = self._intents.get(listed.name)
        if intent is None or intent.state == "NEW":
            return False
        seemed_lost = intent.state == "DONE" and intent.report is not None and not intent.report.fills
        if not seemed_lost or _nothing_happens(listed.report):
            return True
        now = self._broker.order(listed.name)
        return now is None or _nothing_happens(now)

    def _is_late(self, intent: Intent, as_of: datetime) -> bool:
        """Whether a closing order has outlived the session it was sent in without being done."""
        waits = intent.report is None or intent.report.status in WORKING
        sent_at = intent.order.submitted_at
        return waits and intent.order.reduce_only and as_of >= close_of_session(self._sessions, sent_at, 1)

    # ---- differences -------------------------------------------------------------------------------------

    def _cash(self, book: BookSnapshot) -> list[Drift]:
        theirs = self._broker.account().cash
        if abs(book.cash - theirs) <= self._cash_tolerance:
            return []
        return [Drift("cash", f"{book.cash:.2f} USD", f"{theirs:.2f} USD", theirs - book.cash)]

    def _missing(self, intents: Sequence[Intent], listed: Sequence[ListedOrder]) -> list[Drift]:
        """Orders the broker once confirmed as working and does not know any more."""
        there = {one.name for one in listed}
        confirmed = [i for i in intents if i.report is not None and not i.report.closed]
        gone = [i.client_order_id for i in confirmed if i.client_order_id not in there]
        return [Drift(name, "a working order", "no such order") for name in gone if self._broker.order(name) is None]

    # ---- alarms ------------------------------------------------------------------------------------------

    def _tell(self, found: _Findings, as_of: datetime) -> None:
        self._alarms.quiet(SILENT, as_of)
        self._alarms.quiet(DRIFT, as_of, [drift.subject for drift in found.drifts])
        self._alarms.quiet(LATE, as_of, [intent.client_order_id for intent in found.late])
        for order in found.restored:
            words = f"{order.side.value} {order.quantity} {order.symbol}: sent by us, forgotten here, taken up again"
            self._alarms.sound(Alarm(RESTORED, order.client_order_id, words, as_of))
        for intent in found.late:
            words = f"{intent.order.quantity} {intent.symbol} are not closed since {intent.order.submitted_at:%Y-%m-%d}"
            self._alarms.sound(Alarm(LATE, intent.client_order_id, words, as_of))
        for drift in found.drifts:
            self._alarms.sound(Alarm(DRIFT, drift.subject, str(drift), as_of))


def _positions(book: BookSnapshot, sight: _Sight) -> list[Drift]:
    symbols = sorted(book.positions.keys() | sight.positions.keys())
    pairs = [(symbol, _shares(book.positions.get(symbol)), _shares(sight.positions.get(symbol))) for symbol in symbols]
    return [
        Drift(symbol, f"{mine} shares", f"{other} shares", Decimal(other - mine))
        for symbol, mine, other in pairs
        if mine != other
    ]


def _moved(before: _Sight, after: _Sight) -> frozenset[str]:
    """What changed at the venue between two sights: symbols, orders by name, and cash with any of them."""
    reports = {one.report for one in before.listed} ^ {one.report for one in after.listed}
    traded = {symbol for symbol, _ in before.positions.items() ^ after.positions.items()}
    named = {name for report in reports for name in (report.client_order_id, report.symbol)}
    return frozenset(named | traded | {"cash"} if named or traded else ())


def _foreign(listed: ListedOrder) -> Drift:
    return Drift(listed.name, "no such order", f"a working order in {listed.report.symbol}")


def _since(comparison: Comparison) -> datetime | None:
    """Orders that ended after it may be unknown here; None: nothing was ever compared."""
    if comparison.last is None:
        return None
    return max(comparison.last - CLOCKS_DIFFER_BY, comparison.at - LOOK_BACK)


def _reservation(order: BracketOrder) -> Reservation:
    """The risk of the whole order at its reference price."""
    price = order.levels.reference
    return Reservation(
        decision_id=order.decision_id,
        symbol=order.symbol,
        side=order.side,
        quantity=order.quantity,
        price=price,
        notional=order.quantity * price,
        reduce_only=order.reduce_only,
    )


def _nothing_happens(report: OrderReport) -> bool:
    """Nothing filled and nothing will."""
    return report.closed and not report.fills


def _shares(position: Position | None) -> int:
    return 0 if position is None else position.quantity

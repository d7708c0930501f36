"""The broker port over HTTP: a venue of brackets that speaks this plain JSON protocol.

Every request carries `Authorization: Bearer KEY`. Money is decimal text, times are ISO 8601 with an offset.

| request | answer |
|---|---|
| `POST /orders` order | 200, 201 report · 422 `duplicate_client_order_id` · other 4xx: refused |
| `GET /orders/{client_order_id}` | 200 report · 404 `unknown_order` |
| `GET /orders?ids=a,b` | 200 `{orders: [report]}`, without those it does not know |
| `GET /orders?state=open` | 200 `{orders: [{order?, report}], next?}`: all of the account that can still fill |
| `DELETE /orders/{client_order_id}` | 200 report · 404 `unknown_order`; exits are withdrawn too |
| `GET /positions` | 200 `{positions: [{symbol, quantity, cost, opened_at}]}`, quantity and cost signed |
| `GET /account` | 200 `{cash, equity}` |
| `GET /quotes/{symbol}` | 200 `{symbol, price, at, source}` · 404 `unknown_symbol` |
| `GET /clock` | 200 `{open}` |

A listing comes in pages: `&closed_since=TIME` adds orders that ended then or later, `&after=NEXT` asks for the page
after the one that said `next`. `order` is what was posted; it is missing for an order that was not posted as one.

order: `client_order_id decision_id symbol side quantity reduce_only reference stop_distance target_distance tick
max_gap max_hold_sessions submitted_at good_until`; stop and target are placed at those distances from the entry's fill.
report: `client_order_id symbol status filled_quantity fills [{fill_id side quantity price fee at role}] stop? target?
reason closed`; fills oldest first, the words as in `pipeline.models`. `stop` and `target`: prices of the exits that
work; what is held without a `stop` is closed after `executor.stop_grace_s`. A closing order ends the exits of what it
closes.
A refusal (4xx) is `{code, message?}`. 429 with `Retry-After` refuses a request unread.

Only definite answers are returned. A question (GET) may be repeated within the call's bound; an order or a withdrawal
is sent once, and whatever is no clear answer leaves its fate open (BrokerError, TransientError): look it up.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote as escaped

from pipeline.errors import BrokerError
from pipeline.models import Account, BracketOrder, ListedOrder, OrderReport, OrderStatus, Position, Quote
from workers.adapters import venue_wire as wire
from workers.adapters.http_bounded import Answer, BoundedHttp

OK: Final = (200, 201)
NOT_FOUND: Final = 404
CLIENT_ERRORS: Final = range(400, 500)
UNCLEAR: Final = frozenset({408, 409, 423, 425})  # these do not say that nothing happened
DUPLICATE: Final = "duplicate_client_order_id"
UNKNOWN_ORDER: Final = "unknown_order"
UNKNOWN_SYMBOL: Final = "unknown_symbol"
IDS_PER_REQUEST: Final = 50
LISTING_PAGES: Final = 200  # more is no account of ours, or a listing without end


class HttpBroker:
    """The broker port. Every method ends within `venue.call_s` seconds; the venue's own clock counts, not `as_of`."""

    def __init__(self, http: BoundedHttp) -> None:
        self._http = http

    def submit(self, order: BracketOrder) -> OrderReport:
        """Send the bracket, once. An id the venue knows already is looked up and answered as it stands there.

        A refusal is a report with status REJECTED. Raises BrokerError or TransientError: the fate is open.
        """
        with self._http.bound():
            answer = self._http.tell("POST", "orders", wire.order_json(order))
            if answer.status in OK:
                return wire.report_of(answer.body, order)
            code = _refusal(answer, "POST orders")
            if code == DUPLICATE:
                return self._known(order)
        return OrderReport(order.client_order_id, order.symbol, OrderStatus.REJECTED, reason=code, closed=True)

    def order(self, client_order_id: str) -> OrderReport | None:
        """What the venue knows of this id; None only when it says that it never heard of it."""
        answer = self._http.ask(_path(client_order_id))
        return self._report_or_none(answer, client_order_id)

    def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:  # noqa: ARG002 - the venue's clock
        """Withdraw what has not filled, once."""
        answer = self._http.tell("DELETE", _path(client_order_id))
        return self._report_or_none(answer, client_order_id)

    def orders(self, closed_since: datetime | None) -> tuple[ListedOrder, ...]:
        """Every page of the listing within one bound. Raises BrokerError for an order that is told twice."""
        asked = {"state": "open"} | ({"closed_since": closed_since.isoformat()} if closed_since else {})
        found: dict[str, ListedOrder] = {}
        with self._http.bound():
            for _ in range(LISTING_PAGES):
                page = wire.listing(_found(self._http.ask("orders", asked), "GET orders"))
                if twice := sorted(found.keys() & {one.name for one in page.orders}):
                    raise BrokerError(f"the venue lists order {twice[0]} twice")
                found |= {one.name: one for one in page.orders}
                if page.after is None:
                    return tuple(found[name] for name in sorted(found))
                asked["after"] = page.after
        raise BrokerError(f"the venue's listing has more than {LISTING_PAGES} pages; valid: at most that")

    def positions(self) -> dict[str, Position]:
        """Holdings by symbol."""
        return wire.positions(_found(self._http.ask("positions"), "GET positions"))

    def account(self) -> Account:
        """Cash and equity."""
        return wire.account(_found(self._http.ask("account"), "GET account"))

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:  # noqa: ARG002 - the venue's clock
        """The venue's last price; None for a symbol it does not trade."""
        answer = self._http.ask(f"quotes/{escaped(symbol, safe='')}")
        if _says(answer, UNKNOWN_SYMBOL):
            return None
        return wire.quote(_found(answer, "GET quotes"), symbol)

    def clock(self, as_of: datetime) -> bool:  # noqa: ARG002 - the venue's clock
        """Whether the venue is open."""
        return wire.is_open(_found(self._http.ask("clock"), "GET clock"))

    def updates(self, as_of: datetime, client_order_ids: Sequence[str]) -> tuple[OrderReport, ...]:  # noqa: ARG002
        """Reports of these orders, as far as the venue knows them; all of them within one bound."""
        found: list[OrderReport] = []
        with self._http.bound():
            for first in range(0, len(client_order_ids), IDS_PER_REQUEST):
                ids = client_order_ids[first : first + IDS_PER_REQUEST]
                answer = self._http.ask("orders", {"ids": ",".join(ids)})
                found += wire.reports(_found(answer, "GET orders"), frozenset(ids))
        return tuple(found)

    # ---- inside ------------------------------------------------------------------------------------------

    def _known(self, order: BracketOrder) -> OrderReport:
        """The order that has this id at the venue. Raises BrokerError when it denies having one."""
        answer = self._http.ask(_path(order.client_order_id))
        return wire.report_of(_found(answer, "GET order"), order)

    def _report_or_none(self, answer: Answer, client_order_id: str) -> OrderReport | None:
        if _says(answer, UNKNOWN_ORDER):
            return None
        return wire.report(_found(answer, "order"), client_order_id)


def _path(client_order_id: str) -> str:
    return f"orders/{escaped(client_order_id, safe='')}"


def _says(answer: Answer, code: str) -> bool:
    """Whether this is the venue's own 404, not that of something between us and it."""
    return answer.status == NOT_FOUND and wire.refusal_code(answer.body) == code


def _found(answer: Answer, call: str) -> object:
    """The body of a yes. Raises BrokerError for anything else."""
    if answer.status not in OK:
        raise BrokerError(f"{call}: status {answer.status}; valid: 200")
    return answer.body


def _refusal(answer: Answer, call: str) -> str:
    """The venue's word for its no. Raises BrokerError when this is no clear one."""
    code = wire.refusal_code(answer.body)
    if answer.status not in CLIENT_ERRORS or answer.status in UNCLEAR or code is None:
        raise BrokerError(f"{call}: status {answer.status} is no clear answer")
    return code

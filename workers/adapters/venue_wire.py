"""The venue's JSON: orders as we say them, reports, holdings and money as we accept them. See `broker_http`.

Money is exact decimals as text, never a JSON number; times are ISO 8601 with an offset. What does not fit is no answer.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.errors import BrokerError
from pipeline.models import (
    Account,
    BracketOrder,
    Fill,
    FillRole,
    Levels,
    ListedOrder,
    OrderReport,
    OrderStatus,
    Position,
    Quote,
    Side,
)

REASON_CHARACTERS = 120
ORDER_NAME = r"^[A-Za-z0-9_-]{1,64}$"
SYMBOL = r"^[A-Z]{1,5}(\.[A-Z])?$"


def _exact(value: object) -> Decimal:
    """A decimal from text of up to 40 plain characters; a JSON number has lost its exactness already."""
    if not isinstance(value, str) or len(value) > 40 or not set(value) <= set("0123456789.-"):  # noqa: PLR2004
        raise ValueError("must be a decimal as text")
    return Decimal(value)


def _plain(value: object) -> str:
    """Words of a stranger: one line, printable, cut."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic wants ValueError
    return "".join(c if c.isprintable() else "?" for c in value[:REASON_CHARACTERS])


Money = Annotated[Decimal, BeforeValidator(_exact)]
Price = Annotated[Decimal, BeforeValidator(_exact), Field(gt=0)]
Distance = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0)]
Words = Annotated[str, BeforeValidator(_plain)]
Whole = Annotated[int, Field(strict=True)]


class _Wire(BaseModel):
    """Strict in what counts, deaf to what we do not know: a venue may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Fill(_Wire):
    fill_id: str = Field(min_length=1, max_length=120)
    side: Side
    quantity: Whole = Field(gt=0)
    price: Price
    fee: Money
    at: AwareDatetime
    role: FillRole


class _Report(_Wire):
    client_order_id: str
    symbol: str
    status: OrderStatus
    filled_quantity: Whole = Field(ge=0)
    fills: tuple[_Fill, ...]
    stop: Price | None = None
    target: Price | None = None
    reason: Words = ""
    closed: bool = Field(strict=True)


class _Reports(_Wire):
    orders: tuple[_Report, ...]


class _Order(_Wire):
    client_order_id: str = Field(pattern=ORDER_NAME)
    decision_id: str = Field(min_length=1, max_length=200)
    symbol: str = Field(pattern=SYMBOL)
    side: Side
    quantity: Whole = Field(gt=0)
    reduce_only: bool = Field(strict=True)
    reference: Price
    stop_distance: Distance
    target_distance: Distance
    tick: Price
    max_gap: Price
    max_hold_sessions: Whole = Field(ge=1)
    submitted_at: AwareDatetime
    good_until: AwareDatetime


class _Listed(_Wire):
    order: Any = None
    report: _Report


class _Listing(_Wire):
    orders: tuple[_Listed, ...]
    next: str | None = Field(default=None, min_length=1, max_length=200)


class _Position(_Wire):
    symbol: str
    quantity: Whole
    cost: Money
    opened_at: AwareDatetime


class _Positions(_Wire):
    positions: tuple[_Position, ...]


class _Account(_Wire):
    cash: Money
    equity: Money


class _Quote(_Wire):
    symbol: str
    price: Price
    at: AwareDatetime
    source: Words


class _Clock(_Wire):
    open: bool = Field(strict=True)


class _Refusal(_Wire):
    code: Words = Field(min_length=1)
    message: Words = ""


W = TypeVar("W", bound=_Wire)


def order_json(order: BracketOrder) -> dict[str, Any]:
    """The order as the body of a POST."""
    levels = order.levels
    return {
        "client_order_id": order.client_order_id,
        "decision_id": order.decision_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "quantity": order.quantity,
        "reduce_only": order.reduce_only,
        "reference": str(levels.reference),
        "stop_distance": str(levels.stop_distance),
        "target_distance": str(levels.target_distance),
        "tick": str(levels.tick),
        "max_gap": str(order.max_gap),
        "max_hold_sessions": order.max_hold_sessions,
        "submitted_at": order.submitted_at.isoformat(),
        "good_until": order.good_until.isoformat(),
    }


def report(body: object, client_order_id: str) -> OrderReport:
    """The report of this very order. Raises BrokerError for any other text."""
    found = _report(_read(_Report, body))
    if found.client_order_id != client_order_id:
        raise BrokerError(f"the venue answered for another order than {client_order_id}")
    return found


def report_of(body: object, order: BracketOrder) -> OrderReport:
    """The report of an order we know. Raises BrokerError when symbol, side or quantities are not its own."""
    found = report(body, order.client_order_id)
    entries = [fill for fill in found.fills if fill.role in (FillRole.ENTRY, FillRole.CLOSE)]
    own = found.symbol == order.symbol and all(fill.side is order.side for fill in entries)
    if not own or found.filled_quantity > order.quantity:
        raise BrokerError(f"the venue answered with other facts than those of order {order.client_order_id}")
    return found


def reports(body: object, asked: frozenset[str]) -> tuple[OrderReport, ...]:
    """Reports of some of these orders, each once. Raises BrokerError for others."""
    found = tuple(_report(one) for one in _read(_Reports, body).orders)
    names = [one.client_order_id for one in found]
    if len(set(names)) != len(names) or not set(names) <= asked:
        raise BrokerError("the venue answered for orders that were not asked, or twice for one")
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `after`: what to ask the next one with, None on the last."""

    orders: tuple[ListedOrder, ...]
    after: str | None


def listing(body: object) -> Page:
    """A page of the account's orders. Raises BrokerError for one told twice, or whose order and report differ."""
    page = _read(_Listing, body)
    found = tuple(_listed(one) for one in page.orders)
    if len({one.name for one in found}) != len(found):
        raise BrokerError("the venue lists an order twice")
    return Page(found, page.next)


def positions(body: object) -> dict[str, Position]:
    """Holdings by symbol, without flat ones. Raises BrokerError for a symbol that is there twice."""
    found = _read(_Positions, body).positions
    held = {p.symbol: Position(p.symbol, p.quantity, p.cost, p.opened_at) for p in found if p.quantity}
    if len({p.symbol for p in found}) != len(found):
        raise BrokerError("the venue names a position twice")
    return held


def account(body: object) -> Account:
    """Cash and equity."""
    found = _read(_Account, body)
    return Account(found.cash, found.equity)


def quote(body: object, symbol: str) -> Quote:
    """The price of this very symbol."""
    found = _read(_Quote, body)
    if found.symbol != symbol:
        raise BrokerError(f"the venue quoted another symbol than {symbol}")
    return Quote(found.symbol, found.price, found.at, found.source)


def is_open(body: object) -> bool:
    """Whether the venue trades."""
    return _read(_Clock, body).open


def refusal_code(body: object) -> str | None:
    """The venue's own word for its no; None for a body that is none of its refusals."""
    try:
        return _Refusal.model_validate(body).code
    except ValidationError:
        return None


def _listed(found: _Listed) -> ListedOrder:
    """The order with its report; without the order where its facts are not those of a bracket of ours."""
    report = _report(found.report)
    try:
        order = _bracket(_Order.model_validate(found.order))
    except ValidationError:
        return ListedOrder(None, report)
    same = (order.client_order_id, order.symbol) == (report.client_order_id, report.symbol)
    if not same or report.filled_quantity > order.quantity:
        raise BrokerError(f"the venue lists other facts than those of order {order.client_order_id}")
    return ListedOrder(order, report)


def _bracket(found: _Order) -> BracketOrder:
    """The order as it was posted; the prices of stop and target follow from their distances."""
    stop, target = (found.side.sign * distance for distance in (found.stop_distance, found.target_distance))
    levels = Levels(
        reference=found.reference,
        stop_distance=found.stop_distance,
        target_distance=found.target_distance,
        stop=found.reference - stop,
        target=found.reference + target,
        tick=found.tick,
    )
    return BracketOrder(
        client_order_id=found.client_order_id,
        decision_id=found.decision_id,
        symbol=found.symbol,
        side=found.side,
        quantity=found.quantity,
        levels=levels,
        submitted_at=found.submitted_at,
        good_until=found.good_until,
        max_gap=found.max_gap,
        max_hold_sessions=found.max_hold_sessions,
        reduce_only=found.reduce_only,
    )


def _report(found: _Report) -> OrderReport:
    """The report, its sums checked: what filled must be what the fills say. Raises BrokerError."""
    fills = tuple(
        Fill(f.fill_id, found.client_order_id, found.symbol, f.side, f.quantity, f.price, f.fee, f.at, f.role)
        for f in found.fills
    )
    entered = sum(fill.quantity for fill in fills if fill.role in (FillRole.ENTRY, FillRole.CLOSE))
    if entered != found.filled_quantity or len({fill.fill_id for fill in fills}) != len(fills):
        raise BrokerError(f"the fills of order {found.client_order_id} do not add up")
    return OrderReport(
        client_order_id=found.client_order_id,
        symbol=found.symbol,
        status=found.status,
        filled_quantity=found.filled_quantity,
        fills=fills,
        stop=found.stop,
        target=found.target,
        reason=found.reason,
        closed=found.closed,
    )


def _read(kind: type[W], body: object) -> W:
    """The body in this shape. Raises BrokerError that names fields, never their content."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        fields = sorted({".".join(map(str, wrong["loc"])) or "body" for wrong in error.errors(include_input=False)})
        raise BrokerError(f"the venue's answer has wrong fields: {', '.join(fields)[:200]}") from None

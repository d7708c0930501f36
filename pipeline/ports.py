"""What the core needs from outside. Each Protocol has an in-memory twin in `workers/adapters/`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from pipeline.models import (
    Account,
    AnalyzedMessage,
    Bars,
    BracketOrder,
    Fill,
    ListedOrder,
    OrderReport,
    Outcome,
    Phase,
    Position,
    ProcessResult,
    Quote,
    Refusal,
    Reservation,
    Session,
    Side,
    Signal,
    SocialMessage,
    TradingState,
    Vote,
)
from pipeline.router import Leg, Routable

# ---- messages ----------------------------------------------------------------------------------------


class CollectorManager(Protocol):
    """Where posts come from. Workers get a null collector."""

    def is_fresh(self, as_of: datetime) -> bool:
        """Whether at least one collector gave a sign of life recently enough to go on."""
        ...


class AnalyzerManager(Protocol):
    """Turns a post into an analyzed message. Pure of the post: no memory, no clock."""

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        """The post with sentiment, symbols, fingerprint and spam verdict. Raises InvalidInputError."""
        ...

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        """Each post as `analyze` reads it, in order, sooner than one by one. Raises when it fails on any of them."""
        ...


class VoteHistory(Protocol):
    """The recent directional votes of a symbol: consensus look-back and the scorer's confluence read it."""

    def votes(self, symbol: str, since: datetime, until: datetime) -> tuple[Vote, ...]:
        """Votes with `since < at <= until`, urgent ones included, oldest first, used ones included.

        Of more than the history reads at a time (`lookback_most`) the newest.
        """
        ...

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """Those of the message ids that already took part in a decision with consensus on this symbol."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """Votes of one symbol taken out of its list for good; immutable. `votes` in list order, never empty."""

    claim_id: str
    symbol: str
    votes: tuple[Vote, ...]


class Backlog(Protocol):
    """The per-symbol lists of votes and the memory of texts."""

    def accept(self, routed: Sequence[tuple[Routable, tuple[Leg, ...]]]) -> list[tuple[Leg, ...]]:
        """Open every leg and append its vote, once: repeating it changes nothing.

        Answers the legs as they go now: one null leg for a near-duplicate, none for a message routed before.
        """
        ...

    def claim(self, symbols: Sequence[str] | None = None) -> tuple[str, ...]:
        """Take whole lists (all, or these symbols') as claims; answers the new claim ids by symbol."""
        ...

    def claimed(self, claim_id: str) -> Claim | None:
        """The claim, None when it was finished."""
        ...

    def finish(self, claim_id: str) -> None:
        """Forget a claim whose decisions are recorded. Idempotent."""
        ...

    def sizes(self) -> dict[str, int]:
        """Votes waiting per symbol."""
        ...


class Journal(Protocol):
    """Where every leg and decision ends, once."""

    def record(self, results: Sequence[tuple[ProcessResult, tuple[str, ...]]]) -> None:
        """Write each result for its decision and for the given legs, by compare-and-set from an interim state.

        A decision that became a signal marks its votes as used in the same step. Repeating it changes nothing.
        Once an order of the decision is SENT only the order's own fate ends it; any other word changes nothing.
        """
        ...

    def outcome(self, leg_or_decision_id: str) -> Outcome | None:
        """How it stands, None when it was never opened."""
        ...


# ---- market ------------------------------------------------------------------------------------------


class MarketData(Protocol):
    """Prices as known at `as_of`: only bars with `end <= as_of`, never a younger one."""

    def bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) completed bars of the analysis interval. Raises MarketDataError."""
        ...

    def daily_bars(self, symbol: str, as_of: datetime, count: int) -> Bars:
        """The last `count` (or fewer) completed daily bars. Raises MarketDataError."""
        ...

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The last price known at `as_of` with its own time; None where there is none."""
        ...

    def halted(self, symbol: str, as_of: datetime) -> bool | None:
        """Whether trading in the symbol is halted; None where this source does not know."""
        ...


class BarHistory(Protocol):
    """Completed bars by time: the paper venue lives through every bar once."""

    def bars_between(self, symbol: str, start: datetime, end: datetime) -> Bars:
        """Bars of the analysis interval with `start < end of bar <= end`, oldest first. Raises MarketDataError."""
        ...


class MarketConditions(Protocol):
    """The whole market at `as_of`.

    None means the profile has no such data. Data that is configured but unknown at `as_of` (not yet known,
    too old, too short) raises MarketDataError, and the gate's check fails.
    """

    def vix(self, as_of: datetime) -> Decimal | None:
        """The last VIX close known at `as_of` (a day's value is known at that day's close)."""
        ...

    def index_bars(self, as_of: datetime, count: int) -> Bars | None:
        """Completed bars of the index, oldest first."""
        ...

    def relative_index_volume(self, as_of: datetime) -> float | None:
        """Index volume of the session so far / its 20-session mean up to the same minute; daily: last bar / mean."""
        ...


class Sessions(Protocol):
    """The exchange's calendar (XNYS): holidays, half days and daylight saving included."""

    def phase(self, at: datetime) -> Phase:
        """Regular [open, close); pre-market 04:00 New York to open and after-hours close to 20:00 on session days."""
        ...

    def session_of(self, at: datetime) -> Session:
        """The trading day `at` belongs to: the first session whose close is later than `at`."""
        ...

    def next_open(self, at: datetime) -> datetime:
        """The first session open later than or equal to `at`."""
        ...

    def session(self, day: date) -> Session | None:
        """The session of that date, None when the exchange is closed that day."""
        ...

    def session_seconds(self, start: datetime, end: datetime) -> float:
        """Seconds of regular session time between two instants; 0 when `end <= start`."""
        ...

    def sessions_between(self, start: datetime, end: datetime) -> int:
        """How many sessions have `start < close <= end`."""
        ...


# ---- control -----------------------------------------------------------------------------------------


class Control(Protocol):
    """The fleet-wide trading state and deny-lists. Asking may fail: callers then refuse."""

    def trading_state(self) -> TradingState:
        """HALTED when the key is missing. Raises TransientError when it cannot be asked."""
        ...

    def denied(self, symbol: str, authors: frozenset[str]) -> str | None:
        """The entry of a deny-list that forbids this trade ("symbol:TSLA", "author:x"), or None.

        Raises TransientError when it cannot be asked.
        """
        ...

    def reduce(self, by: str, reason: str, at: datetime) -> None:
        """ACTIVE -> REDUCING in one step; any other state stays as it is. Raises TransientError."""
        ...


# ---- money -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BookSnapshot:
    """Our own book at one moment, in dollars. The risk manager computes amounts and ceilings from it.

    `equity` = cash + positions at their marks. `marks`: last price per held symbol.
    `reserved`: symbol -> notional of open reservations; `held`: symbols with held orders.
    `realised_session` and `realised_week`: realised profit (negative: loss) so far, fees included.
    `worst_session` and `worst_week`: the lowest value `realised_*` ever had there: a loss limit, once reached,
    stays; the week's is counted from the last `forgive_week`.
    `start_equity_session` and `start_equity_week`: equity when the session / week was first seen.
    `last_losing_trade`: when the last losing trade closed, None when the last trade did not lose.
    """

    equity: Decimal
    cash: Decimal
    positions: dict[str, Position] = field(default_factory=dict)
    marks: dict[str, Decimal] = field(default_factory=dict)
    reserved: dict[str, Decimal] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    realised_session: Decimal = Decimal(0)
    realised_week: Decimal = Decimal(0)
    worst_session: Decimal = Decimal(0)
    worst_week: Decimal = Decimal(0)
    start_equity_session: Decimal = Decimal(0)
    start_equity_week: Decimal = Decimal(0)
    last_losing_trade: datetime | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What the broker has at one moment.

    `marks`: dollars per share of each position. `fills`: all that made it and may be told again, each with its
    decision: they are booked with it, and never once more.
    """

    cash: Decimal
    positions: dict[str, Position]
    marks: dict[str, Decimal]
    fills: tuple[tuple[str, Fill], ...] = ()

    @property
    def value(self) -> Decimal:
        """Cash and what the positions cost; its change is the realised result, but for money that came or went."""
        return self.cash + sum((position.cost for position in self.positions.values()), Decimal(0))


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """Amounts and ceilings, computed by the risk manager; the ledger only tests counters and reserves or refuses.

    Dollars are exact. The ceilings of positions, exposure and rates are totals that may be reached, not passed;
    a loss ceiling refuses when it is reached. Rates count every entry later than `as_of - window` and at most two hours
    after `as_of`: also those of decisions with a later `as_of` that were faster, or made before the clock was set back.
    The one after a loss counts while the last trade that closed lost. `expected_position`: signed quantity the sizing
    assumed (0 = flat); the ledger refuses when its own differs. `reduce_only` requests skip position, exposure, rate
    and loss rules. `price` (dollars per share) and `sizing` are kept for the trace. `execution`: the run that asks
    (None: nobody else runs the decision).
    """

    decision_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    notional: Decimal
    as_of: datetime
    session: date
    week: tuple[int, int]
    expected_position: int
    max_open_positions: int
    max_gross_exposure: Decimal
    max_session_loss: Decimal
    max_week_loss: Decimal
    same_side_window_s: int
    max_per_symbol_per_minute: int
    max_per_minute: int
    max_entries_per_hour_after_loss: int
    reduce_only: bool = False
    sizing: dict[str, str] = field(default_factory=dict)
    execution: int | None = None


class Ledger(Protocol):
    """Our own book: account, positions, realised results per session, reservations, held signals. All atomic."""

    def snapshot(self, session: Session) -> BookSnapshot:
        """The book now; opens the session and its week (start equity) when first seen.

        Raises AccountUnknownError while there is no account.
        """
        ...

    def reserve(self, request: ReservationRequest) -> Reservation | Refusal:
        """Test every counter and set the risk aside, or refuse and change nothing.

        Idempotent by decision id: the reservation that is already there is answered, whatever is asked now.
        The first refusing rule wins, in this order: position_changed, session_loss, week_loss, open_positions,
        gross_exposure, same_side_window, symbol_rate, fleet_rate, entries_after_loss.
        Raises SymbolBusyError when another decision holds the symbol, TakenOverError when a newer execution runs
        this one, UnreconciledError for an entry while the broker's book is unknown (only where the ledger asks).
        """
        ...

    def restore(self, reservation: Reservation, as_of: datetime) -> None:
        """Set aside the risk of an order that works at the venue and was forgotten here, untested. Idempotent."""
        ...

    def shrink(self, decision_id: str, quantity: int, notional: Decimal) -> None:
        """Lower what a reservation counts for (gate factor); `reserve` still answers the first amounts.

        Raises ValueError for a growth or an unknown decision.
        """
        ...

    def release(self, decision_id: str, *, unused: bool = False, execution: int | None = None) -> bool:
        """Give the risk back; `unused`: no order came of it, so the rates forget it too. Idempotent.

        False, and nothing changed, when `execution` is not the decision's newest, or when `unused` risk is asked
        back of which an order was sent.
        """
        ...

    def hold(self, signal: Signal, until: datetime, execution: int | None = None) -> None:
        """Turn a reservation into a held signal for the open at `until`: it keeps its position slot.

        Idempotent. The rates forget it: it is no order yet. Raises TakenOverError for an older execution.
        """
        ...

    def reservations(self) -> dict[str, datetime]:
        """Open reservations: decision id -> the `as_of` it was made for."""
        ...

    def open(self, statement: Statement) -> bool:
        """Begin the book with what the broker has; False, and nothing changed, when there is an account."""
        ...

    def adopt(self, statement: Statement, session: Session, cash_flow: Decimal = Decimal(0)) -> Decimal:
        """Replace cash, positions and marks by the broker's: a person accepted them. Dollars it changed the book by.

        That is the change of cash and of the positions' cost, less `cash_flow` (deposit > 0, withdrawal < 0). A loss
        counts as realised in the session and its week; a gain does not, or it would make room for a loss.
        Raises AccountUnknownError while there is no account.
        """
        ...

    def held(self, until: datetime) -> tuple[Signal, ...]:
        """Held signals due at or before `until`, by (due, symbol, decision id)."""
        ...

    def forgive_week(self, session: Session) -> None:
        """Count the week's loss from here on: a person resumed after it (STAGES 6). Idempotent."""
        ...

    def unhold(self, decision_ids: Sequence[str]) -> None:
        """Forget held signals, all in one step. Idempotent."""
        ...

    def apply(self, decision_id: str, fill: Fill, session: Session) -> bool:
        """Book one fill (exact decimals): cash, position, realised result. False when it was booked before.

        Raises AccountUnknownError while there is no account.
        """
        ...

    def mark(self, prices: dict[str, Decimal]) -> None:
        """Value held symbols at these prices."""
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """Our will to trade, written before the broker hears of it. `state`: NEW, SENT, UNKNOWN or DONE.

    `booked`: how many fills of `report` are in the ledger. `entry_settled`: the entry's outcome is written.
    """

    client_order_id: str
    decision_id: str
    symbol: str
    state: str
    order: BracketOrder
    report: OrderReport | None = None
    booked: int = 0
    entry_settled: bool = False


ALREADY_SENT, ALREADY_ENDED, TAKEN_OVER = "already_sent", "already_ended", "taken_over"
UNRECONCILED = "unreconciled"


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a decision. `id` is larger than that of every earlier run, also of runs the server forgot.

    `sent`: the client order id an earlier run sent; then nothing is decided again, only looked up.
    """

    decision_id: str
    id: int
    sent: str | None = None


class Intents(Protocol):
    """The memory of what was asked of the broker. Writes are compare-and-set."""

    def begin(self, decision_id: str) -> Execution:
        """Start a run of the decision: every earlier run is taken over and can neither reserve, release nor send."""
        ...

    def create(self, order: BracketOrder, execution: int | None = None) -> Intent:
        """Write NEW, or answer the intent that is already there. Raises TakenOverError for an older execution."""
        ...

    def discard(self, decision_id: str, execution: int) -> None:
        """Forget a NEW intent of the decision; nothing for an older execution or when it was sent. Idempotent."""
        ...

    def adopt(self, order: BracketOrder, report: OrderReport, *, ours: bool) -> bool:
        """Take up an order of the venue that is not known here as sent, or ended here without a fill.

        False, and nothing changed, when more is known of it. Idempotent.

        `ours`: its decision sent it, and waits for its end; else no decision does.
        """
        ...

    def mark_sent(
        self,
        client_order_id: str,
        now: datetime,
        expires_at: datetime,
        *,
        under_halt: bool = False,
        execution: int | None = None,
    ) -> Refusal | None:
        """NEW -> SENT; None means SENT, and that the caller, nobody else, sends the request.

        Asked last, in the same step: the trading state (HALTED; REDUCING unless the order is reduce_only; neither
        when `under_halt`, which only `flatten` says), for entries whether the broker's book is known
        (`unreconciled`, where that is asked), the age (`now` later than `expires_at`: `max_age`), whether the decision
        has ended meanwhile (`already_ended`) and whether a newer execution runs it (`taken_over`).
        An intent that is not NEW is refused as `already_sent`. Any other refusal forgets the intent, except
        `taken_over`: it is the newer execution's.
        """
        ...

    def record(self, client_order_id: str, report: OrderReport | None) -> None:
        """Keep the broker's answer; None = no definite answer (UNKNOWN). An older answer never replaces a newer."""
        ...

    def booked(self, client_order_id: str, report: OrderReport) -> None:
        """Keep a report whose fills are all in the ledger. A closed one makes the intent DONE."""
        ...

    def acknowledge(self, client_order_ids: Sequence[str]) -> None:
        """The entries' outcomes are written. Idempotent."""
        ...

    def open(self) -> tuple[Intent, ...]:
        """Intents that were sent and are not yet both DONE and acknowledged, by client order id."""
        ...

    def get(self, client_order_id: str) -> Intent | None:
        """One intent."""
        ...


class Breaker(Protocol):
    """Stops entries, fleet-wide, while the venue fails; whatever shrinks exposure never asks it."""

    def permit(self) -> Refusal | None:
        """None when an entry may be sent. After the cool-down one at a time may, as a trial.

        Asked before anything is written or sent. Raises TransientError when it cannot be asked: nothing is sent then.
        """
        ...

    def failed(self) -> None:
        """A call to the venue had no definite answer."""
        ...

    def succeeded(self) -> None:
        """The venue gave a definite answer to an order: a trial that succeeds lets entries through again."""
        ...


class Broker(Protocol):
    """The venue. Only definite answers are returned; anything else raises BrokerError or TransientError."""

    def submit(self, order: BracketOrder) -> OrderReport:
        """Place the bracket. A repeated client order id answers the order that is already there."""
        ...

    def order(self, client_order_id: str) -> OrderReport | None:
        """What the venue knows of this id; None = it never heard of it."""
        ...

    def cancel(self, client_order_id: str, as_of: datetime) -> OrderReport | None:
        """Withdraw what has not filled. Exits of an open position are withdrawn too."""
        ...

    def orders(self, closed_since: datetime | None) -> tuple[ListedOrder, ...]:
        """Every order of the account of which something can still fill, whoever sent it, each once.

        With `closed_since` (the venue's clock) also those that ended at or after it, as far as the venue keeps them.
        """
        ...

    def positions(self) -> dict[str, Position]:
        """Holdings by symbol, without flat ones."""
        ...

    def account(self) -> Account:
        """Cash and equity."""
        ...

    def quote(self, symbol: str, as_of: datetime) -> Quote | None:
        """The venue's last price."""
        ...

    def clock(self, as_of: datetime) -> bool:
        """Whether the venue is open."""
        ...

    def updates(self, as_of: datetime, client_order_ids: Sequence[str]) -> tuple[OrderReport, ...]:
        """Reports of these orders as of then. The paper venue lives through every bar up to `as_of` first."""
        ...

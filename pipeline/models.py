"""The nouns of the trade: messages, votes, signals, bars, orders, fills, positions and outcomes."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Frozen(BaseModel):
    """Base of everything that crosses a wire or holds settings: immutable, no unknown fields, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


# ---- words -------------------------------------------------------------------------------------------


class Label(StrEnum):
    """What a post says about the market."""

    BULLISH = "bullish"
    BEARISH = "bearish"
    NEUTRAL = "neutral"


class Direction(StrEnum):
    """Which way a signal wants to be exposed."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> Literal[1, -1]:
        """+1 for long, -1 for short."""
        return 1 if self is Direction.LONG else -1

    @property
    def opposite(self) -> "Direction":
        """The mirror image."""
        return Direction.SHORT if self is Direction.LONG else Direction.LONG


class Side(StrEnum):
    """What an order does."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> Literal[1, -1]:
        """+1 for buy, -1 for sell."""
        return 1 if self is Side.BUY else -1


class TradingState(StrEnum):
    """Fleet-wide permission to trade: all, only what shrinks exposure, or nothing but `flatten`."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class OrchestratorState(Enum):
    """Manual control of the whole fleet (seed)."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Stage(StrEnum):
    """Where on its way something happened to a signal."""

    COLLECTOR = "collector"
    ANALYZER = "analyzer"
    ROUTER = "router"
    CONSENSUS = "consensus"
    VALIDATOR = "validator"
    SCORER = "scorer"
    RISK = "risk"
    GATE = "gate"
    EXECUTOR = "executor"


class Outcome(StrEnum):
    """How a leg or a decision stands. Three are interim, the others are final and written once."""

    BUFFERED = "buffered"
    HELD = "held"
    SUBMITTED = "submitted"
    EXECUTED = "executed"
    UNFILLED = "unfilled"
    BROKER_REJECTED = "broker_rejected"
    VETOED = "vetoed"
    LOW_SCORE = "low_score"
    RISK_REJECTED = "risk_rejected"
    GATE_CLOSED = "gate_closed"
    NO_CONSENSUS = "no_consensus"
    NO_SYMBOL = "no_symbol"
    LIST_POST = "list_post"
    SPAM = "spam"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    ERROR = "error"


INTERIM = frozenset({Outcome.BUFFERED, Outcome.HELD, Outcome.SUBMITTED})
TERMINAL = frozenset(Outcome) - INTERIM


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected no: which stage, by which rule, what was observed and what the limit was.

    `observed` and `limit` are text ready for a person, with their unit ("0.84", "15.2 bars", "10000 USD").
    """

    stage: Stage
    rule: str
    observed: str = ""
    limit: str = ""


# ---- messages ----------------------------------------------------------------------------------------


class SocialMessage(Frozen):
    """One post as a source gave it. Times are aware UTC; `text` is cut at 16 KiB by the parser."""

    message_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,120}$")
    source: str = Field(pattern=r"^[a-z0-9_]{1,32}$")
    source_id: str
    created_at: AwareDatetime
    received_at: AwareDatetime
    author: str
    followers: int | None = None
    text: str


class Sentiment(Frozen):
    """An analyzer's reading: `score` in [-1, 1], `confidence` in [0, 1] the calibrated P(label is right)."""

    label: Label
    score: float = Field(ge=-1, le=1)
    confidence: float = Field(ge=0, le=1)
    model: str


class TickerReading(Frozen):
    """The symbols of one post.

    `symbols`: canonical, in the universe, no repeats: cashtags in order of appearance, then listings ("NASDAQ:
    AAPL", options); in a post without either, companies by name. `outside`: the same, not in the universe.
    `primary`: the first cashtag, else listing, in or out of the universe; else the only company named.
    `cashtags`: how many were counted. `named`: companies of the universe that a post with cashtags or listings
    names in words alone; they may vote, never trade at once.
    """

    symbols: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    primary: str | None = None
    cashtags: int = Field(default=0, ge=0)
    named: tuple[str, ...] = ()


class AnalyzedMessage(Frozen):
    """What the collector pushes: a post with its sentiment, its symbols and the traits routing asks for.

    `sentiment` is what the post says of its primary symbol (of all, without one); `by_symbol` holds other symbols of
    which it says something else. `fingerprint` identifies near-duplicates (same normalised text). `spam` names what
    makes the post spam, or is None.
    """

    v: Literal[1] = 1
    message: SocialMessage
    sentiment: Sentiment
    tickers: TickerReading
    fingerprint: str
    spam: str | None = None
    by_symbol: dict[str, Sentiment] = Field(default_factory=dict)

    def sentiment_of(self, symbol: str) -> Sentiment:
        """What the post says of one symbol."""
        return self.by_symbol.get(symbol, self.sentiment)

    @property
    def message_id(self) -> str:
        """The post's id."""
        return self.message.message_id


@dataclass(frozen=True, slots=True)
class Vote:
    """One leg waiting for consensus, compact: an element of the Redis list `fleet:batch:{SYMBOL}`.

    `at` is when the vote counts: the moment the post was known. Both times are aware UTC, `score` is in [-1, 1],
    `confidence` in [0, 1]: the message said so when it was read, and the list's reader asks again. `urgent` legs
    vote too, but their outcome is their own. `text` is the fingerprint, never the words.
    """

    id: str
    by: str
    label: Label
    score: float
    confidence: float
    created_at: datetime
    at: datetime
    text: str
    urgent: bool = False


@dataclass(frozen=True)
class AggregatedSentiment:
    """What a batch of votes says (seed). `strength` = votes of the leading label / all votes, neutral included.

    `label` is None when the lead is tied. `newest` is the latest vote's time.
    """

    bullish: int
    bearish: int
    neutral: int
    total: int
    label: Label | None
    strength: float
    mean_confidence: float
    message_ids: tuple[str, ...]
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Signal:
    """A wish to trade that enters the five stages. `score` in [-1, 1], its sign is the direction's.

    `decided_at` is the `as_of` of every stage. `created_at` is the oldest moment its age is counted from.
    `authors` and `fingerprints` made it and do not confirm it again. `expires_at`: after it the signal ends
    `expired`. `released`: it was held and is decided again at the open.
    """

    decision_id: str
    symbol: str
    direction: Direction
    score: float
    confidence: float
    created_at: datetime
    decided_at: datetime
    expires_at: datetime
    authors: frozenset[str]
    fingerprints: frozenset[str]
    message_ids: tuple[str, ...]
    kind: Literal["urgent", "batch"]
    released: bool = False

    @property
    def conviction(self) -> float:
        """|score| x confidence, in [0, 1]."""
        return abs(self.score) * self.confidence


# ---- market ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bars:
    """Completed bars of one symbol, oldest first, every array of shape (n_bars,).

    `start` and `end` are epoch seconds (UTC) of each bar's first and last moment; `interval` is the nominal
    bar length (one day for daily bars, whose `start`/`end` are the session's open and close).
    """

    symbol: str
    interval: timedelta
    start: IntArray
    end: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        """How many bars."""
        return int(self.end.size)

    def part(self, first: int, last: int) -> "Bars":
        """Bars `first` to `last - 1` as views; both are clipped to [0, n_bars]."""
        cut = slice(max(first, 0), max(last, 0))
        return Bars(
            symbol=self.symbol,
            interval=self.interval,
            start=self.start[cut],
            end=self.end[cut],
            open=self.open[cut],
            high=self.high[cut],
            low=self.low[cut],
            close=self.close[cut],
            volume=self.volume[cut],
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """The last known price and when it was true. `source` says what it is ("daily close", "bar close", "nbbo")."""

    symbol: str
    price: Decimal
    at: datetime
    source: str


class Phase(StrEnum):
    """The part of the exchange's day."""

    REGULAR = "regular"
    PRE_MARKET = "pre_market"
    AFTER_HOURS = "after_hours"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day of the exchange: `open` and `close` are aware UTC; `week` is (ISO year, ISO week)."""

    day: date
    open: datetime
    close: datetime

    @property
    def week(self) -> tuple[int, int]:
        """The trading week: ISO year and week of the session's date."""
        iso = self.day.isocalendar()
        return iso.year, iso.week


# ---- decisions ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Indicators:
    """Technical readings at the last completed bar. RSI, stochastic and ADX in [0, 100], ATR in dollars.

    `divergence`: LONG = bullish, SHORT = bearish, "both" when highs and lows each diverge, None = neither.
    """

    rsi: float
    macd: float
    macd_signal: float
    macd_histogram: float
    histogram_trend: Literal["rising", "falling", "flat"]
    stochastic_k: float
    stochastic_d: float
    adx: float
    atr: float
    divergence: Direction | Literal["both"] | None


class ValidationStatus(StrEnum):
    """What the technical validator said."""

    PASS = "pass"
    WARN = "warn"
    VETO = "veto"
    UNVALIDATED = "unvalidated"


@dataclass(frozen=True, slots=True)
class Validation:
    """The validator's answer. Every rule that fired is listed, vetoes first; UNVALIDATED carries the error's name."""

    status: ValidationStatus
    vetoes: tuple[Refusal, ...] = ()
    warnings: tuple[Refusal, ...] = ()
    indicators: Indicators | None = None
    error: str | None = None


class Tier(StrEnum):
    """How much of the risk budget a score earns."""

    STRONG = "strong"
    MODERATE = "moderate"
    WEAK = "weak"
    NO_TRADE = "no_trade"


@dataclass(frozen=True, slots=True)
class Levels:
    """Prices of a bracket, rounded to the tick. Distances in dollars per share, kept for re-anchoring on the fill."""

    reference: Decimal
    stop_distance: Decimal
    target_distance: Decimal
    stop: Decimal
    target: Decimal
    tick: Decimal


@dataclass(frozen=True, slots=True)
class TradeRecommendation:
    """A scored signal with every component that made the score, so that a trace can explain it."""

    signal: Signal
    score: float
    tier: Tier
    size_factor: float
    validation: Validation
    quote: Quote
    levels: Levels
    components: dict[str, float]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Risk that was set aside for one decision. `quantity` > 0 whole shares, `side` what the entry does.

    `reduce_only`: it closes a held position instead of opening one. `slippage` free: amounts are at the quote.
    """

    decision_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    notional: Decimal
    reduce_only: bool = False
    sizing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One check of the market gate, made or off. `passed` is None when the profile has no data for it."""

    name: str
    passed: bool | None
    observed: str
    limit: str


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether the market may be entered now, at which share of the size (0..1], and until when a hold would last."""

    open: bool
    factor: Decimal
    checks: tuple[GateCheck, ...]
    refusal: Refusal | None = None
    hold_until: datetime | None = None


# ---- orders ------------------------------------------------------------------------------------------


class OrderStatus(StrEnum):
    """An order as the broker tells it."""

    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    UNFILLED = "unfilled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class FillRole(StrEnum):
    """Which leg of a bracket filled."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    TIME_EXIT = "time_exit"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class BracketOrder:
    """One entry with its stop and its target, or (`reduce_only`) one closing order without them.

    The broker re-anchors stop and target on the fill by the distances. `max_gap`: a first price further than
    this fraction from `reference` is refused. `submitted_at` is the decision's `as_of`; the entry lives until
    `good_until` (the session's close). `max_hold_sessions`: sessions after which the position is closed.
    """

    client_order_id: str
    decision_id: str
    symbol: str
    side: Side
    quantity: int
    levels: Levels
    submitted_at: datetime
    good_until: datetime
    max_gap: Decimal
    max_hold_sessions: int
    reduce_only: bool = False


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution at the venue. `fee` and `price` in dollars (price per share), `quantity` > 0."""

    fill_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    fee: Decimal
    at: datetime
    role: FillRole


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the broker says of one bracket: the entry's status and every fill of any of its legs, oldest first."""

    client_order_id: str
    symbol: str
    status: OrderStatus
    filled_quantity: int = 0
    fills: tuple[Fill, ...] = ()
    stop: Decimal | None = None
    target: Decimal | None = None
    reason: str = ""
    closed: bool = False  # nothing of this bracket can fill any more


@dataclass(frozen=True, slots=True)
class ListedOrder:
    """An order as the venue lists it, whoever sent it. `order`: None where it is none of the brackets we speak of."""

    order: BracketOrder | None
    report: OrderReport

    @property
    def name(self) -> str:
        """The client order id."""
        return self.report.client_order_id


@dataclass(frozen=True, slots=True)
class Position:
    """A holding. `quantity` is signed (short is negative); `cost` is the signed dollar amount paid for it."""

    symbol: str
    quantity: int
    cost: Decimal
    opened_at: datetime

    @property
    def average_price(self) -> Decimal:
        """Dollars per share, always positive."""
        return abs(self.cost / self.quantity)


@dataclass(frozen=True, slots=True)
class Account:
    """Money at the broker: `cash` after fees, `equity` = cash + positions at the last known price, in dollars."""

    cash: Decimal
    equity: Decimal


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What the executor did. `status` ACCEPTED or better means the broker has the bracket; REJECTED it refused it.

    `unknown` = the broker gave no definite answer: the intent stays SENT/UNKNOWN and is settled by look-up.
    `refusal`: we ourselves refused in the last step, nothing was sent.
    """

    client_order_id: str
    symbol: str
    side: Side
    quantity: int
    report: OrderReport | None
    unknown: bool = False
    error: str | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class ProcessResult:
    """How one leg or decision ended (seed), with what a trace needs to explain it.

    `status` is one of `Outcome`'s values. `timestamp` is passed in, never taken from a clock.
    """

    status: str
    timestamp: datetime
    symbol: str | None = None
    recommendation: TradeRecommendation | None = None
    execution_result: ExecutionResult | None = None
    error: str | None = None
    decision_id: str | None = None
    refusal: Refusal | None = None
    validation: Validation | None = None
    aggregate: AggregatedSentiment | None = None
    reservation: Reservation | None = None
    gate: GateVerdict | None = None
    legs: tuple[str, ...] = ()  # a batch's: the legs whose end this is

    @property
    def outcome(self) -> Outcome:
        """The status as a word of DESIGN section 4."""
        return Outcome(self.status)

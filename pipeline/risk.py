"""Risk: how many shares a recommendation may buy or sell, and every reason why none. Source: STAGES 6."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Self

from pydantic import Field, model_validator

from pipeline.errors import AccountUnknownError, MarketDataError, TakenOverError, TransientError
from pipeline.models import (
    Direction,
    Frozen,
    Position,
    Quote,
    Refusal,
    Reservation,
    Session,
    Side,
    Signal,
    Stage,
    TradeRecommendation,
    TradingState,
    ValidationStatus,
)
from pipeline.ports import BookSnapshot, Control, Ledger, MarketData, ReservationRequest, Sessions


class RiskSettings(Frozen):
    """Every limit of the risk stage. Fractions are of equity (0.01 = 1 %) unless they say otherwise."""

    risk_per_trade: Decimal = Field(Decimal("0.0025"), gt=0, le=Decimal("0.05"), description="equity lost at the stop")
    max_order_usd: Decimal = Field(Decimal(10_000), gt=0, description="dollars in one order")
    max_position: Decimal = Field(Decimal("0.10"), gt=0, le=1, description="equity in one symbol")
    max_open_positions: int = Field(10, ge=1, le=1_000, description="symbols held, reserved or waiting for the open")
    max_gross_exposure: Decimal = Field(Decimal(1), gt=0, le=4, description="equity in all positions and reservations")
    same_side_window_s: int = Field(60, ge=1, le=86_400, description="seconds between entries of one symbol and side")
    max_per_symbol_per_minute: int = Field(3, ge=1, description="entries of one symbol in 60 s")
    max_per_minute: int = Field(60, ge=1, description="entries of the fleet in 60 s")
    max_session_loss: Decimal = Field(
        Decimal("0.01"), gt=0, le=1, description="realised loss / the session's starting equity that locks entries"
    )
    max_week_loss: Decimal = Field(
        Decimal("0.03"), gt=0, le=1, description="realised loss / the week's starting equity that sets REDUCING"
    )
    warn_drawdown: Decimal = Field(Decimal("0.03"), gt=0, le=1, description="unrealised loss / equity that warns")
    price_collar: Decimal = Field(Decimal("0.03"), gt=0, le=1, description="quote's distance from the reference price")
    max_quote_age_s: float | None = Field(5, gt=0, description="seconds a quote may be old; null: counted in sessions")
    max_quote_sessions: int | None = Field(
        None, ge=0, description="session closes a quote may have missed (daily and replay profiles); null: in seconds"
    )
    max_entries_per_hour_after_loss: int = Field(3, ge=1, description="entries in 3600 s while the last trade lost")
    unvalidated_factor: Decimal = Field(Decimal("0.5"), gt=0, le=1, description="size when the validator failed")

    @model_validator(mode="after")
    def _one_unit_of_age(self) -> Self:
        """A quote's age is limited in exactly one unit: a limit that is off by accident would be no limit."""
        if (self.max_quote_age_s is None) == (self.max_quote_sessions is None):
            raise ValueError("set exactly one of max_quote_age_s and max_quote_sessions, and the other to null")
        return self


@dataclass(frozen=True, slots=True)
class Sizing:
    """Shares and the numbers that made them. `binding` names the limit that was smallest."""

    quantity: int
    binding: str
    shares: dict[str, Decimal]
    factor: Decimal


@dataclass(frozen=True, slots=True)
class Case:
    """Everything one check looks at: the recommendation, the price now, our book, and the moment."""

    recommendation: TradeRecommendation
    quote: Quote
    book: BookSnapshot
    session: Session
    as_of: datetime
    execution: int | None

    @property
    def position(self) -> Position | None:
        """What is held of the symbol."""
        return self.book.positions.get(self.recommendation.signal.symbol)


class RiskManager:
    """Asks every fact, sizes the order and sets the risk aside in one atomic step of the ledger."""

    def __init__(
        self, ledger: Ledger, sessions: Sessions, market: MarketData, control: Control, settings: RiskSettings
    ) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._market = market
        self._control = control
        self._settings = settings

    def check(
        self, recommendation: TradeRecommendation, as_of: datetime, execution: int | None = None
    ) -> Reservation | Refusal:
        """The risk that was set aside for this decision, or the first rule that refused it.

        Idempotent by decision id. Raises SymbolBusyError when another decision holds the symbol, TakenOverError when
        a newer execution runs this one, TransientError when control or ledger cannot be asked: nothing is set aside.
        """
        state = self._permission(recommendation)
        if isinstance(state, Refusal):
            return state
        quote = self._fresh_quote(recommendation.signal.symbol, as_of)
        if isinstance(quote, Refusal):
            return quote
        if (refusal := self._inputs(recommendation, quote)) is not None:
            return refusal
        session = self._sessions.session_of(as_of)
        try:
            case = Case(recommendation, quote, self._ledger.snapshot(session), session, as_of, execution)
            request = self._request(case)
        except AccountUnknownError:
            request = _refuse("account_unknown", "no account", "a first reconciliation with the venue")
        if isinstance(request, Refusal):
            return request
        if state is TradingState.REDUCING and not request.reduce_only:
            return _refuse("trading_state", state, TradingState.ACTIVE)
        return self._ledger.reserve(request)

    def release(self, decision_id: str, execution: int | None = None) -> None:
        """Give back the risk of a decision of which no order came. Idempotent. Raises TakenOverError."""
        if not self._ledger.release(decision_id, unused=True, execution=execution):
            raise TakenOverError(f"decision {decision_id}: a newer execution or a sent order needs its reservation")

    def hold(self, signal: Signal, until: datetime, execution: int | None = None) -> None:
        """Keep the slot for a signal that waits for the open at `until`. Idempotent. Raises TakenOverError."""
        self._ledger.hold(signal, until, execution)

    def review(self, session: Session, at: datetime) -> tuple[Refusal, ...]:
        """What the book's results call for after fills: a lost week sets REDUCING; all that is said is returned.

        Rules: `week_loss` (acts) and `unrealised_drawdown` (warns only).
        """
        book = self._ledger.snapshot(session)
        lost, drawdown = self._week_lost(book), self._drawdown(book)
        if lost is not None:
            self._control.reduce("risk", f"week loss {lost.observed}, limit {lost.limit}", at)
        return tuple(one for one in (lost, drawdown) if one is not None)

    def drawdown(self, session: Session) -> Refusal | None:
        """The warning `unrealised_drawdown` while what is held has lost that much, else None."""
        return self._drawdown(self._ledger.snapshot(session))

    def _drawdown(self, book: BookSnapshot) -> Refusal | None:
        unrealised = sum((p.quantity * book.marks[s] - p.cost for s, p in book.positions.items()), Decimal(0))
        ceiling = book.equity * self._settings.warn_drawdown
        if -unrealised < ceiling:
            return None
        return _refuse("unrealised_drawdown", f"{-unrealised:.2f} USD", f"{ceiling:.2f} USD")

    def _week_lost(self, book: BookSnapshot) -> Refusal | None:
        ceiling = book.start_equity_week * self._settings.max_week_loss
        if -book.worst_week < ceiling:
            return None
        return _refuse("week_loss", f"{-book.worst_week:.2f} USD", f"{ceiling:.2f} USD")

    # ---- permission --------------------------------------------------------------------------------------

    def _permission(self, recommendation: TradeRecommendation) -> TradingState | Refusal:
        """The trading state, or why nobody may trade this now. Raises TransientError: unknown is no permission."""
        signal = recommendation.signal
        state = self._control.trading_state()
        denied = self._control.denied(signal.symbol, signal.authors)
        if state is TradingState.HALTED:
            return _refuse("trading_state", state, TradingState.ACTIVE)
        return _refuse("denied", denied, "not on a deny-list") if denied is not None else state

    # ---- prices ------------------------------------------------------------------------------------------

    def _fresh_quote(self, symbol: str, as_of: datetime) -> Quote | Refusal:
        """The market's price now, or why it cannot be used."""
        try:
            quote = self._market.quote(symbol, as_of)
        except (MarketDataError, TransientError):
            return _refuse("no_quote", "market data failed", "a quote")
        if quote is None:
            return _refuse("no_quote", "none", "a quote")
        if not quote.price.is_finite() or quote.price <= 0:
            return _refuse("bad_quote", f"{quote.price} USD", "> 0 USD")
        return self._too_old(quote, as_of) or quote

    def _too_old(self, quote: Quote, as_of: datetime) -> Refusal | None:
        age = (as_of - quote.at).total_seconds()
        if age < 0:
            return _refuse("quote_age", f"{age:g} s", ">= 0 s")
        if self._settings.max_quote_age_s is not None:
            limit = self._settings.max_quote_age_s
            return _refuse("quote_age", f"{age:g} s", f"{limit:g} s") if age > limit else None
        missed = self._sessions.sessions_between(quote.at, as_of)
        allowed = self._settings.max_quote_sessions
        if allowed is None or missed > allowed:
            return _refuse("quote_age", f"{missed} sessions", f"{allowed} sessions")
        return None

    def _inputs(self, recommendation: TradeRecommendation, quote: Quote) -> Refusal | None:
        """What is missing or impossible in the recommendation, and the price collar."""
        levels = recommendation.levels
        numbers = {
            "reference": levels.reference,
            "stop_distance": levels.stop_distance,
            "target_distance": levels.target_distance,
            "size_factor": Decimal(str(recommendation.size_factor)),
        }
        for name, value in numbers.items():
            if not value.is_finite() or value <= 0:
                return _refuse("missing_input", f"{name} {value}", "> 0")
        deviation = abs(quote.price / levels.reference - 1)
        if deviation > self._settings.price_collar:
            return _refuse("price_collar", f"{deviation:.4f}", f"{self._settings.price_collar}")
        return None

    # ---- amounts -----------------------------------------------------------------------------------------

    def _request(self, case: Case) -> ReservationRequest | Refusal:
        """What to ask of the ledger: a new position, or the whole close of an opposite one."""
        position = case.position
        if position is not None and position.quantity * case.recommendation.signal.direction.sign > 0:
            return _refuse("position_held", f"{position.quantity} shares", "no adding")
        if position is not None:
            return self._asked(case, _closing(position))
        if case.book.equity <= 0:
            return _refuse("equity", f"{case.book.equity:.2f} USD", "> 0 USD")
        sizing = self.size(case.recommendation, case.quote.price, case.book)
        if sizing.quantity == 0:
            wanted = sizing.shares[sizing.binding] * sizing.factor
            return _refuse(sizing.binding, f"{wanted:.4f} shares", ">= 1 share")
        return self._asked(case, sizing)

    def size(self, recommendation: TradeRecommendation, price: Decimal, book: BookSnapshot) -> Sizing:
        """floor(min(risk budget / stop distance, remaining caps / price) x tier x (half if unvalidated))."""
        limits = self._settings
        used = sum((abs(p.quantity) * book.marks[s] for s, p in book.positions.items()), Decimal(0))
        others = {s: notional for s, notional in book.reserved.items() if s != recommendation.signal.symbol}
        used += sum(others.values(), Decimal(0))
        shares = {
            "risk_budget": book.equity * limits.risk_per_trade / recommendation.levels.stop_distance,
            "max_order": limits.max_order_usd / price,
            "max_position": book.equity * limits.max_position / price,
            "gross_exposure": max(book.equity * limits.max_gross_exposure - used, Decimal(0)) / price,
        }
        binding = min(shares, key=lambda name: shares[name])
        factor = Decimal(str(recommendation.size_factor))
        if recommendation.validation.status is ValidationStatus.UNVALIDATED:
            factor *= limits.unvalidated_factor
        quantity = int((shares[binding] * factor).to_integral_value(ROUND_FLOOR))
        return Sizing(quantity, binding, shares, factor)

    def _asked(self, case: Case, sizing: Sizing) -> ReservationRequest:
        """The request with this profile's ceilings in dollars."""
        limits, signal, book = self._settings, case.recommendation.signal, case.book
        return ReservationRequest(
            decision_id=signal.decision_id,
            symbol=signal.symbol,
            side=Side.BUY if signal.direction is Direction.LONG else Side.SELL,
            quantity=sizing.quantity,
            price=case.quote.price,
            notional=sizing.quantity * case.quote.price,
            as_of=case.as_of,
            session=case.session.day,
            week=case.session.week,
            expected_position=case.position.quantity if case.position is not None else 0,
            max_open_positions=limits.max_open_positions,
            max_gross_exposure=book.equity * limits.max_gross_exposure,
            max_session_loss=book.start_equity_session * limits.max_session_loss,
            max_week_loss=book.start_equity_week * limits.max_week_loss,
            same_side_window_s=limits.same_side_window_s,
            max_per_symbol_per_minute=limits.max_per_symbol_per_minute,
            max_per_minute=limits.max_per_minute,
            max_entries_per_hour_after_loss=limits.max_entries_per_hour_after_loss,
            reduce_only=case.position is not None,
            sizing=_explained(sizing, case.quote, book),
            execution=case.execution,
        )


def _closing(position: Position) -> Sizing:
    """The whole position, whatever the budget: closing it can only lower the risk."""
    return Sizing(abs(position.quantity), "close", {"close": Decimal(abs(position.quantity))}, Decimal(1))


def _explained(sizing: Sizing, quote: Quote, book: BookSnapshot) -> dict[str, str]:
    """Every number of the sizing as text, for the trace."""
    words = {f"shares_{name}": f"{value:.4f}" for name, value in sizing.shares.items()}
    return words | {
        "equity": f"{book.equity:.2f}",
        "price": f"{quote.price}",
        "quote_at": quote.at.isoformat(),
        "quote_source": quote.source,
        "binding": sizing.binding,
        "factor": f"{sizing.factor}",
    }


def _refuse(rule: str, observed: str, limit: str) -> Refusal:
    return Refusal(Stage.RISK, rule, str(observed), str(limit))

"""Where a bracket's stop and target lie: distances from volatility, prices on the exchange's tick."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Self

from pydantic import Field, model_validator

from pipeline.errors import MarketDataError
from pipeline.models import Direction, Frozen, Levels

ONE_DOLLAR = Decimal(1)


class LevelSettings(Frozen):
    """Distances of stop and target. Fractions are of the price, ticks in dollars."""

    atr_period: int = Field(default=14, ge=1, le=200, description="daily bars of the ATR the stop is measured in")
    atr_bars: int = Field(default=150, ge=2, le=5_000, description="daily bars read for that ATR")
    stop_atr: Decimal = Field(default=Decimal("1.5"), gt=0, le=20, description="stop distance in daily ATRs")
    stop_min: Decimal = Field(default=Decimal("0.005"), gt=0, lt=1, description="smallest stop distance, of the price")
    stop_max: Decimal = Field(default=Decimal("0.05"), gt=0, lt=1, description="largest stop distance, of the price")
    stop_default: Decimal = Field(
        default=Decimal("0.02"), gt=0, lt=1, description="stop distance without a daily ATR, of the price"
    )
    target: Decimal = Field(default=Decimal(2), gt=0, le=20, description="target distance in stop distances")
    tick: Decimal = Field(
        default=Decimal("0.01"), gt=0, le=1, description="smallest price step from one dollar on (SEC rule 612)"
    )
    tick_below_one_dollar: Decimal = Field(
        default=Decimal("0.0001"), gt=0, le=1, description="smallest price step below one dollar (SEC rule 612)"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.stop_min <= self.stop_default <= self.stop_max:
            raise ValueError(
                f"stop_default is {self.stop_default}, it must lie from stop_min ({self.stop_min}) "
                f"to stop_max ({self.stop_max})"
            )
        if self.atr_bars <= self.atr_period:
            raise ValueError(f"atr_bars is {self.atr_bars}, it must be above atr_period ({self.atr_period})")
        return self

    def tick_at(self, price: Decimal) -> Decimal:
        """The price step at `price`."""
        return self.tick if price >= ONE_DOLLAR else self.tick_below_one_dollar


DEFAULTS = LevelSettings()


def round_to_tick(price: Decimal, settings: LevelSettings = DEFAULTS) -> Decimal:
    """The nearest price the exchange takes (half to even); the step is that of `price` itself."""
    return _on_grid(price, settings.tick_at(price))


def levels(
    symbol: str, direction: Direction, price: Decimal, atr: float | None, settings: LevelSettings = DEFAULTS
) -> Levels:
    """Stop and target around `price` (dollars), mirrored for a short; `atr` is daily, in dollars, None if unknown.

    Distances are whole ticks, at least one. Raises MarketDataError when `price` leaves no room above zero.
    """
    tick = settings.tick_at(price)
    reference = _on_grid(price, tick)
    stop_distance = max(_on_grid(stop_distance_of(price, atr, settings), tick), tick)
    target_distance = max(_on_grid(stop_distance * settings.target, tick), tick)
    if reference <= max(stop_distance, target_distance):
        raise MarketDataError(
            f"{symbol}: a price of {price} has no room for levels at {stop_distance} and {target_distance} dollars; "
            f"it must be above {max(stop_distance, target_distance)}"
        )
    stop = reference - direction.sign * stop_distance
    target = reference + direction.sign * target_distance
    return Levels(
        reference=reference,
        stop_distance=stop_distance,
        target_distance=target_distance,
        stop=round_to_tick(stop, settings),
        target=round_to_tick(target, settings),
        tick=tick,
    )


def stop_distance_of(price: Decimal, atr: float | None, settings: LevelSettings = DEFAULTS) -> Decimal:
    """The stop's distance in dollars before rounding: ATRs clamped to fractions of the price."""
    if atr is None:
        return price * settings.stop_default
    wanted = Decimal(str(atr)) * settings.stop_atr
    return min(max(wanted, price * settings.stop_min), price * settings.stop_max)


def _on_grid(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value(ROUND_HALF_EVEN) * tick

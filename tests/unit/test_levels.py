"""Levels of a bracket: stop and target by daily ATR, clamped, on the tick, mirrored (STAGES 5)."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from pipeline.errors import MarketDataError
from pipeline.levels import LevelSettings, levels, round_to_tick
from pipeline.models import Direction, Levels

LONG, SHORT = Direction.LONG, Direction.SHORT


def around(price: str, atr: float | None, direction: Direction = LONG) -> Levels:
    """The levels of a price with default settings."""
    return levels("AAPL", direction, Decimal(price), atr)


@pytest.mark.parametrize(
    ("price", "atr", "stop_distance"),
    [
        ("100", 2.0, "3.00"),  # 1.5 x 2
        ("100", 0.2, "0.50"),  # 0.30 is below 0.5 % of 100
        ("100", 0.34, "0.51"),  # 1.5 x 0.34 just above it
        ("100", 5.0, "5.00"),  # 7.50 is above 5 % of 100
        ("100", 3.32, "4.98"),  # 1.5 x 3.32 just below it
        ("100", None, "2.00"),  # 2 % without an ATR
        ("50", None, "1.00"),
        ("33.33", None, "0.67"),  # 0.6666 on the cent
        ("0.50", None, "0.0100"),  # 2 % of fifty cents
        ("0.50", 0.01, "0.0150"),
    ],
)
def test_the_stop_lies_one_and_a_half_daily_atrs_away_within_half_to_five_percent(
    price: str, atr: float | None, stop_distance: str
) -> None:
    """Clamped to fractions of the price; 2 % where there is no ATR."""
    assert around(price, atr).stop_distance == Decimal(stop_distance)


def test_the_target_lies_twice_as_far_as_the_stop() -> None:
    """Long: 100 - 3 and 100 + 6."""
    assert around("100", 2.0) == Levels(
        reference=Decimal(100),
        stop_distance=Decimal(3),
        target_distance=Decimal(6),
        stop=Decimal(97),
        target=Decimal(106),
        tick=Decimal("0.01"),
    )


def test_a_short_is_mirrored() -> None:
    """Short: 100 + 3 and 100 - 6."""
    short = around("100", 2.0, SHORT)

    assert (short.stop, short.target) == (Decimal(103), Decimal(94))


def test_prices_are_rounded_to_the_cent_half_to_even() -> None:
    """110.379997 is quoted by a vendor, 110.38 is a price."""
    level = around("110.379997", 1.0)

    assert level.reference == Decimal("110.38")
    assert level.stop == Decimal("108.88")
    assert round_to_tick(Decimal("10.005")) == Decimal("10.00")
    assert round_to_tick(Decimal("10.015")) == Decimal("10.02")


@pytest.mark.parametrize(
    ("price", "tick", "reference"),
    [
        ("1.004", "0.01", "1.00"),
        ("1", "0.01", "1.00"),
        ("0.99995", "0.0001", "1.0000"),
        ("0.99994", "0.0001", "0.9999"),
        ("0.12345", "0.0001", "0.1234"),
    ],
)
def test_below_one_dollar_the_tick_is_a_hundredth_of_a_cent(price: str, tick: str, reference: str) -> None:
    """SEC rule 612: 0.01 from one dollar on, 0.0001 below."""
    level = around(price, None)

    assert level.tick == Decimal(tick)
    assert level.reference == Decimal(reference)


def test_a_level_that_crosses_one_dollar_has_the_tick_of_its_own_price() -> None:
    """Short at 0.9955 with 2 %: stop 0.9955 + 0.0199 = 1.0154, which no venue takes; 1.02 it does."""
    level = around("0.9955", None, SHORT)

    assert level.stop_distance == Decimal("0.0199")
    assert level.stop == Decimal("1.02")
    assert level.target == Decimal("0.9557")  # 0.9955 - 0.0398


def test_a_distance_is_at_least_one_tick() -> None:
    """0.5 % of 1.20 is 0.006, which rounds to 0.01; of a tenth of a cent nothing would be left."""
    assert around("1.00", 0.0001).stop_distance == Decimal("0.01")
    assert around("0.0050", 0.00001).stop_distance == Decimal("0.0001")


@pytest.mark.parametrize("price", ["0.0001", "0.0002"])
def test_a_price_without_room_for_levels_is_refused(price: str) -> None:
    """One tick of stop and two of target need more than two ticks."""
    with pytest.raises(MarketDataError, match=f"AAPL: a price of {price}"):
        around(price, None)
    assert around("0.0003", None, SHORT).target == Decimal("0.0001")


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"stop_min": "0.03"}, "stop_default"), ({"stop_max": "0.01"}, "stop_default"), ({"atr_bars": 14}, "atr_bars")],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], word: str) -> None:
    """Named field, value and range."""
    with pytest.raises(ValidationError, match=word):
        LevelSettings.model_validate(changes)

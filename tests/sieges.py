"""Sieges: what eight workers try at once against one limit, and how much of it must be granted in all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.models import Side
from tests.money import NOW, D, a_request, at

HOT, COLD = "HOT", tuple(f"C{n:02}" for n in range(40))
ALL = (HOT, *COLD)
TUESDAY, NEXT_WEEK = at("15:00", 3), at("15:00", 9)
FAR: Final = 100_000


@dataclass(frozen=True, slots=True)
class Round:
    """What every worker tries, what becomes of what it is granted, and how much must be granted in all."""

    fate: str  # kept, used, lost (10 %), bought, closed, or whole: by the risk stage itself, then kept
    granted: int
    symbols: tuple[str, ...] = ALL
    sides: tuple[Side, ...] = (Side.BUY,)
    after: timedelta = timedelta()
    day: datetime = NOW
    tries: int = 1  # of each symbol and side, by each worker


@dataclass(frozen=True, slots=True)
class Siege:
    """One limit under fire: the rules that may refuse, and the most that may ever be in the book."""

    name: str
    rules: frozenset[str]
    rounds: tuple[Round, ...]
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def most(self) -> tuple[int, int]:
        """Symbols and micro-dollars at most."""
        request = a_request(**self.limits)
        return request.max_open_positions, int(request.max_gross_exposure * 1_000_000)


def siege(name: str, rules: str, rounds: Iterable[Round], **limits: Any) -> Siege:
    """A siege against the default limits but for those named."""
    return Siege(name, frozenset(rules.split()), tuple(rounds), limits)


def pairs(granted: int, symbols: int = len(ALL), seconds: float = 0) -> Round:
    """Both sides of the first symbols, each given back as used."""
    both = (Side.BUY, Side.SELL)
    return Round("used", granted, ALL[:symbols], both, timedelta(seconds=seconds))


def hot(granted: int, seconds: float) -> Round:
    """One try of the hot symbol by each worker."""
    return Round("used", granted, (HOT,), after=timedelta(seconds=seconds))


def losses(granted: int, day: datetime = NOW, symbols: tuple[str, ...] = (HOT,)) -> Round:
    """Round trips that lose 100 dollars each; of the hot symbol alone each worker wants twelve."""
    return Round("lost", granted, symbols, day=day, tries=12 if symbols == (HOT,) else 1)


# No rule of time and none of rates speaks; windows of no length see nobody at the same moment.
RATES: dict[str, Any] = {
    "same_side_window_s": 0,
    "max_per_symbol_per_minute": FAR,
    "max_per_minute": FAR,
    "max_entries_per_hour_after_loss": FAR,
}
SIEGES = (
    # Under, at and over ten symbols, the demand being 9, 10 and 41.
    *(siege(f"open-{n}", "open_positions", [Round("kept", min(n, 10), ALL[:n])]) for n in (9, 10, 41)),
    # Orders of 1,000 dollars against 10,000: under, at, over; and a millionth of a dollar short of the tenth.
    *(
        siege(
            f"gross-{n}-{limit}",
            "gross_exposure",
            [Round("kept", min(n, int(limit) // 1000), ALL[:n])],
            max_gross_exposure=limit,
            max_open_positions=FAR,
        )
        for n, limit in ((9, D(10_000)), (10, D(10_000)), (41, D(10_000)), (41, D("9999.999999")))
    ),
    # 60 a minute: 58 and 60 wanted, then 82; nothing until the minute is over to the millisecond.
    siege("fleet-under", "fleet_rate same_side_window", [pairs(58, 29)]),
    siege("fleet-at", "fleet_rate same_side_window", [pairs(60, 30)]),
    siege("fleet", "fleet_rate same_side_window", [pairs(n, seconds=s) for n, s in ((60, 0), (0, 59.999), (60, 60))]),
    # 3 a minute for the hot symbol: the fourth must wait until the first is a minute old.
    siege(
        "symbol",
        "symbol_rate same_side_window",
        [hot(n, s) for s, n in ((0, 1), (2, 1), (4, 1), (6, 0), (59.999, 0), (60, 1), (61.999, 0), (62, 1))],
        same_side_window_s=1,
    ),
    # The same side once a minute, for each symbol.
    siege(
        "side",
        "same_side_window",
        [Round("used", n, after=timedelta(seconds=s)) for n, s in ((41, 0), (0, 59.999), (41, 60))],
    ),
    # A lost session ends all entries until the next one, a lost week until the next week.
    *(
        siege(
            f"session-{limit}",
            "session_loss",
            [losses(trips), losses(0, symbols=COLD), losses(trips, TUESDAY), losses(0, TUESDAY, COLD)],
            max_session_loss=limit,
            **RATES,
        )
        for limit, trips in ((D("1000.000001"), 11), (D(1_000), 10), (D("999.999999"), 10), (D(900), 9))
    ),
    *(
        siege(
            f"week-{limit}",
            "week_loss",
            [losses(trips), losses(0, TUESDAY, ALL), losses(trips, NEXT_WEEK), losses(0, NEXT_WEEK, COLD)],
            max_session_loss=D(FAR),
            max_week_loss=limit,
            **RATES,
        )
        for limit, trips in ((D("1000.000001"), 11), (D(1_000), 10))
    ),
    # Three entries an hour after a losing trade, of all symbols together.
    siege("sorry-under", "entries_after_loss same_side_window", [pairs(2, 1)]),
    siege(
        "sorry",
        "entries_after_loss same_side_window",
        [pairs(n, seconds=s) for n, s in ((3, 0), (0, 3599.999), (3, 3600))],
    ),
    # One decision at a time holds the symbol.
    siege("single", "", [Round("kept", 1, (HOT,), tries=20)]),
    # Minute by minute up to ten positions, and all of them closed again, each exactly once.
    siege(
        "minutes",
        "open_positions position_changed same_side_window",
        [
            Round(fate, 10, after=timedelta(seconds=60 * n), sides=(side,))
            for n in range(3)
            for fate, side in (("bought", Side.BUY), ("closed", Side.SELL))
        ],
    ),
    # The whole stage with its defaults: orders of 10 % of equity, ten symbols, 100 % in all, to the dollar.
    siege("stage", "open_positions gross_exposure", [Round("whole", 10)]),
)
SORRY = ("sorry-under", "sorry")

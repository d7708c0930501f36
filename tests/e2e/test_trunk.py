"""Posts become bracket orders, fills and exits: real analyzer, stages, book and paper venue over hand-made bars.

The chart is that of `tests.chart`: at 100 dollars the stop is 3.00 and the target 6.00 away. The risk budget of 250
dollars (0.25 % of 100,000) buys 250 / 3 = 83.33 shares; the moderate tier takes half of them: floor(41.67) = 41.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from config.settings import Settings, load_settings
from pipeline.errors import FleetError, MarketDataError
from pipeline.models import (
    BracketOrder,
    Direction,
    Fill,
    FillRole,
    Outcome,
    ProcessResult,
    Side,
    Signal,
    Tier,
    TradingState,
    Validation,
    ValidationStatus,
)
from pipeline.validator import TechnicalValidator, ValidatorSettings
from tests.chart import QUIET, a_chart, a_market, half_hour
from tests.market_builders import at, xnys
from tests.trunk import NOON, a_post, later
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData
from workers.endings import Release, release_held
from workers.memory import MemoryFleet

D = Decimal
TO_THE_TARGET = (100.0, 107.0, 99.5, 106.5)
TO_THE_STOP = (100.0, 100.5, 96.0, 97.0)
BULLISH = "$AAPL bullish chart here"


@cache
def replay() -> Settings:
    """The shipped replay profile."""
    return load_settings("replay", environ={})


def queueing() -> Settings:
    """The same with `gate_queue`."""
    return replay().model_copy(update={"gate": replay().gate.model_copy(update={"gate_queue": True})})


def a_fleet(market: MemoryMarketData | None = None, **parts: Any) -> MemoryFleet:
    """A started fleet that may trade AAPL, MSFT and TSLA."""
    data = market or a_market(a_chart())
    settings = parts.pop("settings", replay())
    fleet = MemoryFleet(data, xnys(), frozenset({"AAPL", "MSFT", "TSLA"}), settings, **parts)
    fleet.start(NOON)
    return fleet


def orders(fleet: MemoryFleet) -> list[BracketOrder]:
    """What the broker was sent, by name."""
    return [intent.order for intent in fleet.intents._intents.values() if intent.state != "NEW"]


def fills(fleet: MemoryFleet) -> list[Fill]:
    """What was booked, in order of time."""
    return sorted((row.fill for row in fleet.ledger._fills.values()), key=lambda fill: (fill.at, fill.fill_id))


def told(results: list[ProcessResult]) -> dict[str | None, str]:
    """The word each symbol's decision ended with."""
    return {result.symbol: result.status for result in results}


# ---- the seed's integration tests --------------------------------------------------------------------


def test_full_flow_message_to_execution() -> None:
    """Seed: message -> bracket order with stop and target -> fill -> exit.

    Decided at 12:00:05 at 100.00: stop 97.00, target 106.00. Filled at the close of the half hour it fell into:
    100 x 1.0005 = 100.05, stop 97.05, target 106.05. The next half hour reaches 107: sold at the target.
    41 x (106.05 - 100.05) = 246.00 dollars.
    """
    fleet = a_fleet(a_market(a_chart(after=[QUIET, TO_THE_TARGET])))
    result = fleet.post(a_post(text=BULLISH, at=later(5)))

    assert result.status == "submitted"
    assert result.recommendation is not None
    assert result.recommendation.tier is Tier.MODERATE
    (order,) = orders(fleet)
    assert (order.symbol, order.side, order.quantity, order.decision_id) == ("AAPL", Side.BUY, 41, "test-1:AAPL")
    assert (order.levels.reference, order.levels.stop, order.levels.target) == (D(100), D(97), D(106))

    assert fleet.settle(half_hour(1)) == 1
    assert fleet.settle(half_hour(1)) == 0  # told once
    assert fleet.journal.outcome("test-1:AAPL") is Outcome.EXECUTED
    report = fleet.broker.order(order.client_order_id)
    assert report is not None
    assert (report.stop, report.target) == (D("97.05"), D("106.05"))
    assert fleet.broker.positions()["AAPL"].quantity == 41

    fleet.settle(half_hour(2))
    entry, exit_ = fills(fleet)
    assert (entry.role, entry.price, entry.at) == (FillRole.ENTRY, D("100.0500"), half_hour(1))
    assert (exit_.role, exit_.side, exit_.price, exit_.quantity) == (FillRole.TARGET, Side.SELL, D("106.05"), 41)
    assert fleet.broker.positions() == {}
    assert fleet.broker.account().equity == D("100246.00")
    assert fleet.ledger.snapshot(xnys().session_of(NOON)).realised_session == D(246)


def test_full_flow_is_mirrored_for_a_short() -> None:
    """A bearish post on the mirrored chart: sold at 99.95, bought back at 93.95: 41 x 6 = 246 dollars."""
    fleet = a_fleet(a_market(a_chart(direction=Direction.SHORT, after=[QUIET, TO_THE_TARGET])))
    fleet.post(a_post(text="$AAPL bearish breakdown", at=later(5)))
    fleet.settle(half_hour(2))

    assert [(f.role, f.side, f.quantity, f.price) for f in fills(fleet)] == [
        (FillRole.ENTRY, Side.SELL, 41, D("99.9500")),
        (FillRole.TARGET, Side.BUY, 41, D("93.95")),
    ]
    assert fleet.broker.account().equity == D("100246.00")


def test_a_position_that_goes_wrong_is_closed_at_its_stop() -> None:
    """Stop 97.05 touched: 97.05 x 0.9995 = 97.001475, rounded down to 97.0014; 41 x (97.0014 - 100.05) = -124.9926."""
    fleet = a_fleet(a_market(a_chart(after=[QUIET, TO_THE_STOP])))
    fleet.post(a_post(text=BULLISH, at=later(5)))
    fleet.settle(half_hour(2))

    assert [(f.role, f.price) for f in fills(fleet)][1:] == [(FillRole.STOP, D("97.0014"))]
    assert fleet.broker.account().equity == D("99875.0074")


def test_batch_processing_with_multiple_symbols() -> None:
    """Seed: AAPL agrees long, MSFT agrees short, TSLA has one vote; each symbol is decided once."""
    charts = a_chart("AAPL"), a_chart("MSFT", Direction.SHORT), a_chart("TSLA")
    fleet = a_fleet(a_market(*charts))
    texts = ["$AAPL looks good", "$AAPL going up", "$MSFT looks weak to me", "weak $MSFT today", "$TSLA looks good too"]
    buffered = [
        fleet.post(a_post(number, text, author=f"author-{number}", at=later(number)))
        for number, text in enumerate(texts)
    ]
    assert {result.status for result in buffered} == {"buffered"}

    results = fleet.drain(later(60))

    assert told(results) == {"AAPL": "submitted", "MSFT": "submitted", "TSLA": "no_consensus"}
    assert {(o.symbol, o.side, o.decision_id) for o in orders(fleet)} == {
        ("AAPL", Side.BUY, "AAPL-1"),
        ("MSFT", Side.SELL, "MSFT-1"),
    }
    fleet.settle(half_hour(1))
    assert [fleet.journal.outcome(f"test-{n}:{s}") for n, s in enumerate(["AAPL", "AAPL", "MSFT", "MSFT", "TSLA"])] == [
        *[Outcome.EXECUTED] * 4,
        Outcome.NO_CONSENSUS,
    ]


class BrokenValidator(TechnicalValidator):
    """A chart that cannot be read, for one symbol."""

    def __init__(self, market: MemoryMarketData, broken: str) -> None:
        super().__init__(market, xnys(), ValidatorSettings())
        self._broken = broken

    def validate(self, signal: Signal) -> Validation:
        if signal.symbol == self._broken:
            raise MarketDataError(f"{signal.symbol}: bars are broken")
        return super().validate(signal)


def test_graceful_degradation_with_failing_validator() -> None:
    """Seed: the signal passes unvalidated, at half size: floor(83.33 x 0.5 x 0.5) = 20 instead of 41 shares."""
    market = a_market(a_chart())
    fleet = a_fleet(market, validator=BrokenValidator(market, "AAPL"))
    result = fleet.post(a_post(text=BULLISH, at=later(5)))

    assert result.status == "submitted"
    assert result.validation is not None
    assert (result.validation.status, result.validation.error) == (
        ValidationStatus.UNVALIDATED,
        "MarketDataError: AAPL: bars are broken",
    )
    assert [order.quantity for order in orders(fleet)] == [20]


@pytest.mark.parametrize(
    ("moment", "conditions", "rule"),
    [
        (at("2014-07-09 12:00"), MemoryConditions(), "session"),
        (at("2014-07-09 20:00"), MemoryConditions(), "session"),
        (later(5), MemoryConditions(vix=D("30.01")), "vix"),
    ],
)
def test_gate_closed_blocks_execution(moment: datetime, conditions: MemoryConditions, rule: str) -> None:
    """Seed: before the open, at the close and in fear nothing is sent; no risk stays set aside."""
    fleet = a_fleet(conditions=conditions)
    result = fleet.post(a_post(text=BULLISH, at=moment))

    assert result.status == "gate_closed"
    assert result.refusal is not None
    assert result.refusal.rule == rule
    assert orders(fleet) == []
    assert fleet.ledger._reserved == {}


def test_a_gate_at_its_limit_lets_half_the_size_through() -> None:
    """The near-miss: VIX 30 is open, at half size: floor(41 x 0.5) = 20."""
    fleet = a_fleet(conditions=MemoryConditions(vix=D(30)))
    fleet.post(a_post(text=BULLISH, at=later(5)))

    assert [order.quantity for order in orders(fleet)] == [20]


# ---- beyond the seed ---------------------------------------------------------------------------------


def test_one_symbol_s_failure_does_not_stop_another_s() -> None:
    """MSFT has no bars at all: its batch ends `error`, AAPL's is sent."""
    fleet = a_fleet(a_market(a_chart("AAPL")))
    for number, text in enumerate(["$AAPL looks good", "$MSFT looks good", "$AAPL going up", "$MSFT going higher"]):
        fleet.post(a_post(number, text, author=f"author-{number}", at=later(number)))

    assert told(fleet.drain(later(60))) == {"AAPL": "submitted", "MSFT": "error"}


def test_nothing_trades_before_start_and_nothing_is_taken() -> None:
    """Fail closed: a fleet that nobody started is HALTED and STOPPED."""
    fleet = MemoryFleet(a_market(a_chart()), xnys(), frozenset({"AAPL"}), replay())

    with pytest.raises(FleetError, match="stopped"):
        fleet.post(a_post(text=BULLISH))
    assert fleet.control.trading_state() is TradingState.HALTED


def test_a_signal_outside_the_session_is_held_and_trades_at_the_open() -> None:
    """gate_queue: posted at 08:00 New York, decided again as of 09:30, filled at the close of the first half hour."""
    fleet = a_fleet(settings=queueing())
    result = fleet.post(a_post(text=BULLISH, at=at("2014-07-09 12:00")))
    assert result.status == "held"
    assert orders(fleet) == []

    fleet.settle(at("2014-07-09 13:29:59"))
    assert fleet.journal.outcome("test-1:AAPL") is Outcome.HELD
    fleet.settle(at("2014-07-09 13:30"))

    assert [order.submitted_at for order in orders(fleet)] == [at("2014-07-09 13:30")]
    assert fleet.ledger.held(at("2014-07-09 13:30")) == ()
    fleet.settle(at("2014-07-09 14:00"))
    assert fleet.journal.outcome("test-1:AAPL") is Outcome.EXECUTED


def test_held_signals_of_one_symbol_come_to_one_order() -> None:
    """Two held longs: the newest trades, the other ends gate_closed by netting."""
    fleet = a_fleet(settings=queueing())
    fleet.post(a_post(1, BULLISH, at=at("2014-07-09 12:00")))
    fleet.post(a_post(2, "$AAPL strong buy, upgrade", author="bob", at=at("2014-07-09 12:30")))
    fleet.settle(at("2014-07-09 13:30"))

    assert fleet.journal.outcome("test-1:AAPL") is Outcome.GATE_CLOSED
    assert [order.decision_id for order in orders(fleet)] == ["test-2:AAPL"]


def test_a_fleet_that_slept_through_the_session_does_not_trade_its_held_signals_late() -> None:
    """Released at 17:00 New York by a fleet that was down: its age limit was that open, so it ends expired."""
    fleet = a_fleet(settings=queueing())
    fleet.post(a_post(text=BULLISH, at=at("2014-07-09 12:00")))
    late = Release(at("2014-07-09 21:00"), fleet.sessions, timedelta(seconds=120))
    release_held(fleet.orchestrator, fleet.ledger, fleet.journal, late)

    assert fleet.journal.outcome("test-1:AAPL") is Outcome.EXPIRED
    assert fleet.ledger.held(at("2014-07-10 13:30")) == ()
    assert orders(fleet) == []


def test_a_held_batch_carries_its_votes_to_the_end() -> None:
    """A batch decision's legs were kept when it was held; they end when it does."""
    fleet = a_fleet(settings=queueing())
    for number, text in enumerate(["$AAPL looks good", "$AAPL going up"]):
        fleet.post(a_post(number, text, author=f"author-{number}", at=at("2014-07-09 12:00")))
    assert told(fleet.drain(at("2014-07-09 12:01"))) == {"AAPL": "held"}
    fleet.finish(at("2014-07-09 12:01"))

    assert fleet.journal.outcome("test-0:AAPL") is fleet.journal.outcome("test-1:AAPL") is Outcome.EXECUTED


def test_a_second_post_on_a_busy_symbol_waits_for_the_first_one_s_fill() -> None:
    """Per-symbol single flight: after the fill the position is there, so adding is refused."""
    fleet = a_fleet(settings=patient())
    fleet.post(a_post(1, BULLISH, at=later(5)))
    assert fleet.post(a_post(2, "$AAPL strong buy, upgrade", author="bob", at=later(20))).status == "buffered"

    fleet.settle(half_hour(1))
    results = fleet.drain(half_hour(1))

    assert ("test-2:AAPL", "risk_rejected") in [(r.decision_id, r.status) for r in results]
    refusal = fleet.journal.results["test-2:AAPL"].refusal
    assert refusal is not None
    assert refusal.rule == "position_held"
    assert len(orders(fleet)) == 1


def patient() -> Settings:
    """Urgent posts that live for an hour."""
    return replay().model_copy(update={"router": replay().router.model_copy(update={"max_age_urgent_s": 3600.0})})


def test_an_opposite_signal_closes_and_never_flips() -> None:
    """A bearish post on a held long sells the 41 shares and no more."""
    fleet = a_fleet(settings=patient(), validator=Agreeable())
    fleet.post(a_post(1, BULLISH, at=later(5)))
    fleet.settle(half_hour(1))
    fleet.post(a_post(2, "$AAPL bearish breakdown", author="bob", at=half_hour(2)))
    fleet.settle(half_hour(3))

    assert [(f.role, f.side, f.quantity) for f in fills(fleet)] == [
        (FillRole.ENTRY, Side.BUY, 41),
        (FillRole.CLOSE, Side.SELL, 41),
    ]
    assert fleet.broker.positions() == {}


class Agreeable(TechnicalValidator):
    """Lets every direction pass."""

    def __init__(self) -> None:
        super().__init__(a_market(a_chart()), xnys(), ValidatorSettings())

    def validate(self, signal: Signal) -> Validation:
        return Validation(ValidationStatus.PASS)


def test_deny_lists_of_the_control_reach_posts() -> None:
    """`fleet mute` and `fleet deny`: an author's post is spam, a symbol never trades."""
    fleet = a_fleet()
    fleet.control.deny("author", "ann", "test", "loud", NOON)
    fleet.control.deny("symbol", "AAPL", "test", "news", NOON)

    assert fleet.post(a_post(1, BULLISH)).status == "spam"
    assert fleet.post(a_post(2, "$AAPL strong buy, upgrade", author="bob")).status == "no_symbol"


def test_no_fresh_collector_stops_the_whole_fleet() -> None:
    """Seed: collector critical; what was buffered ends first."""

    class Dead:
        fresh = True

        def is_fresh(self, as_of: datetime) -> bool:
            return self.fresh

    collectors = Dead()
    fleet = a_fleet(collectors=collectors)
    fleet.post(a_post(1, "$AAPL looks good"))
    collectors.fresh = False

    with pytest.raises(FleetError, match="stopped"):
        fleet.post(a_post(2, BULLISH, at=later(5)))
    assert not fleet.orchestrator.is_running
    assert fleet.journal.outcome("test-1:AAPL") is Outcome.NO_CONSENSUS
    assert fleet.interim() == 0

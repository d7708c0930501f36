"""No stage sees the future, and long and short are mirror images."""

import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.gate import GateSettings, MarketGate
from pipeline.indicators import IndicatorSettings, read
from pipeline.models import Bars, Direction, Indicators, Signal, Validation, ValidationStatus
from pipeline.scorer import ScorerSettings, SignalScorer
from pipeline.validator import TechnicalValidator, ValidatorSettings
from tests.csv_files import write_bars
from tests.market_builders import a_signal, a_vote, at, minute_bars, some_bars, xnys
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.conditions_csv import CsvConditions
from workers.adapters.market_memory import MemoryMarketData, MemoryVoteHistory

LONG, SHORT = Direction.LONG, Direction.SHORT
COLUMNS = ("open", "high", "low", "close", "volume")
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


def a_market_walk(seed: int, bars: int, symbol: str = "AAPL") -> Bars:
    """Daily bars with trends, ranges and volumes of their own, prices on 1/64 dollar."""
    rng = np.random.default_rng(seed)
    drift = np.repeat(rng.integers(-24, 25, bars // 20 + 1), 20)[:bars]
    close = 200 + np.cumsum(rng.integers(-64, 65, bars) + drift) / 64
    lowest = close.min()
    close = close + max(0.0, 40 - lowest)
    open_ = close + rng.integers(-32, 33, bars) / 64
    high = np.maximum(open_, close) + rng.integers(1, 64, bars) / 64
    low = np.minimum(open_, close) - rng.integers(1, 64, bars) / 64
    series = some_bars(close, symbol=symbol)
    return replace(series, open=open_, high=high, low=low, volume=rng.integers(500, 1_500, bars).astype(np.float64))


# ---- look-ahead --------------------------------------------------------------------------------------


def with_another_future(bars: Bars, moment: datetime, seed: int, how: str) -> Bars:
    """The same bars up to `moment`; those that end later are shuffled, blown up or broken."""
    rng = np.random.default_rng(seed)
    future = np.flatnonzero(bars.end > moment.timestamp())
    columns: dict[str, Any] = {name: getattr(bars, name).copy() for name in COLUMNS}
    order = rng.permutation(future)
    factors = rng.uniform(0.1, 10, future.size)
    for values in columns.values():
        if how == "shuffled":
            values[future] = values[order]
        elif how == "blown up":
            values[future] *= factors
        else:
            values[future] = np.nan
    return replace(bars, **columns)


def everything_decided(bars: Bars, index: Bars, vix: Path, moments: list[datetime]) -> list[object]:
    """Every answer and every decision at each of the moments, in order, by one set of stages."""
    market = MemoryMarketData({"AAPL": bars, "SPY": index}, sessions=xnys())
    conditions = CsvConditions(market, xnys(), vix_csv=vix, index_symbol="SPY")
    validator = TechnicalValidator(market, xnys(), ValidatorSettings(veto_mode=False))
    scorer = SignalScorer(market, xnys(), MemoryVoteHistory(), ScorerSettings())
    gate = MarketGate(xnys(), conditions, market, GateSettings(gate_queue=True))
    decided: list[object] = []
    for moment in moments:
        signal = a_signal(decided_at=moment)
        validation = validator.validate(signal)
        known = market.bars("AAPL", moment, 150)
        decided += [
            market.quote("AAPL", moment),
            known.close.tolist(),
            market.daily_bars("AAPL", moment, 9).end.tolist(),
        ]
        decided += [read(known), validation, gate.check(signal)]
        if validation.status is not ValidationStatus.VETO:
            decided.append(scorer.score(signal, validation))
    return decided


def write_vix(folder: Path, days: list[date], values: list[float]) -> Path:
    """A daily VIX file."""
    path = folder / "vix.csv"
    rows = [f"{day},{value}" for day, value in zip(days, values, strict=True)]
    path.write_text("\n".join(["date,close", *rows, ""]))
    return path


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, how=st.sampled_from(["shuffled", "blown up", "broken"]), back=st.integers(1, 25), hour=SEEDS)
def test_no_decision_changes_with_the_bars_after_it(seed: int, how: str, back: int, hour: int) -> None:
    """Shuffle, blow up or break every bar and VIX after t: bars, readings and decisions up to t stay."""
    bars, index = a_market_walk(seed, 190), a_market_walk(seed + 1, 190, "SPY")
    moment = datetime.fromtimestamp(int(bars.end[-back]) - 86_400 + hour % (2 * 86_400), tz=UTC)
    moments = [moment - timedelta(hours=hours) for hours in (50, 26, 7, 0)]
    days = [datetime.fromtimestamp(start, tz=UTC).date() for start in bars.start.tolist()]
    past = np.random.default_rng(seed).uniform(10, 35, len(days))
    future = np.where(bars.end > moment.timestamp(), past + 40, past)

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        lived = everything_decided(bars, index, write_vix(Path(one), days, past.tolist()), moments)
        changed = everything_decided(
            with_another_future(bars, moment, seed, how),
            with_another_future(index, moment, seed, how),
            write_vix(Path(other), days, future.tolist()),
            moments,
        )

    assert lived == changed


@cache
def minutes() -> Bars:
    """Two sessions of minutes."""
    return minute_bars([date(2014, 7, 7), date(2014, 7, 8)])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, minute=st.integers(-60, 480))
def test_a_file_with_another_future_answers_the_same_until_then(seed: int, minute: int) -> None:
    """From files, in minutes, with daily bars gathered by session."""
    moment = at("2014-07-08 13:30") + timedelta(minutes=minute)
    blown_up = with_another_future(minutes(), moment, seed, "blown up")
    repaired = replace(
        blown_up,
        high=np.maximum.reduce([blown_up.open, blown_up.high, blown_up.low, blown_up.close]),
        low=np.minimum.reduce([blown_up.open, blown_up.high, blown_up.low, blown_up.close]),
    )

    def answers(bars: Bars) -> list[object]:
        with tempfile.TemporaryDirectory() as folder:
            market = CsvMarketData(write_bars(Path(folder), bars).parent, sessions=xnys())
            known, daily = market.bars("AAPL", moment, 999), market.daily_bars("AAPL", moment, 9)
            return [market.quote("AAPL", moment), known.high.tolist(), daily.high.tolist(), daily.close.tolist()]

    assert answers(minutes()) == answers(repaired)


# ---- long and short ----------------------------------------------------------------------------------


def mirrored(bars: Bars) -> Bars:
    """Every price reflected at the last close, which stays."""
    twice = 2 * float(bars.close[-1])
    return replace(bars, open=twice - bars.open, high=twice - bars.low, low=twice - bars.high, close=twice - bars.close)


MIRRORED_RULE = {
    "rsi_overbought": "rsi_oversold",
    "bearish_divergence": "bullish_divergence",
    "histogram_falling": "histogram_rising",
    "adx_no_trend": "adx_no_trend",
    "adx_weak_trend": "adx_weak_trend",
    "insufficient_data": "insufficient_data",
}


def decided(bars: Bars, signal: Signal, votes: str) -> tuple[Validation, Any]:
    """The validation and, unless vetoed, the recommendation."""
    market = MemoryMarketData({"AAPL": bars}, sessions=xnys())
    history = MemoryVoteHistory()
    history.add("AAPL", a_vote(label=votes))
    validation = TechnicalValidator(market, xnys(), ValidatorSettings()).validate(signal)
    if validation.status is ValidationStatus.VETO:
        return validation, None
    return validation, SignalScorer(market, xnys(), history, ScorerSettings()).score(signal, validation)


def far_from_every_limit(reading: Indicators) -> bool:
    """Whether float noise of 1e-6 cannot move the reading over a limit."""
    limits = [(reading.adx, (15, 20, 30, 40)), (reading.rsi, (30, 70)), (reading.macd_histogram, (0,))]
    return all(abs(value - limit) > 1e-6 for value, edges in limits for limit in edges)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_a_short_in_a_mirrored_market_is_the_mirror_image_of_a_long(seed: int) -> None:
    """Reflect every price at the last close: readings, rules, score and levels are reflected."""
    bars = a_market_walk(seed, 160)
    assume(float(bars.high.max()) < 2 * float(bars.close[-1]) - 1)
    up, down = read(bars), read(mirrored(bars))
    assert isinstance(up, Indicators)
    assert isinstance(down, Indicators)
    assume(far_from_every_limit(up))

    assert down.rsi == pytest.approx(100 - up.rsi)
    assert down.adx == pytest.approx(up.adx)
    assert down.atr == pytest.approx(up.atr)
    assert down.macd_histogram == pytest.approx(-up.macd_histogram, abs=1e-9)
    assert down.stochastic_k == pytest.approx(100 - up.stochastic_k)

    long_validation, long = decided(bars, a_signal(LONG), "bullish")
    short_validation, short = decided(mirrored(bars), a_signal(SHORT), "bearish")

    assert short_validation.status is long_validation.status
    for mine, theirs in zip(
        (long_validation.vetoes, long_validation.warnings),
        (short_validation.vetoes, short_validation.warnings),
        strict=True,
    ):
        assert [MIRRORED_RULE[refusal.rule] for refusal in mine] == [refusal.rule for refusal in theirs]
    if long is not None:
        assert short.score == pytest.approx(long.score)
        assert (short.tier, short.size_factor) == (long.tier, long.size_factor)
        reference: Decimal = long.levels.reference
        assert short.levels.reference == reference
        assert short.levels.stop - reference == reference - long.levels.stop
        assert reference - short.levels.target == long.levels.target - reference


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_divergence_is_mirrored(seed: int) -> None:
    """Bearish in one market is bullish in its reflection, whatever else the chart says."""
    bars = a_market_walk(seed, 150)
    up, down = read(bars, IndicatorSettings()), read(mirrored(bars), IndicatorSettings())
    if isinstance(up, Indicators) and isinstance(down, Indicators):
        images = {LONG: SHORT, SHORT: LONG, "both": "both", None: None}

        assert down.divergence == images[up.divergence]

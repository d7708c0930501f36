"""What holds for any fills and any bars: no dollar appears or vanishes, long mirrors short, no bar is seen early."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from config.paper import PaperSettings
from pipeline.book import apply_fill, book_fill, cash_change
from pipeline.models import Bars, Fill, Position, Side
from tests.money import NOW, D, WeekdaySessions, a_fill, an_order, at, some_bars
from workers.adapters.codec import dumps
from workers.adapters.paper_book import PaperOrder, Venue, live, placed
from workers.adapters.wire import dump, load

cents = st.integers(1, 1_000_000).map(lambda n: D(n) / 100)
fills = st.builds(
    lambda side, quantity, price, fee: replace(a_fill(side, quantity), price=price, fee=fee),
    st.sampled_from(Side),
    st.integers(1, 1000),
    cents,
    st.integers(0, 1000).map(lambda n: D(n) / 100),
)
bar_prices = st.tuples(*[st.integers(9_000, 11_000)] * 4).map(
    lambda four: (four[0] / 100, max(four) / 100, min(four) / 100, four[3] / 100)
)
VENUE = Venue(PaperSettings(), WeekdaySessions())


def a_day(rows: list[tuple[float, float, float, float]]) -> Bars:
    """Half-hour bars from 14:45 on, so that the first holds the decision of 15:00."""
    first = at("14:45")
    spans = [(first + timedelta(minutes=30 * n), first + timedelta(minutes=30 * (n + 1))) for n in range(len(rows))]
    return some_bars("AAA", *((start, end, *row) for (start, end), row in zip(spans, rows, strict=True)))


@given(st.lists(fills, max_size=30))
def test_no_dollar_appears_or_vanishes(done: list[Fill]) -> None:
    """Change of cash + cost of what is held = realised, to the last micro-dollar."""
    position: Position | None = None
    cash = realised = Decimal(0)
    for fill in done:
        position, gain = apply_fill(position, fill)
        cash, realised = cash + cash_change(fill), realised + gain

    assert cash + (position.cost if position else 0) == realised


@given(st.lists(fills, max_size=30))
def test_every_realised_dollar_belongs_to_one_trade(done: list[Fill]) -> None:
    """Results of ended trades + what the open one has realised = realised."""
    position: Position | None = None
    running = trades = realised = Decimal(0)
    for fill in done:
        booking = book_fill(position, running, fill)
        position, running = booking.position, booking.running
        realised, trades = realised + booking.realised, trades + (booking.trade or 0)

    assert trades + running == realised


@given(st.lists(fills, max_size=20))
def test_a_short_book_is_the_mirror_of_a_long_one(done: list[Fill]) -> None:
    """Every side turned round: the same shares and costs with the other sign."""
    long: Position | None = None
    short: Position | None = None
    for fill in done:
        turned = replace(fill, side=Side.SELL if fill.side is Side.BUY else Side.BUY)
        long, _ = apply_fill(long, fill)
        short, _ = apply_fill(short, turned)

    assert (long and (long.quantity, long.cost)) == (short and (-short.quantity, -short.cost))


@settings(max_examples=50)
@given(st.lists(bar_prices, min_size=1, max_size=9), st.sampled_from(Side), st.data())
def test_a_bracket_lives_the_same_life_however_it_is_looked_at(
    rows: list[tuple[float, float, float, float]], side: Side, data: st.DataObject
) -> None:
    """At once or in any steps, and what the bars after a moment hold changes nothing before it."""
    bars, order = a_day(rows), an_order(side=side)
    ends = [NOW + timedelta(minutes=15 + 30 * n) for n in range(len(rows))]
    looks = sorted(data.draw(st.lists(st.sampled_from(ends), max_size=6)))
    stepwise = placed(order, VENUE.settings)
    for moment in looks:
        stepwise = live(stepwise, bars, moment, VENUE)
        at_once = live(placed(order, VENUE.settings), a_day(rows[: ends.index(moment) + 1]), moment, VENUE)
        assert stepwise == at_once
        assert all(fill.at <= moment for fill in stepwise.fills)

    assert live(stepwise, bars, ends[-1], VENUE) == live(placed(order, VENUE.settings), bars, ends[-1], VENUE)


@settings(max_examples=50)
@given(st.lists(bar_prices, min_size=1, max_size=9), st.sampled_from(Side))
def test_a_bracket_comes_back_from_redis_as_the_same_text(
    rows: list[tuple[float, float, float, float]], side: Side
) -> None:
    """The compare-and-set compares texts: what is read and written back must not change."""
    state = live(placed(an_order(side=side), VENUE.settings), a_day(rows), at("20:00"), VENUE)

    assert load(PaperOrder, dump(state)) == state
    assert dump(load(PaperOrder, dump(state))) == dump(state)
    assert dumps(state)[1:] in dump(state)

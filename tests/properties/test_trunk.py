"""What holds on any day: every message has one end, nobody sees the future, long and short are mirror images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.settings import Settings, load_settings
from pipeline.models import TERMINAL, AnalyzedMessage, Bars, Fill, FillRole, Label, Outcome, ProcessResult, Side
from pipeline.router import DenyList, remembers_text, route
from tests.chart import half_hours, mirrored
from tests.market_builders import at, xnys
from tests.trunk import a_message
from workers.adapters.market_memory import MemoryConditions, MemoryMarketData
from workers.memory import MemoryFleet

UNIVERSE = ("AAPL", "MSFT")
FIRST = at("2014-07-08 11:00")  # 07:00 New York, a day and a half before the last post can come
OPPOSITE = {Label.BULLISH: Label.BEARISH, Label.BEARISH: Label.BULLISH, Label.NEUTRAL: Label.NEUTRAL}
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


# ---- days --------------------------------------------------------------------------------------------


@cache
def profile(*, gate_queue: bool = True, slippage_bps: int = 5) -> Settings:
    """The shipped replay profile, with or without a queue at the gate."""
    shipped = load_settings("replay", environ={})
    return shipped.model_copy(
        update={
            "gate": shipped.gate.model_copy(update={"gate_queue": gate_queue}),
            "paper": shipped.paper.model_copy(update={"slippage_bps": Decimal(slippage_bps)}),
        }
    )


@cache
def a_walk(symbol: str, seed: int) -> Bars:
    """Half hours around 1000 dollars, in quarters of a dollar, with trends of their own."""
    rng = np.random.default_rng([seed, *symbol.encode()])
    bars = half_hours(symbol)
    drift = np.repeat(rng.integers(-5, 6, len(bars) // 20 + 1), 20)[: len(bars)]
    close = 1000 + np.cumsum(rng.integers(-8, 9, len(bars)) + drift) / 4
    open_ = close + rng.integers(-4, 5, len(bars)) / 4
    high = np.maximum(open_, close) + rng.integers(1, 9, len(bars)) / 4
    low = np.minimum(open_, close) - rng.integers(1, 9, len(bars)) / 4
    return replace(bars, open=open_, high=high, low=low, close=close)


Day = tuple[Bars, ...]


def a_day(seed: int) -> Day:
    """Two stocks and the index."""
    return tuple(a_walk(symbol, seed) for symbol in (*UNIVERSE, "SPY"))


@st.composite
def a_stream(draw: st.DrawFn, most: int = 25) -> list[AnalyzedMessage]:
    """Posts in order of time: urgent, votes, neutral, lists, spam, strangers, old ones and repeated texts."""
    posts: list[AnalyzedMessage] = []
    known = FIRST + timedelta(minutes=draw(st.integers(0, 1440)))
    for number in range(draw(st.integers(1, most))):
        known += timedelta(seconds=draw(st.sampled_from([0, 1, 7, 20, 59, 60, 400, 1800, 9000])))
        posts.append(
            a_message(
                draw(st.sampled_from([Label.BULLISH, Label.BULLISH, Label.BEARISH, Label.NEUTRAL])),
                draw(st.sampled_from([0.5, 0.8, 0.85, 0.95, 1.0])),
                number=number,
                symbols=draw(st.sampled_from([("AAPL",), ("AAPL",), ("MSFT",), ("MSFT", "AAPL"), ()])),
                outside=draw(st.sampled_from([(), (), ("ZZZ",)])),
                cashtags=draw(st.sampled_from([1, 1, 1, 3, 4])),
                spam=draw(st.sampled_from([None, None, None, None, "promo"])),
                fingerprint=f"text-{draw(st.integers(0, 40))}",
                author=f"author-{draw(st.integers(0, 6))}",
                at=known,
                created_at=known - timedelta(seconds=draw(st.sampled_from([0, 0, 5, 40, 200]))),
            )
        )
    return posts


def a_fleet(day: Day, chosen: Settings) -> MemoryFleet:
    """A started fleet on this day's bars, the last of them the index."""
    market = MemoryMarketData({bars.symbol: bars for bars in day}, sessions=xnys())
    conditions = MemoryConditions(vix=Decimal(15), index=day[-1])
    fleet = MemoryFleet(market, xnys(), frozenset(UNIVERSE), chosen, conditions=conditions)
    fleet.start(FIRST)
    return fleet


def lived(day: Day, posts: Sequence[AnalyzedMessage], *, gate_queue: bool = True, **chosen: Any) -> MemoryFleet:
    """A fleet that lived through the posts until every leg is at its end."""
    fleet = a_fleet(day, profile(gate_queue=gate_queue, **chosen))
    closes = fleet.live(posts)
    if closes is not None:
        fleet.finish(closes)
    return fleet


def fills(fleet: MemoryFleet) -> list[Fill]:
    """What was booked, in order of time."""
    return sorted((row.fill for row in fleet.ledger._fills.values()), key=lambda fill: (fill.at, fill.fill_id))


def busy_posts(count: int = 60) -> list[AnalyzedMessage]:
    """A fixed stream that trades on most days: an urgent post every 37 minutes, every fifth of them bearish."""
    return [
        a_message(
            Label.BULLISH if number % 5 else Label.BEARISH,
            0.95,
            number=number,
            symbols=(UNIVERSE[number % 2],),
            score=0.95 if number % 5 else -0.95,
            author=f"author-{number}",
            at=at("2014-07-08 14:00") + timedelta(minutes=37 * number),
        )
        for number in range(count)
    ]


def test_the_days_these_properties_live_through_do_trade() -> None:
    """Not vacuous: over twenty days there are entries and closes of both sides, stops, and the refusals in between."""
    days = [lived(a_day(seed), busy_posts()) for seed in range(20)]
    roles = Counter(fill.role for fleet in days for fill in fills(fleet))
    sides = Counter(fill.side for fleet in days for fill in fills(fleet) if fill.role is FillRole.ENTRY)
    ends = Counter(outcome for fleet in days for outcome in fleet.journal.count().elements())

    assert min(roles[role] for role in (FillRole.ENTRY, FillRole.CLOSE, FillRole.STOP)) >= 2
    assert min(sides[side] for side in Side) >= 10
    assert ends.keys() >= {Outcome.EXECUTED, Outcome.VETOED, Outcome.RISK_REJECTED, Outcome.GATE_CLOSED}


# ---- messages in = outcomes out ----------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(posts=a_stream(), seed=st.integers(0, 9), gate_queue=st.booleans())
def test_every_leg_of_every_message_ends_exactly_once(
    posts: list[AnalyzedMessage], seed: int, *, gate_queue: bool
) -> None:
    """Legs out = legs in, every one terminal, none written twice, no risk left set aside, our book = the venue's."""
    fleet = a_fleet(a_day(seed), profile(gate_queue=gate_queue))
    closes = fleet.live(watched(fleet, posts))
    assert closes is not None
    fleet.finish(closes)

    legs = {leg.split(":")[0]: 0 for leg in fleet.journal.legs}
    assert legs.keys() == {post.message_id for post in posts}
    assert fleet.journal.legs <= {leg for post in posts for leg in possible_legs(post)}
    assert sum(fleet.journal.count().values()) == len(fleet.journal.legs)
    assert set(fleet.journal.count()) <= TERMINAL
    assert set(fleet.journal.outcomes.values()) <= TERMINAL
    assert fleet.ledger._reserved == {}
    assert fleet.ledger.held(at("2014-12-31 00:00")) == ()
    assert fleet.backlog.sizes() == {}
    book = fleet.ledger.snapshot(xnys().session_of(closes))
    assert book.cash == fleet.broker.account().cash
    assert {s: p.quantity for s, p in book.positions.items()} == {
        s: p.quantity for s, p in fleet.broker.positions().items()
    }


def watched(fleet: MemoryFleet, posts: Sequence[AnalyzedMessage]) -> Iterator[AnalyzedMessage]:
    """The posts one by one; whatever was at its end before the next one must still be there."""
    ended: dict[str, Outcome] = {}
    for post in posts:
        now = fleet.journal.outcomes
        assert {name: now[name] for name in ended} == ended
        ended = {name: outcome for name, outcome in now.items() if outcome in TERMINAL}
        yield post


def possible_legs(post: AnalyzedMessage) -> set[str]:
    """The legs a post may have: those of its symbols, or the null leg."""
    symbols = (*post.tickers.symbols, *post.tickers.outside)
    return {f"{post.message_id}:{symbol}" for symbol in (*symbols, "-")}


@settings(max_examples=20, deadline=None)
@given(posts=a_stream(), seed=st.integers(0, 9))
def test_the_same_day_lived_twice_is_the_same(posts: list[AnalyzedMessage], seed: int) -> None:
    """Nothing but posts and bars decides: results, fills and money are equal to the last digit."""
    assert everything(lived(a_day(seed), posts)) == everything(lived(a_day(seed), posts))


# ---- once, whatever comes twice ----------------------------------------------------------------------


def with_echoes(posts: list[AnalyzedMessage], echoes: Sequence[tuple[int, int, str]]) -> list[AnalyzedMessage]:
    """The stream with earlier messages delivered again, or their texts posted by others, at moments it has already."""
    stream: list[list[AnalyzedMessage]] = [[post] for post in posts]
    for number, (where, which, how) in enumerate(echoes):
        here = where % len(posts)
        first = posts[which % (here + 1)]
        known = posts[here].message.received_at
        if how == "redelivered":
            changes: dict[str, Any] = {"received_at": known}
        else:
            changes = {"message_id": f"copy-{number}", "author": f"parrot-{number}"}
            changes |= {"created_at": known, "received_at": known}
        stream[here].append(first.model_copy(update={"message": first.message.model_copy(update=changes)}))
    return [post for group in stream for post in group]


ECHOES = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["redelivered", "copied"])), max_size=8
)


@settings(max_examples=50, deadline=None)
@given(posts=a_stream(12), echoes=ECHOES, seed=st.integers(0, 9))
def test_redeliveries_and_copies_change_nothing_but_their_own_legs(
    posts: list[AnalyzedMessage], echoes: list[tuple[int, int, str]], seed: int
) -> None:
    """One vote, one urgent signal: decisions, fills and money stay; each copy of a text that goes on is `duplicate`."""
    remembered = [post for post in posts if remembers_text(routed(post))]
    if not remembered:
        return
    echoed = with_echoes(remembered, echoes)
    once, often = lived(a_day(seed), remembered), lived(a_day(seed), echoed)

    assert everything(once) == everything(often)
    extra = often.journal.legs - once.journal.legs
    assert extra == {f"{post.message_id}:-" for post in echoed if post.message_id.startswith("copy")}
    assert {often.journal.outcomes[leg] for leg in extra} <= {Outcome.DUPLICATE}


def routed(post: AnalyzedMessage) -> tuple[Any, ...]:
    """The post's legs when it is known."""
    return route(post, post.message.received_at, DenyList(), profile().router, 0.85)


# ---- look-ahead --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Everything:
    """What a fleet decided, booked and holds."""

    results: dict[str, ProcessResult]
    fills: list[Fill]
    money: tuple[Decimal, Decimal]
    waiting: tuple[Any, ...]


def everything(fleet: MemoryFleet) -> Everything:
    """All of it, every number included."""
    account = fleet.broker.account()
    waiting = fleet.ledger.held(at("2014-12-31 00:00")), fleet.ledger._reserved, fleet.backlog.sizes()
    return Everything(dict(fleet.journal.results), fills(fleet), (account.cash, account.equity), waiting)


def with_another_future(bars: Bars, moment: datetime, seed: int, how: str) -> Bars:
    """The same bars up to `moment`; those that end later are shuffled, blown up or broken."""
    rng = np.random.default_rng(seed)
    future = np.flatnonzero(bars.end > moment.timestamp())
    order, factors = rng.permutation(future), rng.uniform(0.5, 2, future.size)
    columns: dict[str, Any] = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for values in columns.values():
        if how == "shuffled":
            values[future] = values[order]
        elif how == "blown up":
            values[future] *= factors
        else:
            values[future] = np.nan
    return replace(bars, **columns)


def until(day: Day, posts: Sequence[AnalyzedMessage], moment: datetime) -> Everything:
    """Everything at `moment`, having lived through the posts known by then."""
    fleet = a_fleet(day, profile())
    closes = fleet.live(post for post in posts if post.message.received_at <= moment - timedelta(minutes=1))
    if closes is not None:
        fleet.settle(moment)
        fleet.drain(moment)
    return everything(fleet)


@settings(max_examples=40, deadline=None)
@given(
    posts=a_stream(),
    seed=SEEDS,
    how=st.sampled_from(["shuffled", "blown up", "broken"]),
    minutes=st.integers(1, 3000),
)
@example(posts=busy_posts(), seed=3, how="blown up", minutes=1500)
@example(posts=busy_posts(), seed=4, how="broken", minutes=400)
def test_no_decision_of_the_trunk_changes_with_the_bars_after_it(
    posts: list[AnalyzedMessage], seed: int, how: str, minutes: int
) -> None:
    """Change every bar that ends after t: decisions, fills, money and what waits at t stay, through the whole trunk."""
    moment = FIRST + timedelta(minutes=minutes)
    day = a_day(seed % 10)
    another = tuple(with_another_future(bars, moment, seed, how) for bars in day)

    assert until(day, posts, moment) == until(another, posts, moment)


def test_another_future_does_change_what_comes_after() -> None:
    """Not vacuous: the same change is seen as soon as its bars are known."""
    moment, day = at("2014-07-08 15:00"), a_day(3)
    another = tuple(with_another_future(bars, moment, 1, "blown up") for bars in day)

    assert until(day, busy_posts(), moment) == until(another, busy_posts(), moment)
    later = moment + timedelta(hours=24)
    assert until(day, busy_posts(), later) != until(another, busy_posts(), later)


# ---- long and short ----------------------------------------------------------------------------------

IMAGES = {
    "rsi_overbought": "rsi_oversold",
    "rsi_oversold": "rsi_overbought",
    "bearish_divergence": "bullish_divergence",
    "bullish_divergence": "bearish_divergence",
}


def reflected(post: AnalyzedMessage) -> AnalyzedMessage:
    """The same post with the opposite opinion."""
    said = post.sentiment
    opposite = said.model_copy(update={"label": OPPOSITE[said.label], "score": -said.score})
    return post.model_copy(update={"sentiment": opposite})


def shape(fleet: MemoryFleet, *, image: bool) -> tuple[Any, ...]:
    """Ends with their rules and fills with their moments, reflected when `image`: prices at 1000, sides, rules."""
    ends = {}
    for name, result in fleet.journal.results.items():
        rule = result.refusal.rule if result.refusal else ""
        ends[name] = (result.status, IMAGES.get(rule, rule) if image else rule)
    booked = [
        (f.at, f.symbol, f.role, -f.side.sign if image else f.side.sign, 2000 - f.price if image else f.price)
        for f in fills(fleet)
    ]
    return ends, booked, fleet.journal.count()


@settings(max_examples=40, deadline=None)
@given(posts=a_stream(), seed=st.integers(0, 30))
@example(posts=busy_posts(), seed=0)
@example(posts=busy_posts(), seed=1)
@example(posts=busy_posts(), seed=2)
@example(posts=busy_posts(), seed=3)
def test_a_mirrored_day_is_traded_as_the_mirror_image(posts: list[AnalyzedMessage], seed: int) -> None:
    """Reflect every price at 1000 and every opinion: same outcomes, same moments, opposite sides, reflected prices."""
    day = a_day(seed)
    image = (*(mirrored(bars, 1000.0) for bars in day[:-1]), day[-1])
    straight = lived(day, posts, slippage_bps=0)
    turned = lived(image, [reflected(post) for post in posts], slippage_bps=0)

    assert shape(straight, image=False) == shape(turned, image=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_mirrored_days_trade_both_ways(seed: int) -> None:
    """Not vacuous: the days of the examples have entries."""
    assert fills(lived(a_day(seed), busy_posts(), slippage_bps=0))

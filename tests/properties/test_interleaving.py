"""Two or three processes at once, switched at every call of every port: the same promises as one after the other.

Each actor is a real turn of a worker (or a person's act) over the memory twins; it stands still before and after every
call of a port. `again` is the same job a second time, as after a worker that was taken for dead and lives on.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models import TradingState
from tests.machine.checks import always, at_the_end
from tests.machine.posts import Post
from tests.machine.turns import Fate, Stop
from tests.machine.world import Process, World, a_market
from tests.market_builders import xnys

URGENT = Post("bullish", "AAA", urgent=True)
AGAINST = Post("bearish", "AAA", urgent=True)
CALM = Post("bullish", "AAA", urgent=False)
JOBS = ("trade", "rival", "consensus", "settle", "janitor", "reconcile")
ACTORS = (*JOBS, "again", "flatten", "halt", "reclaim")

Act = Callable[[Process], None]
MANY = 1_000


def a_scene(*, at_the_open: bool = False) -> World:
    """Two urgent posts and two votes on one symbol are queued; or two urgent ones are held, and it is the open."""
    world = World(a_market(1))
    posts = [URGENT, AGAINST] if at_the_open else [URGENT, AGAINST, CALM, CALM]
    if at_the_open:
        world.clock.at = xnys().session_of(world.clock.at).close + timedelta(seconds=5)
    world.lines = [post.line(number, world.clock.at) for number, post in enumerate(posts)]
    world.run(world.collect)
    world.run(world.route)
    if at_the_open:
        world.round()
        world.clock.at = xnys().next_open(world.clock.at) + timedelta(seconds=1)
    world.run(world.schedule)
    if not at_the_open:
        world.run(partial(world.work, name="drain"))
    return world


def an_act(world: World, name: str) -> Act:
    """The turn of this name. `rival` is the symbol's second urgent post."""
    if name == "flatten":
        return world.flatten
    if name == "halt":
        return lambda process: process.fleet.control.set(TradingState.HALTED, "ann", "test", world.clock.at)
    if name == "again":
        return partial(world.work, name=next(iter(world.suspect()), None))
    return partial(world.work, name={"rival": "trade", "reclaim": "janitor"}.get(name, name))


def ends_well(world: World) -> None:
    """Time passes until nothing moves; then every promise holds."""
    world.quiet()
    always(world, {})
    at_the_end(world)


# ---- two, one switch there and one back --------------------------------------------------------------------------

PAIRS = [
    ("trade", "again"),
    ("trade", "rival"),
    ("trade", "consensus"),
    ("trade", "janitor"),
    ("trade", "settle"),
    ("trade", "flatten"),
    ("trade", "halt"),
    ("consensus", "again"),
    ("consensus", "trade"),
    ("settle", "again"),
    ("settle", "consensus"),
    ("settle", "flatten"),
    ("reconcile", "settle"),
    ("janitor", "trade"),
    ("release", "again"),
]


@pytest.mark.parametrize("fate", [None, Fate.KILL])
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_whatever_happens_between_two_steps_of_a_turn(first: str, second: str, fate: Fate | None) -> None:
    """The first stands still at each of its steps, the second runs to its end, the first goes on or dies.

    Every other step in a short run: it goes on at the even ones and dies at the odd ones. All in a long one.
    """
    for steps in count(int(fate is Fate.KILL), 1 if settings().max_examples > MANY else 2):
        world = a_scene(at_the_open=first == "release")
        if first in {"settle", "reconcile"}:
            world.run(partial(world.work, name="trade"))
            world.clock.at += timedelta(minutes=6)
        world.run(an_act(world, first), Stop(steps, Fate.PAUSE))
        if not world.paused:
            break
        world.clock.at += timedelta(seconds=200 if second == "janitor" else 1)
        world.run(an_act(world, second))
        world.go_on(Stop(0, fate) if fate else None)

        ends_well(world)
    assert steps > 4


# ---- three, any number of switches ----------------------------------------------------------------------------------

SWITCHES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 12), st.sampled_from([Fate.PAUSE] * 6 + [Fate.KILL, Fate.LOSE])),
    max_size=30,
)


@settings(max_examples=5_000 if settings().max_examples > MANY else 100)
@given(
    actors=st.lists(st.sampled_from(ACTORS), min_size=2, max_size=3),
    switches=SWITCHES,
    pauses=st.dictionaries(st.integers(0, 29), st.sampled_from([6, 200]), max_size=2),
)
def test_three_turns_in_any_order_of_their_steps(
    actors: Sequence[str], switches: Sequence[tuple[int, int, Fate]], pauses: dict[int, int]
) -> None:
    """Each switch lets one actor go on for some steps, or makes its next step its last; time may pass in between."""
    world = a_scene()
    for name in actors:
        world.run(an_act(world, name), Stop(0, Fate.PAUSE))
    begun = list(world.paused)
    for number, (actor, steps, fate) in enumerate(switches):
        world.clock.at += timedelta(seconds=pauses.get(number, 0))
        chosen = begun[actor % len(begun)] if begun else None
        if chosen is not None and not chosen.over:
            world.paused.remove(chosen)
            world.paused.insert(0, chosen)
            world.go_on(Stop(steps, fate))

    ends_well(world)

"""The whole delivery under whatever order of events: posts, turns, deaths, clock steps, a venue that lies in wait.

Real router, scheduler, job functions, orchestrator, executor, settlement, sweep and reconciliation over the memory
twins. A turn of any process may stop, die or lose its server before and after every call of a port.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.models import Outcome, TradingState
from tests.machine.checks import always, at_the_end
from tests.machine.posts import Post
from tests.machine.turns import Fate, Stop
from tests.machine.venue import Mood
from tests.machine.world import SYMBOLS, Incident, World, a_market, the_settings
from tests.market_builders import xnys

TURNS = st.sampled_from(["collect", "route", "schedule", "work", "work", "work", "work"])
MOST_PAUSED = 3
STOP = st.builds(Stop, st.integers(0, 60) | st.integers(0, 12), st.sampled_from([Fate.KILL, *Fate]))
STOPS = st.none() | STOP
INCIDENTS = st.builds(Incident, STOP, st.booleans())
SECONDS = st.sampled_from([0.2, 1, 5, 5, 20, 61, 200, 3600, -0.2, -3, -3600])


POSTS = st.builds(
    Post,
    opinion=st.sampled_from(["bullish", "bullish", "bullish", "bearish", "bearish", "neutral", None]),
    named=st.sampled_from([*SYMBOLS, "AAA", "AAA,BBB"]),
    urgent=st.booleans(),
    echo=st.sampled_from([False, False, False, False, True]),
    deliveries=st.integers(1, 3),
)
BURSTS = st.lists(POSTS, min_size=1, max_size=5)


@pytest.fixture(autouse=True, scope="module")
def _silence() -> Iterator[None]:
    """A million log lines need not be printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Fleet(RuleBasedStateMachine):
    """Rules are what may happen to a fleet; a rule that lets a process turn may also end or stop it at any step."""

    world: World

    @initialize(seed=st.integers(0, 5), limits=st.sampled_from([("0.15", 2), ("1", 1)]), posts=BURSTS)
    def begin(self, seed: int, limits: tuple[str, int], posts: list[Post]) -> None:
        self.world = World(a_market(seed), the_settings(*limits))
        self.posts = 0
        self.ended: dict[str, Outcome] = {}
        self.post(posts, "lists")

    # ---- what comes in -------------------------------------------------------------------------------------

    @rule(posts=BURSTS, reach=st.sampled_from(["source", "stream", "lists"]))
    def post(self, posts: list[Post], reach: str) -> None:
        for post in posts:
            self.posts += 1
            self.world.lines += [post.line(self.posts, self.world.clock.at)] * post.deliveries
        if reach != "source":
            self.world.run(self.world.collect)
        if reach == "lists":
            self.world.run(self.world.route)

    # ---- processes -----------------------------------------------------------------------------------------

    @rule(name=TURNS, stop=STOPS)
    def take_a_turn(self, name: str, stop: Stop | None) -> None:
        if len(self.world.paused) < MOST_PAUSED:
            self.world.run(getattr(self.world, name), stop and replace(stop))

    @rule(incidents=st.dictionaries(st.integers(0, 12), INCIDENTS, max_size=2))
    def everybody_takes_turns(self, incidents: dict[int, Incident]) -> None:
        self.world.round(incidents if len(self.world.paused) < MOST_PAUSED else {})

    @precondition(lambda self: self.world.paused)
    @rule(stop=STOPS)
    def whoever_stands_still_goes_on(self, stop: Stop | None) -> None:
        self.world.go_on(stop and replace(stop))

    @rule(incident=INCIDENTS, at=st.integers(0, 12), seconds=st.sampled_from([0, 5, 61]))
    def time_passes_for_everybody(self, incident: Incident, at: int, seconds: float) -> None:
        self.world.clock.at += timedelta(seconds=seconds)
        self.world.round({at: incident} if len(self.world.paused) < MOST_PAUSED else {})

    @precondition(lambda self: self.world.paused)
    @rule()
    def who_stands_still_is_taken_for_dead(self) -> None:
        self.world.suspect()

    # ---- the world around ------------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def step_the_clock(self, seconds: float) -> None:
        self.world.clock.at += timedelta(seconds=seconds)

    @rule(open_=st.booleans(), seconds=st.sampled_from([-5, 0, 5]))
    def change_the_session(self, *, open_: bool, seconds: int) -> None:
        now = self.world.clock.at
        at = xnys().next_open(now) if open_ else xnys().session_of(now).close
        self.world.clock.at = at + timedelta(seconds=seconds)

    @rule(mood=st.sampled_from([Mood.GOOD, *Mood]), arrive=st.booleans())
    def change_the_venues_mood(self, mood: Mood, *, arrive: bool) -> None:
        self.world.wire.mood = mood
        if arrive:
            self.world.arrive()

    @rule(order=st.sampled_from([TradingState.ACTIVE, *TradingState, "flatten"]), stop=STOPS)
    def a_person_orders(self, order: str, stop: Stop | None) -> None:
        if order == "flatten":
            self.world.run(self.world.flatten, stop and replace(stop))
        else:
            self.world.control.set(TradingState(order), "ann", "test", self.world.clock.at)

    # ---- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def nothing_forbidden_was_seen(self) -> None:
        if hasattr(self, "world"):
            always(self.world, self.ended)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.quiet()
            always(self.world, self.ended)
            at_the_end(self.world)


@pytest.mark.timeout(3_600)
def test_whatever_happens_every_message_ends_once_and_no_limit_is_passed() -> None:
    """One end a leg, one order a decision, one book, no limit passed, nothing left: see `tests.machine.checks`."""
    long_run = settings().max_examples > 1_000
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=3_000 if long_run else 150,
            stateful_step_count=60 if long_run else 40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

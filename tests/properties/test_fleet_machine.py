"""The whole delivery under whatever order of events: posts, turns, deaths, clock steps, a venue that lies in wait.

Real router, scheduler, job functions, orchestrator, executor, settlement, sweep and reconciliation over the memory
twins. A turn of any process may stop, die or lose its server before and after every call of a port.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import orjson
import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test

from pipeline.errors import TransientError
from pipeline.models import Outcome, TradingState
from tests.machine.checks import always, at_the_end
from tests.machine.turns import Fate, Killed, Stop, Turn
from tests.machine.venue import Mood
from tests.machine.world import SYMBOLS, Process, World, a_market, the_settings
from tests.market_builders import xnys

STEPS = st.integers(0, 60)
TURNS = st.sampled_from(["collect", "route", "schedule", "work", "work", "work", "work"])
OPINIONS = st.sampled_from(["bullish", "bullish", "bearish", "neutral"])
NAMED = st.sampled_from([*SYMBOLS, *SYMBOLS, "AAA,BBB"])
POSTS = st.tuples(OPINIONS, NAMED, st.booleans(), st.sampled_from([False] * 5 + [True]), st.integers(1, 3))
SECONDS = st.sampled_from([0.2, 1, 5, 5, 20, 61, 200, 3600, -0.2, -3, -3600])


@pytest.fixture(autouse=True, scope="module")
def _silence() -> Iterator[None]:
    """A million log lines need not be printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Fleet(RuleBasedStateMachine):
    """Rules are what may happen to a fleet; a rule that lets a process turn may also end or stop it at any step."""

    world: World

    @initialize(seed=st.integers(0, 5), gross=st.sampled_from(["0.15", "1"]))
    def begin(self, seed: int, gross: str) -> None:
        self.world = World(a_market(seed), the_settings(gross))
        self.posts = 0
        self.paused: list[Turn] = []
        self.ended: dict[str, Outcome] = {}

    # ---- what comes in -------------------------------------------------------------------------------------

    @rule(posts=st.lists(POSTS, min_size=1, max_size=4))
    def post_and_route(self, posts: list[tuple[str, str, bool, bool, int]]) -> None:
        self.post(posts)
        self.world.run(self.world.collect(100))
        self.world.run(self.world.route)

    @rule(posts=st.lists(POSTS, min_size=1, max_size=4))
    def post(self, posts: list[tuple[str, str, bool, bool, int]]) -> None:
        for opinion, named, urgent, echo, deliveries in posts:
            self.posts += 1
            words = f"{opinion} {0.95 if urgent else 0.7} {named}"
            line = {
                "id": str(self.posts),
                "created_at": self.world.clock.at.isoformat(),
                "source": "t",
                "author": f"author-{self.posts}",
                "text": words if echo else f"{words} {self.posts}",
            }
            self.world.lines += [orjson.dumps(line)] * deliveries

    @rule(line=st.sampled_from([b"", b"[]", b"no line", b"\xff"]))
    def garbage(self, line: bytes) -> None:
        self.world.lines.append(line)

    # ---- processes -----------------------------------------------------------------------------------------

    @rule(name=TURNS)
    def run_turn(self, name: str) -> None:
        self.world.run(self.turn(name))

    @rule(name=TURNS, steps=STEPS, fate=st.sampled_from([Fate.KILL, Fate.KILL, Fate.LOSE]))
    def die_in_a_turn(self, name: str, steps: int, fate: Fate) -> None:
        self.world.run(self.turn(name), Stop(steps, fate))

    @precondition(lambda self: len(self.paused) < 2)
    @rule(name=TURNS, steps=STEPS)
    def stop_in_a_turn(self, name: str, steps: int) -> None:
        begun = self.world.pause(self.turn(name), steps)
        if not begun.over:
            self.paused.append(begun)

    @precondition(lambda self: self.paused)
    @rule(steps=STEPS)
    def go_on_for_a_while(self, steps: int) -> None:
        self.let(self.paused.pop(0), Stop(steps, Fate.PAUSE))

    @precondition(lambda self: self.paused)
    @rule(fate=st.sampled_from([None, Fate.KILL, Fate.LOSE]))
    def go_on_to_the_end(self, fate: Fate | None) -> None:
        self.let(self.paused.pop(0), fate and Stop(0, fate))

    @rule()
    def stopped_workers_are_taken_for_dead(self) -> None:
        for job in self.world.queues.jobs.values():
            job.lost = True
        self.world.queues.cleanup()

    @rule()
    def everybody_takes_turns(self) -> None:
        self.world.round()

    # ---- the world around ------------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def step_the_clock(self, seconds: float) -> None:
        self.world.clock.at += timedelta(seconds=seconds)

    @rule(open_=st.booleans(), seconds=st.sampled_from([-5, 0, 5]))
    def change_the_session(self, *, open_: bool, seconds: int) -> None:
        now = self.world.clock.at
        at = xnys().next_open(now) if open_ else xnys().session_of(now).close
        self.world.clock.at = at + timedelta(seconds=seconds)

    @rule(mood=st.sampled_from([Mood.GOOD, *Mood]))
    def change_the_venues_mood(self, mood: Mood) -> None:
        self.world.wire.mood = mood

    @rule()
    def late_requests_arrive(self) -> None:
        self.world.arrive()

    @rule(state=st.sampled_from([TradingState.ACTIVE, *TradingState]))
    def order_a_trading_state(self, state: TradingState) -> None:
        self.world.control.set(state, "ann", "test", self.world.clock.at)

    @rule(stop=st.one_of(st.none(), st.builds(Stop, STEPS, st.just(Fate.KILL))))
    def flatten(self, stop: Stop | None) -> None:
        self.world.run(self.world.flatten, stop)

    # ---- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def nothing_forbidden_was_seen(self) -> None:
        if hasattr(self, "world"):
            always(self.world, self.ended)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for begun in self.paused:
            self.let(begun, None)
        self.world.quiet()
        always(self.world, self.ended)
        at_the_end(self.world)

    # ---- inside ------------------------------------------------------------------------------------------------

    def turn(self, name: str) -> Callable[[Process], None]:
        """The turn of this name; work of the queue with the most urgent job."""
        world = self.world
        waiting = world.queues.waiting() or ["maintenance"]
        turns = {"collect": world.collect(5), "route": world.route, "schedule": world.schedule}
        return turns.get(name) or world.work(waiting[0])

    def let(self, begun: Turn, stop: Stop | None) -> None:
        """Go on; a turn that stopped again waits behind the other."""
        try:
            begun.go_on(stop)
        except (Killed, TransientError):
            self.world.deaths += 1
        if not begun.over:
            self.paused.append(begun)


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

"""One chaos run: a fleet under fire, then quiet, then the promises."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final

from config.settings import load_settings
from tests.chaos.crew import ChaosRuntime, ForkedCrew
from tests.chaos.feed import COLD, SYMBOLS, Feed, SourceFile
from tests.chaos.market import ShortSessions, write_market
from tests.chaos.points import Points
from tests.chaos.production import CASH, LIMITS, ROLES, SETTINGS
from tests.chaos.promises import Evidence, at_limit, broken, leg_states, unsent, untold_alarms, waiting
from tests.chaos.report import Plan, Report, short_of
from tests.venue.process import VenueProcess
from tests.venue.toxics import Toxic
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE

READY_S: Final = 30.0
QUIET_S: Final = 300.0
UNSENT_S: Final = 90.0  # what nobody sends is forgotten in a minute
HOPELESS: Final = 2.5  # times its bound: how long a run waits for its first order
MOVE_EVERY_S: Final = 0.3
TOUCHED, TO_TARGET, BEYOND = 0.8, 0.6, Decimal("6.5")  # of the positions each time, of those; dollars from the entry
UPSET_EVERY_S: Final = 1.0
ACCOUNT_LOST: Final = 0.03  # of the upsets
STOP_REFUSED: Final = 0.3  # same
LOOK_S: Final = 0.02
TOP_UP_BELOW: Final = 40
COLLECTED: Final = 0.3  # of the deliveries, one more that the collector reads
SOURCE: Final = "posts.jsonl"
FEW: Final = 5


class ChaosRun:
    """A fleet, its market, its venue and its executioner, in one folder."""

    roles: ClassVar[dict[str, int]] = {}  # numbers of processes that differ from ROLES

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say, self._folder = plan, say, folder
        self._dice = random.Random(plan.seed)
        self._feed = Feed(plan.seed)
        self._deliveries = 0
        self._unmet: list[str] = []
        self._next_move = self._next_upset = 0.0
        self._orders = 0

    def run(self) -> Report:
        """Everything; the report."""
        begun = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "logs").mkdir(exist_ok=True)
        self._points = Points(self._folder, self._plan.seed)
        start = datetime.now(UTC)  # noqa: TID251 - the wall clock of this machine is the market's
        write_market(self._folder, list(SYMBOLS), ShortSessions(start), start)
        with VenueProcess(cash=str(CASH)) as venue, EmbeddedServer(self._folder / "redis") as server:
            self._venue, self._server = venue, server
            environ = SETTINGS | venue.environment() | self._environment(server.url)
            self._fleet = ChaosRuntime(load_settings(environ=environ), start=start)
            self._file = SourceFile(self._folder / SOURCE, self._fleet.intake())
            self._crew = ForkedCrew(
                lambda: ChaosRuntime(load_settings(environ=environ), start=start),
                ROLES | self.roles,
                self._points,
                self._folder / "logs",
            )
            try:
                return self._through(begun)
            finally:
                self._crew.shut_down()

    def _through(self, begun: float) -> Report:
        fleet = self._fleet
        fleet.initialise_if_empty("chaos", fleet.clock.now())
        self._arm()
        self._crew.crew.wait_until_ready(sum(n for role, n in (ROLES | self.roles).items() if role.startswith("work-")))
        left = self._rounds(begun)
        report = self._judge(begun)
        report.broken += [f"not quiet after {QUIET_S:g} s: {left}"] if left else []
        return report

    def _rounds(self, begun: float) -> dict[str, int]:
        """Fire, then rest; what does not come to rest. Who meets a new point in the calm dies there all the same."""
        self._fire(begun)
        self._points.calm()
        self._say("calm: nobody dies at a point that is known")
        left = self._come_to_rest()
        self._points.peace()
        self._unmet = [str(point) for point in self._points.untested()]
        return left | self._end()

    def _arm(self) -> None:
        self._points.arm(self._plan.every_s, self._plan.again)

    def _environment(self, url: str) -> dict[str, str]:
        return {
            "FLEET_REDIS__URL": url,
            "FLEET_DATA_DIR": str(self._folder),
            "FLEET_SOURCE__PATH": str(self._folder / SOURCE),
            "FLEET_SOURCE__TAIL": "true",
            "FLEET_MARKET__BARS_DIR": str(self._folder / "bars"),
            "FLEET_MARKET__DAILY_BARS_DIR": str(self._folder / "daily"),
        }

    # ---- under fire --------------------------------------------------------------------------------------

    def _fire(self, begun: float) -> None:
        """Posts, deaths, market moves, until the plan is fulfilled."""
        plan = self._plan
        if plan.toxics:
            self._venue.set_random(plan.seed, plan.toxics, max_seconds=0.5)
        shown = time.monotonic()
        while not self._done(time.monotonic() - begun):
            self._tend()
            self._post()
            self._move()
            self._upset()
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                self._say(self._progress(shown - begun))
        self._venue.heal()

    def _done(self, seconds: float) -> bool:
        plan = self._plan
        if seconds < plan.min_s:
            return False
        if seconds >= plan.max_s:
            return bool(self._orders) or seconds >= HOPELESS * plan.max_s
        enough = self._fleet.journal.tally().get("legs", 0) >= plan.legs and self._orders >= plan.orders
        return enough and not self._points.untested()

    def _progress(self, seconds: float) -> str:
        points = self._points.counts()
        tested = sum(1 for count in points.values() if count.killed)
        kills = sum(count.killed for count in points.values())
        tally, few = self._fleet.journal.tally(), self._points.untested()
        return (
            f"{seconds:5.0f} s  {kills} kills, {tested} of {len(points)} points, "
            f"{tally.get('legs', 0)} legs, {self._orders} orders, "
            f"{self._fleet.inbox.waiting()} to route, jobs {list(self._fleet.queues.depths().values())}"
            f"{''.join(f'; to be tested: {point}' for point in few[:2]) if len(few) <= FEW else ''}"
        )

    def _post(self) -> None:
        """Deliver the next posts one to three times, while the fleet keeps up."""
        depths = self._fleet.queues.depths()
        if max(depths[IMMEDIATE], depths[CONSENSUS], self._fleet.inbox.waiting()) > TOP_UP_BELOW:
            return
        if self._dice.random() < COLLECTED:
            self._feed.made += self._file.write([self._dice.choice(COLD)], self._fleet.clock.now())
        client: Any = self._fleet.client
        for post in self._feed.some(self._dice.randint(1, 6), self._fleet.clock.now()):
            times = self._feed.times()
            self._deliveries += times
            self._fleet.inbox.append([post] * self._dice.randint(1, times))
            for _ in range(times - 1):  # the stream itself says it again
                client.xadd(self._fleet.keys.analyzed(), {"id": post.message_id})

    def _move(self) -> None:
        """The market touches the target, sometimes the stop, of a symbol."""
        if time.monotonic() < self._next_move:
            return
        self._next_move = time.monotonic() + MOVE_EVERY_S
        book = self._close_sessions()
        self._orders = int(book["orders"])
        touched = [position for position in book["positions"] if self._dice.random() < TOUCHED]
        self._venue.moves([move for one in touched for move in self._there_and_back(one)], self._now())

    def _close_sessions(self) -> dict[str, Any]:
        """Orders whose sessions are over work no longer, whatever the venue did with them; its book before that."""
        book = self._venue.summary()
        for order in book["working"]:
            if order["good_until"] < self._now():
                self._venue.expire(order["client_order_id"], order["good_until"])
        return book

    def _there_and_back(self, position: dict[str, Any]) -> list[tuple[str, str]]:
        """A price beyond target or stop, and the one it was bought at again."""
        price = Decimal(position["cost"]) / int(position["quantity"])
        up = self._dice.random() < TO_TARGET
        way = Decimal(1 if (int(position["quantity"]) > 0) == up else -1)
        return [(position["symbol"], f"{at:.2f}") for at in (price + way * BEYOND, price)]

    def _upset(self) -> None:
        """Somebody is asked to end; the server forgets its scripts, as after a restart, and now and then the account.

        The book then begins anew with what the venue has. Or the venue refuses a stop. RQ's lock on its clean-up, which
        a dead worker holds for 15 minutes, times out.
        """
        if time.monotonic() < self._next_upset:
            return
        self._next_upset = time.monotonic() + UPSET_EVERY_S
        self._crew.ask_one_to_end(self._dice)
        rq: Any = self._fleet.rq_client
        for key in rq.keys("rq:clean_registries:*"):
            rq.delete(key)
        rq.script_flush()
        if self._dice.random() < ACCOUNT_LOST:
            rq.delete(self._fleet.keys.account())
        if self._dice.random() < STOP_REFUSED:
            self._venue.poison(Toxic("no_stop"))

    def _now(self) -> str:
        return self._fleet.clock.now().isoformat()

    def _tend(self) -> None:
        self._crew.crew.tend()
        self._crew.poll()
        time.sleep(LOOK_S)

    # ---- quiet -------------------------------------------------------------------------------------------

    def _come_to_rest(self) -> dict[str, int]:
        """Let the fleet finish, then close what is held; what is left."""
        deadline = time.monotonic() + QUIET_S
        return self._wait_for(self._settled, deadline) or self._wait_for(self._flat, deadline)

    def _settled(self) -> dict[str, int]:
        """What is not finished but what the venue holds; sessions go on closing meanwhile."""
        self._close_sessions()
        return {name: count for name, count in self._unfinished().items() if name != "open intents"}

    def _unfinished(self) -> dict[str, int]:
        """What is not finished, posts that the collector has not read included."""
        unread = len(self._feed.made) - self._fleet.journal.tally().get("accepted", 0)
        return waiting(self._fleet) | ({"posts to collect": unread} if unread > 0 else {})

    def _end(self) -> dict[str, int]:
        """End the processes in good order; who did not."""
        stuck = self._crew.end("collect", "schedule")
        self._wait_for(lambda: {"jobs": n} if (n := self._fleet.queues.busy()) else {}, time.monotonic() + READY_S)
        stuck += self._crew.end("route", "work")
        untold = self._wait_for(
            lambda: {"untold alarms": n} if (n := len(untold_alarms(self._fleet))) else {}, time.monotonic() + READY_S
        )
        stuck += [*untold, *self._crew.end("watch")]
        stuck += self._wait_for(lambda: unsent(self._fleet), time.monotonic() + UNSENT_S)
        return {"stuck " + name: 1 for name in stuck}

    def _flat(self) -> dict[str, int]:
        """Nothing is open at the venue nor with us; the market goes where targets are until it is so."""
        summary = self._venue.summary()
        for order in summary["working"]:
            self._venue.expire(order["client_order_id"], self._now())
        for position in summary["positions"]:
            price = Decimal(position["cost"]) / int(position["quantity"])
            way = Decimal(1 if int(position["quantity"]) > 0 else -1)
            self._venue.move(position["symbol"], f"{price + way * BEYOND:.2f}", self._now())
        return self._unfinished()

    def _wait_for(self, look: Callable[[], dict[str, int]], deadline: float) -> dict[str, int]:
        """Tend until `look` finds nothing; what it found last."""
        shown = time.monotonic()
        while left := look():
            if time.monotonic() > deadline:
                return left
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                self._say(f"       waiting for {left}")
            for _ in range(5):
                self._tend()
        return {}

    def _judge(self, begun: float) -> Report:
        book = self._venue.book()
        evidence = Evidence(self._fleet, self._feed.made, book, LIMITS, CASH)
        points, symbols = self._points.counts(), at_limit(evidence)
        legs = dict(Counter(str(state) for state in leg_states(self._fleet).values()))
        return Report(
            seed=self._plan.seed,
            seconds=round(time.monotonic() - begun, 1),
            posts=len(self._feed.made),
            deliveries=self._deliveries,
            legs=legs,
            orders=len(book.orders),
            asked=sum(book.asked.values()),
            kills=sum(count.killed for count in points.values()),
            lives=self._crew.lives,
            at_limit=sorted(symbols),
            rules={name: n for name, n in self._fleet.journal.tally().items() if name.startswith("rule:")},
            points=points,
            untested=self._unmet,
            short_of=short_of(self._plan, sum(legs.values()), len(book.orders), len(symbols)),
            broken=broken(evidence),
        )


def chaos(folder: Path, plan: Plan, say: Callable[[str], None] = lambda _line: None) -> Report:
    """Run the plan in `folder`."""
    os.environ.pop("FLEET_PROFILE", None)
    return ChaosRun(folder, plan, say).run()

"""The judge of a run: a small one that kept every promise, and each promise broken by hand, which it must name."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.models import Fill, FillRole, OrderReport, OrderStatus, Outcome, Side
from tests.chaos.market import ShortSessions
from tests.chaos.promises import Evidence, Limits, broken
from tests.delivery import a_message, a_result, a_runtime
from tests.money import NOW, D, a_request, a_signal, an_order
from tests.venue import VenueBook
from workers.adapters.alarms import Alarm
from workers.wiring import Runtime

CASH = D(100_000)
DEMO = Path(__file__).parents[2] / "config" / "demo"
ALARM = Alarm("halted", "", "by ann", NOW)
LIMITS = Limits(D("0.02"), D("0.03"), 3, same_side_s=60, per_symbol_per_minute=2, per_minute=4)


class Scene:
    """Two posts, one of them traded: bought at 100, sold at its target; and the venue's own book of it."""

    def __init__(self, fleet: Runtime, now: datetime) -> None:
        self.fleet, self.now = fleet, now
        self.client: Any = fleet.client
        self.venue = VenueBook(cash=str(CASH), remembers_ids=False)
        self.posts = [a_message("m1", at=now), a_message("m2", at=now, symbols=())]
        fleet.inbox.open_group()
        fleet.inbox.append(self.posts)
        entries = fleet.inbox.take("judge", 9).deliveries
        fleet.inbox.acknowledge([entry.entry_id for entry in entries])
        self.client.hincrby(fleet.keys.tally(), "legs", 2)
        self.ends("m2:-", Outcome.NO_SYMBOL)
        self.trades("o-1", "m1:AAA")

    def ends(self, decision: str, outcome: Outcome) -> None:
        """Record it."""
        self.fleet.journal.record([(a_result(decision, outcome, at=self.now, refusal=None), (decision,))])

    def asks(self, name: str, decision: str, symbol: str = "AAA", *, after_s: float = 0, **facts: Any) -> Any:
        """The order reaches the venue and is filled there."""
        at = self.now + timedelta(seconds=after_s)
        order = an_order(symbol, client_order_id=name, decision_id=decision, submitted_at=at, **facts)
        self.venue.asked(name)
        body = {
            "client_order_id": name,
            "decision_id": decision,
            "symbol": symbol,
            "side": order.side.value,
            "quantity": order.quantity,
            "reference": str(order.levels.reference),
            "stop_distance": "2",
            "target_distance": "4",
            "submitted_at": at.isoformat(),
            "reduce_only": order.reduce_only,
        }
        self.venue.place(body)
        return order

    def trades(self, name: str, decision: str) -> None:
        """There and back, in both books."""
        order = self.asks(name, decision)
        self.venue.move("AAA", "104", self.now.isoformat())
        self.fleet.intents.create(order)
        assert self.fleet.intents.mark_sent(name, self.now, self.now + timedelta(days=1)) is None
        fills = tuple(
            Fill(f"{name}-{n}", name, "AAA", side, 10, D(price), D(0), self.now, role)
            for n, side, price, role in ((1, Side.BUY, 100, FillRole.ENTRY), (2, Side.SELL, 104, FillRole.TARGET))
        )
        for fill in fills:
            self.fleet.ledger.apply(decision, fill, self.fleet.sessions.session_of(self.now))
        report = OrderReport(name, "AAA", OrderStatus.FILLED, 10, fills, closed=True)
        self.fleet.intents.booked(name, report)
        self.ends(decision, Outcome.EXECUTED)
        self.fleet.intents.acknowledge([name])

    def judged(self, limits: Limits = LIMITS) -> list[str]:
        """What is broken."""
        return broken(Evidence(self.fleet, self.posts, self.venue.copy(), limits, CASH))


@pytest.fixture
def scene(server_url: str, redis_client: redis.Redis, tmp_path: Path) -> Scene:
    """On an empty server."""
    folders = {"FLEET_MARKET__BARS_DIR": str(DEMO / "bars"), "FLEET_MARKET__DAILY_BARS_DIR": str(DEMO / "daily")}
    fleet = a_runtime(server_url, tmp_path, "paper", **folders)
    now = fleet.clock.now()
    vars(fleet).update(sessions=ShortSessions(now))
    return Scene(fleet, now)


def test_a_run_that_kept_its_promises_has_nothing_to_say(scene: Scene) -> None:
    """The near miss of everything below."""
    assert scene.judged() == []


def unsent(scene: Scene, name: str, **fields: str) -> None:
    """Change what the intent says."""
    scene.client.hset(scene.fleet.keys.intent(name), mapping=fields)


def outcome_of(scene: Scene, leg: str, state: str) -> None:
    """Change what an end says, and its counters alike."""
    before = scene.client.hget(scene.fleet.keys.outcome(leg), "state")
    scene.client.hset(scene.fleet.keys.outcome(leg), "state", state)
    scene.client.hincrby(scene.fleet.keys.tally(), f"leg:{before}", -1)
    scene.client.hincrby(scene.fleet.keys.tally(), f"leg:{state}", 1)


def job(scene: Scene) -> None:
    """A job that nobody runs."""
    scene.fleet.queues.enqueue("immediate", "trade", "urgent-x", ("m", "AAA"), "d")


def thrice(scene: Scene) -> None:
    """Sold, and bought again a minute after the first time, less than a minute after the sale."""
    scene.asks("o-2", "x", side=Side.SELL, after_s=30)
    scene.asks("o-3", "x", after_s=60)
    scene.asks("o-4", "x", side=Side.SELL, after_s=89)


def much(scene: Scene) -> None:
    """Three symbols, none of them too much: 1,000, 1,000 and 1,100 dollars."""
    for name, quantity in (("2", 10), ("3", 10), ("4", 11)):
        scene.asks(f"o-{name}", "x", name, quantity=quantity)


DAMAGES: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "a leg is lost": ("legs: m2:- ended as None", lambda s: s.client.delete("fleet:outcome:m2:-")),
    "a leg never ends": ("legs: m2:- ended as buffered", lambda s: outcome_of(s, "m2:-", "buffered")),
    "a leg is nobody's": ("legs: m9:AAA is nobody's leg", lambda s: s.ends("m9:AAA", Outcome.EXPIRED)),
    "an end is counted twice": ("tally: counted", lambda s: s.client.hincrby("fleet:tally", "leg:executed", 1)),
    "a leg is opened twice": ("tally: 3 legs counted", lambda s: s.client.hincrby("fleet:tally", "legs", 1)),
    "a message is accepted twice": ("tally: accepted 3", lambda s: s.client.hincrby("fleet:tally", "accepted", 1)),
    "an order is made twice": ("orders: o-1 was made 2 times", lambda s: s.asks("o-1", "m1:AAA")),
    "an order is asked for twice": ("orders: o-1 was asked for 2 times", lambda s: s.venue.asked("o-1")),
    "an order has no intent": (
        "orders: order o-2 at the venue has no intent",
        lambda s: s.asks("o-2", "x", after_s=60),
    ),
    "an intent is open": ("orders: order o-1 is SENT", lambda s: unsent(s, "o-1", state="SENT")),
    "an entry is not settled": ("orders: order o-1 is DONE, settled 0", lambda s: unsent(s, "o-1", settled="0")),
    "a decision has two orders": (
        "orders: decision m1:AAA sent 2 orders",
        lambda s: s.client.copy("fleet:intent:o-1", "fleet:intent:o-2"),
    ),
    "an order that filled is none": ("reports: m1:AAA ended unfilled", lambda s: outcome_of(s, "m1:AAA", "unfilled")),
    "an end without its order": ("reports: m2:- ended executed", lambda s: outcome_of(s, "m2:-", "executed")),
    "cash went": ("books: our cash is", lambda s: s.client.hincrby("fleet:account", "cash_micro", 20_000)),
    "shares went": ("books: we hold", lambda s: s.client.hdel("fleet:positions", "AAA") or s.asks("o-2", "m1:AAA")),
    "too much of a symbol": ("limits: event 4: AAA at 2100", lambda s: s.asks("o-2", "x", after_s=60, quantity=21)),
    "too much in all": ("limits: event 8: 3100", much),
    "too many symbols": (
        "limits: event 10: 4 symbols",
        lambda s: [s.asks(f"o-{n}", "x", f"S{n}") for n in range(2, 6)],
    ),
    "the same side too soon": ("rates: buy AAA: 2 entries in 60 s", lambda s: s.asks("o-2", "x", after_s=59.999)),
    "too often in a symbol": ("rates: AAA: 3 entries in 60 s", thrice),
    "too often in all": ("rates: 5 entries in 60 s", lambda s: [s.asks(f"o-{n}", "x", f"S{n}") for n in range(2, 6)]),
    "the fleet reduced itself": ("permission: REDUCING", lambda s: s.fleet.control.reduce("reconcile", "drift", s.now)),
    "a message waits": ("left_behind: 1 messages to route", lambda s: s.fleet.inbox.append([a_message("m3")])),
    "a list waits": ("left_behind: 1 lists", lambda s: s.client.rpush("fleet:batch:AAA", "v")),
    "an index is left": ("left_behind: 1 symbols in", lambda s: s.client.zadd("fleet:batches", {"AAA": 1})),
    "a claim is left": ("left_behind: 1 claims", lambda s: s.client.zadd("fleet:claims", {"AAA-1": 1})),
    "a claimed list is left": ("left_behind: 1 claimed lists", lambda s: s.client.rpush("fleet:claim:AAA-1", "v")),
    "a follow-up is left": ("left_behind: 1 follow-ups", lambda s: s.client.zadd("fleet:followups", {"{}": 1})),
    "a signal is held": ("left_behind: 2 held", lambda s: s.fleet.ledger.hold(a_signal("BBB"), s.now)),
    "a reservation is left": ("left_behind: 1 reservations", lambda s: s.fleet.ledger.reserve(a_request("BBB"))),
    "an intent is left": ("left_behind: 1 open intents", lambda s: s.client.sadd("fleet:open-intents", "o-9")),
    "a strike is left": ("left_behind: 1 strikes", lambda s: s.client.set("fleet:strikes:j", 1, ex=60)),
    "a job is left": ("left_behind: 1 jobs queued on immediate", job),
    "a job was taken": ("left_behind: 1 jobs taken", lambda s: s.client.rpush("rq:queue:immediate:intermediate", "j")),
    "nobody is told of an alarm": ("alarms: nobody was told of", lambda s: s.fleet.alarms.sound(ALARM)),
    "a key lives for ever": ("lives: fleet:message:m7 has no TTL", lambda s: s.client.set("fleet:message:m7", "x")),
}


@pytest.mark.parametrize(("words", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_broken_promise_is_named(scene: Scene, words: str, damage: Callable[[Scene], object]) -> None:
    """One thing amiss, and the judge says which."""
    damage(scene)

    assert [fault for fault in scene.judged() if fault.startswith(words)], scene.judged()


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (replace(LIMITS, position=Decimal("0.009")), "limits: event 1: AAA at 1000"),
        (replace(LIMITS, gross=Decimal("0.009")), "limits: event 1: 1000"),
        (replace(LIMITS, open_positions=0), "limits: event 1: 1 symbols"),
        (replace(LIMITS, per_minute=0), "rates: 1 entries in 60 s"),
        (replace(LIMITS, per_symbol_per_minute=0), "rates: AAA: 1 entries in 60 s"),
    ],
)
def test_each_limit_is_held_against_the_venues_own_events(scene: Scene, limits: Limits, fault: str) -> None:
    """Ten shares at 100 dollars of 100,000 are 1 %."""
    assert any(found.startswith(fault) for found in scene.judged(limits)), scene.judged(limits)

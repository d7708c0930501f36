"""What must hold of a world: at every moment, and once everything came to its end."""

from collections.abc import Iterable
from datetime import timedelta

import orjson

from pipeline.executor import FLATTEN_PREFIX
from pipeline.models import TERMINAL, BracketOrder, Outcome
from pipeline.risk import RiskSettings
from tests.machine.venue import Mood
from tests.machine.world import World
from tests.market_builders import xnys

MINUTE = timedelta(seconds=60)
OURS = ("TransientError", "BrokerError", "TakenOverError", "killed or stuck")
FATES = {"filled": Outcome.EXECUTED, "rejected": Outcome.BROKER_REJECTED}


def always(world: World, ended: dict[str, Outcome]) -> None:
    """Nothing was found, no end was changed, no process failed but for the faults it met; `ended` is kept up."""
    assert world.findings == []
    now = world.journal.outcomes
    assert {name: now[name] for name in ended} == ended
    ended |= {name: outcome for name, outcome in now.items() if outcome in TERMINAL}
    worker = [letter.detail for letter in world.inbox.letters if letter.stage == "worker"]
    assert [detail for detail in worker if not detail.startswith(OURS)] == []


def at_the_end(world: World) -> None:
    """Every message has its ends, every order its decision, both books agree, and nothing is left behind."""
    every_message_ended(world)
    every_order_is_ours(world)
    the_books_agree(world)
    nothing_is_left(world)
    rates_were_kept(world.store.entries, world.settings.risk)


def every_message_ended(world: World) -> None:
    """Read = accepted + refused; accepted messages have legs; each leg and each decision is at its end."""
    refused = {letter.raw for letter in world.inbox.letters if letter.refused}
    posts = {f"t-{orjson.loads(line)['id']}" for line in world.lines if line not in refused}
    assert world.read == len(world.lines)
    assert posts <= world.inbox.bodies.keys()
    assert len(world.inbox.bodies.keys() - posts) <= len(refused & set(world.lines))
    assert {leg.split(":")[0] for leg in world.journal.legs} == world.inbox.bodies.keys()
    assert {name: end for name, end in world.journal.outcomes.items() if end not in TERMINAL} == {}


def every_order_is_ours(world: World) -> None:
    """One order a decision at most, each written down by us before; the decision's end is the order's fate."""
    orders = {name: state for name, state in world.store._orders.items() if name.startswith("entry")}
    assert len({state.order.decision_id for state in orders.values()}) == len(orders)
    for name, state in world.store._orders.items():
        intent = world.intents.get(name)
        assert intent is not None
        assert (intent.order, intent.state, intent.report) == (state.order, "DONE", state.report)
        if not state.order.decision_id.startswith(FLATTEN_PREFIX):
            expected = Outcome.EXECUTED if state.fills else FATES.get(state.status, Outcome.UNFILLED)
            assert world.journal.outcome(state.order.decision_id) is expected
    traded = {Outcome.EXECUTED, Outcome.BROKER_REJECTED}
    decided = {name for name, result in world.journal.results.items() if result.outcome in traded}
    assert decided <= {state.order.decision_id for state in world.store._orders.values()}


def the_books_agree(world: World) -> None:
    """Cash to the cent's last digit, shares, and each fill booked once."""
    book = world.ledger.snapshot(xnys().session_of(world.clock.at))
    filled = {fill.fill_id for state in world.store._orders.values() for fill in state.fills}
    assert book.cash == world.store.cash()
    held = {symbol: position.quantity for symbol, position in world.store.holdings().items()}
    assert {symbol: position.quantity for symbol, position in book.positions.items()} == held
    assert {fill_id for _, fill_id in world.ledger._fills} == filled
    assert len(world.ledger._fills) == len(filled)
    assert [alarm for alarm in world.alarms.open() if alarm.code == "book_drift"] == []


def nothing_is_left(world: World) -> None:
    """No entry, vote, claim, lease, job, follow-up, reservation, held signal or open intent."""
    assert world.wire.mood is Mood.GOOD
    assert (world.inbox.waiting(), world.inbox._pending, world.backlog.sizes()) == (0, {}, {})
    assert (world.backlog._claims, world.backlog.deadlines, world.followups.waiting) == ({}, {}, {})
    assert (world.ledger.reservations(), world.ledger._held, world.intents.open()) == ({}, {}, ())
    assert world.queues.busy() == 0


def rates_were_kept(entries: Iterable[BracketOrder], limits: RiskSettings) -> None:
    """In no minute, by the moments the entries were decided at, more than allowed: in all, a symbol, a side."""
    rows = sorted(entries, key=lambda order: order.submitted_at)
    for row in rows:
        minute = [one for one in rows if row.submitted_at - MINUTE < one.submitted_at <= row.submitted_at]
        symbol = [one for one in minute if one.symbol == row.symbol]
        assert len(minute) <= limits.max_per_minute
        assert len(symbol) <= limits.max_per_symbol_per_minute
        assert sum(one.side is row.side for one in symbol) <= 1

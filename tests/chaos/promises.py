"""What must hold when all is quiet, from three witnesses: outcomes, the venue's own book, and the whole keyspace."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pipeline.models import AnalyzedMessage, Outcome, TradingState
from pipeline.router import leg_id
from tests.chaos.crew import TOLD
from tests.venue.book import Book, Event
from workers.adapters.keys import to_ms
from workers.adapters.rq_factory import QUEUES, started
from workers.wiring import Runtime

INTERIM: Final = frozenset({Outcome.BUFFERED, Outcome.HELD, Outcome.SUBMITTED})
SLACK: Final = Decimal("0.01")  # dollars
MARKED: Final = Decimal("1.005")  # our equity over the venue's: we value at quotes, the venue at its last trade
#: Keys without a TTL that a fleet keeps for good or that have a bound of their own.
KEPT: Final = re.compile(
    r"fleet:(state|control|control-history|alarms|open-alarms|environment|tally|analyzed|dead|account|positions|marks"
    r"|batches|claim-sequence|lease-look|dead-work|decisions|filled|truth|breaker|source:.*|seen:.*|heartbeats|venue-known)"
)
RQ_KEPT: Final = re.compile(r"rq:(queues|workers|workers:.*|finished:.*|failed:.*|wip:.*|clean_registries.*)")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the run's settings, as the venue's book is held against them."""

    position: Decimal  # of equity, in one symbol
    gross: Decimal  # of equity, in all
    open_positions: int
    same_side_s: int  # between entries of one symbol and side
    per_symbol_per_minute: int
    per_minute: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the promises are judged by."""

    fleet: Runtime
    posts: Sequence[AnalyzedMessage]
    book: Book
    limits: Limits
    cash: Decimal  # what the account began with


def broken(evidence: Evidence) -> list[str]:
    """Every promise that does not hold, in words; empty when all do."""
    checks = (_legs, _tally, _orders, _reports, _books, _limits, _rates, _permission, _left_behind, _lives, _alarms)
    return [f"{check.__name__.strip('_')}: {fault}" for check in checks for fault in check(evidence)]


# ---- outcomes --------------------------------------------------------------------------------------------


def _legs(e: Evidence) -> Iterator[str]:
    """Every message has its legs, or one null leg, and each ended."""
    states = leg_states(e.fleet)
    expected: set[str] = set()
    for post in e.posts:
        whole = leg_id(post.message_id, None)
        each = {leg_id(post.message_id, symbol) for symbol in post.tickers.symbols} or {whole}
        mine = {whole} if whole in states else each
        expected |= mine
        for leg in sorted(mine):
            state = states.get(leg)
            if state is None or state in INTERIM:
                yield f"{leg} ended as {state}"
    yield from (f"{leg} is nobody's leg" for leg in sorted(states.keys() - expected))


def _tally(e: Evidence) -> Iterator[str]:
    """The counters say what the records say."""
    tally, states = e.fleet.journal.tally(), leg_states(e.fleet)
    counted = {name.removeprefix("leg:"): n for name, n in tally.items() if name.startswith("leg:") and n}
    found = Counter(str(state) for state in states.values())
    if counted != dict(found):
        yield f"counted {counted}, found {dict(found)}"
    if tally.get("accepted") != len(e.posts):
        yield f"accepted {tally.get('accepted')} of {len(e.posts)} posts"
    if tally.get("legs") != len(states):
        yield f"{tally.get('legs')} legs counted, {len(states)} found"


def _alarms(e: Evidence) -> Iterator[str]:
    """Whatever was raised or has recovered was told, whoever died over it."""
    yield from (f"nobody was told of {alarm}" for alarm in untold_alarms(e.fleet))


def untold_alarms(fleet: Runtime) -> list[str]:
    """Ids of the alarms' entries that were not told."""
    file, client = fleet.settings.data_dir / TOLD, fleet.client
    told = set(file.read_text().split()) if file.exists() else set()
    entries: Any = client.xrange(fleet.keys.alarms())
    return [entry_id for entry_id, _ in entries if entry_id not in told]


# ---- orders ----------------------------------------------------------------------------------------------


def _orders(e: Evidence) -> Iterator[str]:
    """Orders at the broker are intents settled; nothing was asked twice, nothing made twice."""
    intents = _intents(e.fleet)
    yield from (f"{name} was made {n} times" for name, n in e.book.made.items() if n != 1)
    yield from (f"{name} was asked for {n} times" for name, n in e.book.asked.items() if n != 1)
    for name, order in e.book.orders.items():
        intent = intents.get(name)
        if intent is None:
            yield f"order {name} at the venue has no intent"
        elif intent["state"] != "DONE" or intent["settled"] != "1":
            yield f"order {name} is {intent['state']}, settled {intent['settled']}; the venue says {order['status']}"
    for name, intent in intents.items():
        if intent["state"] != "DONE":
            yield f"intent {name} is {intent['state']}"
    decisions = Counter(intent["decision"] for intent in intents.values())
    yield from (f"decision {decision} sent {n} orders" for decision, n in decisions.items() if n != 1)


def _reports(e: Evidence) -> Iterator[str]:
    """A decision says `executed` if and only if its order filled at the venue, and the other ends likewise."""
    for name, intent in _intents(e.fleet).items():
        order = e.book.orders.get(name)
        said = e.fleet.journal.outcome(intent["decision"])
        if intent["decision"].startswith("flatten"):
            continue
        if order is None:
            want = {Outcome.UNFILLED, Outcome.BROKER_REJECTED}
        else:
            want = {Outcome.EXECUTED} if order["filled_quantity"] else {Outcome.UNFILLED, Outcome.BROKER_REJECTED}
        if said not in want:
            yield f"{intent['decision']} ended {said}, its order {name} is {order and order['status']}"
    sent = {intent["decision"] for intent in _intents(e.fleet).values()}
    states = {name: state for name, state in _outcomes(e.fleet).items() if state is Outcome.EXECUTED}
    for decision in states.keys() - sent:
        owner = _field(e.fleet, decision, "decision")
        if owner not in sent:
            yield f"{decision} ended executed without an order"


def _books(e: Evidence) -> Iterator[str]:
    """Our positions and cash are the venue's."""
    day = e.fleet.sessions.session_of(e.fleet.clock.now())
    ours = e.fleet.ledger.snapshot(day)
    shares = {symbol: position.quantity for symbol, position in ours.positions.items()}
    if shares != e.book.positions:
        yield f"we hold {shares}, the venue {e.book.positions}"
    if abs(ours.cash - Decimal(e.book.cash)) > SLACK:
        yield f"our cash is {ours.cash}, the venue's {e.book.cash}"


def _limits(e: Evidence) -> Iterator[str]:
    """At no moment of the venue's own order of events was a limit passed; dollars are of the most equity until then."""
    for event, equity in _with_equity(e):
        one, gross = equity * MARKED * e.limits.position, equity * MARKED * e.limits.gross
        for symbol, dollars in event.worst_by_symbol.items():
            if Decimal(dollars) > one:
                yield f"event {event.number}: {symbol} at {dollars} USD, limit {one:.2f}"
        if Decimal(event.worst) > gross:
            yield f"event {event.number}: {event.worst} USD in all, limit {gross:.2f}"
        if event.open_symbols > e.limits.open_positions:
            yield f"event {event.number}: {event.open_symbols} symbols, limit {e.limits.open_positions}"


def _rates(e: Evidence) -> Iterator[str]:
    """No entry came too soon: by the moment each was decided, as the venue was told it."""
    entries = sorted(entry for name, entry in _entries(e) for _ in range(e.book.made[name]))
    for symbol, side in sorted({(symbol, side) for _, symbol, side in entries}):
        mine = [ms for ms, *which in entries if which == [symbol, side]]
        yield from (f"{side} {symbol}: {n} entries in {s} s" for s, n in _over(mine, e.limits.same_side_s, 1))
    for symbol in sorted({symbol for _, symbol, _ in entries}):
        mine = [ms for ms, which, _ in entries if which == symbol]
        yield from (f"{symbol}: {n} entries in {s} s" for s, n in _over(mine, 60, e.limits.per_symbol_per_minute))
    yield from (f"{n} entries in {s} s" for s, n in _over([ms for ms, *_ in entries], 60, e.limits.per_minute))


def _entries(e: Evidence) -> Iterator[tuple[str, tuple[int, str, str]]]:
    """Each opening order: its name; its moment (ms), symbol and side."""
    for name, order in e.book.orders.items():
        body = order["body"]
        if not body["reduce_only"]:
            yield name, (to_ms(datetime.fromisoformat(body["submitted_at"])), body["symbol"], body["side"])


def _over(moments: Sequence[int], seconds: int, most: int) -> Iterator[tuple[int, int]]:
    """Windows of so many seconds, each ending at one of the moments (in order), that hold more than `most`."""
    first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1000 * seconds:
            first += 1
        if last - first + 1 > most:
            yield seconds, last - first + 1


def _with_equity(e: Evidence) -> Iterator[tuple[Event, Decimal]]:
    """Each event with the most equity the account had until then."""
    top = e.cash
    for event in e.book.events:
        top = max(top, Decimal(event.equity))
        yield event, top


def _permission(e: Evidence) -> Iterator[str]:
    """Nothing made the fleet reduce itself: no difference between the books was more than one in motion."""
    control: Any = e.fleet.client
    said = control.hgetall(e.fleet.keys.control())
    if said["trading_state"] != TradingState.ACTIVE:
        yield f"{said['trading_state']} by {said['by']}: {said['reason']}"


def at_limit(e: Evidence) -> set[str]:
    """Symbols that stood at their limit at some moment: within 3 %, so one step of size more would have passed it."""
    full = e.limits.position * Decimal("0.97")
    return {
        symbol
        for event, equity in _with_equity(e)
        for symbol, dollars in event.worst_by_symbol.items()
        if Decimal(dollars) >= equity * full
    }


# ---- the keyspace ----------------------------------------------------------------------------------------


def waiting(fleet: Runtime) -> dict[str, int]:
    """What is not finished yet, by kind; kinds with nothing are left out."""
    client: Any = fleet.client
    keys = fleet.keys
    pending = client.xpending(keys.analyzed(), "routers") if client.exists(keys.analyzed()) else {"pending": 0}
    counts = {
        "messages to route": fleet.inbox.waiting(),
        "messages unacknowledged": int(pending["pending"]),
        "buffered votes": fleet.backlog.buffered(),
        "lists": len(list(client.scan_iter(keys.batch("*"), count=1000))),
        "symbols in the index of lists": client.zcard(keys.batches()),
        "claims": client.zcard(keys.claims()),
        "claimed lists": len(list(client.scan_iter(keys.claim("*"), count=1000))),
        "follow-ups": client.zcard(keys.followups()),
        "held": client.zcard(keys.held()) + client.hlen(keys.held_signals()),
        "reservations": client.hlen(keys.reservations()),
        "open intents": client.scard(keys.open_intents()),
        "strikes": len(list(client.scan_iter(keys.strikes("*"), count=1000))),
    }
    return {name: n for name, n in counts.items() if n}


def unsent(fleet: Runtime) -> dict[str, int]:
    """Closing orders of no decision that a dead process wrote and did not send: they are forgotten by themselves."""
    count = sum(one["state"] == "NEW" and one["decision"].startswith("flatten") for one in _intents(fleet).values())
    return {"orders not sent": count} if count else {}


def _left_behind(e: Evidence) -> Iterator[str]:
    """No message, list, claim, reservation, held signal, follow-up, strike, intent or job is left."""
    yield from (f"{n} {name}" for name, n in waiting(e.fleet).items())
    rq: Any = e.fleet.rq_client
    for name in QUEUES:
        queue = e.fleet.queues.queues[name]
        for kind, n in (
            ("queued", rq.llen(queue.key)),
            ("taken", rq.llen(queue.intermediate_queue_key)),
            ("running", started(queue).get_job_count(cleanup=False)),
        ):
            if n:
                yield f"{n} jobs {kind} on {name}"


def _lives(e: Evidence) -> Iterator[str]:
    """Every key has an end of its life, or is one of the few that are kept."""
    client: Any = e.fleet.client
    for key in client.scan_iter("*", count=1000):
        if client.ttl(key) == -1 and not KEPT.fullmatch(key) and not RQ_KEPT.fullmatch(key):
            yield f"{key} has no TTL"


# ---- reading ---------------------------------------------------------------------------------------------


def leg_states(fleet: Runtime) -> dict[str, Outcome]:
    """How every leg stands; a leg's id has a colon, a batch decision's has none."""
    return {name: state for name, state in _outcomes(fleet).items() if ":" in name}


def _outcomes(fleet: Runtime) -> dict[str, Outcome]:
    prefix = fleet.keys.outcome("")
    names = [key.removeprefix(prefix) for key in _scan(fleet, prefix + "*")]
    pairs = zip(names, fleet.journal.outcomes(names), strict=True)
    return {name: state for name, state in pairs if state is not None}


def _intents(fleet: Runtime) -> dict[str, dict[str, str]]:
    prefix = fleet.keys.intent("")
    client: Any = fleet.client
    return {key.removeprefix(prefix): client.hgetall(key) for key in _scan(fleet, prefix + "*")}


def _scan(fleet: Runtime, pattern: str) -> list[str]:
    client: Any = fleet.client
    return sorted(client.scan_iter(pattern, count=1000))


def _field(fleet: Runtime, name: str, field: str) -> str:
    client: Any = fleet.client
    return str(client.hget(fleet.keys.outcome(name), field) or "")

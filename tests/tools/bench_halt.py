"""How fast control holds: `python -m tests.tools.bench_halt`. Eight worker processes, 200 decisions on their way.

The venue writes down what arrives, in its own order; the turn of the trading state writes itself into the same list, in
the same step in which it reads which orders are SENT. So "sent after the turn" needs no clock. Work never ends before
every worker has met the new state: for each decision that is taken another one is queued.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import redis

from pipeline.models import BracketOrder, Direction, Quote, TradingState
from pipeline.risk import RiskSettings
from tests.deciding import Worker
from tests.money import NOW, SESSION, D, FakeMarket, a_fill
from workers.adapters.control_redis import RedisControl
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import HISTORY_MAXLEN, Keys
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.paper_redis import RedisPaperStore

KEYS = Keys("halt")
WORKERS, JOBS, TURN_AFTER = 8, 200, 40
TURN, OPEN, CLOSE = "TURN", "open", "close"
HELD: Final = 120  # positions that can be closed; what is wanted after them opens one
PATIENCE_S = 120  # starting eight interpreters takes its time on a busy machine
WIDE = RiskSettings(
    max_order_usd=D(200),
    max_open_positions=1_000,
    max_gross_exposure=D(4),
    max_per_minute=10_000,
    max_position=D("0.5"),
)
# KEYS: 1 events. ARGV: 1 what. Appends "what microseconds" in the server's own order.
EVENT = """
local clock = redis.call('TIME')
return redis.call('RPUSH', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', clock[1] * 1000000 + clock[2]))
"""


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker did: `sent` an order that arrived at the venue, or was refused one by this rule."""

    worker: str
    kind: str  # open or close
    what: str  # sent, or the rule
    order: str
    micros: int

    @property
    def obeys(self) -> bool:
        """Whether only the trading state kept it from being sent."""
        return self.what == "trading_state"


@dataclass(frozen=True, slots=True)
class Report:
    """Events before and after the turn, and the orders that were SENT but had not arrived when it came."""

    before: tuple[Event, ...]
    after: tuple[Event, ...]
    on_their_way: frozenset[str]
    turned_at: int

    def arrived(self, kind: str, *, late: bool = True) -> list[Event]:
        """Orders of this kind that came after the turn; `late`: also those that were SENT before it."""
        found = [event for event in self.after if event.what == "sent" and event.kind == kind]
        return [event for event in found if late or event.order not in self.on_their_way]

    def obeyed_after_ms(self, meets: Callable[[Event], bool]) -> float:
        """From the turn until every worker had met the new state."""
        first = {event.worker: event.micros for event in reversed(self.after) if meets(event)}
        return max((micros - self.turned_at) / 1000 for micros in first.values())


def vault_of(client: redis.Redis) -> Any:
    """Every money adapter over this connection."""
    return SimpleNamespace(
        control=RedisControl(client, KEYS),
        ledger=RedisLedger(client, KEYS, D(100_000)),
        intents=RedisIntents(client, KEYS, "event"),
        paper=RedisPaperStore(client, KEYS, D(100_000)),
        journal=RedisJournal(client, KEYS),
    )


class AnyMarket(FakeMarket):
    """Everything costs 100 dollars."""

    def quote(self, symbol: str, as_of: datetime) -> Quote:
        return Quote(symbol, D(100), as_of, "test")


def work(url: str, number: int) -> None:
    """One worker process: decides what waits, and queues as much again, until it is told to end."""
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=PATIENCE_S + 30) as client:
        server: Any = client
        event = client.register_script(EVENT)
        worker = Worker(vault_of(client), AnyMarket(), limits=WIDE)
        submit, sent = worker.broker.submit, list[str]()

        def tell(kind: str, what: str, order: str) -> None:
            event(keys=["events"], args=[f"{number} {kind} {what} {order}"])
            server.rpush("ticks", 1)

        def arrives(order: BracketOrder) -> Any:
            sent.append(order.decision_id)
            tell(CLOSE if order.reduce_only else OPEN, "sent", order.client_order_id)
            return submit(order)  # the simulated venue refuses to close what it never opened: it has arrived

        worker.broker.submit = arrives
        server.rpush("ready", number)
        server.blpop(f"go:{number}")
        while not server.exists("end") and (job := server.lpop("jobs")) is not None:
            queue(server, 1)
            kind, name = job.split(" ")
            result = worker.decide(name, Direction.SHORT if kind == CLOSE else Direction.LONG)
            if result.decision_id not in sent:
                tell(kind, result.refusal.rule if result.refusal else "-", "-")


def queue(server: Any, count: int) -> None:
    """So many decisions more, every other one to close what is held."""
    last = server.incrby("number", count)
    names = range(last - count, last)
    server.rpush("jobs", *(f"{CLOSE} H{n // 2:04}" if n % 2 and n // 2 < HELD else f"{OPEN} S{n:04}" for n in names))


def starter() -> Any:
    """Starts processes that share nothing with this one but the modules, which are read once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def measure(url: str, before: TradingState, after: TradingState, meets: Callable[[Event], bool]) -> Report:
    """Let the workers trade in one state, turn it in the middle, and go on until each of them `meets` the other."""
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=PATIENCE_S + 30) as client:
        server: Any = client
        server.flushall()
        vault = vault_of(client)
        vault.control.set(before, "bench", "begin", NOW)
        for n in range(HELD):
            vault.ledger.apply("d", a_fill(symbol=f"H{n:04}", quantity=1, fill_id=f"H{n}"), SESSION)
        queue(server, JOBS)
        start = starter()
        processes = [start.Process(target=work, args=(url, n)) for n in range(WORKERS)]
        for process in processes:
            process.start()
        for _ in processes:
            server.blpop("ready", PATIENCE_S)
        for n in range(WORKERS):
            server.rpush(f"go:{n}", 1)
        for _ in range(TURN_AFTER):
            server.blpop("ticks", PATIENCE_S)
        sent = _turn(server, vault.control, after)
        _until_all(server, meets)
        server.set("end", 1)
        for process in processes:
            process.join(PATIENCE_S)
            process.close()
        return _report(server, sent)


def _turn(server: Any, control: RedisControl, to: TradingState) -> set[str]:
    """The new state; the orders that were SENT at that moment."""
    pipe = server.pipeline(transaction=True)
    act: list[str | int] = [to, "bench", "now", NOW.isoformat(), "", HISTORY_MAXLEN]
    control._set(keys=[KEYS.control(), KEYS.control_history()], args=act, client=pipe)
    server.register_script(EVENT)(keys=["events"], args=[TURN], client=pipe)
    pipe.smembers(KEYS.open_intents())
    *_, names = pipe.execute()
    return set(names)


def _until_all(server: Any, meets: Callable[[Event], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len({event.worker for event in _events(server)[1] if meets(event)}) < WORKERS:
        assert time.monotonic() < deadline, "a worker never met the new state"
        time.sleep(0.01)


def _events(server: Any) -> tuple[list[Event], list[Event], int]:
    """Before and after the turn, and its moment."""
    rows: Sequence[list[str]] = [row.split(" ") for row in server.lrange("events", 0, -1)]
    place = next(n for n, row in enumerate(rows) if row[0] == TURN)
    parts = (rows[:place], rows[place + 1 :])
    events = [[Event(w, kind, what, order, int(at)) for w, kind, what, order, at in part] for part in parts]
    return events[0], events[1], int(rows[place][1])


def _report(server: Any, sent: set[str]) -> Report:
    before, after, turned_at = _events(server)
    arrived = {event.order for event in before}
    return Report(tuple(before), tuple(after), frozenset(sent - arrived), turned_at)


def refused(event: Event) -> bool:
    """An order that only the state forbids."""
    return event.obeys


def opened(event: Event) -> bool:
    """An opening order that arrived."""
    return event.what == "sent" and event.kind == OPEN


#: What each worker must have met after the turn.
TURNS: Final = {
    (TradingState.ACTIVE, TradingState.HALTED): refused,
    (TradingState.ACTIVE, TradingState.REDUCING): refused,
    (TradingState.HALTED, TradingState.ACTIVE): opened,
}


def main() -> None:
    """Print the figures of one run of each turn on an embedded server."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        for (before, after), meets in TURNS.items():
            found = measure(server.url, before, after, meets)
            late = [(event.micros - found.turned_at) / 1000 for event in found.arrived(OPEN)]
            figures = {
                "turn": f"{before} -> {after}",
                "decisions_before": len(found.before),
                "decisions_after": len(found.after),
                "openings_sent_after": len(found.arrived(OPEN, late=False)),
                "openings_on_their_way": len(found.on_their_way & {event.order for event in found.arrived(OPEN)}),
                "last_opening_ms": max(late, default=0.0) if after is not TradingState.ACTIVE else None,
                "closings_after": len(found.arrived(CLOSE)),
                "every_worker_obeyed_after_ms": found.obeyed_after_ms(meets),
            }
            print(json.dumps(figures))  # noqa: T201 # a bench prints


if __name__ == "__main__":
    main()

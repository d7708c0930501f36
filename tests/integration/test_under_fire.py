"""Eight worker processes on one real server: a halt holds for all of them, and no limit is passed at any moment."""

import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from pipeline.errors import SymbolBusyError, TransientError
from pipeline.models import Reservation, Session, Side
from pipeline.ports import BookSnapshot
from pipeline.risk import RiskSettings
from tests.deciding import Worker
from tests.money import NOW, SESSION, D, a_fill, a_request, a_signal
from tests.tools.bench_halt import HALT_AFTER, JOBS, WORKERS, measure, starter, vault_of
from workers.adapters.keys import Keys
from workers.adapters.ledger_redis import RedisLedger

KEYS, CASH, GROSS = Keys("fire"), D(100_000), D(9_500)
HOT, COLD = "HOT", [f"C{n:02}" for n in range(40)]
ROUNDS, TRIES = 3, 60
LIMITS = RiskSettings()


# ---- a halt ------------------------------------------------------------------------------------------


def test_after_a_halt_no_worker_sends_another_order(server_url: str) -> None:
    """200 decisions on their way: what arrives after the halt was SENT before it, at most one order a worker."""
    report = measure(server_url)

    assert report.sent_after == 0
    assert report.arrived >= HALT_AFTER
    assert report.arrived_after <= WORKERS
    assert report.arrived + report.refused == JOBS


@pytest.mark.parametrize("lost", ["reading the state", "writing SENT"])
def test_a_redis_that_cannot_be_asked_sends_nothing(redis_client: redis.Redis, lost: str) -> None:
    """Fail closed: an unknown trading state is no permission, whichever of the two questions gets no answer."""

    def deaf(*_: object, **__: object) -> None:
        raise TransientError("no answer")

    vault = vault_of(redis_client)
    redis_client.hset("halt:control", "trading_state", "ACTIVE")
    worker = Worker(vault)
    where, name = (vault.control, "trading_state") if lost == "reading the state" else (vault.intents, "mark_sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, deaf)
        result = worker.decide()

    assert (worker.orders, vault.ledger.reservations()) == ([], {})
    assert result.refusal is not None
    assert worker.executor.begin(a_signal(decision_id="d-AAA:AAA")) is not None


# ---- limits ------------------------------------------------------------------------------------------


def trade(url: str, number: int, barrier: Any) -> None:
    """One worker process: every round at its own moment, half of all requests for the hot symbol."""
    dice = random.Random(number)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        ledger = RedisLedger(client, KEYS, CASH)
        for turn in range(ROUNDS):
            barrier.wait(60)
            for n in range(TRIES):
                attempt(ledger, dice, f"w{number}-{turn}-{n}", turn)


def attempt(ledger: RedisLedger, dice: random.Random, decision: str, turn: int) -> None:
    """Reserve, then shrink, fill or give back; every other position is closed again."""
    symbol = HOT if dice.random() < 0.5 else dice.choice(COLD)
    moment = NOW + timedelta(seconds=60 * turn)
    side = dice.choice(list(Side))
    request = a_request(symbol, decision_id=decision, side=side, as_of=moment, max_gross_exposure=GROSS)
    try:
        if not isinstance(ledger.reserve(request), Reservation):
            return
    except SymbolBusyError:
        return
    fate = dice.choice(["unused", "used", "filled", "shrunk"])
    if fate == "shrunk":
        ledger.shrink(decision, 5, D(500))
    if fate in {"filled", "shrunk"}:
        shares = 10 if fate == "filled" else 5
        for way, name in ((side, "in"), (Side.SELL if side is Side.BUY else Side.BUY, "out")):
            fill = a_fill(way, shares, symbol=symbol, fill_id=f"{decision}-{name}", at=moment)
            if name == "in":
                ledger.apply(decision, fill, SESSION)
                ledger.release(decision)
            elif dice.random() < 0.8:
                ledger.apply(decision, fill, SESSION)
    else:
        ledger.release(decision, unused=fate == "unused")


def breaches(book: BookSnapshot) -> list[str]:
    """What is over its limit in one look at the book."""
    exposure = sum((abs(p.quantity) * book.marks[s] for s, p in book.positions.items()), Decimal(0))
    exposure += sum(book.reserved.values(), Decimal(0))
    symbols = book.positions.keys() | book.reserved.keys()
    found = [f"gross exposure {exposure}"] if exposure > GROSS + slack(book) else []
    return found + ([f"{len(symbols)} symbols"] if len(symbols) > LIMITS.max_open_positions else [])


def slack(book: BookSnapshot) -> Decimal:
    """Between a fill's booking and its reservation's release the same order counts twice, never less than once."""
    both = book.positions.keys() & book.reserved.keys()
    return sum((book.reserved[symbol] for symbol in both), Decimal(0))


@pytest.mark.timeout(120)
def test_eight_processes_pass_no_limit_at_any_moment(redis_client: redis.Redis, server_url: str) -> None:
    """One hot symbol and forty cold ones; every look at the book and every minute of the rates is within the limits."""
    start = starter()
    barrier = start.Barrier(WORKERS)
    processes = [start.Process(target=trade, args=(server_url, n, barrier)) for n in range(WORKERS)]
    ledger, found, looks = RedisLedger(redis_client, KEYS, CASH), Counter[str](), 0
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        found.update(breaches(ledger.snapshot(Session(SESSION.day, SESSION.open, SESSION.close))))
        looks += 1
    codes = [process.exitcode for process in processes]

    assert (codes, found) == ([0] * WORKERS, {})
    assert looks > 100
    assert ledger.reservations() == {}
    assert rates(redis_client) == []


def rates(client: redis.Redis) -> list[str]:
    """Minutes and symbols with more entries than their limits allow; rounds are a minute apart, which is outside."""
    server: Any = client
    entries = server.zrange(KEYS.entries(), 0, -1, withscores=True)
    by_minute = Counter(score for _, score in entries)
    over = [f"minute {minute}: {n}" for minute, n in by_minute.items() if n > LIMITS.max_per_minute]
    assert sum(by_minute.values()) > ROUNDS * 20  # the limits were under fire
    for symbol in (HOT, *COLD):
        mine = [
            (name.split(":")[0], score) for name, score in server.zrange(KEYS.entries(symbol), 0, -1, withscores=True)
        ]
        over += [f"{symbol} {key}: {n}" for key, n in Counter(mine).items() if n > 1]
        minutes = Counter(score for _, score in mine)
        over += [f"{symbol} {key}: {n}" for key, n in minutes.items() if n > LIMITS.max_per_symbol_per_minute]
    return over

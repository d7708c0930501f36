"""How fast a halt holds: `python -m tests.tools.bench_halt`. Eight worker processes, 200 decisions on their way.

The venue writes down what arrives, in its own order; the halt writes itself into the same list, in the same step in
which it reads which orders are SENT. So "sent after the halt" needs no clock.
"""

import json
import multiprocessing
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redis

from pipeline.models import Outcome, TradingState
from pipeline.risk import RiskSettings
from tests.deciding import Worker
from tests.money import NOW, D, FakeMarket
from workers.adapters.control_redis import RedisControl
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import HISTORY_MAXLEN, Keys
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.paper_redis import RedisPaperStore

KEYS = Keys("halt")
WORKERS, JOBS, HALT_AFTER = 8, 200, 40
HALT = "HALT"
PATIENCE_S = 90  # starting eight interpreters takes its time on a busy machine
WIDE = RiskSettings(max_order_usd=D(200), max_open_positions=1_000, max_gross_exposure=D(4), max_per_minute=10_000)
# KEYS: 1 events. ARGV: 1 what. Appends "what microseconds" in the venue's own order.
EVENT = """
local clock = redis.call('TIME')
return redis.call('RPUSH', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', clock[1] * 1000000 + clock[2]))
"""


@dataclass(frozen=True, slots=True)
class Report:
    """`arrived_after`: orders that were on their way when the halt came; `sent_after`: must be none.

    `last_arrival_ms`: from the halt to the last arrival; `all_refusing_ms`: until every worker refused an order.
    """

    arrived: int
    arrived_after: int
    sent_after: int
    refused: int
    last_arrival_ms: float
    all_refusing_ms: float


def vault_of(client: redis.Redis) -> Any:
    """Every money adapter over this connection."""
    return SimpleNamespace(
        control=RedisControl(client, KEYS),
        ledger=RedisLedger(client, KEYS, D(100_000)),
        intents=RedisIntents(client, KEYS, "event"),
        paper=RedisPaperStore(client, KEYS, D(100_000)),
        journal=RedisJournal(client, KEYS),
    )


def work(url: str, number: int) -> None:
    """One worker process: decides what waits until nothing does."""
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=PATIENCE_S + 30) as client:
        server: Any = client
        event = client.register_script(EVENT)
        worker = Worker(vault_of(client), FakeMarket({symbol(n): D(100) for n in range(JOBS)}), limits=WIDE)
        submit = worker.broker.submit

        def arrives(order: Any) -> Any:
            event(keys=["events"], args=[order.symbol])
            server.rpush("ticks", 1)
            return submit(order)

        worker.broker.submit = arrives
        server.rpush("ready", number)
        server.blpop(f"go:{number}")
        while (job := server.lpop("jobs")) is not None:
            result = worker.decide(job)
            if result.outcome is not Outcome.SUBMITTED:
                event(keys=["refusals"], args=[f"{number} {result.refusal.rule if result.refusal else '-'}"])


def starter() -> Any:
    """Starts processes that share nothing with this one but the modules, which are read once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def symbol(number: int) -> str:
    """One symbol a decision."""
    return f"S{number:03}"


def measure(url: str) -> Report:
    """Let the workers trade, halt them in the middle, and read what the venue saw."""
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=PATIENCE_S + 30) as client:
        server: Any = client
        server.flushall()
        control = RedisControl(client, KEYS)
        control.set(TradingState.ACTIVE, "bench", "begin", NOW)
        server.rpush("jobs", *map(symbol, range(JOBS)))
        start = starter()
        processes = [start.Process(target=work, args=(url, n)) for n in range(WORKERS)]
        for process in processes:
            process.start()
        for _ in processes:
            server.blpop("ready", PATIENCE_S)
        for n in range(WORKERS):
            server.rpush(f"go:{n}", 1)
        for _ in range(HALT_AFTER):
            server.blpop("ticks", PATIENCE_S)
        sent = _halt(server, control)
        for process in processes:
            process.join(PATIENCE_S)
            process.close()
        return _report(server, sent)


def _halt(server: Any, control: RedisControl) -> set[str]:
    """The halt; the symbols of the orders that were SENT at that moment."""
    pipe = server.pipeline(transaction=True)
    act: list[str | int] = [TradingState.HALTED, "bench", "now", NOW.isoformat(), "", HISTORY_MAXLEN]
    control._set(keys=[KEYS.control(), KEYS.control_history()], args=act, client=pipe)
    server.register_script(EVENT)(keys=["events"], args=[HALT], client=pipe)
    pipe.smembers(KEYS.open_intents())
    *_, names = pipe.execute()
    return {server.hget(KEYS.intent(name), "symbol") for name in names}


def _report(server: Any, sent: set[str]) -> Report:
    rows = [row.rsplit(" ", 1) for row in server.lrange("events", 0, -1)]
    events = [(what, int(micros)) for what, micros in rows]
    place = [what for what, _ in events].index(HALT)
    halted_at, after = events[place][1], events[place + 1 :]
    refusals = [row.split(" ") for row in server.lrange("refusals", 0, -1)]
    first = {number: int(micros) for number, _, micros in reversed(refusals)}
    return Report(
        arrived=len(events) - 1,
        arrived_after=len(after),
        sent_after=sum(what not in sent for what, _ in after),
        refused=sum(rule == "trading_state" for _, rule, _ in refusals),
        last_arrival_ms=max([(at - halted_at) / 1000 for _, at in after], default=0.0),
        all_refusing_ms=max([(at - halted_at) / 1000 for at in first.values()], default=0.0),
    )


def main() -> None:
    """Print the figures of one run on an embedded server."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        print(json.dumps(asdict(measure(server.url))))  # noqa: T201 # a bench prints


if __name__ == "__main__":
    main()

"""The money side twice: in memory and on the real server, with one look at the whole keyspace."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from pipeline.models import TERMINAL
from tests.money import D, keyspace
from workers.adapters.alarms import MemoryAlarms, RedisAlarms
from workers.adapters.control_memory import MemoryControl
from workers.adapters.control_redis import RedisControl
from workers.adapters.executions import MemoryExecutions
from workers.adapters.intents_memory import MemoryIntents
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.keys import Keys
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.paper_memory import MemoryPaperStore
from workers.adapters.paper_redis import RedisPaperStore

KEYS = Keys("test")
CASH = D(100_000)


@dataclass
class Vault:
    """Every money adapter over one memory or one server."""

    control: MemoryControl | RedisControl
    ledger: MemoryLedger | RedisLedger
    intents: MemoryIntents | RedisIntents
    paper: MemoryPaperStore | RedisPaperStore
    journal: MemoryJournal | RedisJournal
    alarms: MemoryAlarms | RedisAlarms
    client: redis.Redis | None = None

    def holds(self, **expected: Any) -> None:
        """The server's keyspace, without the prefix, is exactly this; `...` stands for any value.

        Who set the trading state is always kept: `control` brings its history with it.
        """
        if "control" in expected:
            expected.setdefault("control-history", ...)
        if self.client is None:
            return
        found = {key.removeprefix("test:"): value for key, value in keyspace(self.client).items()}
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert value is ... or found[key] == value, key

    def lives(self, *keys: str) -> dict[str, int]:
        """Seconds these keys have left (-1: for ever); empty in memory."""
        if self.client is None:
            return {}
        server: Any = self.client
        return {key: server.ttl(f"test:{key}") for key in keys}


@pytest.fixture(params=["memory", "redis"])
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    """Empty books over both kinds of memory."""
    if request.param == "memory":
        control, executions, alarms = MemoryControl(), MemoryExecutions(), MemoryAlarms()
        journal = MemoryJournal(sent=executions.sent)
        intents = MemoryIntents(control, executions, lambda decision: journal.outcome(decision) in TERMINAL)
        yield Vault(control, MemoryLedger(CASH, executions), intents, MemoryPaperStore(CASH), journal, alarms)
        return
    client: redis.Redis = request.getfixturevalue("redis_client")
    yield Vault(
        RedisControl(client, KEYS),
        RedisLedger(client, KEYS, CASH),
        RedisIntents(client, KEYS, "event"),
        RedisPaperStore(client, KEYS, CASH),
        RedisJournal(client, KEYS),
        RedisAlarms(client, KEYS),
        client,
    )

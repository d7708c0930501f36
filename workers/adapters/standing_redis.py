"""How the fleet stands, read from Redis: three round trips, nothing is changed and no clean-up is run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import redis
from redis.exceptions import ResponseError
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from pipeline.models import OrchestratorState, TradingState
from workers.adapters.alarms import GROUP
from workers.adapters.keys import Keys, to_ms
from workers.adapters.redis_edge import asking_redis
from workers.adapters.rq_factory import JobQueues, started
from workers.standing import Lag, QueueStanding, RedisStanding, Standing, WorkerStanding

MOST_LETTERS: Final = 1000
GIVEN_UP: Final = ("worker", "router")  # stages whose dead letters were accepted before; others refuse posts
LEASES: Final = 2  # a claim is overdue when nobody took it up for a second lease
REGISTRIES: Final = ("started", "finished", "failed", "deferred", "scheduled", "canceled")
WORKER_FIELDS: Final = ("state", "successful_job_count", "failed_job_count", "total_working_time", "last_heartbeat")


@dataclass(slots=True)
class _Asked:
    """Commands of one round trip, each with the name its answer is found under."""

    pipe: Any
    names: list[str] = field(default_factory=list)

    def ask(self, name: str, *words: Any) -> None:
        """One more command."""
        self.pipe.execute_command(*words)
        self.names.append(name)

    def answers(self) -> dict[str, Any]:
        """Every answer; a stream that is not there yet has none."""
        found = dict(zip(self.names, self.pipe.execute(raise_on_error=False), strict=True))
        for name, answer in found.items():
            if isinstance(answer, ResponseError) and "no such key" in str(answer):
                found[name] = {}
            elif isinstance(answer, Exception):
                raise answer
        return found


class StandingReader:
    """Reads a `Standing`. Raises TransientError when Redis does not answer."""

    def __init__(self, client: redis.Redis, keys: Keys, queues: JobQueues, lease_s: float) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._queues = queues.queues
        self._lease_ms = round(lease_s * 1000)

    def read(self, now: datetime) -> Standing:
        """The fleet now; what needs the book or settings to be known is left as it is by default."""
        with asking_redis():
            found = self._fleet(now)
            jobs = self._jobs(found)
        queues = {name: self._queue(name, found, jobs, now) for name in self._queues}
        workers = tuple(self._workers(found, jobs, now))
        return replace(_standing(found, now), queues=queues, workers=workers, processes=_processes(found, workers, now))

    def dead_since(self, since: datetime) -> dict[str, int]:
        """Dead letters by the name of their counter, the first thousand since then."""
        with asking_redis():
            letters = self._redis.xrange(self._keys.dead(), min=to_ms(since), count=MOST_LETTERS)
        kinds = ((fields.get("stage") in GIVEN_UP, fields.get("reason", "")) for _, fields in letters)
        return dict(Counter(f"{'dead' if given_up else 'refused'}:{reason}" for given_up, reason in kinds))

    # ---- asking ------------------------------------------------------------------------------------------

    def _fleet(self, now: datetime) -> dict[str, Any]:
        keys, asked = self._keys, _Asked(self._redis.pipeline(transaction=False))
        asked.ask("state", "GET", keys.state())
        asked.ask("control", "HGETALL", keys.control())
        asked.ask("breaker", "HGET", keys.breaker(), "opened_ms")
        asked.ask("truth", "HGET", keys.truth(), "at_ms")
        asked.ask("waiting", "XLEN", keys.analyzed())
        asked.ask("oldest", "XRANGE", keys.analyzed(), "-", "+", "COUNT", 1)
        asked.ask("stream", "XINFO STREAM", keys.analyzed())
        asked.ask("symbols", "ZCARD", keys.batches())
        asked.ask("oldest_vote", "ZRANGE", keys.batches(), 0, 0, "WITHSCORES")
        asked.ask("claims", "ZCARD", keys.claims())
        asked.ask("overdue", "ZCOUNT", keys.claims(), "-inf", to_ms(now) - (LEASES - 1) * self._lease_ms)
        asked.ask("followups", "ZCARD", keys.followups())
        asked.ask("held", "ZCARD", keys.held())
        asked.ask("heartbeats", "ZRANGE", keys.heartbeats(), 0, -1, "WITHSCORES")
        asked.ask("tally", "HGETALL", keys.tally())
        asked.ask("dead", "XLEN", keys.dead())
        asked.ask("alarms", "HKEYS", keys.open_alarms())
        asked.ask("tellers", "XINFO GROUPS", keys.alarms())
        asked.ask("memory", "INFO", "memory")
        asked.ask("persistence", "INFO", "persistence")
        for name, queue in self._queues.items():
            asked.ask(f"{name}:queued", "LLEN", queue.key)
            asked.ask(f"{name}:first", "LINDEX", queue.key, 0)
            for registry in REGISTRIES:
                asked.ask(f"{name}:{registry}", "ZCARD", _registry(queue, registry))
            asked.ask(f"{name}:workers", "SMEMBERS", WORKERS_BY_QUEUE_KEY % name)
        return asked.answers()

    def _jobs(self, found: dict[str, Any]) -> dict[str, Any]:
        """When the first job of each queue was queued, and what each worker says of itself."""
        asked = _Asked(self._redis.pipeline(transaction=False))
        for name, queue in self._queues.items():
            if found[f"{name}:first"]:
                asked.ask(f"{name}:first", "HGET", queue.job_class.key_for(found[f"{name}:first"]), "enqueued_at")
            for worker in found[f"{name}:workers"]:
                asked.ask(worker, "HMGET", worker, *WORKER_FIELDS)
        return asked.answers() if asked.names else {}

    # ---- understanding -----------------------------------------------------------------------------------

    def _queue(self, name: str, found: dict[str, Any], jobs: dict[str, Any], now: datetime) -> QueueStanding:
        queued = int(found[f"{name}:queued"])
        since = jobs.get(f"{name}:first")
        counts = {"queued": queued} | {registry: int(found[f"{name}:{registry}"]) for registry in REGISTRIES}
        return QueueStanding(Lag(queued, _age(since, now) if since else 0.0), counts)

    def _workers(self, found: dict[str, Any], jobs: dict[str, Any], now: datetime) -> Iterable[WorkerStanding]:
        for queue in self._queues:
            for key in sorted(found[f"{queue}:workers"]):
                state, good, bad, seconds, beat = jobs[key]
                if beat:  # else it has died and only its name is left
                    yield WorkerStanding(
                        key.rsplit(":", 1)[-1], queue, state or "?", int(good or 0), int(bad or 0), float(seconds or 0),
                        _age(beat, now),
                    )  # fmt: skip


def _registry(queue: Any, name: str) -> str:
    key = started(queue).key if name == "started" else getattr(queue, f"{name}_job_registry").key
    return str(key)


def _standing(found: dict[str, Any], now: datetime) -> Standing:
    """What needs no second look."""
    state = orjson.loads(found["state"]) if found["state"] else {"state": OrchestratorState.STOPPED, "by": ""}
    control, tally = _pairs(found["control"]), {name: int(n) for name, n in _pairs(found["tally"]).items()}
    word = control.get("trading_state")
    compared = found["truth"]
    return Standing(
        at=now,
        state=OrchestratorState(state["state"]),
        state_by=str(state["by"]),
        trading=TradingState(word) if word in set(TradingState) else TradingState.HALTED,
        trading_why=f"{control['by']}: {control['reason']}" if control.get("by") else "nobody set it",
        compared_age_s=_since_ms(int(compared), now) if compared else None,
        stream=Lag(int(found["waiting"]), _since_ms(_id_ms(found["oldest"][0][0]), now) if found["oldest"] else 0.0),
        message_age_s=_last_message(found["stream"], now),
        lists=Lag(tally.get("buffered", 0), _oldest_vote(found["oldest_vote"], now)),
        symbols_waiting=int(found["symbols"]),
        claims=int(found["claims"]),
        claims_overdue=int(found["overdue"]),
        followups=int(found["followups"]),
        held=int(found["held"]),
        tally=tally,
        dead=int(found["dead"]),
        untold=_untold(found["tellers"]),
        open_alarms=tuple(sorted(found["alarms"])),
        redis=_server(found["memory"], found["persistence"]),
    )


def _processes(found: dict[str, Any], workers: Sequence[WorkerStanding], now: datetime) -> dict[str, tuple[float, ...]]:
    ages: dict[str, list[float]] = {}
    for name, beat in _scores(found["heartbeats"]):
        ages.setdefault(name.split("-", 1)[0], []).append(_since_ms(int(beat), now))
    for worker in workers:
        ages.setdefault(worker.queue, []).append(worker.age_s)
    return {role: tuple(sorted(found)) for role, found in ages.items()}


def _server(memory: dict[str, Any], persistence: dict[str, Any]) -> RedisStanding:
    limit = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
    statuses = (persistence.get("aof_last_write_status", "ok"), persistence.get("rdb_last_bgsave_status", "ok"))
    return RedisStanding(
        memory_bytes=int(memory.get("used_memory", 0)),
        memory_limit_bytes=limit,
        policy=str(memory.get("maxmemory_policy", "noeviction")),
        append_only=bool(int(persistence.get("aof_enabled", 0))),
        write_ok=all(status == "ok" for status in statuses),
    )


def _last_message(stream: Any, now: datetime) -> float | None:
    """Seconds since anything was appended; the id stays when the stream has been emptied."""
    last = _pairs(stream).get("last-generated-id", "0-0")
    return _since_ms(_id_ms(last), now) if last != "0-0" else None


def _oldest_vote(rows: Any, now: datetime) -> float:
    scores = _scores(rows)
    return _since_ms(int(scores[0][1]), now) if scores else 0.0


def _untold(groups: Any) -> int:
    """Alarms that nobody told yet: given out and not acknowledged. New ones are given out in each turn."""
    mine = [group for group in map(_pairs, groups or ()) if group.get("name") == GROUP]
    return sum(int(group.get("pending", 0)) for group in mine)


def _pairs(reply: Any) -> dict[str, Any]:
    """A map, which RESP2 answers as a flat list."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _scores(reply: Any) -> list[tuple[str, float]]:
    """Members with scores: flat in RESP2, pairs in RESP3 and from redis-py."""
    if reply and isinstance(reply[0], list | tuple):
        return [(name, float(score)) for name, score in reply]
    return [(name, float(score)) for name, score in zip(reply[::2], reply[1::2], strict=True)]


def _id_ms(entry_id: str) -> int:
    return int(entry_id.split("-", maxsplit=1)[0])


def _since_ms(at_ms: int, now: datetime) -> float:
    return max(0.0, (to_ms(now) - at_ms) / 1000)


def _age(text: str, now: datetime) -> float:
    """Seconds since a moment as RQ writes it, in UTC."""
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (now - at).total_seconds())

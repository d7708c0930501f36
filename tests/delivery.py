"""Builders of analyzed messages, votes and legs, a runtime on the test server, and a reader of the whole keyspace."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from rq import SimpleWorker

from config.settings import load_settings
from pipeline.models import (
    AggregatedSentiment,
    AnalyzedMessage,
    Label,
    Outcome,
    ProcessResult,
    Refusal,
    Sentiment,
    SocialMessage,
    Stage,
    TickerReading,
)
from pipeline.router import DenyList, Leg, RouterSettings, route
from workers.adapters.deadline import FirmTimeout
from workers.adapters.rq_factory import worker_options
from workers.wiring import Runtime, use

NOON = datetime(2025, 9, 17, 16, 0, tzinfo=UTC)  # a Wednesday, 12:00 in New York
THRESHOLD = 0.85

#: A short calendar is built in milliseconds, and an empty stream is not waited for.
QUICK = {
    "FLEET_REDIS__BLOCK_S": "0.05",
    "FLEET_MARKET__CALENDAR_START": "2025-01-02",
    "FLEET_MARKET__CALENDAR_END": "2025-12-31",
}

#: Market files are read once for all tests: they never change.
READ: dict[str, dict[str, Any]] = {}

#: Keys without a life of their own, and what bounds each of them instead.
BOUNDED = {
    r"state|control|environment": "one value",
    r"deny:(symbol|author|source)": "what people forbade",
    r"control-history|alarms": "MAXLEN 10,000",
    r"open-alarms": "one field a code and subject",
    r"tally": "one field a counter",
    r"analyzed": "emptied by the routers, refused past max_buffered_total",
    r"source:[a-z0-9_-]+": "one a channel",
    r"dead": "MAXLEN 100,000",
    r"seen:(texts|owners)": "pruned past the 24 h window",
    r"batch:[A-Z.]+|batches": "max_buffered_total",
    r"claim:[A-Z.]+-[0-9]+|claims": "deleted with the decision",
    r"claim-sequence": "one field a symbol",
    r"followups": "deleted when queued",
    r"dead-work": "pruned past a day",
    r"leases:[a-z]+": "a job in a worker's hands",
    r"lease-look": "one value",
    r"heartbeats": "pruned after an hour",
    r"decisions": "MAXLEN 1,000,000",
    r"account|positions|marks": "one field a symbol",
    r"reservations|held|held-signals|open-intents": "deleted when definite",
    r"filled": "pruned past 90 days",
    r"truth": "one value",
    r"intent:.+|paper:order:.+": "a life once closed",
    r"paper:(account|open|positions|marks)": "one field a symbol or working order",
}


def a_message(name: str = "m1", **facts: Any) -> AnalyzedMessage:
    """A mildly bullish post on AAA of an author and a text of its own, posted and known at noon."""
    symbols = facts.pop("symbols", ("AAA",))
    made_at = facts.pop("at", NOON)
    post = SocialMessage(
        message_id=name,
        source="test",
        source_id=name,
        created_at=facts.pop("created_at", made_at),
        received_at=made_at,
        author=facts.pop("author", f"author-of-{name}"),
        text=facts.pop("text", f"words of {name}"),
    )
    label = facts.pop("label", Label.BULLISH)
    sign = {Label.BULLISH: 1, Label.BEARISH: -1, Label.NEUTRAL: 0}[label]
    reading = TickerReading(symbols=symbols, primary=symbols[0] if symbols else None, cashtags=len(symbols))
    return AnalyzedMessage(
        message=post,
        sentiment=Sentiment(label=label, score=0.5 * sign, confidence=facts.pop("confidence", 0.7), model="test"),
        tickers=facts.pop("tickers", reading),
        fingerprint=facts.pop("fingerprint", f"text-of-{name}"),
        **facts,
    )


def routed(
    message: AnalyzedMessage, as_of: datetime | None = None, deny: DenyList | None = None
) -> tuple[AnalyzedMessage, tuple[Leg, ...]]:
    """The message with its legs, routed when it was known."""
    moment = as_of or message.message.received_at
    return message, route(message, moment, deny or DenyList(), RouterSettings(), THRESHOLD)


def a_result(decision_id: str = "AAA-1", outcome: Outcome = Outcome.VETOED, **facts: Any) -> ProcessResult:
    """A decision on AAA that a rule ended at noon."""
    refusal = facts.pop("refusal", Refusal(Stage.VALIDATOR, "rsi", "71", "<= 70"))
    return ProcessResult(
        outcome, facts.pop("at", NOON), symbol="AAA", decision_id=decision_id, refusal=refusal, **facts
    )


def an_aggregate(*message_ids: str) -> AggregatedSentiment:
    """A bullish consensus of these messages."""
    count = len(message_ids)
    return AggregatedSentiment(count, 0, 0, count, Label.BULLISH, 1.0, 0.7, message_ids, NOON)


def a_runtime(url: str, folder: Path, profile: str = "demo", **variables: str) -> Runtime:
    """A runtime of this profile on the test server, initialised: RUNNING and ACTIVE."""
    environ = {"FLEET_REDIS_URL": url, "FLEET_DATA_DIR": str(folder), **QUICK, **variables}
    fleet = Runtime(load_settings(profile, environ=environ))
    market = fleet.settings.market.model_dump_json()
    if market not in READ:
        READ[market] = {name: getattr(fleet, name) for name in ("sessions", "market", "conditions")}
    vars(fleet).update(READ[market])
    fleet.initialise_if_empty("test", NOON)
    return fleet


def later(seconds: float, since: datetime = NOON) -> datetime:
    """So many seconds after noon."""
    return since + timedelta(seconds=seconds)


def whole_keyspace(client: redis.Redis) -> dict[str, tuple[str, int]]:
    """Type and TTL (s, -1 = none) of every key."""
    server: Any = client
    return {key: (server.type(key), server.ttl(key)) for key in sorted(server.scan_iter(count=1000))}


def assert_bounded(client: redis.Redis, prefix: str) -> Mapping[str, tuple[str, int]]:
    """Every key of the prefix has a life or is on the list of those that are bounded otherwise; answers them."""
    keyspace = {key: facts for key, facts in whole_keyspace(client).items() if key.startswith(f"{prefix}:")}
    for key, (_, ttl) in keyspace.items():
        name = key.removeprefix(f"{prefix}:")
        bounded = any(re.fullmatch(pattern, name) for pattern in BOUNDED)
        bounded |= name.startswith("outcome:") and client.hget(key, "state") == "buffered"  # it has none until its end
        assert ttl > 0 or bounded or name.startswith("rq:"), f"{key} has no life and no bound"
    return keyspace


def types_of(keyspace: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The types alone, by key."""
    return {key: kind for key, (kind, _) in keyspace.items()}


def with_life(keyspace: Mapping[str, tuple[str, int]]) -> Sequence[str]:
    """Keys that expire by themselves."""
    return [key for key, (_, ttl) in keyspace.items() if ttl > 0]


class InlineWorker(SimpleWorker):
    """Runs jobs in the test's own process."""

    death_penalty_class = FirmTimeout

    def handle_job_retry(self, job: Any, **more: Any) -> None:  # type: ignore[override] # RQ names them
        """What a job returned stays in its work-horse; here it would be written into the job."""
        job._result = None
        super().handle_job_retry(job, **more)


def an_inline_worker(queue: Any, name: str) -> Any:
    """A worker on the queue that runs jobs in this process."""
    return InlineWorker([queue], **worker_options(queue, name))


def work_off(fleet: Runtime, queue: str, at_most: int = 10_000) -> None:
    """Let one worker run the queue's jobs in this process until it is empty (or so many were run)."""
    use(fleet)
    worker = an_inline_worker(fleet.queues.queues[queue], f"test-{queue}-{uuid4().hex}")
    worker.register_birth()
    for _ in range(at_most):
        taken = worker.dequeue_job_and_maintain_ttl(None)
        if taken is None:
            break
        worker.execute_job(*taken)
    worker.register_death()

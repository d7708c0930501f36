"""The router's turn: read a chunk, decide every leg, hand over, then acknowledge."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import structlog
from pydantic import ValidationError

from pipeline.models import AnalyzedMessage, OrchestratorState
from pipeline.router import DenyList, Fate, Leg, RouterSettings, route
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.inbox_redis import Delivery, RedisInbox
from workers.adapters.rq_factory import IMMEDIATE, JobQueues
from workers.adapters.state_redis import RedisState
from workers.schedule import Scheduler

TAKE_OVER_EVERY_S = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class Router:
    """One consumer of the group. `now` is asked once a turn (live); in event time a post's own time counts."""

    consumer: str
    inbox: RedisInbox
    backlog: RedisBacklog
    queues: JobQueues
    scheduler: Scheduler
    state: RedisState
    deny: Callable[[], DenyList]
    now: Callable[[], datetime]
    clock: Literal["live", "event"]
    settings: RouterSettings
    threshold: float
    max_buffer_size: int
    max_buffered_total: int
    chunk: int = 200
    block_ms: int = 1000
    take_over_idle_ms: int = 5000
    _next_take_over: float = field(default=0.0)

    def step(self) -> int:
        """One turn: how many messages were routed. Nothing is read while the fleet is STOPPED or the backlog full."""
        if self.state.read() is OrchestratorState.STOPPED:
            time.sleep(self.block_ms / 1000)
            return 0
        if self.backlog.buffered() >= self.max_buffered_total:
            log.warning("backlog.filled", limit=self.max_buffered_total)
            time.sleep(self.block_ms / 1000)
            return 0
        deliveries = self._deliveries()
        if not deliveries:
            return 0
        self._route(deliveries)
        self.inbox.acknowledge([delivery.entry_id for delivery in deliveries])
        return len(deliveries)

    def _deliveries(self) -> list[Delivery]:
        if time.monotonic() >= self._next_take_over:
            self._next_take_over = time.monotonic() + TAKE_OVER_EVERY_S
            stranded = self.inbox.take_over(self.consumer, self.take_over_idle_ms, self.chunk)
            if stranded:
                return stranded
        return self.inbox.read(self.consumer, self.chunk, self.block_ms)

    def _route(self, deliveries: Sequence[Delivery]) -> None:
        deny, now = self.deny(), self.now() if self.clock == "live" else None
        messages = [message for delivery in deliveries if (message := self._parse(delivery)) is not None]
        routed = [
            (message, route(message, now or message.message.received_at, deny, self.settings, self.threshold))
            for message in messages
        ]
        accepted = self.backlog.accept(routed)
        for legs in accepted:
            for leg in legs:
                if leg.fate is Fate.URGENT:
                    self._queue_urgent(leg)
        if self.clock == "live":
            self._drain_full_lists(accepted)

    def _parse(self, delivery: Delivery) -> AnalyzedMessage | None:
        """The message, or None after it was kept as a dead letter."""
        if delivery.body is None:
            self._end_unreadable(delivery, "message_missing", "no body is kept", delivery.entry_id.encode())
            return None
        try:
            return AnalyzedMessage.model_validate_json(delivery.body)
        except ValidationError as error:
            detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            self._end_unreadable(delivery, "invalid_message", detail, delivery.body.encode())
            return None

    def _end_unreadable(self, delivery: Delivery, reason: str, detail: str, raw: bytes) -> None:
        """It was accepted, so it has a leg and an end: `error`, with the raw body among the dead letters."""
        if self.backlog.end_unreadable(delivery.message_id, reason, self.now()):
            self.inbox.bury("router", reason, detail, raw, refused=False)
            log.warning("message.buried", message_id=delivery.message_id, reason=reason)

    def _queue_urgent(self, leg: Leg) -> None:
        if leg.symbol is None:
            raise ValueError(f"urgent leg {leg.leg_id} has no symbol; valid: the message's primary symbol")
        job_id = f"urgent-{leg.message_id}-{leg.symbol.replace('.', '_')}"
        self.queues.enqueue(IMMEDIATE, "trade", job_id, (leg.message_id, leg.symbol), f"urgent {leg.leg_id}")

    def _drain_full_lists(self, accepted: Sequence[tuple[Leg, ...]]) -> None:
        touched = {leg.symbol for legs in accepted for leg in legs if leg.vote is not None and leg.symbol}
        sizes = self.backlog.sizes_of(touched)
        full = sorted(symbol for symbol, size in sizes.items() if size >= self.max_buffer_size)
        if full:
            self.scheduler.enqueue_claims(self.backlog.claim(full))

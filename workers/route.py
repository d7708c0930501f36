"""The router's turn: read a chunk, decide every leg, then hand over and acknowledge in one step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import structlog

from pipeline.models import OrchestratorState
from pipeline.router import DenyList, Fate, Leg, Routable, RouterSettings, route
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.packed_jobs import PackedJob
from workers.adapters.route_script import Chunk, Turn, Unreadable
from workers.adapters.rq_factory import IMMEDIATE, JobQueues
from workers.adapters.sent_script import nothing
from workers.adapters.take_script import Delivery, Taken
from workers.adapters.wire_posts import post_of
from workers.schedule import Scheduler

TAKE_OVER_EVERY_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read, and the same decided."""

    taken: Taken
    chunk: Chunk

    @property
    def size(self) -> int:
        """Messages."""
        return len(self.taken.deliveries)


@dataclass(slots=True)
class Router:
    """One consumer of the group. `now` replaces the server's clock (live); in event time a post's own time counts."""

    consumer: str
    inbox: RedisInbox
    backlog: RedisBacklog
    queues: JobQueues
    scheduler: Scheduler
    clock: Literal["live", "event"]
    settings: RouterSettings
    threshold: float
    max_buffer_size: int
    max_buffered_total: int
    chunk: int = 500
    block_ms: int = 1000
    take_over_idle_ms: int = 5000
    now: Callable[[], datetime] | None = None
    _next_take_over: float = field(default=0.0)
    _ahead: _Read | None = field(default=None)

    def step(self) -> int:
        """One turn: how many messages were routed. Nothing is read while the fleet is STOPPED or the backlog full.

        While more than one chunk waits, the next one is read before this one is handed over, and decided while the
        server writes this one. Should we die, it waits like any other that was read.
        """
        read, self._ahead = self._ahead or self._decide_all(self._take()), None
        if not read.size:
            self._pause(read.taken)
            return 0
        self._route(read, self._take(behind=read) if read.size == self.chunk else None)
        return read.size

    def finish(self) -> None:
        """Route what was read ahead; nothing more is read."""
        read, self._ahead = self._ahead, None
        if read is not None:
            self._route(read, None)

    def _route(self, read: _Read, behind: Taken | None) -> None:
        def look_ahead() -> None:
            """Decide the next chunk."""
            self._ahead = self._decide_all(behind) if behind and behind.deliveries else None

        line, full, meanwhile = self.queues.line(IMMEDIATE), self.max_buffer_size, look_ahead if behind else nothing
        accepted, full_lists = self.backlog.accept_chunk(read.chunk, line, full, meanwhile)
        self._queue_left_behind(read.chunk.turns, accepted)
        if full_lists and self.clock == "live":
            self.scheduler.enqueue_claims(self.backlog.claim(sorted(full_lists)))

    def _take(self, behind: _Read | None = None) -> Taken:
        """What waits `behind` a chunk that is not handed over yet, of which the lists' bound must know."""
        idle_ms = -1
        if time.monotonic() >= self._next_take_over:
            self._next_take_over, idle_ms = time.monotonic() + TAKE_OVER_EVERY_S, self.take_over_idle_ms
        block_ms, in_hand = (0, behind.chunk.votes) if behind else (self.block_ms, 0)
        return self.inbox.take(self.consumer, self.chunk, block_ms, idle_ms, self.max_buffered_total - in_hand)

    def _pause(self, taken: Taken) -> None:
        full = taken.buffered >= self.max_buffered_total
        if full:
            log.warning("backlog.filled", limit=self.max_buffered_total)
        if full or taken.state is OrchestratorState.STOPPED:
            time.sleep(self.block_ms / 1000)

    def _decide_all(self, taken: Taken) -> _Read:
        chunk, unreadable, now = Chunk(), [], self.now() if self.now else taken.at
        for delivery in taken.deliveries:
            message = self._read(delivery, now)
            if isinstance(message, Unreadable):
                unreadable.append((message, delivery.entry_id))
            else:
                chunk.add(self._decide(message, delivery.entry_id, taken.deny, now))
        for one, entry_id in unreadable:
            chunk.bury(one, entry_id)
        return _Read(taken, chunk)

    def _read(self, delivery: Delivery, now: datetime) -> Routable | Unreadable:
        """The message. One that cannot be read was accepted, so it has a leg and an end, and is a dead letter."""
        name = delivery.message_id
        if delivery.body is None:
            fault = Unreadable(name, "message_missing", now, "no body is kept", delivery.entry_id.encode())
        else:
            try:
                return post_of(delivery.body)
            except ValueError as error:
                fault = Unreadable(name, "invalid_message", now, str(error), delivery.body)
        log.warning("message.buried", message_id=name, reason=fault.reason)
        return fault

    def _decide(self, message: Routable, entry_id: str, deny: DenyList, now: datetime) -> Turn:
        moment = now if self.clock == "live" else message.message.received_at
        legs = route(message, moment, deny, self.settings, self.threshold)
        job = next((self._job(leg) for leg in legs if leg.fate is Fate.URGENT), None)
        return Turn(message, legs, entry_id, job)

    def _job(self, leg: Leg) -> PackedJob:
        if leg.symbol is None:
            raise ValueError(f"urgent leg {leg.leg_id} has no symbol; valid: the message's primary symbol")
        job_id = f"urgent-{leg.message_id}-{leg.symbol.replace('.', '_')}"
        return self.queues.pack(IMMEDIATE, "trade", job_id, (leg.message_id, leg.symbol), f"urgent {leg.leg_id}")

    def _queue_left_behind(self, turns: Sequence[Turn], accepted: Sequence[tuple[Leg, ...]]) -> None:
        """Jobs of urgent legs that a router of an earlier version opened before it died; then their entries."""
        left = [
            (self._job(leg), turn.entry_id)
            for turn, legs in zip(turns, accepted, strict=True)
            for leg in legs
            if leg.fate is Fate.URGENT and leg.vote is None
        ]
        if left:
            self.queues.enqueue_many(IMMEDIATE, [job for job, _ in left])
            self.inbox.acknowledge([entry_id for _, entry_id in left])

"""Delivery in memory: the stream, the lists with their leases, RQ's queues and what else the fleet keeps in Redis."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from pipeline.models import AnalyzedMessage, OrchestratorState, Outcome, ProcessResult
from pipeline.ports import Claim
from pipeline.router import DenyList, Fate, Leg, Routable, leg_id
from workers.adapters.backlog_memory import MemoryBacklog
from workers.adapters.control_memory import MemoryControl
from workers.adapters.dead_work import DeadWork
from workers.adapters.followups_redis import FollowUp
from workers.adapters.journal_memory import MemoryJournal
from workers.adapters.keys import to_ms
from workers.adapters.ledger_memory import MemoryLedger
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.route_script import Chunk
from workers.adapters.rq_factory import FailedJob
from workers.adapters.rq_guard import QUEUES, require_ours
from workers.adapters.take_script import Delivery, Taken
from workers.adapters.votes_cache import CachedVotes

Now = Callable[[], datetime]
Standing = Callable[[], tuple[OrchestratorState, int, DenyList]]  # state, votes waiting, what people forbade


@dataclass(frozen=True, slots=True)
class Letter:
    """What could not be used."""

    stage: str
    detail: str
    raw: bytes
    refused: bool


class MemoryInbox:
    """`RedisInbox`: a stream with one consumer group."""

    def __init__(self, now: Now, standing: Standing) -> None:
        self._now, self._standing = now, standing
        self.bodies: dict[str, str] = {}
        self.letters: list[Letter] = []
        self._stream: dict[str, str] = {}
        self._pending: dict[str, datetime] = {}
        self._entries = 0

    def append(self, messages: Sequence[AnalyzedMessage]) -> list[bool]:
        return [self._append(message) for message in messages]

    def _append(self, message: AnalyzedMessage) -> bool:
        if message.message_id in self.bodies:
            return False
        self.bodies[message.message_id] = message.model_dump_json()
        self._entries += 1
        self._stream[f"{self._entries}-0"] = message.message_id
        return True

    def bury(self, stage: str, reason: str, detail: str, raw: bytes, *, refused: bool = True) -> None:
        self.letters.append(Letter(stage, detail, raw, refused))

    def open_group(self) -> None:
        """It is always open."""

    def take(self, consumer: str, count: int, block_ms: int, idle_ms: int, max_buffered: int) -> Taken:
        state, buffered, deny = self._standing()
        entries: list[str] = []
        if state is not OrchestratorState.STOPPED and buffered < max_buffered:
            entries = self._stranded(idle_ms) or [entry for entry in self._stream if entry not in self._pending]
        return Taken(state, buffered, deny, self._now(), self._deliver(entries[:count]))

    def _stranded(self, idle_ms: int) -> list[str]:
        limit = self._now() - timedelta(milliseconds=idle_ms)
        return [entry for entry, since in self._pending.items() if since <= limit] if idle_ms >= 0 else []

    def _deliver(self, entries: Sequence[str]) -> tuple[Delivery, ...]:
        self._pending |= dict.fromkeys(entries, self._now())
        names = [self._stream[entry] for entry in entries]
        return tuple(
            Delivery(entry, name, self.bodies[name].encode()) for entry, name in zip(entries, names, strict=True)
        )

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        for entry in entry_ids:
            self._stream.pop(entry, None)
            self._pending.pop(entry, None)

    def waiting(self) -> int:
        return len(self._stream)

    def message(self, message_id: str) -> AnalyzedMessage | None:
        body = self.bodies.get(message_id)
        return None if body is None else AnalyzedMessage.model_validate_json(body)


class LeasedBacklog(MemoryBacklog):
    """`RedisBacklog`: the twin with the leases of claims, and urgent legs answered again while they are open.

    `inbox` and `queues` are what a router's step writes beside the lists.
    """

    inbox: "MemoryInbox"
    queues: "MemoryQueues"

    def __init__(self, journal: MemoryJournal, now: Now, lease_s: float) -> None:
        super().__init__(journal)
        self._now, self._lease = now, timedelta(seconds=lease_s)
        self.deadlines: dict[str, datetime] = {}
        self._urgent: set[str] = set()

    def accept_chunk(
        self, chunk: Chunk, line: Line, full: int, meanwhile: Callable[[], None]
    ) -> tuple[list[tuple[Leg, ...]], list[str]]:
        """One step: legs, votes, jobs, and the stream forgets; but not what still needs its job."""
        assert not chunk.unreadable
        turns = chunk.turns
        meanwhile()
        accepted = [self._accept(turn.message, turn.legs) for turn in turns]
        for turn, legs in zip(turns, accepted, strict=True):
            urgent = next((leg for leg in legs if leg.fate is Fate.URGENT), None)
            if urgent is None or urgent.vote is not None:
                self.inbox.acknowledge([turn.entry_id])
            if urgent is not None and urgent.vote is not None and turn.job is not None:
                self.queues.enqueue_many(line.key, [turn.job])
        touched = {leg.symbol for legs in accepted for leg in legs if leg.vote is not None}
        return accepted, sorted(symbol for symbol, size in self.sizes().items() if symbol in touched and size >= full)

    def _accept(self, message: Routable, legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
        accepted = super()._accept(message, legs)
        self._urgent |= {leg.leg_id for leg in accepted if leg.fate is Fate.URGENT}
        primary = message.tickers.primary
        first = leg_id(message.message_id, primary)
        if not accepted and first in self._urgent and self._journal.outcome(first) is Outcome.BUFFERED:
            return (Leg(first, message.message_id, primary, Fate.URGENT),)
        return accepted

    def _claim(self, symbol: str) -> str:
        claim_id = super()._claim(symbol)
        self.deadlines[claim_id] = self._now() + self._lease
        return claim_id

    def claimed_many(self, claim_ids: Sequence[str]) -> list[Claim | None]:
        return [self.claimed(claim_id) for claim_id in claim_ids]

    def finish(self, claim_id: str) -> None:
        super().finish(claim_id)
        self.deadlines.pop(claim_id, None)

    def finish_many(self, claim_ids: Sequence[str]) -> None:
        for claim_id in claim_ids:
            self.finish(claim_id)

    def unfinished(self) -> list[str]:
        return sorted(self.deadlines)

    def overdue(self) -> list[tuple[str, int]]:
        now = self._now()
        found = [(claim_id, to_ms(at)) for claim_id, at in self.deadlines.items() if at <= now]
        self.deadlines |= {claim_id: now + self._lease for claim_id, _ in found}
        return found

    def buffered(self) -> int:
        return sum(self.sizes().values())


class JournalPort:
    """`RedisJournal` over the twin: several results, and several outcomes, at once."""

    def __init__(self, memory: MemoryJournal) -> None:
        self._memory = memory

    def record(self, results: Sequence[tuple[ProcessResult, tuple[str, ...]]]) -> None:
        self._memory.record(results)

    def outcome(self, leg_or_decision_id: str) -> Outcome | None:
        return self._memory.outcome(leg_or_decision_id)

    def outcomes(self, ids: Sequence[str]) -> list[Outcome | None]:
        return [self._memory.outcome(one) for one in ids]


class LoadedVotes(CachedVotes):
    """The real cache of one process; what it loads comes from the twin."""

    def __init__(self, backlog: Any) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing, backlog)

    def load(self, spans: Mapping[str, tuple[datetime, datetime]]) -> None:
        for symbol, (since, until) in spans.items():
            self._loaded[symbol] = (since, until, self._backlog.votes(symbol, since, until))
            self._used[symbol] = frozenset(self._backlog._used[symbol])  # type: ignore[attr-defined]


class MemoryFollowUps:
    """`RedisFollowUps`."""

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}

    def add(self, queue: str, job: str, args: Sequence[object], due: datetime) -> None:
        raw = orjson.dumps({"queue": queue, "job": job, "args": list(args)}).decode()
        self.waiting[raw] = max(to_ms(due), self.waiting.get(raw, 0))

    def due(self, now: datetime, at_most: int = 500) -> list[FollowUp]:
        rows = sorted((at, raw) for raw, at in self.waiting.items() if at <= to_ms(now))
        return [self._one(raw, at) for at, raw in rows[:at_most]]

    def done(self, follow_up: FollowUp) -> None:
        if self.waiting.get(follow_up.raw) == follow_up.due_ms:
            del self.waiting[follow_up.raw]

    def claim_ids(self) -> frozenset[str]:
        found = [self._one(raw, at) for raw, at in self.waiting.items()]
        return frozenset(str(name) for one in found if one.job == "consensus" for name in one.args[0])  # type: ignore[attr-defined]

    def message_ids(self) -> frozenset[str]:
        found = [self._one(raw, at) for raw, at in self.waiting.items()]
        return frozenset(str(one.args[0]) for one in found if one.job == "trade")

    def _one(self, raw: str, at: int) -> FollowUp:
        spec = orjson.loads(raw)
        return FollowUp(spec["job"], spec["queue"], tuple(spec["args"]), at, raw)


class MemoryDeadWork:
    """`RedisDeadWork`, as far as jobs ask it: nobody requeues here."""

    def __init__(self, set_aside: Callable[[str], None]) -> None:
        """`set_aside`: forget a claim."""
        self.set_aside = set_aside
        self.known: dict[str, DeadWork] = {}

    def keep(self, work: DeadWork) -> None:
        self.known[work.id] = work

    def find(self, name: str) -> DeadWork | None:
        return self.known.get(name)

    def all(self) -> list[DeadWork]:
        return list(self.known.values())

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.known.pop(name, None)


class MemoryStrikes:
    """`RedisStrikes`."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def begin(self, job_id: str) -> int:
        self.counts[job_id] = self.counts.get(job_id, 0) + 1
        return self.counts[job_id]

    def carry(self, job_ids: Sequence[str], deaths: int) -> None:
        for job_id in job_ids:
            self.counts.setdefault(job_id, deaths)

    def end(self, job_id: str) -> None:
        self.counts.pop(job_id, None)

    def forget(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self.counts.pop(job_id, None)


class MemoryState:
    """`RedisState`: RUNNING, and every collector fresh."""

    def __init__(self) -> None:
        self._state = OrchestratorState.RUNNING
        self._by, self._at = "test", None

    def read(self) -> OrchestratorState:
        return self._state

    def write(self, state: OrchestratorState, by: str, at: datetime) -> None:
        self._state, self._by = state, by

    def by(self) -> str:
        return self._by

    def since(self) -> datetime | None:
        return self._at

    def fresh(self, role: str, now: datetime) -> list[str]:
        return [f"{role}-1"]


class MemoryHeldClock:
    """`HeldClock`."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def next_open_ms(self) -> int | None:
        return min((to_ms(due) for due, _ in self._ledger._held.values()), default=None)


@dataclass(slots=True)
class Job:
    """One job of RQ; `args` as JSON. `lost`: its worker is dead, or is taken for dead."""

    job_id: str
    queue: str
    name: str
    args: str
    retries_left: int
    state: str = "queued"
    lost: bool = False
    forget_at: datetime | None = None


@dataclass
class MemoryQueues:
    """`JobQueues`, and what RQ's workers and registries do behind it."""

    now: Now
    retry_max: int
    result_ttl_s: float
    failure_ttl_s: float
    jobs: dict[str, Job] = field(default_factory=dict)

    def enqueue(self, queue: str, job: str, job_id: str, args: Sequence[Any], description: str) -> bool:
        return bool(self.enqueue_many(queue, [self.pack(queue, job, job_id, args, description)]))

    def pack(self, queue: str, job: str, job_id: str, args: Sequence[Any], description: str) -> PackedJob:
        require_ours(f"workers.jobs.{job}", args, description)
        return PackedJob(f"rq:job:{job_id}", job_id, orjson.dumps(list(args)), (job,))

    def line(self, queue: str) -> Line:
        return Line(queue, "queues")

    def enqueue_many(self, queue: str, jobs: Sequence[PackedJob]) -> int:
        self._forget_old()
        fresh = [one for one in jobs if one.job_id not in self.jobs]
        for one in fresh:
            self.jobs[one.job_id] = Job(one.job_id, queue, str(one.words[0]), one.data.decode(), self.retry_max)
        return len(fresh)

    def busy(self) -> int:
        return sum(job.state in {"queued", "started"} for job in self.jobs.values())

    def recover(self) -> list[Job]:
        """Begun jobs of dead workers are queued again while they have retries, else they failed."""
        lost = [job for job in self.jobs.values() if job.state == "started" and job.lost]
        for job in lost:
            self.retry(job)
        return lost

    def cleanup(self) -> None:
        """What RQ's registries would find too."""
        self.recover()

    def depths(self) -> dict[str, int]:
        return {q: sum(job.queue == q and job.state == "queued" for job in self.jobs.values()) for q in QUEUES}

    def failed_ids(self, queue_name: str, at_most: int = 500) -> list[str]:
        return [job.job_id for job in self.failed(queue_name)]

    def failed(self, queue_name: str, at_most: int = 500) -> list[FailedJob]:
        found = [job for job in self.jobs.values() if job.queue == queue_name and job.state == "failed"]
        return [FailedJob(job.job_id, job.name, tuple(orjson.loads(job.args))) for job in found]

    def waiting(self) -> int:
        """Jobs that nobody has begun."""
        return sum(job.state == "queued" for job in self.jobs.values())

    def take(self, name: str | None = None) -> Job | None:
        """The oldest queued job (of this name or id) of the most urgent queue, begun."""
        queued = [job for job in self.jobs.values() if job.state == "queued" and name in {None, job.name, job.job_id}]
        if not queued:
            return None
        job = min(queued, key=lambda one: QUEUES.index(one.queue))
        job.state, job.lost = "started", False
        return job

    def finished(self, job: Job) -> None:
        """It returned; a copy that was queued meanwhile still runs."""
        if job.state == "started":
            job.state, job.forget_at = "finished", self.now() + timedelta(seconds=self.result_ttl_s)

    def retry(self, job: Job) -> None:
        """Behind the others, once less; or failed."""
        if job.state != "started":
            return
        if job.retries_left == 0:
            job.state, job.forget_at = "failed", self.now() + timedelta(seconds=self.failure_ttl_s)
            return
        del self.jobs[job.job_id]
        job.retries_left -= 1
        job.state, job.lost, self.jobs[job.job_id] = "queued", False, job

    def _forget_old(self) -> None:
        now = self.now()
        for job in [job for job in self.jobs.values() if job.forget_at is not None and job.forget_at <= now]:
            del self.jobs[job.job_id]


class ListingControl(MemoryControl):
    """`RedisControl`: the twin that answers the deny-lists at once."""

    def deny_list(self) -> DenyList:
        return DenyList(*(frozenset(self.denials(kind)) for kind in ("symbol", "author", "source")))

"""The scheduler: what is due now becomes a job, once, however many schedulers there are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice

import structlog

from pipeline.consensus import window_of
from pipeline.models import OrchestratorState
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.followups_redis import RedisFollowUps
from workers.adapters.held_redis import HeldClock
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.packed_jobs import PackedJob
from workers.adapters.rq_factory import CONSENSUS, MAINTENANCE, JobQueues
from workers.adapters.state_redis import RedisState

COLLECTOR_GRACE = timedelta(seconds=60)
MISSED_FOR = timedelta(seconds=30)
LOOK_AGAIN = timedelta(seconds=10)
MOST_WAITING = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scheduler:
    """One `turn(now)` queues the bucket's drain, due follow-ups, the open's release, settlement and the janitor."""

    queues: JobQueues
    backlog: RedisBacklog
    inbox: RedisInbox
    followups: RedisFollowUps
    held: HeldClock
    state: RedisState
    interval_s: int
    settle_interval_s: int
    janitor_interval_s: int
    reconcile_interval_s: int
    claims_per_job: int
    _missing: list[datetime] = field(default_factory=list)

    def turn(self, now: datetime) -> int:
        """Live: everything that is due at `now`. Answers how many jobs were queued.

        Jobs of dead workers are put back here and not by a job: the worker that would run it may be the dead one.
        """
        recovered = len(self.queues.recover())
        state = self.state.read()
        if state is OrchestratorState.STOPPED:
            return recovered
        queued = recovered + self.housekeeping(now)
        if state is OrchestratorState.RUNNING and self._no_collector(now):
            log.error("orchestrator.stopped", reason="no fresh collector")
            self.state.write(OrchestratorState.STOPPING, "scheduler: no fresh collector", now)
            return queued
        if state is OrchestratorState.STOPPING:
            return queued + self._wind_down(now)
        return queued + self.queue_drain(now)

    def housekeeping(self, now: datetime) -> int:
        """Follow-ups, held signals, settlement and the janitor; while many of these wait, no more of the same."""
        followups = self.queue_followups(now)
        if self.queues.depths()[MAINTENANCE] >= MOST_WAITING:
            log.warning("maintenance.skipped", waiting=MOST_WAITING)
            return followups
        return (
            followups
            + self.queue_release(now)
            + self._tick("settle", now, self.settle_interval_s)
            + self._tick("janitor", now, self.janitor_interval_s)
            + self._tick("reconcile", now, self.reconcile_interval_s)
        )

    # ---- what a turn is made of; a replay drives these with event time ----

    def queue_drain(self, now: datetime, *, event_time: bool = False) -> int:
        """The drain of the bucket `now` is in, once."""
        bucket = window_of(now, self.interval_s)
        at = (now.isoformat(),) if event_time else ()
        return self.queues.enqueue(CONSENSUS, "drain", f"drain-{bucket}", (bucket, *at), f"drain of {now:%H:%M:%S}")

    def queue_followups(self, now: datetime, at_most: int = 500) -> int:
        """Follow-ups whose time has come, oldest first: queued first, forgotten after."""
        due = self.followups.due(now, at_most)
        for one in due:
            moment = datetime.fromtimestamp(one.due_ms / 1000, UTC).isoformat()
            job_id = f"again-{short(one.raw)}-{one.due_ms}"
            self.queues.enqueue(one.queue, one.job, job_id, (*one.args, moment), f"{one.job} again")
            self.followups.done(one)
        return len(due)

    def queue_release(self, now: datetime, *, again: bool = False) -> int:
        """The release of signals held for an open that has come; in event time as of that open, or `again` of now."""
        due_ms = self.held.next_open_ms()
        if due_ms is None or due_ms > now.timestamp() * 1000:
            return 0
        due = datetime.fromtimestamp(due_ms / 1000, UTC)
        job_id = f"release-{due_ms}-{window_of(now, self.settle_interval_s)}"
        at = now if again else due
        return self.queues.enqueue(MAINTENANCE, "release", job_id, (at.isoformat(),), f"held for {due:%Y-%m-%d %H:%M}")

    def queue_settle(self, now: datetime) -> int:
        """A settlement at event time `now`."""
        job_id = f"settle-{int(now.timestamp() * 1000)}"
        return self.queues.enqueue(MAINTENANCE, "settle", job_id, (now.isoformat(),), f"settle at {now:%Y-%m-%d %H:%M}")

    def queue_reconcile(self, starter: str) -> int:
        """A reconciliation at the start of what `starter` names, once for each name."""
        job_id = f"reconcile-{short(starter)}"
        return self.queues.enqueue(MAINTENANCE, "reconcile", job_id, (), "reconcile at a start")

    # ---- what jobs ask for ----

    def drain(self, at: str | None = None, *, unfinished: bool = False) -> int:
        """Claim every waiting list and queue the claims; answers how many. `at`: the moment, in event time.

        `unfinished`: with all claims that are not decided yet, because the drain that made them may have died
        before it queued them. Those that wait for their follow-up stay with it.
        """
        fresh = self.backlog.claim()
        if not unfinished:
            return self.enqueue_claims(fresh, at)
        return self.enqueue_claims(sorted(set(self.backlog.unfinished()) - self.followups.claim_ids()), at)

    def enqueue_claims(self, claim_ids: Sequence[str], drained_at: str | None = None, claims_per_job: int = 0) -> int:
        """Queue claims for decision, many a job; answers how many claims. Repeating it is harmless."""
        moment = (drained_at, True) if drained_at else ()
        remaining = iter(claim_ids)
        jobs: list[PackedJob] = []
        while chunk := list(islice(remaining, claims_per_job or self.claims_per_job)):
            about = f"consensus of {len(chunk)} claims"
            jobs.append(self.queues.pack(CONSENSUS, "consensus", claims_job_id(chunk), (chunk, *moment), about))
        self.queues.enqueue_many(CONSENSUS, jobs)
        return len(claim_ids)

    def clean(self) -> int:
        """Queue claims past their deadline again, under the same claim ids; clean RQ's registries."""
        overdue = self.backlog.overdue()
        jobs = [
            self.queues.pack(
                *(CONSENSUS, "consensus", f"reclaim-{short(claim_id)}-{deadline_ms}"),
                *(([claim_id],), f"reclaim of {claim_id}"),
            )
            for claim_id, deadline_ms in overdue
        ]
        self.queues.enqueue_many(CONSENSUS, jobs)
        self.queues.cleanup()
        return len(overdue)

    # ---- inside ----

    def _no_collector(self, now: datetime) -> bool:
        """Whether no collector is fresh, a while after the start (seed: the collector is critical).

        Seen again and again for 30 s: while Redis was away nobody's sign of life could arrive, so after an outage
        the look begins anew.
        """
        since = self.state.since()
        if (since is not None and now - since < COLLECTOR_GRACE) or self.state.fresh("collect", now):
            self._missing.clear()
            return False
        if self._missing and now - self._missing[-1] > LOOK_AGAIN:
            self._missing.clear()
        self._missing[1:] = [now]
        return now - self._missing[0] >= MISSED_FOR

    def _tick(self, job: str, now: datetime, every_s: int) -> int:
        bucket = window_of(now, every_s)
        return self.queues.enqueue(MAINTENANCE, job, f"{job}-{bucket}", (), f"{job} at {now:%H:%M:%S}")

    def _wind_down(self, now: datetime) -> int:
        """STOPPING: drain until nothing waits and nothing runs, then STOPPED."""
        if self.inbox.waiting() or self.backlog.sizes() or self.queues.busy():
            return self.queue_drain(now)
        self.state.write(OrchestratorState.STOPPED, self.state.by(), now)
        return 0


def claims_job_id(claim_ids: Sequence[str]) -> str:
    """The name of the job that decides these claims together."""
    return f"consensus-{short(','.join(claim_ids))}"


def short(text: str) -> str:
    """A job id's part for any text: RQ allows letters, digits, `_` and `-` only."""
    return sha256(text.encode()).hexdigest()[:20]

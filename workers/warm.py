"""The warm worker: RQ's worker with a work-horse that is kept between jobs.

All that RQ promises of a job holds, and RQ's tools read its books as before. What differs is where the work is done and
what it costs. A job runs in a process that is preloaded and kept (`adapters.horse`); the worker alone keeps the books,
in one script when a job begins and one when it ends (`adapters.rq_scripts`). The second also takes the next job, if one
waits: the worker is free at that moment, so it holds nothing that another could run.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final
from uuid import uuid4

import orjson
import redis
import structlog
from rq import Queue, Retry, Worker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.utils import now
from rq.worker.base import SHUTDOWN_SIGNAL, WorkerStatus

from workers.adapters.deadline import FirmTimeout
from workers.adapters.horse import AGAIN, DONE, FAILED, JOB
from workers.adapters.leases import RENEW_EVERY_S, Leases
from workers.adapters.redis_edge import is_away
from workers.adapters.rq_guard import GuardedQueue
from workers.adapters.rq_scripts import JobBooks
from workers.adapters.stable import Horse, Stable, StableError
from workers.liveness import Liveness
from workers.measures import JOBS
from workers.stop import Stop

IDLE_S: Final = 1.0  # a wish to stop or a suspension is noticed within that
BEAT_S: Final = 1.0
OVERTIME_S: Final = 1.0  # for the alarm inside the horse, before its worker kills it
FIRST_PAUSE_S: Final = 0.5
ENDS: Final[dict[int | None, str]] = {DONE: "done", FAILED: "failed", AGAIN: "again"}
LONGEST_PAUSE_S: Final = 5.0

log = structlog.get_logger()


class WarmWorker(Worker):
    """Runs guarded jobs of ONE queue. Exception handlers are not called: the exception stays in the horse."""

    death_penalty_class = FirmTimeout

    def __init__(
        self,
        queue: GuardedQueue,
        *,
        stable: Stable,
        leases: Leases,
        liveness: Liveness | None = None,
        pulse: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        """`stable` was made before this process had threads or connections; it is closed with the worker.

        `liveness` is marked while the worker looks for jobs, waits for one to end, or for Redis; `pulse` is called
        wherever it gives a sign of life.
        """
        super().__init__([queue], **options)
        self._liveness = liveness or Liveness()
        self._queue = queue
        self._stable = stable
        self._pulse = pulse
        self._books = JobBooks(self.connection, queue, self.key, self.name, leases)
        self._wish = Stop()
        self._horse: Horse | None = None
        self._next: Job | None = None
        self._not_suspended = False
        self._fresh_until = 0.0
        self._stop_said = False

    # ---- taking jobs ----

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Wait while workers are suspended; not asked again when the end of the last job told."""
        known, self._not_suspended = self._not_suspended or self._next is not None, False
        if not known:
            with _outlived("suspension"):
                super().check_for_suspension(burst)

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's clean-up judges others' jobs by this host's clock. The janitor does it by the server's."""
        return False

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job, waiting for it unless `timeout` is None; None when nothing came. Raises StopRequested."""
        job, self._next = self._next, None
        if job is not None:
            return job, self._queue
        if self._state != WorkerStatus.IDLE:
            self.set_state(WorkerStatus.IDLE)
        idle_until = time.monotonic() + max_idle_time if max_idle_time is not None else float("inf")
        pause = FIRST_PAUSE_S
        while True:
            self._liveness.mark()
            if self._stop_requested:
                raise StopRequested
            try:
                return self._await_job(block=timeout is not None)
            except DequeueTimeout:
                if time.monotonic() >= idle_until:
                    return None
                self._look_around()
            except redis.RedisError as error:
                if not is_away(error):
                    raise
                log.warning("redis.disconnected", error=type(error).__name__, pause_s=pause)
                self._liveness.mark(type(error).__name__)
                self._wish.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _await_job(self, *, block: bool) -> tuple[Job, Queue] | None:
        taken: Any = self.queue_class.dequeue_any(
            [self._queue],
            IDLE_S if block else None,  # type: ignore[arg-type] # Redis waits for parts of a second too
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )
        return taken and (taken[0], self._queue)

    def _look_around(self) -> None:
        """What an idle worker does twice a second."""
        self._stable.tend()
        self.check_for_suspension(burst=False)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """A sign of life; not sent again within a second, for each job's scripts carry one."""
        fresh = time.monotonic() < self._fresh_until  # not by the host's clock, which may be set back
        self._fresh_until = self._fresh_until if fresh else time.monotonic() + BEAT_S
        if pipeline is not None or timeout is not None:
            super().heartbeat(timeout, pipeline)
        elif not fresh:
            with _outlived("heartbeat"):
                super().heartbeat(timeout, pipeline)
                self._pulse()
            return
        self._pulse()

    # ---- one job ----

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Have the job run and write down how it ended; in an outage that outlasts all patience its lease ends."""
        with _outlived("job"):
            self._execute(job, queue)

    def _execute(self, job: Job, queue: Queue) -> None:
        try:
            horse = self._stable.ready_horse()
        except StableError:
            self._books.give_back(job)
            raise
        execution = self._begin(job)
        if execution is None:
            log.warning("job.disowned", job_id=job.id)
            return
        began = time.monotonic()
        self._horse, self._horse_pid = horse, horse.pid
        horse.tell(JOB, job.id.encode(), *_facts(job))
        try:
            overdue = self._watch(job, execution, horse)
        except redis.RedisError:
            self._stable.kill(horse)
            raise
        finally:
            self._horse, self._horse_pid = None, 0
            self.executions.pop(execution.id, None)
        self._measure(job, horse, time.monotonic() - began)
        self._end(job, queue, execution, horse, overdue=overdue)

    def _begin(self, job: Job) -> Execution | None:
        """Write down that the job begins; None when it is not this worker's any more."""
        execution = Execution(uuid4().hex, job.id, self.connection, self.name)
        execution._job = job  # noqa: SLF001 - as Execution.create does
        if not self._books.start(job, execution, self.get_heartbeat_ttl(job)):
            return None
        self.executions[execution.id] = execution
        self._state = WorkerStatus.BUSY
        self._fresh_until = time.monotonic() + BEAT_S
        self.last_heartbeat = job.last_heartbeat = job.started_at = execution.created_at
        job.worker_name = self.name
        job._status = JobStatus.STARTED  # noqa: SLF001 - what the script wrote
        return execution

    def _watch(self, job: Job, execution: Execution, horse: Horse) -> bool:
        """Wait for the job's end with signs of life; one that passes its time-out is killed. Whether it was.

        So is one whose lease was lost: somebody else runs the job now.
        """
        began = time.monotonic()
        deadline = began + (job.timeout or Queue.DEFAULT_TIMEOUT) + OVERTIME_S
        renewal, overdue = began + RENEW_EVERY_S, False
        while not self._stable.await_answer(horse, min(deadline, renewal) - time.monotonic()):
            self._liveness.mark()
            if time.monotonic() >= deadline:
                overdue, deadline = True, float("inf")
                self._stable.kill(horse)
            if time.monotonic() >= renewal:
                renewal = time.monotonic() + RENEW_EVERY_S
                if self._books.renew(job, execution, self.get_heartbeat_ttl(job)):
                    self._say_stop()
                else:
                    renewal = float("inf")
                    self._stable.kill(horse)
        return overdue

    def _measure(self, job: Job, horse: Horse, seconds: float) -> None:
        """How long the job took, by our function's name and the way it ended."""
        end = ENDS.get(horse.answer[0] if horse.answer else None, "died")
        JOBS.labels(self._queue.name, str(job.func_name).rpartition(".")[2], end).observe(seconds)

    def _end(self, job: Job, queue: Queue, execution: Execution, horse: Horse, *, overdue: bool) -> None:
        """Write down how the job ended."""
        kind, parts = horse.answer or (None, [])
        if kind == DONE:
            self._finish(job, queue, execution, parts[0] if parts else None)
            return
        job.ended_at = now()
        if not self._books.owns(execution):
            log.warning("job.disowned", job_id=job.id)
        elif kind == AGAIN:
            most, intervals, at_front = orjson.loads(parts[0])
            retry = Retry(most, intervals, enqueue_at_front=at_front)
            self.handle_job_retry(job, queue, retry, queue.started_job_registry, execution)
        elif kind == FAILED:
            text = parts[0].decode()
            log.error("job.failed", job_id=job.id, func=job.func_name, error=text)
            self.handle_job_failure(job, queue, exc_string=text, execution=execution)
        else:
            self._end_without_answer(job, queue, execution, horse, overdue=overdue)
        self.set_state(WorkerStatus.IDLE)

    def _finish(self, job: Job, queue: Queue, execution: Execution, value: bytes | None) -> None:
        """The job returned. The next one is taken in the same step, when there is nothing else to be done first."""
        ttl = job.get_result_ttl(self.default_result_ttl)
        take = not self._stop_requested
        told = self._books.finish(job, execution, value, ttl, self.worker_ttl + 60, take=take)
        self._fresh_until = time.monotonic() + BEAT_S
        self._state, self.last_heartbeat = WorkerStatus.IDLE, now()
        self._not_suspended = not told.suspended
        if not told.ours:
            log.warning("job.disowned", job_id=job.id)
        if told.dependents:
            job._status = JobStatus.FINISHED  # noqa: SLF001 - what the script wrote
            queue.enqueue_dependents(job)
        if told.taken is not None:
            self._next = self._queue.admit(told.taken, told.fields)

    def cleanup_execution(self, job: Job, pipeline: Any, execution: Execution | None = None) -> None:
        """What RQ does when a job ends, and its lease."""
        super().cleanup_execution(job, pipeline, execution)
        if execution is not None:
            self._books.release(execution, pipeline)

    def _end_without_answer(self, job: Job, queue: Queue, execution: Execution, horse: Horse, *, overdue: bool) -> None:
        """The horse died over the job: stopped by a command, killed at the deadline, or ended by itself."""
        if self._stopped_job_id == job.id:
            self._handle_stopped_job(job, queue, execution)
            return
        status = horse.status or 0
        signal_text = f" (signal {os.WTERMSIG(status)})" if os.WIFSIGNALED(status) else ""
        cause = f"it passed its time-out of {job.timeout} s" if overdue else ""
        text = f"Work-horse terminated unexpectedly; waitpid returned {status}{signal_text}; {cause}"
        log.warning("job.died", job_id=job.id, status=status, overdue=overdue)
        self.handle_work_horse_killed(job, horse.pid, status, None)  # type: ignore[no-untyped-call]
        self.handle_job_failure(job, queue, exc_string=text, execution=execution)

    # ---- the end ----

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        """Stop after the running job. Only a flag: a signal may come in the middle of a conversation with Redis."""
        self._shutdown_requested_date = now()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.request_force_stop)
        self._stop_requested = True
        self._wish.set()

    def kill_horse(self, sig: signal.Signals = SHUTDOWN_SIGNAL) -> None:  # noqa: ARG002 - there is one way
        """End the horse that works, and what it started."""
        if self._horse is not None:
            self._stable.kill(self._horse)

    def wait_for_horse(self) -> tuple[None, None, None]:
        """Closing the stable waits for all."""
        return None, None, None

    def teardown(self) -> None:
        """Put back what was taken and not begun, end the horses, leave the books."""
        job, self._next = self._next, None
        log.info("worker.drained", given_back=int(job is not None), left_running=len(self.executions))
        try:
            if job is not None:
                with _outlived("give back"):
                    self._books.give_back(job)
        finally:
            self._stable.close()
            with _outlived("farewell"):
                super().teardown()  # type: ignore[no-untyped-call]

    def _say_stop(self) -> None:
        """Write down, once, that this worker was asked to stop while it is busy."""
        if self._stop_requested and not self._stop_said:
            self._stop_said = True
            self.set_shutdown_requested_date()  # type: ignore[no-untyped-call]


@contextmanager
def _outlived(what: str) -> Iterator[None]:
    """An outage of Redis that lasts longer than the client's patience ends what was begun, not the worker."""
    try:
        yield
    except redis.RedisError as error:
        if not is_away(error):
            raise
        log.warning("outage.outlived", during=what, error=type(error).__name__)


def _facts(job: Any) -> list[bytes]:
    """The job's hash as it was judged, with what its beginning changed."""
    begun = {b"status": b"started", b"worker_name": job.worker_name.encode()}
    return [part for pair in {**job.stored, **begun}.items() for part in pair]

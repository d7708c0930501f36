"""The warm worker: RQ's worker with a work-horse that is kept between jobs.

All that RQ promises of a job holds, and RQ's tools read its books as before. What differs is where the work is done and
what it costs. A job runs in a process that is preloaded and kept (`adapters.horse`); the worker alone keeps the books,
in one script when a job begins and one when it ends (`adapters.rq_scripts`). The second also takes the next job, if one
waits: the worker is free at that moment, so it holds nothing that another could run.
"""

import os
import signal
import time
from collections.abc import Callable
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
from workers.adapters.stable import Stable, StableError
from workers.liveness import Liveness
from workers.measures import JOBS
from workers.runs import Run, facts, outlived
from workers.stop import Stop

IDLE_S: Final = 1.0  # a wish to stop or a suspension is noticed within that
ASIDE_LOOK_S: Final = 0.1  # same, for the end of a job that was set aside
BEAT_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.5
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
        aside_after_s: float = 2.0,
        most_aside: int = 0,
        **options: Any,
    ) -> None:
        """`stable` was made before this process had threads or connections; it is closed with the worker.

        A job that takes longer than `aside_after_s` is set aside: it goes on in its horse, and the worker takes the
        next; so many at a time (`most_aside`).
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
        self._run: Run | None = None
        self._aside: list[Run] = []
        self._aside_after_s = aside_after_s
        self._most_aside = most_aside
        self._next: Job | None = None
        self._not_suspended = False
        self._fresh_until = 0.0
        self._stop_said = False

    # ---- taking jobs ----

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Wait while workers are suspended; not asked again when the end of the last job told."""
        known, self._not_suspended = self._not_suspended or self._next is not None, False
        if not known:
            with outlived("suspension"):
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
            self._tend_aside()
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
            (ASIDE_LOOK_S if self._aside else IDLE_S) if block else None,  # type: ignore[arg-type] # parts of a second too
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
            with outlived("heartbeat"):
                super().heartbeat(timeout, pipeline)
                self._pulse()
            return
        self._pulse()

    # ---- one job ----

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Have the job run and write down how it ended; in an outage that outlasts all patience its lease ends."""
        with outlived("job"):
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
        run = Run(job, queue, execution, horse, job.timeout or Queue.DEFAULT_TIMEOUT)
        self._run, self._horse_pid = run, horse.pid
        horse.tell(JOB, job.id.encode(), *facts(job))
        try:
            ended = self._watch(run)
        except BaseException as error:
            self.executions.pop(execution.id, None)
            if isinstance(error, redis.RedisError):
                self._stable.kill(horse)
            raise
        finally:
            self._run, self._horse_pid = None, self._aside[0].horse.pid if self._aside else 0
        if ended:
            self._conclude(run)

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

    def _watch(self, run: Run) -> bool:
        """Wait for the job's end with signs of life; whether it came. False: the job was set aside."""
        aside_at = run.began + self._aside_after_s
        while not self._has_ended(run, aside_at - time.monotonic()):
            self._tend_aside()
            is_full = len(self._aside) >= self._most_aside or self._stop_requested or run.overdue
            if time.monotonic() >= aside_at and not is_full:
                log.warning("job.parked", job_id=run.job.id, after_s=self._aside_after_s)
                self._stable.set_aside(run.horse)
                self._aside.append(run)
                run.aside = True
                return False
            aside_at = max(aside_at, time.monotonic() + ASIDE_LOOK_S) if is_full else aside_at
        return True

    def _has_ended(self, run: Run, seconds: float) -> bool:
        """Wait so long at most, with a sign of life each second; whether the job has ended.

        One that passes its time-out is killed. So is one whose lease was lost: somebody else runs the job now.
        """
        if self._stable.await_answer(run.horse, min(seconds, run.next_look - time.monotonic())):
            return True
        self._liveness.mark()
        if time.monotonic() >= run.deadline:
            run.overdue, run.deadline = True, float("inf")
            self._stable.kill(run.horse)
        if time.monotonic() >= run.renewal:
            run.renewal = time.monotonic() + RENEW_EVERY_S
            if self._books.renew(run.job, run.execution, self.get_heartbeat_ttl(run.job)):
                self._say_stop()
            else:
                run.renewal = float("inf")
                self._stable.kill(run.horse)
        return False

    def _tend_aside(self, seconds: float = 0.0) -> None:
        """What was set aside lives, and ends, beside the worker's other work."""
        for run in list(self._aside):
            with outlived("job set aside"):
                try:
                    ended = self._has_ended(run, seconds)
                except redis.RedisError:
                    self.executions.pop(run.execution.id, None)
                    self._set_down(run)
                    raise
                if ended:
                    self._set_down(run)
                    self._conclude(run)

    def _set_down(self, run: Run) -> None:
        """Its horse runs no other job."""
        self._aside.remove(run)
        self._stable.dismiss(run.horse)

    def _conclude(self, run: Run) -> None:
        """Measure the job, and write down how it ended."""
        self.executions.pop(run.execution.id, None)
        JOBS.labels(self._queue.name, run.function, run.end).observe(time.monotonic() - run.began)
        self._end(run)

    def _end(self, run: Run) -> None:
        """Write down how the job ended."""
        job, queue, execution = run.job, run.queue, run.execution
        kind, parts = run.horse.answer or (None, [])
        if kind == DONE:
            self._finish(run, parts[0] if parts else None)
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
            self._end_without_answer(run)
        if not run.aside:
            self.set_state(WorkerStatus.IDLE)

    def _finish(self, run: Run, value: bytes | None) -> None:
        """The job returned. The next one is taken in the same step, when there is nothing else to be done first."""
        job, queue, execution = run.job, run.queue, run.execution
        ttl = job.get_result_ttl(self.default_result_ttl)
        take = not (self._stop_requested or run.aside)
        told = self._books.finish(job, execution, value, ttl, self.worker_ttl + 60, take=take)
        self._fresh_until = time.monotonic() + BEAT_S
        self.last_heartbeat, self._not_suspended = now(), not told.suspended
        if not run.aside:
            self._state = WorkerStatus.IDLE
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

    def _end_without_answer(self, run: Run) -> None:
        """The horse died over the job: stopped by a command, killed at the deadline, or ended by itself."""
        job, queue, execution, horse, overdue = run.job, run.queue, run.execution, run.horse, run.overdue
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
        """End the horses that work, and what they started; only that of a job which is to be stopped, if one is."""
        runs = [*([self._run] if self._run else []), *self._aside]
        for run in [run for run in runs if self._stopped_job_id in (None, run.job.id)]:
            self._stable.kill(run.horse)

    def wait_for_horse(self) -> tuple[None, None, None]:
        """Closing the stable waits for all."""
        return None, None, None

    def teardown(self) -> None:
        """Put back what was taken and not begun, wait for what was set aside, end the horses, leave the books."""
        job, self._next = self._next, None
        try:
            if job is not None:
                with outlived("give back"):
                    self._books.give_back(job)
            while self._aside:
                self._tend_aside(ASIDE_LOOK_S)
        finally:
            log.info("worker.drained", given_back=int(job is not None), left_running=len(self.executions))
            self._stable.close()
            with outlived("farewell"):
                super().teardown()  # type: ignore[no-untyped-call]

    def _say_stop(self) -> None:
        """Write down, once, that this worker was asked to stop while it is busy."""
        if self._stop_requested and not self._stop_said:
            self._stop_said = True
            self.set_shutdown_requested_date()  # type: ignore[no-untyped-call]

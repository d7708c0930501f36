"""One RQ worker on one queue."""

import logging

import structlog

from workers import jobs
from workers.adapters.rq_factory import MAINTENANCE, build_worker
from workers.process import process_name
from workers.wiring import Runtime, use

log = structlog.get_logger()


def work(fleet: Runtime, queue: str) -> int:
    """Run jobs of the queue until SIGTERM; the exit code. Everything a job needs is built before the first one."""
    use(fleet)
    name = process_name(f"work-{queue}")
    worker = build_worker(fleet.queues.queues[queue], name, fleet.settings.workers.worker_class)
    _ = fleet.decider, jobs.trade
    if queue == MAINTENANCE and fleet.settings.clock == "live":
        fleet.scheduler.queue_reconcile(name)
    log.info("worker.started", queue=queue, worker=name, worker_class=fleet.settings.workers.worker_class)
    worker.work(logging_level=logging.getLevelName(logging.WARNING))
    log.info("worker.stopped", queue=queue, worker=name)
    return 0

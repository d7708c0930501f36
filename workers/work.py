"""One RQ worker on one queue."""

import logging
from contextlib import suppress
from secrets import token_hex

import redis
import structlog

from workers import jobs
from workers.adapters.horse import MIB, Plan
from workers.adapters.metrics_http import serve
from workers.adapters.pulse import Pulse
from workers.adapters.rq_factory import MAINTENANCE, worker_options
from workers.adapters.stable import Stable
from workers.measures import REGISTRY
from workers.process import await_server, process_name
from workers.stop import Stop
from workers.warm import WarmWorker
from workers.wiring import Runtime, use

PRELOAD_S = 0.5  # for the bars that horses share; the others are read by whom they are asked of first

log = structlog.get_logger()


def work(fleet: Runtime, queue: str) -> int:
    """Run jobs of the queue until SIGTERM; the exit code. Everything a job needs is built before the first one."""
    use(fleet)
    fleet.patient = True
    name = worker_name(queue)
    _ = fleet.decider, jobs.trade
    if queue != MAINTENANCE:
        fleet.market.preload(PRELOAD_S)
    stable = Stable(_plan(fleet, queue))
    ours = fleet.queues.queues[queue]
    serve(fleet.settings.metrics, REGISTRY, fleet.liveness)  # its thread comes after the stable was forked
    await_server(fleet.rq_client, "work", Stop(), fleet.liveness)
    worker = WarmWorker(
        ours,
        stable=stable,
        leases=fleet.queues.leases,
        liveness=fleet.liveness,
        pulse=Pulse(fleet.settings.data_dir, f"work-{queue}"),
        aside_after_s=fleet.settings.workers.aside_after_s,
        most_aside=fleet.settings.workers.most_aside,
        **worker_options(ours, name),
    )
    if queue == MAINTENANCE and fleet.settings.clock == "live":
        fleet.scheduler.queue_reconcile(name)
    log.info("worker.started", queue=queue, worker=name)
    worker.work(logging_level=logging.getLevelName(logging.WARNING))
    log.info("worker.stopped", queue=queue, worker=name)
    return 0


def worker_name(queue: str) -> str:
    """A name that no worker had before: a container that is started again has its old host name and process id.

    RQ refuses a name while a dead worker's registration lives.
    """
    return process_name(f"work-{queue}-{token_hex(3)}")


def _plan(fleet: Runtime, queue: str) -> Plan:
    """Work-horses with the stages built and both connections open; here nothing may be connected yet."""
    clients = (fleet.client, fleet.rq_client)

    def warm_up() -> None:
        for client in clients:
            with suppress(redis.RedisError):  # the first job asks again
                client.ping()

    for client in clients:
        client.connection_pool.disconnect()
    return Plan(
        fleet.queues.queues[queue].job_class, fleet.rq_client, warm_up, fleet.settings.workers.horse_memory_mb * MIB
    )

"""A fleet with something of everything on its pages, hostile wherever a stranger or a person can write."""

from dataclasses import dataclass
from typing import Any, Final

import redis
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from config.settings import load_settings
from pipeline.models import OrchestratorState, TradingState
from tests.accounts import ROOT, Guarded
from workers.adapters.alarms import Alarm
from workers.wiring import Runtime

PASSWORD: Final = "a-long-password"
EVIL: Final = '<img src=x onerror="document.title=\'PWNED\'"><script>document.title="PWNED"</script>{{7*7}}\u202e\'"&'
BUSY, DEPENDENT, GONE, FAILED = "busy-job", "dependent-job", "expired-job", "failed-job"


@dataclass(frozen=True)
class Scene:
    """The runtime the dashboard has, under its own account, and one that may do everything."""

    shown: Runtime
    admin: Runtime


def a_scene(server: Guarded, **more: str) -> Scene:
    """Everything is there: lists, queues, a busy worker, jobs of every kind, alarms, acts, a book."""
    scene = Scene(_runtime(server, "dashboard", **more), _runtime(server, "admin"))
    fleet = scene.admin
    fleet.client.flushall()
    now = fleet.clock.now()
    fleet.state.write(OrchestratorState.RUNNING, EVIL, now)
    fleet.control.set(TradingState.ACTIVE, EVIL, f"because {EVIL}", now)
    fleet.ledger.snapshot(fleet.sessions.session_of(now))
    fleet.inbox.bury("collector", "not_json", EVIL, EVIL.encode())
    decision = {"id": EVIL, "symbol": EVIL, "outcome": EVIL, "rule": EVIL, "at": EVIL}
    client: Any = fleet.client
    client.xadd(fleet.keys.decisions(), decision)
    client.xadd(fleet.keys.decisions(), decision | {"outcome": "executed", "rule": ""})
    fleet.alarms.sound(Alarm("book_drift", EVIL, EVIL, now))
    _jobs(fleet.rq_client)
    return scene


def _runtime(server: Guarded, role: str, **more: str) -> Runtime:
    given = {
        "FLEET_REDIS_URL": server.url(role),
        "FLEET_SETTINGS_FILE": str(ROOT / "config" / "feeds" / "demo.yaml"),
        "FLEET_DASHBOARD__PASSWORD": PASSWORD,
        **more,
    }
    return Runtime(load_settings(environ=given))


def _jobs(client: "redis.Redis") -> None:
    """Jobs as our workers, and as anybody who may write to Redis, leave them."""
    queue = Queue("immediate", connection=client, serializer=JSONSerializer)
    busy = queue.enqueue("workers.jobs.trade", EVIL, job_id=BUSY, description=EVIL, meta={"noted": EVIL})
    dependent = Job.create(
        "workers.jobs.trade",
        (EVIL,),
        connection=client,
        id=DEPENDENT,
        description=EVIL,
        serializer=JSONSerializer,
        depends_on=busy,
        origin="immediate",
    )
    dependent.save()
    client.sadd(dependent.dependencies_key, BUSY, GONE)
    queue.deferred_job_registry.add(dependent)
    failed = queue.enqueue("workers.jobs.trade", EVIL, job_id=FAILED, description=EVIL)
    with client.pipeline() as pipe:
        failed._handle_failure(f"Traceback\n{EVIL}", pipe, worker_name="w")
        pipe.execute()
    client.rpush(queue.key, GONE)
    client.hset("rq:job:damaged-job", mapping={"data": b"\x80pickle", "origin": "immediate", "created_at": "never"})
    client.rpush(queue.key, "damaged-job")
    worker: Any = Worker([queue], name="work-immediate-host-7", connection=client, serializer=JSONSerializer)
    worker.register_birth()
    worker.set_state("busy")
    with client.pipeline() as pipe:
        execution = Execution("e1", BUSY, connection=client)
        execution.worker_name = worker.name
        execution.save(ttl=300, pipeline=pipe)
        StartedJobRegistry(queue=queue).add_execution(execution, pipeline=pipe, ttl=300)
        pipe.sadd(worker.executions_key, execution.composite_key)
        pipe.execute()
    client.sadd("rq:workers", "rq:worker:work-immediate-dead-1")

"""rq-dashboard 0.9 for this fleet: JSON jobs, read-only accounts, no act at all; its pages are our templates.

What its own code gets wrong is put right by the classes it uses: busy workers need the serializer, a dependency's id
must be bytes for it, and a worker, job or entry that is gone is "cleaned up" where it is only looked at. Its pages
write a job's text into HTML and need inline scripts; ours (templates/rq_dashboard, static/rq.js) set text only.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, cast

import redis
import rq_dashboard
from flask import Flask, current_app
from rq import Queue, Worker
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq_dashboard import web

PREFIX: Final = "/rq"
SHOWN: Final = frozenset(
    {
        "rq_dashboard.queues_overview",
        "rq_dashboard.workers_overview",
        "rq_dashboard.jobs_overview",
        "rq_dashboard.job_view",
        "rq_dashboard.list_queues",
        "rq_dashboard.list_jobs",
        "rq_dashboard.job_info",
        "rq_dashboard.list_workers",
    }
)
EXTENSION: Final = "fleet_rq_client"
REGISTRIES: Final = frozenset({"queued", "started", "finished", "failed", "deferred", "scheduled", "canceled"})
MOST_A_PAGE: Final = 200
MOST_PAGES: Final = 1_000_000
UNREADABLE: Final = (ValueError, TypeError, KeyError, zlib.error, DeserializationError)


def is_shown(endpoint: str, arguments: Mapping[str, Any]) -> bool:
    """Whether there is such a page: none that acts, and none of arguments that rq-dashboard would stumble over."""
    known: dict[str, Callable[[Any], bool]] = {
        "instance_number": lambda value: value == 0,
        "registry_name": REGISTRIES.__contains__,
        "order": {"asc", "dsc"}.__contains__,
        "page": lambda value: str(value).isascii() and str(value).isdigit() and 1 <= int(value) <= MOST_PAGES,
        "per_page": lambda value: str(value).isascii() and str(value).isdigit() and 1 <= int(value) <= MOST_A_PAGE,
    }
    return endpoint in SHOWN and all(rule(arguments[name]) for name, rule in known.items() if name in arguments)


class ShownJob(Job):
    """A job that is looked at: JSON whatever the caller says, and nothing of it is run."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: A002, ARG002 - RQ's names
        super().__init__(id, connection=connection, serializer=JSONSerializer)

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> Self:  # noqa: A002, ARG003 - RQ's names
        """The job. Raises NoSuchJobError, also for an id that can be none."""
        try:
            return cast("Self", super().fetch(id, connection=connection, serializer=JSONSerializer))
        except UNREADABLE as error:
            raise NoSuchJobError(f"job {id[:80]!a} cannot be read") from error

    def latest_result(self, timeout: int = 0) -> Any:
        """How it ended last, None when that cannot be read."""
        try:
            return super().latest_result(timeout)
        except UNREADABLE:
            return None

    def return_value(self, refresh: bool = False) -> Any:  # noqa: FBT001, FBT002 - RQ's signature
        """What it returned, a word when that cannot be read."""
        try:
            return super().return_value(refresh)
        except UNREADABLE:
            return "(cannot be read)"

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - RQ's signature
        """What was noted beside it, nothing when that cannot be read."""
        try:
            return super().get_meta(refresh)
        except UNREADABLE:
            return {}

    def get_call_string(self) -> str | None:
        """What it was queued as: our jobs are described by ids alone."""
        return self.description

    @property
    def dependency_ids(self) -> list[bytes]:  # type: ignore[override] # rq-dashboard decodes them
        """Ids of the jobs this one waits for, as rq-dashboard expects them."""
        return [name.encode() for name in super().dependency_ids]


class ShownQueue(Queue):
    """A queue that is looked at."""

    job_class = ShownJob

    def __init__(self, name: str = "default", *args: Any, **how: Any) -> None:
        how["serializer"] = JSONSerializer
        super().__init__(name, *args, **how)

    def fetch_job(self, job_id: str) -> Job | None:
        """The job, None when it is gone; its id stays in the list, which is not ours to clean."""
        try:
            job = ShownJob.fetch(job_id, connection=self.connection)
        except NoSuchJobError:
            return None
        return job if job.origin == self.name else None


class ShownWorker(Worker):
    """A worker that is looked at."""

    queue_class = ShownQueue
    job_class = ShownJob

    @classmethod
    def all(cls, connection: Any = None, *_: Any, **__: Any) -> list[Any]:
        """Workers that are registered and alive."""
        found = (cls.find_by_key(key, connection) for key in cls.all_keys(connection=connection))
        return [worker for worker in found if worker is not None]

    def get_current_job(self) -> Any:
        """What it works on, None when idle or when that ended just now."""
        try:
            return super().get_current_job()
        except (NoSuchJobError, *UNREADABLE):
            return None

    @classmethod
    def find_by_key(cls, worker_key: str, connection: Any = None, *_: Any, **__: Any) -> Any:
        """The worker, None when its key is gone; its name stays registered, which is not ours to clean."""
        if not connection.exists(worker_key):
            return None
        return super().find_by_key(
            worker_key, connection=connection, job_class=ShownJob, queue_class=ShownQueue, serializer=JSONSerializer
        )


def mount(app: Flask, client: redis.Redis) -> None:
    """Hang rq-dashboard into the app under /rq, over this client (which speaks bytes)."""
    web.Job, web.Queue, web.Worker = ShownJob, ShownQueue, ShownWorker
    web.config.serializer = JSONSerializer
    web.from_url = lambda *_args, **_how: (None, current_app.extensions[EXTENSION])  # one connection, ours
    app.extensions[EXTENSION] = client
    app.config.from_object(rq_dashboard.default_settings)
    app.config.update(RQ_DASHBOARD_REDIS_URL=("this fleet",), RQ_DASHBOARD_DISABLE_DELETE=True, DEPRECATED_OPTIONS=[])
    app.redis_conn = client  # type: ignore[attr-defined] # where rq-dashboard looks
    app.register_blueprint(web.blueprint, url_prefix=PREFIX)

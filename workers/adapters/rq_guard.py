"""What may run: a job is read from Redis only when every field is one of ours; anything else is a dead letter.

Whoever can write to Redis can write a job, and JSON alone still names any function. So a job is judged before RQ reads
it: the name against a list, the arguments against its shape, every other field against what our own jobs have. A job
that is refused does not exist for RQ: it is never run, retried, called back for or waited for. Its hash goes, its words
stay.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NoReturn

import orjson
import redis
import structlog
from redis.exceptions import ResponseError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus, parse_job_id
from rq.utils import now

from pipeline.errors import FleetError
from workers.adapters.keys import DEAD_MAXLEN, Keys

IMMEDIATE, CONSENSUS, MAINTENANCE = "immediate", "consensus", "maintenance"
QUEUES = (IMMEDIATE, CONSENSUS, MAINTENANCE)
MAX_TIMEOUT_S: Final = 3_600
MAX_TTL_S: Final = 2_592_000
MAX_RETRIES: Final = 10
MAX_DATA_BYTES: Final = 16_777_216  # 100,000 claims in one job, unpacked
MAX_FIELD_BYTES: Final = 65_536
RAW_LIMIT: Final = 4_096
REASON: Final = "forbidden_job"

JOB_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,200}")
MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}")
SYMBOL: Final = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,2})?")
CLAIM_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,120}")
MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?([+-]\d{2}:\d{2}|Z)", re.ASCII)
DESCRIPTION: Final = re.compile(rb"[A-Za-z0-9 ._:,@-]{0,300}")

log = structlog.get_logger()


# ---- shapes of arguments --------------------------------------------------------------------------------------


def _text(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_claims(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_text(CLAIM_ID), value))


def _is_bucket(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_moment(value: object) -> bool:
    return value is None or _text(MOMENT)(value)


@dataclass(frozen=True, slots=True)
class Shape:
    """The arguments of one job: those it always gets, then those it may get, each a test of one value."""

    needed: tuple[Callable[[object], bool], ...] = ()
    more: tuple[Callable[[object], bool], ...] = (_is_moment,)

    def fits(self, args: object) -> bool:
        """Whether these are such arguments."""
        rules = (*self.needed, *self.more)
        if not isinstance(args, list) or not len(self.needed) <= len(args) <= len(rules):
            return False
        return all(rule(value) for rule, value in zip(rules, args, strict=False))


#: Every job of `workers.jobs` and its arguments. Renaming one is a migration: jobs wait under their old name.
SHAPES: Final[Mapping[str, Shape]] = {
    "workers.jobs.trade": Shape((_text(MESSAGE_ID), _text(SYMBOL))),
    "workers.jobs.consensus": Shape((_is_claims,), (_is_moment, _is_flag)),
    "workers.jobs.drain": Shape((_is_bucket,)),
    "workers.jobs.settle": Shape(),
    "workers.jobs.release": Shape(),
    "workers.jobs.janitor": Shape(),
    "workers.jobs.reconcile": Shape(),
}
ALLOWED: Final = frozenset(SHAPES)


# ---- fields of the hash -------------------------------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[bytes], bool]:
    return lambda raw: raw.isdigit() and len(raw) < 12 and low <= int(raw) <= high  # noqa: PLR2004 - fits an int


def _one_of(*words: str) -> Callable[[bytes], bool]:
    return frozenset(word.encode() for word in words).__contains__


def _short(raw: bytes) -> bool:
    return len(raw) <= MAX_FIELD_BYTES and raw.isascii()


def _unpacks(raw: bytes) -> bool:
    return unpacked(raw, MAX_FIELD_BYTES) is not None


#: What a field of ours holds. A field that is not named here must be empty: callbacks, webhooks, dependents, repeats,
#: rate limits, groups, meta.
FIELDS: Final[Mapping[bytes, Callable[[bytes], bool]]] = {
    b"origin": _one_of(*QUEUES),
    b"status": _one_of(*JobStatus),
    b"timeout": _whole(1, MAX_TIMEOUT_S),
    b"result_ttl": _whole(1, MAX_TTL_S),
    b"failure_ttl": _whole(1, MAX_TTL_S),
    b"retries_left": _whole(0, MAX_RETRIES),
    b"number_of_retries": _whole(0, 10**9),
    b"retry_intervals": _one_of("[0]"),
    b"description": lambda raw: DESCRIPTION.fullmatch(raw) is not None,
    b"exc_info": _unpacks,
    b"enqueue_at_front": _one_of("0", "1"),
    b"created_at": _short,
    b"enqueued_at": _short,
    b"started_at": _short,
    b"ended_at": _short,
    b"last_heartbeat": _short,
    b"worker_name": _short,
}
NEEDED: Final = (b"data", b"origin", b"timeout")
EMPTY: Final = (b"", b"{}", b"[]")


def unpacked(raw: bytes, limit: int) -> bytes | None:
    """What zlib packed, None when it is no such thing or larger than `limit` bytes; never unpacks more."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(raw, limit + 1)
    except zlib.error:
        return None
    return found if unpacker.eof and len(found) <= limit else None


def payload_of(data: bytes) -> list[Any] | str:
    """[name, None, arguments, {}] of a job of ours; a sentence about why it is none."""
    raw = unpacked(data, MAX_DATA_BYTES)
    if raw is None:
        return f"its data is no zlib of at most {MAX_DATA_BYTES} bytes"
    try:
        payload = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "its data is no JSON"
    if not isinstance(payload, list) or len(payload) != 4:  # noqa: PLR2004 - name, instance, args, kwargs
        return "its data is no list of name, instance, arguments and keywords"
    name, instance, args, keywords = payload
    shape = SHAPES.get(name) if isinstance(name, str) else None
    if shape is None:
        return f"function {_shown(name)} is not one of ours"
    if instance is not None or keywords != {}:
        return "it is bound to an instance or has keyword arguments"
    return payload if shape.fits(args) else f"its arguments are not those of {name}"


def require_ours(name: str, args: Sequence[Any], description: str) -> None:
    """Raise ValueError for a job that our own worker would refuse: found when it is queued, not when it is lost."""
    shape = SHAPES.get(name)
    if shape is None or not shape.fits(list(args)):
        raise ValueError(f"job {name} with arguments {_shown(args)} would be refused; valid: see rq_guard.SHAPES")
    if DESCRIPTION.fullmatch(description.encode()) is None:
        raise ValueError(f"description {_shown(description)} would be refused; valid: {DESCRIPTION.pattern.decode()}")


def fault_of(fields: Mapping[bytes, bytes]) -> str | None:
    """Why this hash is no job of ours, the function and its arguments apart; None when it may be."""
    missing = [name for name in NEEDED if not fields.get(name)]
    if missing:
        return f"field {missing[0].decode()} is missing"
    for name, value in fields.items():
        if name == b"data" or value in EMPTY:
            continue
        rule = FIELDS.get(name)
        if rule is None:
            return f"field {_shown(name)} is not empty; our jobs have no callbacks, dependents, repeats or groups"
        if not rule(value):
            return f"field {_shown(name)} = {_shown(value)} is out of range"
    return None


def _shown(value: object) -> str:
    """A stranger's word, short and as ASCII escapes."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return ascii(text[:60])


# ---- for RQ -----------------------------------------------------------------------------------------------------


class ForbiddenJobError(FleetError, NoSuchJobError):
    """A job that is not ours was found in a queue; for RQ it does not exist."""


class GuardedJob(Job):
    """A job of ours. RQ's own reading comes after the judgement, and its parsing of the data is not used at all.

    `stored`: the fields that were judged.
    """

    keys: ClassVar[Keys] = Keys()
    stored: dict[bytes, bytes]

    def refresh(self) -> None:
        """Read the job. Raises ForbiddenJobError for what is none of ours, also when it is no hash at all."""
        try:
            super().refresh()  # type: ignore[no-untyped-call]
        except ResponseError as error:
            self._refuse(f"its key holds no hash ({type(error).__name__})", b"")

    def restore(self, raw_data: Any) -> Any:
        """The job as Redis holds it. Raises ForbiddenJobError after the dead letter is written."""
        fields: dict[bytes, bytes] = raw_data
        data = fields.get(b"data", b"")
        fault = fault_of(fields)
        payload = fault or payload_of(data)
        if isinstance(payload, str):
            self._refuse(payload, data)
        try:
            self._read(fields)
        except Exception as error:  # noqa: BLE001 - whatever cannot be read must not end the worker that met it
            self._refuse(f"it cannot be read: {type(error).__name__}", data)
        self._func_name, self._instance, self._args, self._kwargs = payload
        self.stored = fields

    def _read(self, fields: Mapping[bytes, bytes]) -> None:
        """Set what RQ's own reading sets, in a quarter of the time: what FIELDS does not name is empty."""
        self.data = zlib.decompress(fields[b"data"])
        self.created_at = _moment(fields.get(b"created_at")) or now()
        self.enqueued_at, self.started_at, self.ended_at, self.last_heartbeat = (
            _moment(fields.get(name)) for name in (b"enqueued_at", b"started_at", b"ended_at", b"last_heartbeat")
        )
        self.origin = fields[b"origin"].decode()
        self.description = _words(fields.get(b"description"))
        self.worker_name = _words(fields.get(b"worker_name"))
        self.timeout, self.result_ttl, self.failure_ttl, self.retries_left, self.number_of_retries = (
            int(found) if (found := fields.get(name)) else None
            for name in (b"timeout", b"result_ttl", b"failure_ttl", b"retries_left", b"number_of_retries")
        )
        self._status = JobStatus(_words(fields.get(b"status")) or JobStatus.CREATED)
        self.retry_intervals = [0] if fields.get(b"retry_intervals") else None
        at_front = fields.get(b"enqueue_at_front")
        self.enqueue_at_front = at_front == b"1" if at_front else None
        packed = fields.get(b"exc_info")
        self._exc_info = zlib.decompress(packed).decode() if packed else None

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: redis.Redis, serializer: Any = None) -> list[Job | None]:
        """Jobs by id, None where there is none or none of ours."""
        found: list[Job | None] = []
        for job_id in job_ids:
            try:
                found.append(cls.fetch(parse_job_id(job_id), connection=connection, serializer=serializer))
            except NoSuchJobError:
                found.append(None)
        return found

    def send_webhooks(self, status: str | JobStatus, *, exc_string: str | None = None) -> None:
        """Nobody is called."""

    def _execute(self) -> Any:
        """The last look, at what is called rather than at what Redis said."""
        job: Any = self
        if job._func_name not in ALLOWED or job._success_callback_name or job._failure_callback_name:
            raise ForbiddenJobError(f"job {self.id!r} changed after it was judged; nothing was run")
        return super()._execute()

    def _refuse(self, fault: str, data: bytes) -> NoReturn:
        raw = unpacked(data, MAX_DATA_BYTES) or data
        bury(self.connection, self.keys, fault, self.id.encode("utf-8", "replace"), raw)
        self.connection.delete(self.key, self.dependents_key)
        raise ForbiddenJobError(f"job {_shown(self.id)}: {fault}; nothing was run")


def _moment(raw: bytes | None) -> datetime | None:
    """A moment as RQ writes it, always UTC."""
    if not raw:
        return None
    found = datetime.fromisoformat(raw.decode())
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _words(raw: bytes | None) -> str | None:
    return raw.decode() if raw else None


class GuardedQueue(Queue):
    """A queue whose worker survives whatever stands in it: an id that is none, a job that is gone or not ours."""

    keys: ClassVar[Keys] = Keys()

    @classmethod
    def lmove(cls, connection: redis.Redis, queue_key: str, timeout: int | None) -> Any:
        """The next id that can be one; others are dead letters."""
        while True:
            found = super().lmove(connection, queue_key, timeout)
            if found is None or JOB_ID.fullmatch(found[1]):
                return found
            cls._bury_id(connection, queue_key, found[1])

    def admit(self, job_id: bytes, fields: dict[bytes, bytes]) -> Job | None:
        """The job of an id that was taken together with its hash; None when it is none, gone or not ours."""
        if not JOB_ID.fullmatch(job_id):
            self._bury_id(self.connection, self.key, job_id)
            return None
        job = self.job_class(job_id.decode(), connection=self.connection, serializer=self.serializer)
        try:
            job.restore(fields) if fields else job.refresh()  # type: ignore[no-untyped-call]
        except NoSuchJobError:
            _forget(self.connection, self.key, job_id)
            return None
        return job

    @classmethod
    def _bury_id(cls, connection: redis.Redis, queue_key: str, job_id: bytes) -> None:
        bury(connection, cls.keys, "its id is none: letters, digits, _ and - only", job_id, b"")
        _forget(connection, queue_key, job_id)
        connection.delete(Job.redis_job_namespace_prefix.encode() + job_id)

    @classmethod
    def _fetch_dequeued_job(cls, connection: redis.Redis, queue_key: str, job_id: str, *args: Any, **how: Any) -> Any:
        """The job, None after its id was taken off the list of what is being worked on."""
        found = super()._fetch_dequeued_job(connection, queue_key, job_id, *args, **how)
        if found is None:
            _forget(connection, queue_key, job_id.encode())
        return found


def guarded(keys: Keys) -> tuple[type[GuardedQueue], type[GuardedJob]]:
    """Queue and job classes that write their dead letters under these keys."""
    return (
        type("GuardedQueue", (GuardedQueue,), {"keys": keys}),
        type("GuardedJob", (GuardedJob,), {"keys": keys}),
    )


def bury(connection: Any, keys: Keys, fault: str, job_id: bytes, data: bytes) -> None:
    """Keep the id and the start of the data of a job that is refused, with the reason, and count it."""
    raw = (job_id[:200] + b" " + data[:RAW_LIMIT]).decode("utf-8", "replace")
    with connection.pipeline() as pipe:
        letter: dict[Any, Any] = {"stage": "worker", "reason": REASON, "detail": fault[:500], "raw": raw}
        pipe.xadd(keys.dead(), letter, maxlen=DEAD_MAXLEN)
        pipe.hincrby(keys.tally(), f"dead:{REASON}", 1)
        pipe.execute()
    log.warning("job.refused", job_id=_shown(job_id), reason=fault)


def _forget(connection: Any, queue_key: str, job_id: bytes) -> None:
    connection.lrem(IntermediateQueue.get_intermediate_queue_key(queue_key), 0, job_id)

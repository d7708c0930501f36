"""The job functions RQ runs, by these names: ids in, a word out. The allow-list is `rq_factory.ALLOWED`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rq import Retry, get_current_job
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from pipeline.router import leg_id
from workers.adapters.redis_edge import is_away
from workers.adapters.rq_factory import IMMEDIATE, QUEUES
from workers.requeue import forget_ended, forget_old
from workers.schedule import claims_job_id
from workers.sweep import sweep
from workers.wiring import Runtime, runtime

MAX_STRIKES = 3
MOST_PUT_OFFS = 1000
PUT_OFF_SHARE = 0.7  # of a job's time, which a wait for Redis may take


@dataclass(frozen=True, slots=True)
class Work:
    """A job that is begun for the `strikes`th time, as its starts are counted."""

    job_id: str
    counted_as: str
    strikes: int


GiveUp = Callable[[Runtime, datetime, str, str], None]  # with the reason and the job's id


def trade(message_id: str, symbol: str, at: str | None = None) -> Any:
    """Decide one urgent leg."""

    def work(fleet: Runtime, as_of: datetime) -> str:
        return fleet.decider.urgent(message_id, symbol, as_of)

    def give_up(fleet: Runtime, as_of: datetime, reason: str, job_id: str) -> None:
        fleet.decider.abandon_urgent(message_id, symbol, reason, as_of, job_id)
        forget_ended(fleet, leg_id(message_id, symbol))

    return _run(work, give_up, at, message_id)


def consensus(claim_ids: list[str], at: str | None = None, drained: bool = False) -> Any:  # noqa: FBT001, FBT002
    """Decide many claims, one decision a symbol; after a death each claim gets a job of its own.

    `drained`: `at` is when the lists were taken, else no claim is decided before it. Event time splits only before
    the last strike, because claims of one moment are decided in order.
    """

    def work(fleet: Runtime, as_of: datetime) -> str:
        patience = 1 if fleet.settings.clock == "live" else MAX_STRIKES - 1
        deaths = fleet.strikes_of_current_job() - 1
        if len(claim_ids) > 1 and deaths >= patience:
            fleet.strikes.carry([claims_job_id([claim_id]) for claim_id in claim_ids], deaths)
            return f"split: {fleet.scheduler.enqueue_claims(claim_ids, at if drained else None, claims_per_job=1)}"
        counts = fleet.decider.claims(claim_ids, as_of, drained=drained)
        return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "nothing"

    def give_up(fleet: Runtime, as_of: datetime, reason: str, job_id: str) -> None:
        for claim_id in claim_ids:
            fleet.decider.abandon_claim(claim_id, reason, as_of, job_id)
            forget_ended(fleet, claim_id)

    # a claim alone has one count, whatever the name of the job it comes back in
    return _run(work, give_up, at, counted_as=claims_job_id(claim_ids) if len(claim_ids) == 1 else None)


def drain(bucket: int, at: str | None = None) -> Any:  # noqa: ARG001  # the bucket names the job
    """Take every waiting list as a claim and queue their consensus jobs; begun again, those of its first life too."""

    def work(fleet: Runtime, _as_of: datetime) -> str:
        again = fleet.strikes_of_current_job() > 1
        return f"{fleet.scheduler.drain(at, unfinished=again)} claims"

    return _run(work, None, at)


def settle(at: str | None = None) -> Any:
    """Look at orders and exits, book fills, end what became definite, close what has no stop.

    In event time our book is reconciled too.
    """

    def work(fleet: Runtime, as_of: datetime) -> str:
        settled = fleet.decider.settle(as_of)
        bare = fleet.protection.look(as_of)
        drifts = fleet.reconciler.cycle(as_of) if fleet.settings.clock == "event" else ()
        return ", ".join([f"{settled} settled", *([f"{bare} without a stop"] if bare else []), *map(str, drifts)])

    return _run(work, None, at)


def reconcile(at: str | None = None) -> Any:
    """Compare our book with the broker's: drift sets REDUCING and an alarm."""

    def work(fleet: Runtime, as_of: datetime) -> str:
        drifts = fleet.reconciler.cycle(as_of)
        fleet.warn_of_drawdown(as_of)
        return "; ".join(map(str, drifts)) or "books agree"

    return _run(work, None, at)


def release(at: str | None = None) -> Any:
    """Decide again what was held for the open."""
    return _run(lambda fleet, as_of: f"{fleet.decider.release(as_of)} released", None, at)


def janitor(at: str | None = None) -> Any:
    """Bring back claims past their deadline, free what dead workers reserved, end what RQ gave up, clean registries."""

    def work(fleet: Runtime, as_of: datetime) -> str:
        freed = sweep(fleet.ledger, fleet.executor, fleet.settings.schedule.reservation_bound_s, as_of)
        reclaimed = fleet.scheduler.clean()
        return f"{reclaimed} reclaimed, {len(freed)} freed, {_end_given_up(fleet, as_of)} ended"

    return _run(work, None, at)


def _end_given_up(fleet: Runtime, as_of: datetime) -> int:
    """End urgent legs whose job died so often before it could count its strikes that RQ starts it no more.

    Claims need no such help: their lease brings them back in a job of another name.
    """
    ended = 0
    again = fleet.followups.message_ids()
    for job in fleet.queues.failed(IMMEDIATE):
        message_id, symbol = job.args[:2]
        if message_id not in again and not fleet.decider.has_end(message_id, symbol):
            reason = "killed or stuck more often than RQ starts it"
            fleet.inbox.bury("worker", "three_strikes", reason, job.job_id.encode(), refused=False)
            fleet.decider.abandon_urgent(message_id, symbol, reason, as_of, job.job_id)
            forget_ended(fleet, leg_id(message_id, symbol))
            ended += 1
    fleet.strikes.forget(name for queue in QUEUES for name in fleet.queues.failed_ids(queue))
    forget_old(fleet, as_of)
    return ended


def _run(
    work: Callable[[Runtime, datetime], str],
    give_up: GiveUp | None,
    at: str | None,
    message_id: str | None = None,
    counted_as: str | None = None,
) -> Any:
    """The job's answer; a Retry for a job under which Redis went away: it is begun again.

    `counted_as`: the name its strikes are counted under, if it is not the job's.
    """
    fleet, job = runtime(), get_current_job()
    if job is None:
        return work(fleet, _moment(fleet, at, message_id))
    counted, name = False, counted_as or job.id
    try:
        strikes = fleet.strikes.begin(name)
        counted = True
        return _struck(fleet, work, give_up, _moment(fleet, at, message_id), Work(job.id, name, strikes))
    except Exception as error:
        if not is_away(error):
            raise
        return _put_off(fleet, name, counted=counted)


def _struck(
    fleet: Runtime,
    work: Callable[[Runtime, datetime], str],
    give_up: GiveUp | None,
    as_of: datetime,
    begun: Work,
) -> str:
    """The answer of the work; at its third failure it is dead."""
    fleet.note_strikes(begun.strikes)
    if begun.strikes > MAX_STRIKES:
        return _dead(fleet, give_up, as_of, begun, "killed or stuck three times")
    try:
        answer = work(fleet, as_of)
    except Exception as error:
        if begun.strikes < MAX_STRIKES or is_away(error):
            raise
        return _dead(fleet, give_up, as_of, begun, f"{type(error).__name__}: {error}")
    fleet.strikes.end(begun.counted_as)
    return answer


def _put_off(fleet: Runtime, name: str, *, counted: bool) -> Retry:
    """An outage is no strike: wait for Redis, as long as the job's time allows, and give the start back."""
    patiently = Retrying(
        retry=retry_if_exception(is_away),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(fleet.settings.workers.job_timeout_s * PUT_OFF_SHARE),
        reraise=True,
    )
    patiently(fleet.strikes.take_back if counted else fleet.strikes.look, name)
    return Retry(max=MOST_PUT_OFFS)


def _dead(
    fleet: Runtime,
    give_up: GiveUp | None,
    as_of: datetime,
    begun: Work,
    reason: str,
) -> str:
    fleet.inbox.bury("worker", "three_strikes", reason, begun.job_id.encode(), refused=False)
    if give_up is not None:
        give_up(fleet, as_of, reason, begun.job_id)
    fleet.strikes.end(begun.counted_as)
    return f"dead: {reason}"


def _moment(fleet: Runtime, at: str | None, message_id: str | None) -> datetime:
    """The decision's `as_of`: live it is now; in event time the job's own, else the message's."""
    if fleet.settings.clock == "live":
        return fleet.clock.now()
    if at is not None:
        return datetime.fromisoformat(at)
    try:
        message = fleet.inbox.message(message_id) if message_id else None
    except ValueError:  # a damaged body: the work meets it too, where strikes are counted
        message = None
    return message.message.received_at if message else datetime.fromtimestamp(0, UTC)

"""Attempt n + 1 of a decision that three strikes ended: a person's act, refused once an order of it was sent."""

from datetime import datetime

from pipeline.errors import RefusedError
from pipeline.models import Outcome
from pipeline.router import leg_id
from workers.adapters.control_memory import Act
from workers.adapters.dead_work import DeadWork
from workers.adapters.packed_jobs import PackedJob
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.adapters.wire_votes import named_by
from workers.schedule import short
from workers.wiring import Runtime


def requeue(fleet: Runtime, name: str, by: str, reason: str, at: datetime) -> DeadWork:
    """Queue the decision of this leg or claim once more. Raises RefusedError with the reason.

    It is decided as of now, so a signal past its age ends `expired`.
    """
    work = fleet.dead_work.find(name)
    if work is None or not work.open:
        raise RefusedError(f"{name} is not dead; `fleet dead` shows what can be requeued")
    queue = IMMEDIATE if work.kind == "leg" else CONSENSUS
    refused = fleet.dead_work.reopen(work, _legs(fleet, work), fleet.queues.line(queue), _job(fleet, work))
    if refused:
        raise RefusedError(f"{name} is not requeued: {refused}")
    fleet.control.note(Act(f"requeue {name}", by, reason, at))
    return fleet.dead_work.find(name) or work


def forget_ended(fleet: Runtime, name: str) -> None:
    """A decision that had ended otherwise meanwhile (its order was sent) is not dead."""
    work = fleet.dead_work.find(name)
    if work is not None and Outcome.ERROR not in fleet.journal.outcomes(work.decisions):
        fleet.dead_work.forget([name])


def forget_old(fleet: Runtime, as_of: datetime) -> None:
    """What died longer ago than failed jobs are kept is history."""
    kept_s = fleet.settings.workers.failure_ttl_s
    fleet.dead_work.forget([work.id for work in fleet.dead_work.all() if (as_of - work.at).total_seconds() > kept_s])


def _legs(fleet: Runtime, work: DeadWork) -> list[str]:
    if work.kind == "leg":
        return [work.id]
    symbol = work.id.rsplit("-", 1)[0]
    return [leg_id(name, symbol) for vote in fleet.dead_work.votes(work.id) if (name := named_by(vote)) is not None]


def _job(fleet: Runtime, work: DeadWork) -> PackedJob:
    number = work.attempt + 1
    job_id, about = f"requeue-{short(work.id)}-{number}", f"attempt {number} of {work.id}"
    if work.kind == "claim":
        return fleet.queues.pack(CONSENSUS, "consensus", job_id, ([work.id],), about)
    return fleet.queues.pack(IMMEDIATE, "trade", job_id, tuple(work.id.rsplit(":", 1)), about)

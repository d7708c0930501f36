"""Eight worker processes on one real server, 200 decisions on their way: a turn of the trading state holds for all."""

import pytest
import redis

from pipeline.errors import TransientError
from pipeline.models import Outcome, TradingState
from tests.deciding import Worker
from tests.tools.bench_halt import CLOSE, OPEN, TURN_AFTER, TURNS, WORKERS, Report, measure, vault_of

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def turned(url: str, before: TradingState, after: TradingState) -> Report:
    """What happened before and after this turn."""
    return measure(url, before, after, TURNS[before, after])


def test_after_a_halt_no_worker_sends_another_order(server_url: str) -> None:
    """What arrives after the halt was SENT before it, at most one order a worker; nothing was refused before it."""
    report = turned(server_url, ACTIVE, HALTED)

    assert report.arrived(OPEN, late=False) == report.arrived(CLOSE, late=False) == []
    assert len(report.arrived(OPEN) + report.arrived(CLOSE)) <= WORKERS
    assert len(report.before) >= TURN_AFTER
    assert {event.what for event in report.before} == {"sent"}
    assert {event.what for event in report.after} <= {"sent", "trading_state"}


def test_after_a_reduction_every_worker_still_closes_and_none_opens(server_url: str) -> None:
    """Openings are refused from then on, by every worker; closings are never refused and still arrive."""
    report = turned(server_url, ACTIVE, REDUCING)

    assert report.arrived(OPEN, late=False) == []
    assert len(report.arrived(OPEN)) <= WORKERS
    assert {event.kind for event in report.after if event.obeys} == {OPEN}
    assert report.arrived(CLOSE, late=False) != []


def test_after_a_resume_every_worker_sends_again(server_url: str) -> None:
    """Under the halt nothing arrives; after it at most one decision a worker is refused, which had read HALTED."""
    report = turned(server_url, HALTED, ACTIVE)

    assert {event.what for event in report.before} == {"trading_state"}
    assert len([event for event in report.after if event.obeys]) <= WORKERS
    assert {event.worker for event in report.arrived(OPEN)} == {str(n) for n in range(WORKERS)}


@pytest.mark.parametrize("lost", ["reading the state", "writing SENT"])
def test_a_redis_that_cannot_be_asked_sends_nothing(redis_client: redis.Redis, lost: str) -> None:
    """Fail closed: an unknown trading state is no permission, whichever of the two questions gets no answer.

    Nor is it an end: the job is repeated, and its next run sends one order.
    """

    def deaf(*_: object, **__: object) -> None:
        raise TransientError("no answer")

    vault = vault_of(redis_client)
    redis_client.hset("halt:control", "trading_state", "ACTIVE")
    worker = Worker(vault)
    where, name = (vault.control, "trading_state") if lost == "reading the state" else (vault.intents, "mark_sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, deaf)
        with pytest.raises(TransientError):
            worker.decide()

    assert (worker.orders, vault.journal.outcome("d-AAA:AAA")) == ([], None)
    assert worker.decide().status is Outcome.SUBMITTED
    assert len(worker.orders) == 1

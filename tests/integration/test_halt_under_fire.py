"""Eight worker processes on one real server: a halt holds for all of them."""

import pytest
import redis

from pipeline.errors import TransientError
from tests.deciding import Worker
from tests.money import a_signal
from tests.tools.bench_halt import HALT_AFTER, JOBS, WORKERS, measure, vault_of


def test_after_a_halt_no_worker_sends_another_order(server_url: str) -> None:
    """200 decisions on their way: what arrives after the halt was SENT before it, at most one order a worker."""
    report = measure(server_url)

    assert report.sent_after == 0
    assert report.arrived >= HALT_AFTER
    assert report.arrived_after <= WORKERS
    assert report.arrived + report.refused == JOBS


@pytest.mark.parametrize("lost", ["reading the state", "writing SENT"])
def test_a_redis_that_cannot_be_asked_sends_nothing(redis_client: redis.Redis, lost: str) -> None:
    """Fail closed: an unknown trading state is no permission, whichever of the two questions gets no answer."""

    def deaf(*_: object, **__: object) -> None:
        raise TransientError("no answer")

    vault = vault_of(redis_client)
    redis_client.hset("halt:control", "trading_state", "ACTIVE")
    worker = Worker(vault)
    where, name = (vault.control, "trading_state") if lost == "reading the state" else (vault.intents, "mark_sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, deaf)
        result = worker.decide()

    assert (worker.orders, vault.ledger.reservations()) == ([], {})
    assert result.refusal is not None
    assert worker.executor.begin(a_signal(decision_id="d-AAA:AAA")) is not None

"""Rolling upgrade: what the release before left in Redis is understood: jobs, votes, bodies, orders, running work.

`tests/data/release-before/redis.json` was written by `tests.tools.leave_behind`, run by the code before the last change
of a format; the next that changes one replaces it first.
"""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.delivery import NOON, a_runtime, later, work_off
from tests.warm import Hand, Play
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE, MAINTENANCE
from workers.wiring import Runtime

#: How each leg of the release before ends.
ENDS = {
    "m-order:ZELK": "executed",
    "m-held:GRPL": "unfilled",
    "m-again:LXMN": "executed",
    "m-queued:OLVN": "executed",
    "m-claimed-0:OLVN": "risk_rejected",  # the position is held by then
    "m-claimed-1:OLVN": "risk_rejected",
    "m-listed:FYRO": "no_consensus",
    "m-stream:WYVN": "no_consensus",
}
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "release-before" / "redis.json").read_text())


WRITE: dict[str, Callable[[Any, str, Any], object]] = {
    "string": lambda client, key, value: client.set(key, value),
    "hash": lambda client, key, value: client.hset(key, mapping=value),
    "list": lambda client, key, value: client.rpush(key, *value),
    "set": lambda client, key, value: client.sadd(key, *value),
    "zset": lambda client, key, value: client.zadd(key, dict(value)),
    "stream": lambda client, key, value: [client.xadd(key, fields, id=name) for name, fields in value],
}


def as_written(value: Any) -> Any:
    """What was no text is bytes again."""
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {name: as_written(one) for name, one in value.items()}
    return [as_written(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of this release before what the release before left."""
    for key, entry in GOLDEN.items():
        WRITE[entry["type"]](redis_client, key, as_written(entry["value"]))
    return a_runtime(server_url, tmp_path, FLEET_GATE__GATE_QUEUE="true")


def test_what_the_release_before_left_in_the_middle_of_its_work_comes_to_its_end(fleet: Runtime) -> None:
    """Rule: DESIGN 6, for one release: jobs, claims, lists, a follow-up, a held signal, an order, an unread message."""
    fleet.router("r1").step()
    fleet.scheduler.queue_followups(later(90))
    fleet.scheduler.drain(later(180).isoformat())
    opens = fleet.sessions.next_open(fleet.sessions.session_of(NOON).close)
    fleet.scheduler.queue_release(opens)
    for queue in (IMMEDIATE, CONSENSUS, MAINTENANCE):
        work_off(fleet, queue)
    fleet.scheduler.queue_settle(fleet.sessions.session_of(opens).close + timedelta(minutes=1))
    work_off(fleet, MAINTENANCE)
    fleet.scheduler.queue_followups(later(3_600))  # the claim met its symbol while the queued post was traded
    work_off(fleet, CONSENSUS)
    rq: Any = fleet.rq_client
    jobs = [key for key in GOLDEN if key.startswith("rq:job:")]

    assert {rq.hget(key, "status") for key in jobs} == {b"finished"}
    assert {name: str(fleet.journal.outcome(name)) for name in ENDS} == ENDS
    assert (fleet.backlog.unfinished(), fleet.backlog.buffered(), fleet.inbox.waiting()) == ([], 0, 0)
    assert (fleet.followups.next_due_ms(), fleet.ledger.reservations()) == (None, {})
    assert fleet.inbox.dead_letters(10) == []


def test_a_running_job_of_a_worker_without_leases_is_left_to_rqs_own_registry(
    server_url: str, redis_client: redis.Redis
) -> None:
    """Rule: an older worker renews no lease: its job counts as lost when RQ's registry says so, and not before."""
    play = Play(server_url, retry_max=3)
    hand = Hand(play)
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    play.client.delete("fleet:leases:immediate")
    play.queues.cleanup()
    assert play.queues.recover() == []
    assert play.queue.started_job_registry.get_job_ids(cleanup=False) == [job_id]
    play.client.zadd(play.queue.started_job_registry.key, {hand.execution.composite_key: 1})
    play.queues.cleanup()

    assert play.queue.job_ids == [job_id]
    assert play.job(job_id).retries_left == 2

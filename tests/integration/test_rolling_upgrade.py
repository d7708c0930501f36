"""Rolling upgrade: what the release before left in Redis is understood: jobs, votes, bodies, running work.

`tests/data/release-before/redis.json` is kept as that release wrote it; with each release the present one replaces it.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.models import Outcome
from tests.delivery import a_runtime, work_off
from tests.warm import Hand, Play
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE, MAINTENANCE
from workers.wiring import Runtime

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "release-before" / "redis.json").read_text())


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of this release before what the release before had queued."""
    fleet = a_runtime(server_url, tmp_path)
    rq: Any = fleet.rq_client
    for job_id, fields in GOLDEN["jobs"].items():
        rq.hset(f"rq:job:{job_id}", mapping=fields | {"data": base64.b64decode(fields["data"])})
        rq.rpush(fleet.queues.queues[fields["origin"]].key, job_id)
    for name, body in GOLDEN["messages"].items():
        fleet.client.set(fleet.keys.message(name), json.dumps(body), ex=1000)
    for claim_id, votes in GOLDEN["claims"].items():
        fleet.client.rpush(fleet.keys.claim(claim_id), *votes)
        fleet.client.zadd(fleet.keys.claims(), {claim_id: 2**45})
    return fleet


def test_jobs_votes_and_bodies_of_the_release_before_come_to_their_ends(fleet: Runtime) -> None:
    """Rule: DESIGN 6, for one release: every queued job runs, the old body trades, the old votes are decided."""
    for queue in (IMMEDIATE, CONSENSUS, MAINTENANCE):
        work_off(fleet, queue)
    rq: Any = fleet.rq_client

    assert {rq.hget(f"rq:job:{job_id}", "status") for job_id in GOLDEN["jobs"]} == {b"finished"}
    assert fleet.journal.outcome("m1:ZELK") in {Outcome.SUBMITTED, Outcome.EXECUTED}
    assert fleet.journal.outcome("m2:OLVN") is Outcome.NO_CONSENSUS
    assert fleet.backlog.unfinished() == []
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

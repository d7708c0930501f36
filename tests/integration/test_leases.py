"""Leases: what a dead worker had in hand is another's within seconds, once, and RQ's books agree afterwards."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.executions import ExecutionRegistry
from rq.intermediate_queue import IntermediateQueue
from rq.job import JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry

from tests.delivery import NOON, a_runtime
from tests.warm import Hand, Play, children, horses, is_alive, until, warm_worker
from workers.adapters.leases import ABANDONED, Leases, Recovered
from workers.adapters.rq_factory import IMMEDIATE, MAINTENANCE, JobQueues

LEASES, LOOK = "fleet:leases:immediate", "fleet:lease-look"
SHORT = {"lease_s": 2}


@pytest.fixture
def play(server_url: str, redis_client: redis.Redis) -> Play:
    """Jobs on an empty server."""
    return Play(server_url, retry_max=3)


@pytest.fixture
def hand(play: Play) -> Hand:
    """A worker that takes, begins and ends as the test says, and renews nothing."""
    return Hand(play)


def now_ms(play: Play) -> float:
    """The server's clock."""
    seconds, micros = play.client.time()
    return float(seconds * 1000 + micros // 1000)


def pass_time(play: Play) -> None:
    """All leases are over, and somebody has just looked."""
    play.client.set(LOOK, int(now_ms(play)))
    for member in play.client.zrange(LEASES, 0, -1):
        play.client.zadd(LEASES, {member: now_ms(play) - 1})


def look(play: Play) -> list[Recovered]:
    """One look of one scheduler."""
    return play.queues.recover()


def books(play: Play) -> dict[str, Any]:
    """The queue as RQ's own classes see it, without clean-up."""
    queue = play.queue
    return {
        "queued": queue.job_ids,
        "taken": IntermediateQueue(queue.key, play.client).get_job_ids(),
        "started": StartedJobRegistry(queue=queue).get_job_ids(cleanup=False),
        "failed": FailedJobRegistry(queue=queue).get_job_ids(cleanup=False),
        "executions": sorted(play.client.scan_iter("rq:execution:*")),
        "of the worker": sorted(play.client.scan_iter("rq:worker:*:executions")),
        "leases": play.client.zrange(LEASES, 0, -1),
    }


def nobody_has_it(**facts: Any) -> dict[str, Any]:
    """Books in which no trace of a run is left."""
    names = ("queued", "taken", "started", "failed", "executions", "of the worker", "leases")
    return {name: [] for name in names} | facts


# ---- a job that had begun ------------------------------------------------------------------------------------


def test_a_begun_job_whose_lease_is_over_is_first_in_line_again(play: Play, hand: Hand) -> None:
    """Rule: with one repetition fewer, and RQ's registries as if it had never been begun; RQ's own tools agree."""
    first, second = play.put("noop"), play.put("noop")
    hand.takes()
    hand.begins()
    pass_time(play)

    assert look(play) == [Recovered("again", IMMEDIATE, first)]
    assert books(play) == nobody_has_it(queued=[first, second])
    job = play.job(first)
    assert (job.get_status(), job.retries_left) == (JobStatus.QUEUED, 2)
    assert ExecutionRegistry(first, play.client).get_execution_ids() == []
    command = [str(Path(sys.executable).with_name("rq")), "info", "--raw", "--url", play_url(play)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "queue immediate 2" in said
    assert look(play) == []


def play_url(play: Play) -> str:
    """The server's address."""
    return f"redis://127.0.0.1:{play.client.connection_pool.connection_kwargs['port']}/0"


def test_a_lease_that_runs_keeps_its_job(play: Play, hand: Hand) -> None:
    """Rule: the near miss; a renewal moves the end."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    pass_time(play)
    assert hand.renews()

    assert look(play) == []
    assert books(play)["started"] == [job_id]


def test_a_taken_over_worker_can_neither_renew_nor_finish(play: Play, hand: Hand) -> None:
    """Rule: the fence: the job is the new worker's, its result too, whatever the old one still says."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    pass_time(play)
    look(play)
    another = Hand(play, "work-immediate-elsewhere-8")
    another.takes()
    another.begins()

    assert not hand.renews()
    assert not hand.begins()
    assert not hand.books.owns(hand.execution)
    assert not hand.ends(take=False).ours
    assert books(play)["started"] == [job_id]
    assert another.ends(take=False).ours
    assert [result.worker_name for result in play.job(job_id).results()] == ["work-immediate-elsewhere-8"]
    assert books(play)["leases"] == []


def test_a_job_without_repetitions_left_fails_as_rq_would_have_it(play: Play, hand: Hand) -> None:
    """Rule: in RQ's registry of failed jobs with a result that says why; the janitor ends its leg."""
    job_id = play.put("noop")
    play.client.hset(f"rq:job:{job_id}", "retries_left", 0)
    hand.takes()
    hand.begins()
    pass_time(play)

    assert look(play) == [Recovered("failed", IMMEDIATE, job_id)]
    assert books(play) == nobody_has_it(failed=[job_id])
    job = play.job(job_id)
    assert (job.get_status(), job.latest_result().exc_string) == (JobStatus.FAILED, ABANDONED)
    assert 0 < play.client.ttl(job.key) <= job.failure_ttl


def test_a_begun_job_whose_hash_is_gone_leaves_no_trace(play: Play, hand: Hand) -> None:
    """Rule: an execution without a job would be in RQ's registry for ever."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    play.client.delete(f"rq:job:{job_id}")
    pass_time(play)

    assert look(play) == [Recovered("gone", IMMEDIATE, job_id)]
    assert books(play) == nobody_has_it()


def test_a_job_that_runs_elsewhere_too_is_not_queued_a_third_time(play: Play, hand: Hand) -> None:
    """Rule: an older clean-up repeated it already; only the dead run goes."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    play.client.rpush(play.queue.key, job_id)
    another = Hand(play, "work-immediate-elsewhere-8")
    another.takes()
    another.begins()
    pass_time(play)
    another.renews()

    assert look(play) == []
    assert books(play)["started"] == [job_id]
    assert books(play)["queued"] == []


def test_many_look_and_one_takes_over(play: Play, hand: Hand, server_url: str) -> None:
    """Rule: any number of schedulers."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    pass_time(play)
    queues = [JobQueues(redis.Redis.from_url(server_url)) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        found = [one for many in threads.map(JobQueues.recover, queues) for one in many]

    assert found == [Recovered("again", IMMEDIATE, job_id)]
    assert play.queue.job_ids == [job_id]


# ---- a job that was taken and not begun, or that is nowhere ---------------------------------------------------


def test_a_taken_job_that_nobody_begins_is_first_in_line_again(play: Play, hand: Hand) -> None:
    """Rule: seen at one look, put back at the first after a lease; with one repetition fewer; its taker is late."""
    job_id = play.put("noop")
    hand.takes()
    assert look(play) == []
    assert play.client.zrange(LEASES, 0, -1) == [job_id.encode()]
    pass_time(play)

    assert look(play) == [Recovered("again", IMMEDIATE, job_id)]
    assert books(play) == nobody_has_it(queued=[job_id])
    assert play.job(job_id).retries_left == 2
    assert not hand.begins()


def test_a_job_that_is_taken_over_and_over_and_never_begun_fails(play: Play, hand: Hand) -> None:
    """Rule: whatever kills each worker that reads it does so as often as a job is begun at most."""
    job_id = play.put("noop")
    for _ in range(3):
        hand.takes()
        look(play)
        pass_time(play)
        assert [one.what for one in look(play)] == ["again"]
    hand.takes()
    look(play)
    pass_time(play)

    assert look(play) == [Recovered("failed", IMMEDIATE, job_id)]


def test_a_taken_job_that_began_meanwhile_is_judged_by_its_run(play: Play, hand: Hand) -> None:
    """Rule: the mark of a taken job ends where the lease of its run begins."""
    play.put("noop")
    hand.takes()
    look(play)
    hand.begins()

    assert play.client.zrange(LEASES, 0, -1) == [hand.execution.composite_key.encode()]
    assert look(play) == []


def test_a_taken_id_without_a_job_is_forgotten(play: Play) -> None:
    """Rule: it would be looked at for ever."""
    play.client.rpush(play.queue.intermediate_queue_key, "nothing")
    look(play)
    pass_time(play)

    assert look(play) == [Recovered("gone", IMMEDIATE, "nothing")]
    assert books(play) == nobody_has_it()


@pytest.mark.parametrize("status", ["queued", "started"])
def test_a_job_that_is_in_no_list_is_queued_again(play: Play, status: str) -> None:
    """Rule: a worker that RQ let pop with BLPOP died: the hash alone is left."""
    job_id = play.put("noop")
    play.client.lpop(play.queue.key)
    play.client.hset(f"rq:job:{job_id}", "status", status)

    assert look(play) == [Recovered("again", IMMEDIATE, job_id)]
    assert books(play) == nobody_has_it(queued=[job_id])
    assert play.job(job_id).retries_left == 2


def test_a_job_that_waits_is_taken_runs_or_has_ended_is_in_no_need(play: Play, hand: Hand) -> None:
    """Rule: the near misses."""
    ended, runs, taken, waits = (play.put("noop") for _ in range(4))
    hand.takes()
    hand.begins()
    hand.ends(take=False)
    Hand(play).takes()
    play.client.lmove(play.queue.intermediate_queue_key, play.queue.key, "LEFT", "LEFT")
    second = Hand(play)
    second.takes()
    second.begins()
    Hand(play).takes()

    assert look(play) == []
    assert books(play) | {"executions": [], "of the worker": [], "leases": []} == nobody_has_it(
        queued=[waits], taken=[taken], started=[runs]
    )
    assert play.job(ended).is_finished


@pytest.mark.parametrize("field", ["retries_left", "failure_ttl"])
def test_a_strangers_hash_stops_nobody_from_looking(play: Play, field: str) -> None:
    """Rule: whatever stands in a hash, the others are recovered; it is judged when it is taken."""
    for status in ("queued", "started"):
        play.client.hset(
            f"rq:job:odd-{status}", mapping={"data": "x", "status": status, "origin": IMMEDIATE, field: "nan"}
        )
    play.client.set("rq:job:none", "x")
    job_id = play.put("noop")
    play.client.lpop(play.queue.key)

    assert Recovered("again", IMMEDIATE, job_id) in play.queues.leases.take_over(
        orphans=["odd-queued", "odd-started", "none", job_id]
    )


def test_jobs_of_a_large_server_are_looked_at_slice_by_slice(play: Play) -> None:
    """Rule: a look asks for a bounded number of keys, and all come up in turn."""
    for number in range(300):
        play.client.set(f"other-{number}", 1)
    wanted = {play.put("noop") for _ in range(20)}
    leases: Leases = play.queues.leases
    found: set[str] = set()
    looks = 0
    while found != wanted:
        found.update(leases.jobs_here(steps=1, count=50))
        looks += 1
        assert looks < 100

    assert looks > 1


# ---- time ----------------------------------------------------------------------------------------------------


def test_after_an_outage_the_living_renew_before_they_are_judged(play: Play, hand: Hand) -> None:
    """Rule: while nobody could look nobody could renew; of 30 s without a look a third of the lease counts, 2 s."""
    play.put("noop")
    hand.takes()
    hand.begins()
    at = now_ms(play)
    play.client.set(LOOK, int(at - 30_000))
    play.client.zadd(LEASES, {hand.execution.composite_key: at - 25_000})  # 5 s were left at the last look

    assert look(play) == []
    (left,) = [end - now_ms(play) for _, end in play.client.zrange(LEASES, 0, -1, withscores=True)]
    assert 0 < left <= 3_000


def test_a_dead_worker_is_found_though_every_look_comes_late(play: Play, hand: Hand) -> None:
    """Rule: each look counts 2 s at most, so a lease of 6 s ends with the fourth, however slow the looker is."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    found = []
    for _ in range(4):
        play.client.set(LOOK, int(now_ms(play)))
        for member, end in play.client.zrange(LEASES, 0, -1, withscores=True):
            play.client.zadd(LEASES, {member: end - 60_000})  # a minute goes by
        play.client.set(LOOK, int(now_ms(play)) - 60_000)
        found += look(play)

    assert found == [Recovered("again", IMMEDIATE, job_id)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_servers_clock_may_be_set(play: Play, hand: Hand, hours: int) -> None:
    """Rule: a lease is a time from now: an hour's step makes it neither over nor an hour longer."""
    play.put("noop")
    hand.takes()
    hand.begins()
    step = hours * 3_600_000
    (end,) = [end for _, end in play.client.zrange(LEASES, 0, -1, withscores=True)]
    play.client.zadd(LEASES, {hand.execution.composite_key: end - step})
    play.client.set(LOOK, int(now_ms(play)) - step)

    assert look(play) == []
    (left,) = [end - now_ms(play) for _, end in play.client.zrange(LEASES, 0, -1, withscores=True)]
    assert 0 < left <= 6_000


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_host_whose_clock_is_an_hour_off_neither_loses_its_job_nor_takes_others(
    play: Play, hand: Hand, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: what is judged is judged by the server's clock: leases, RQ's registry, and the janitor's clean-up of it."""
    job_id = play.put("noop")
    hand.takes()
    hand.execution.created_at += timedelta(hours=hours)
    assert hand.begins()
    assert hand.renews()
    shift = 3600 * hours
    monkeypatch.setattr("rq.registry.current_timestamp", lambda: int(time.time()) + shift)  # noqa: TID251 - that host
    play.queues.cleanup()

    assert look(play) == []
    assert books(play)["started"] == [job_id]
    ((_, end),) = play.client.zrange(play.queue.started_job_registry.key, 0, -1, withscores=True)
    assert 0 < end - play.client.time()[0] <= 65


# ---- whoever is dead -------------------------------------------------------------------------------------------


def test_the_scheduler_itself_brings_back_the_job_of_a_dead_maintenance_worker(
    server_url: str, redis_client: Any, tmp_path: Path
) -> None:
    """Rule: what recovers jobs is no job: the worker that would run it may be the dead one."""
    fleet = a_runtime(server_url, tmp_path)
    fleet.queues.enqueue(MAINTENANCE, "janitor", "janitor-1", (), "janitor")
    queue = fleet.queues.queues[MAINTENANCE]
    fleet.rq_client.lmove(queue.key, queue.intermediate_queue_key)
    fleet.scheduler.turn(NOON)
    fleet.client.zadd(fleet.keys.leases(MAINTENANCE), {"janitor-1": 0})
    fleet.scheduler.turn(NOON)

    assert "janitor-1" in queue.job_ids


def test_a_worker_killed_with_its_horse_on_a_host_without_a_supervisor(play: Play, server_url: str) -> None:
    """Rule: nobody tells; the lease ends, another worker runs the job, RQ's books are clean."""
    with warm_worker(server_url, SHORT) as process:
        job_id = play.put("wait")
        play.began(job_id)
        family = [process.pid, *children(process.pid), *horses(process.pid)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    until(lambda: look(play))
    play.tell(job_id)
    with warm_worker(server_url, {}, {"burst": True}) as process:
        process.wait(120)

    assert play.job(job_id).is_finished
    assert len(play.starts(job_id)) == 2
    assert books(play) == nobody_has_it()


def test_a_frozen_worker_that_wakes_up_after_the_take_over_stops_its_horse(play: Play, server_url: str) -> None:
    """Rule: it meant no harm, but somebody else runs the job now."""
    with warm_worker(server_url, SHORT) as process:
        job_id = play.put("wait")
        horse = play.began(job_id)
        process.send_signal(signal.SIGSTOP)
        pass_time(play)
        assert look(play)
        play.client.lrem(play.queue.key, 0, job_id)
        process.send_signal(signal.SIGCONT)

        until(lambda: not is_alive(horse))
        assert play.value("noop") is None
    assert play.job(job_id).get_status() == JobStatus.QUEUED
    assert play.job(job_id).results() == []

"""How warm workers end, die, pause and obey, and what becomes of their jobs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from rq import Worker
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.job import JobStatus
from rq.suspension import resume, suspend

from tests.warm import Play, children, horses, is_alive, until, warm_worker
from workers.adapters.rq_factory import IMMEDIATE

QUICK = {"job_monitoring_interval": 1}


@pytest.fixture
def play(server_url: str, redis_client: redis.Redis) -> Play:
    """Jobs on an empty server."""
    return Play(server_url)


def test_asked_to_end_a_worker_finishes_its_job_and_takes_no_other(play: Play, server_url: str) -> None:
    """Rule: SIGTERM, warm: what is begun is finished, what waits stays, no process is left."""
    with warm_worker(server_url, QUICK) as process:
        first, second = play.put("wait"), play.put("noop")
        play.began(first)
        family = [*children(process.pid), *horses(process.pid)]
        process.terminate()
        until(lambda: play.is_asked_to_end(first))
        play.tell(first)

        assert process.wait(120) == 0
    assert play.job(first).is_finished
    assert play.queue.job_ids == [second]
    assert play.queues.taken(IMMEDIATE) == []
    assert play.queues.worker_names() == []
    assert len(family) == 3
    assert not any(map(is_alive, family))


def test_asked_to_end_a_worker_waits_for_what_is_aside_and_begins_nothing(play: Play, server_url: str) -> None:
    """Rule: what it set aside is begun, so it is finished; what waits stays."""
    with warm_worker(server_url, QUICK | {"aside_after_s": 0.1, "most_aside": 1}) as process:
        first = play.put("wait")
        play.began(first)
        play.value("noop")
        process.terminate()
        until(lambda: play.is_asked_to_end(first))
        second = play.put("noop")
        play.tell(first)

        assert process.wait(120) == 0
    assert play.job(first).is_finished
    assert play.queue.job_ids == [second]
    assert play.queues.worker_names() == []


def test_asked_to_end_an_idle_worker_goes_and_loses_nothing(play: Play, server_url: str) -> None:
    """Rule: the wish is heard while it waits for a job."""
    with warm_worker(server_url) as process:
        play.run("noop")
        process.terminate()

        assert process.wait(120) == 0
    assert play.queues.worker_names() == []


def ends_when_asked_again(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended; asks it once more. RQ ignores a second signal within a second."""
    process.terminate()
    time.sleep(0.3)
    return process.poll() is not None


def test_asked_twice_a_worker_leaves_its_job_behind(play: Play, server_url: str) -> None:
    """Rule: the second SIGTERM, a second later: the work-horse is killed, the job waits to be declared abandoned."""
    with warm_worker(server_url) as process:
        job_id = play.put("sleep")
        horse = play.began(job_id)
        process.terminate()
        until(lambda: play.is_asked_to_end(job_id))
        until(lambda: ends_when_asked_again(process))
        assert not is_alive(horse)
    assert play.job(job_id).get_status() == JobStatus.STARTED


def test_the_horse_dies_with_its_worker_and_the_job_is_run_by_another(play: Play, server_url: str) -> None:
    """Rule: kill -9 leaves no horse that works beside the repeated job."""
    with warm_worker(server_url) as process:
        job_id = play.put("wait")
        play.began(job_id)
        family = [*children(process.pid), *horses(process.pid)]
        process.kill()
        process.wait()
        until(lambda: not any(map(is_alive, family)))

        assert play.queues.recover_worker(process.pid) == [job_id]
    play.tell(job_id)
    with warm_worker(server_url, {}, {"burst": True}) as process:
        process.wait(120)
    assert play.job(job_id).is_finished
    assert len(play.starts(job_id)) == 2


def test_without_its_stable_a_worker_books_the_job_as_dead_and_ends(play: Play, server_url: str) -> None:
    """Rule: nobody could report a death any more, so a supervisor starts a new worker; the job is repeated."""
    with warm_worker(server_url) as process:
        job_id = play.put("wait")
        play.began(job_id)
        (groom,) = children(process.pid)
        family = horses(process.pid)
        os.kill(groom, signal.SIGKILL)

        process.wait(120)
        assert not any(map(is_alive, family))
    assert play.queue.job_ids == [job_id]
    assert play.job(job_id).retries_left == 0
    assert play.queues.taken(IMMEDIATE) == []


def test_a_long_job_gives_signs_of_life(play: Play, server_url: str) -> None:
    """Rule: who looks after abandoned jobs sees that this one is not."""
    with warm_worker(server_url, QUICK):
        job_id = play.put("wait")
        play.began(job_id)
        key = play.queue.started_job_registry.key
        ((_, first),) = play.client.zrange(key, 0, -1, withscores=True)
        until(lambda: play.client.zrange(key, 0, -1, withscores=True)[0][1] > first)
        play.tell(job_id)

        assert play.end_of(job_id).is_finished


def test_a_job_is_stopped_by_command_and_not_repeated(play: Play, server_url: str) -> None:
    """Rule: RQ's stop-job: the horse is killed, the job is stopped, the worker goes on."""
    with warm_worker(server_url):
        job_id = play.put("sleep")
        horse = play.began(job_id)
        send_stop_job_command(play.client, job_id, serializer="json")

        assert play.end_of(job_id).is_stopped
        assert len(play.starts(job_id)) == 1
        assert play.value("pid") != horse


def test_kill_horse_and_shutdown_are_obeyed(play: Play, server_url: str) -> None:
    """Rule: RQ's other two commands: a killed horse's job is repeated; shutdown is a SIGINT."""
    with warm_worker(server_url) as process:
        job_id = play.put("wait")
        play.began(job_id)
        (name,) = play.queues.worker_names()
        send_kill_horse_command(play.client, name)
        until(lambda: len(play.starts(job_id)) == 2)
        play.tell(job_id)
        assert play.end_of(job_id).is_finished
        send_shutdown_command(play.client, name)

        assert process.wait(120) == 0


def test_a_suspended_worker_takes_nothing_until_it_is_resumed(play: Play, server_url: str) -> None:
    """Rule: `rq suspend` and `rq resume`, also for a worker that is waiting already."""
    with warm_worker(server_url):
        play.run("noop")
        suspend(play.client)
        until(play.is_suspended)
        job_id = play.put("noop")
        time.sleep(1.2)  # longer than a waiting worker waits
        assert play.queue.job_ids == [job_id]
        resume(play.client)

        assert play.end_of(job_id).is_finished


def test_a_worker_between_two_jobs_of_a_row_sees_that_it_is_suspended(play: Play, server_url: str) -> None:
    """Rule: the step that takes the next job asks as well."""
    first, second = play.put("wait"), play.put("noop")
    with warm_worker(server_url):
        play.began(first)
        suspend(play.client)
        play.tell(first)
        play.end_of(first)
        until(play.is_suspended)

        assert play.queue.job_ids == [second]
        resume(play.client)


def test_what_was_taken_and_not_begun_is_put_back(play: Play, server_url: str) -> None:
    """Rule: a worker that ends after one job leaves the others in their order."""
    ids = [play.put("noop") for _ in range(3)]
    with warm_worker(server_url, {}, {"burst": True, "max_jobs": 1}) as process:
        process.wait(120)

    assert play.job(ids[0]).is_finished
    assert play.queue.job_ids == ids[1:]
    assert play.queues.taken(IMMEDIATE) == []


def test_a_horse_is_replaced_after_so_many_jobs(play: Play, server_url: str) -> None:
    """Rule: whatever grows unseen ends with the process."""
    ids = [play.put("pid") for _ in range(6)]
    with warm_worker(server_url, {"max_jobs": 3}, {"burst": True}) as process:
        process.wait(120)
    ran_in = [play.job(job_id).return_value() for job_id in ids]

    assert ran_in == [ran_in[0]] * 3 + [ran_in[3]] * 3
    assert ran_in[0] != ran_in[3]


def test_rqs_own_tools_see_the_worker_and_its_job(play: Play, server_url: str) -> None:
    """Rule: `rq info` and whoever reads RQ's books need not know what kind of worker this is."""
    with warm_worker(server_url):
        job_id = play.put("wait")
        play.began(job_id)
        (seen,) = Worker.all(connection=play.client, job_class=play.queue.job_class, serializer="json")
        command = [str(Path(sys.executable).with_name("rq")), "info", "--url", server_url]
        said = subprocess.run([*command, "--raw"], capture_output=True, text=True, check=True).stdout

        assert (seen.get_state(), seen.queue_names()) == ("busy", [IMMEDIATE])
        assert seen.get_current_job_id() == job_id
        assert any(seen.name in line and ") busy immediate" in line for line in said.splitlines())
        play.tell(job_id)
        assert play.end_of(job_id).is_finished

"""A job that takes long goes on aside, and its worker takes the next: nobody waits behind a post that hangs."""

from collections.abc import Iterator

import pytest

from tests.warm import Play, is_alive, until, warm_worker

SOON: dict[str, object] = {"aside_after_s": 0.1, "most_aside": 2}


@pytest.fixture(scope="module")
def worker(server_url: str) -> Iterator[int]:
    """One worker that sets two jobs aside, for all tests here; its process id."""
    with warm_worker(server_url, SOON) as process:
        yield process.pid


@pytest.fixture
def play(server_url: str, worker: int) -> Play:
    """Jobs for it, with one repeat."""
    return Play(server_url)


def test_the_jobs_behind_a_long_one_run_while_it_goes_on(play: Play) -> None:
    """Rule: the only worker of a queue goes on to the next jobs, each in another process, and ends all of them."""
    long = play.put("wait")
    first = play.began(long)
    behind = [play.value("pid") for _ in range(3)]

    assert play.job(long).is_started
    assert first not in behind
    play.tell(long)
    assert play.end_of(long).return_value() == first
    assert len(play.starts(long)) == 1
    assert play.queue.started_job_registry.get_job_ids(cleanup=False) == []
    assert play.client.zcard(play.queues.leases.key("immediate")) == 0


def test_so_many_at_a_time_go_on_aside_and_no_more(play: Play) -> None:
    """Rule: `most_aside` bounds the processes; the next long job is waited for until one of them has ended."""
    long = [play.put("wait") for _ in range(3)]
    for job_id in long:
        play.began(job_id)
    behind = play.put("pid")
    play.tell(long[0])

    assert play.end_of(behind).return_value() == play.starts(behind)[0][0]
    for job_id in long[1:]:
        assert play.job(job_id).is_started
        play.tell(job_id)
    for job_id in long:
        assert play.end_of(job_id).is_finished


def test_a_job_aside_keeps_its_lease(play: Play) -> None:
    """Rule: it is as alive as any other: its lease is renewed each second, nobody takes it over."""
    long = play.put("wait")
    play.began(long)
    play.value("noop")
    key = play.queues.leases.key("immediate")
    (member,) = play.client.zrange(key, 0, -1)
    before = play.client.zscore(key, member)
    until(lambda: play.client.zscore(key, member) > before + 1_500)

    play.queues.leases.take_over()
    play.tell(long)
    assert play.end_of(long).is_finished
    assert len(play.starts(long)) == 1


def test_one_that_hangs_aside_is_killed_at_its_time_out_and_repeated(server_url: str, worker: int) -> None:
    """Rule: aside or not, a time-out is a death: the horse is gone, the job has one repeat, then it has failed."""
    play = Play(server_url, timeout_s=1)
    hanging = play.put("hang")
    first = play.began(hanging)
    assert play.value("noop") is None
    job = play.end_of(hanging)

    assert job.is_failed
    assert "it passed its time-out of 1 s" in job.latest_result().exc_string
    assert len(play.starts(hanging)) == 2
    until(lambda: not is_alive(first))


def test_one_that_dies_aside_is_repeated(play: Play) -> None:
    """Rule: RQ's Retry counts for it; what it returns the second time is its result."""
    long = play.put("wait")
    first = play.began(long)
    play.value("noop")
    play.kill(first)
    until(lambda: len(play.starts(long)) == 2)
    play.tell(long)

    assert play.end_of(long).return_value() == play.starts(long)[1][0]

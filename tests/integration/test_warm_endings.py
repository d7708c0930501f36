"""However a job ends on the warm worker, RQ's promises hold and the next job runs."""

import os
import signal
from collections.abc import Iterator

import pytest
from rq.results import Result

from tests.warm import Play, horses, is_alive, until, warm_worker


@pytest.fixture(scope="module")
def worker(server_url: str) -> Iterator[int]:
    """One worker for all tests here; its process id."""
    with warm_worker(server_url) as process:
        yield process.pid


@pytest.fixture
def play(server_url: str, worker: int) -> Play:
    """Jobs for it, with one repeat."""
    return Play(server_url)


def test_a_job_that_returns_is_finished_with_its_result(play: Play) -> None:
    """Rule: status, result and registries as RQ keeps them; nothing of the execution stays."""
    job = play.run("pid")
    result = job.latest_result()

    assert (result.type, result.return_value) == (Result.Type.SUCCESSFUL, play.starts(job.id)[0][0])
    assert result.worker_name == job.worker_name
    assert job.enqueued_at <= job.started_at == result.execution_started_at <= result.execution_ended_at
    assert job.id in play.queue.finished_job_registry.get_job_ids(cleanup=False)
    assert 0 < play.client.ttl(job.key) <= 500
    assert 0 < play.client.ttl(f"rq:results:{job.id}") <= 500
    assert job.id not in play.queue.started_job_registry.get_job_ids(cleanup=False)
    assert not list(play.client.scan_iter(f"rq:execution*{job.id}*"))
    assert play.queues.taken("immediate") == []


def test_one_work_horse_runs_job_after_job(play: Play) -> None:
    """Rule: it is kept; that is the point."""
    assert len({play.value("pid") for _ in range(5)}) == 1


def test_a_job_that_returns_nothing_has_no_return_value(play: Play) -> None:
    """Rule: as RQ: a result of its own kind, without a value."""
    assert play.value("noop") is None


def test_a_value_that_is_no_json_is_said_to_be_so(play: Play) -> None:
    """Rule: as RQ: the work is done, so the job is finished."""
    assert play.value("unwritable") == "Unserializable return value"


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("raise-x", "RuntimeError: a job raised x"),
        ("leave", "SystemExit: 3"),
        ("eat", "MemoryError"),
        ("exit-3", "Work-horse terminated unexpectedly; waitpid returned 768; "),
        ("exit-0", "Work-horse terminated unexpectedly; waitpid returned 0; "),
        ("kill", "Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); "),
        ("segfault", "(signal 11); "),
    ],
)
def test_a_job_that_breaks_is_repeated_then_failed_and_the_next_one_runs(play: Play, act: str, words: str) -> None:
    """Rule: issue of RQ's Retry: one start for each, the last one's reason is kept, the worker lives on."""
    job_id = play.put(act)
    after = play.put("pid")
    job = play.end_of(job_id)

    assert job.is_failed
    assert words in job.latest_result().exc_string
    assert len(play.starts(job_id)) == 2
    assert job.retries_left == 0
    assert job_id in play.queue.failed_job_registry.get_job_ids(cleanup=False)
    assert job_id not in play.queue.started_job_registry.get_job_ids(cleanup=False)
    assert play.end_of(after).return_value() == play.starts(after)[0][0]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("sleep", "OutOfTimeError: the job passed its time-out of 1 s"),
        ("hang", "waitpid returned 9 (signal 9); it passed its time-out of 1 s"),
    ],
)
def test_a_job_that_takes_too_long_is_ended_also_when_it_is_deaf_to_the_alarm(
    server_url: str, worker: int, act: str, words: str
) -> None:
    """Rule: the alarm ends what Python can end, the worker kills the rest; the process is not used again."""
    play = Play(server_url, timeout_s=1)
    job = play.run(act)
    (first, _), (second, _) = play.starts(job.id)

    assert job.is_failed
    assert words in job.latest_result().exc_string
    assert first != second
    until(lambda: not is_alive(first) and not is_alive(second))
    assert Play(server_url).value("pid") not in {first, second}


def test_a_job_may_ask_to_be_repeated(play: Play) -> None:
    """Rule: RQ: returning Retry(max=2) repeats it twice, then it has failed for that reason."""
    job = play.run("again")

    assert len(play.starts(job.id)) == 3
    assert job.latest_result().type == Result.Type.MAX_RETRIES_EXCEEDED


def test_the_spare_takes_over_when_an_idle_horse_dies(play: Play, worker: int) -> None:
    """Rule: nothing is lost with a horse that runs nothing."""
    before = play.value("pid")
    os.kill(before, signal.SIGKILL)
    until(lambda: not is_alive(before))

    assert play.value("pid") != before
    until(lambda: len(horses(worker)) == 2)


def test_the_worker_counts_what_it_did(play: Play) -> None:
    """Rule: `rq info` and rq-dashboard read these."""
    key = f"rq:worker:{play.run('noop').worker_name}"
    before = play.client.hgetall(key)
    play.run("noop")
    play.run("raise-x")  # twice: it is repeated
    until(lambda: play.client.hget(key, "state") == b"idle")
    after = play.client.hgetall(key)

    assert int(after[b"successful_job_count"]) - int(before[b"successful_job_count"]) == 1
    assert int(after[b"failed_job_count"]) - int(before.get(b"failed_job_count", 0)) == 2
    assert float(after[b"total_working_time"]) > float(before[b"total_working_time"])

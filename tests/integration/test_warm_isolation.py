"""Nothing a job does to its process reaches the next job, and nothing of the worker's reaches a work-horse."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.errors import FleetError
from tests.warm import Play, children, connections, horses, is_alive, until, warm_worker
from tests.warm_play import MEMORY_MB
from workers.adapters.horse import MIB, Plan
from workers.adapters.stable import Stable


@pytest.fixture(scope="module")
def worker(server_url: str) -> Iterator[int]:
    """One worker for all tests here; its process id."""
    with warm_worker(server_url) as process:
        yield process.pid


@pytest.fixture
def play(server_url: str, worker: int) -> Play:
    """Jobs for it."""
    return Play(server_url)


@pytest.mark.parametrize(
    "act",
    [
        "environment",
        "directory",
        "umask",
        "handler",
        "mask",
        "timer",
        "limit",
        "thread",
        "descriptor",
        "path",
        "time-zone",
    ],
)
def test_a_process_that_a_job_changed_runs_no_other_job(play: Play, act: str) -> None:
    """Rule: what is left behind is compared after each job; a horse that differs from its birth is replaced."""
    changed = play.value(act)

    assert play.value("pid") != changed
    until(lambda: not is_alive(changed))


def test_what_a_job_started_ends_with_its_horse(play: Play) -> None:
    """Rule: a process left running is left behind like anything else."""
    started = play.value("child")
    before = play.value("pid")

    until(lambda: not is_alive(started))
    assert play.value("pid") == before


def test_what_leaves_no_trace_costs_no_horse(play: Play) -> None:
    """The near miss: context, alarm and random generator are kept clean without a new process; threads may end."""
    before = play.value("pid")
    play.run("ending")

    assert [play.value("note"), play.value("note")] == ["none", "none"]
    play.run("alarm")
    play.run("seed")
    assert play.value("random") != random.Random(1).random()
    play.run("seed")
    assert play.value("drawn") != np.random.RandomState(1).random()
    assert play.value("random") != play.value("random")
    assert play.value("pid") == before


def test_a_job_that_was_given_an_alarm_by_the_one_before_is_not_interrupted(play: Play) -> None:
    """Rule: an alarm of a job that has ended rings for nobody."""
    play.run("alarm")

    assert play.value("slowly-15")


def test_two_horses_do_not_draw_the_same_numbers(play: Play) -> None:
    """Rule: a fork copies numpy's generator (Python's own sees to itself), so each horse is seeded at its birth."""
    drawn = []
    for _ in range(2):
        play.run("kill")
        drawn.append(play.value("drawn"))  # the first that a new horse draws

    assert drawn[0] != drawn[1]


def test_a_horse_that_grew_too_much_is_replaced(play: Play) -> None:
    """Rule: half the bound is enough to go, a little more than what it had at birth is not."""
    small = play.value("grow-1")
    assert play.value("pid") == small
    large = play.value(f"grow-{MEMORY_MB // 2 + 20}")

    assert large == small
    assert play.value("pid") != large


def test_a_job_that_wants_more_memory_than_allowed_is_refused_it(play: Play) -> None:
    """Rule: the bound stands before the machine's memory ends."""
    job = play.run("eat")

    assert job.is_failed
    assert job.latest_result().exc_string.endswith("MemoryError\n")


def test_no_connection_of_the_worker_is_shared_with_its_horses(play: Play, worker: int) -> None:
    """Rule: two processes on one connection read each other's answers."""
    play.run("noop")
    (groom,) = children(worker)
    lines = [set(connections(pid)) for pid in (worker, *horses(worker))]

    assert connections(groom) == {}
    assert all(lines)
    assert sum(map(len, lines)) == len(set().union(*lines))


def test_a_process_with_threads_is_no_parent_for_horses() -> None:
    """Rule: a fork copies the locks of threads it does not copy."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    plan: Any = Plan(object, object(), lambda: None, MIB)  # type: ignore[arg-type]
    try:
        with pytest.raises(FleetError, match=r"threads = \d+ when work-horses are prepared; valid: 1"):
            Stable(plan)
    finally:
        done.set()
        thread.join()

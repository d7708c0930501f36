"""The tracing itself: no way to speak to Redis goes unseen, and each death is handed out once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.chaos.points import LIFE, Point, Points, trace


def in_a_child(act: Callable[[], object]) -> int:
    """The signal or exit code a forked process ends with."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def talk(url: str) -> None:
    """Every way to speak to Redis that redis-py has."""
    client: Any = redis.Redis.from_url(url)
    client.set("a", 1)
    client.register_script("return 1")()
    with client.pipeline() as pipe:
        pipe.watch("a")
        pipe.get("a")
        pipe.multi()
        pipe.incrby("a", 1).incrby("b", 1).execute()
    client.pubsub().subscribe("news")
    connection: Any = client.connection_pool.get_connection()
    connection.send_command("PING")
    connection.read_response()


def test_every_way_to_speak_is_a_point_before_and_after(server_url: str, tmp_path: Path) -> None:
    """Single commands, scripts, watched and queued pipelines, subscriptions, and bytes nobody announced."""
    points = Points(tmp_path, seed=1)

    def child() -> None:
        trace(points, "tester")
        talk(server_url)

    assert in_a_child(child) == 0
    found = {(point.call, point.phase) for point in points.counts()}
    calls = {"SET", "EVALSHA", "WATCH", "GET", "[INCRBY]", "SUBSCRIBE", "bytes of no known call"}
    assert found == {(call, phase) for call in calls for phase in ("before", "after")}


def test_a_point_kills_once_and_is_remembered(server_url: str, tmp_path: Path) -> None:
    """The first process dies before SET, the second after it, the third lives."""
    points = Points(tmp_path, seed=1)
    points.arm(every_s=0.0, again=0.0)

    def child() -> None:
        trace(points, "tester")
        redis.Redis.from_url(server_url).set("a", 1)

    assert [in_a_child(child) for _ in range(3)] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert points.untested() == []
    assert {point.phase: (count.reached, count.killed) for point, count in points.counts().items()} == {
        "before": (3, 1),
        "after": (2, 1),
    }


def test_points_whose_places_fall_together_are_counted_and_killed_at_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four points in a table of four places; two calls that share one would look tested when one of them is."""
    monkeypatch.setattr("tests.chaos.points.SLOTS", 4)
    points = Points(tmp_path, seed=1)
    points.arm(every_s=0.0, again=0.0)
    four = [Point("route", f"workers/route.py:{name}", "GET", "before") for name in "abcd"]

    def child() -> None:
        for point in four:
            points.reach(point)

    assert [in_a_child(child) for _ in range(5)] == [-signal.SIGKILL] * 4 + [0]
    assert [(count.reached, count.killed) for count in points.counts().values()] == [(5, 1), (4, 1), (3, 1), (2, 1)]
    with pytest.raises(ValueError, match="4 points"):
        points.reach(Point("route", "workers/route.py:e", "GET", "before"))


def test_nobody_dies_by_chance_before_it_has_worked(tmp_path: Path) -> None:
    """However slow the machine: a process passes 149 known points whatever the dice say, and dies at the next."""
    points = Points(tmp_path, seed=1)
    points.arm(every_s=0.0, again=1.0)
    point = Point("route", "workers/route.py:step", "GET", "before")

    def child(times: int) -> int:
        def act() -> None:
            for _ in range(times):
                points.reach(point)

        return in_a_child(act)

    assert child(1) == -signal.SIGKILL  # nobody had died there
    assert child(LIFE - 1) == 0
    assert child(LIFE) == -signal.SIGKILL


def test_what_was_reached_in_peace_is_untested(tmp_path: Path) -> None:
    """A call that nobody died at fails the run."""
    points = Points(tmp_path, seed=1)
    point = Point("route", "workers/route.py:step", "GET", "before")
    points.reach(point)

    assert points.untested() == [point]


def test_a_forked_horse_has_a_role_of_its_own(server_url: str, tmp_path: Path) -> None:
    """Worker and work-horse are killed apart."""
    points = Points(tmp_path, seed=1)

    def child() -> None:
        trace(points, "worker", "horse")
        redis.Redis.from_url(server_url).get("a")
        in_a_child(lambda: redis.Redis.from_url(server_url).get("b"))

    assert in_a_child(child) == 0
    assert {point.role for point in points.counts()} == {"worker", "horse"}

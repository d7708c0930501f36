"""A recording read ahead: in processes of its own or in this one, each line has its answer, in the lines' order."""

import os
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import FleetError
from pipeline.models import AnalyzedMessage
from tests.delivery import a_runtime
from workers import ahead
from workers.adapters.forked import may_fork
from workers.ahead import Ahead, Failure
from workers.wiring import Runtime


class Stumbling:
    """Fails on one post."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def analyze(self, message: Any) -> AnalyzedMessage:
        if message.source_id == "3":
            raise ZeroDivisionError("the third")
        answer: AnalyzedMessage = self._real.analyze(message)
        return answer

    def analyze_all(self, messages: Any) -> list[AnalyzedMessage]:
        return [self.analyze(message) for message in messages]


def line(number: int) -> bytes:
    """A post of the recorded day's market."""
    post = {"id": str(number), "created_at": "2025-09-17T13:53:20Z", "source": "demo", "author": f"a{number}"}
    return orjson.dumps(post | {"text": f"$ZELK beats estimates, number {number}"})


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """A runtime of the recorded day."""
    return a_runtime(server_url, tmp_path)


def in_processes(monkeypatch: pytest.MonkeyPatch, *, forked: bool = True) -> None:
    """From here on, whatever the machine and the recording: two processes, forked where they may be."""
    monkeypatch.setattr(ahead, "FEW", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(ahead, "may_fork", lambda: forked and may_fork())


@pytest.mark.parametrize("forked", [True, False])
def test_processes_answer_what_this_one_does_in_order(
    fleet: Runtime, monkeypatch: pytest.MonkeyPatch, *, forked: bool
) -> None:
    """450 lines are three chunks; every body is the message of its line, as the inbox keeps it."""
    lines, read = [line(number) for number in range(450)], Ahead(fleet.settings, fleet.analyzer)
    with read.bodies(lines) as answers:
        here = list(answers)
    in_processes(monkeypatch, forked=forked)
    with read.bodies(lines) as answers:
        elsewhere = list(answers)

    messages = [AnalyzedMessage.model_validate_json(body) for body in here if not isinstance(body, Failure)]
    assert [message.message.source_id for message in messages] == [str(number) for number in range(450)]
    assert [message.model_dump_json().encode() for message in messages] == here == elsewhere


def test_a_post_that_cannot_be_analyzed_is_a_failure_in_its_place(fleet: Runtime) -> None:
    """The others go on."""
    with Ahead(fleet.settings, Stumbling(fleet.analyzer)).bodies([line(number) for number in (2, 3, 4)]) as answers:
        first, second, third = answers

    assert second == Failure("ZeroDivisionError: the third")
    assert isinstance(first, bytes)
    assert isinstance(third, bytes)


def test_a_process_that_dies_ends_the_replay_loudly(fleet: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a recording with a hole in it."""
    in_processes(monkeypatch)
    lines = [line(number) for number in range(5_000)]
    with Ahead(fleet.settings, fleet.analyzer).bodies(lines) as answers:
        next(answers)
        for child in active_children():
            child.kill()
        with pytest.raises(FleetError, match="has died"):
            list(answers)


class Dying:
    """A pool that answers five questions at once, and has died when the sixth is asked."""

    asked = 0

    def submit(self, _: object, chunk: Sequence[bytes]) -> "Future[list[bytes]]":
        self.asked += 1
        if self.asked > 5:
            raise BrokenProcessPool
        answered: Future[list[bytes]] = Future()
        answered.set_result(list(chunk))
        return answered


def test_a_process_that_dies_with_nothing_unanswered_is_told_too() -> None:
    """The next question finds nobody: the same loud end, and what was answered is given first."""
    pool: Any = Dying()
    lines = [line(number) for number in range(9 * ahead.CHUNK)]
    answers = ahead._in_order(pool, lines, 4)

    assert [next(answers) for _ in range(ahead.CHUNK)] == lines[: ahead.CHUNK]
    with pytest.raises(FleetError, match="has died"):
        list(answers)

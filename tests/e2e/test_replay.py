"""`fleet replay` as a command: the same at any number of workers, whatever is killed, explained to the last leg."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.models import INTERIM
from tests.e2e.recording import (
    Recording,
    children_of,
    fleet,
    replay_words,
    replayed,
    running,
    write_recording,
)
from tests.integration.test_embedded import eventually
from workers.adapters.embedded import find

POSTS = 120


def a_line(**changes: Any) -> bytes:
    """A post that would be accepted, but for the changes."""
    post = {
        "id": "bad",
        "created_at": "2014-05-06T15:00:00+00:00",
        "source": "test",
        "author": "ann",
        "text": "$ALFA beats estimates, upgraded to strong buy, shares surge",
    }
    return json.dumps({name: value for name, value in (post | changes).items() if value is not None}).encode()


BAD: dict[str, list[bytes]] = {
    "not_json": [b"this is no JSON", b'{"id": "cut of', b"<html><body>502 Bad Gateway</body></html>"],
    "missing_field": [a_line(author=None), a_line(id=None), a_line(created_at=None), a_line(text=None)],
    "number_not_finite": [
        a_line()[:-1] + b', "confidence": NaN}',
        a_line()[:-1] + b', "followers": 1e999}',
        a_line()[:-1] + b', "score": -Infinity}',
    ],
    "wrong_type": [a_line(followers=-5), a_line(text=7)],
    "line_too_long": [a_line(text="x" * 10_000_000)],
    "bad_source": [a_line(source="../etc")],
    "unknown_source": [a_line(source="stranger")],
    "bad_time": [a_line(created_at="yesterday-ish"), a_line(created_at="2014-05-06")],
    "time_out_of_range": [a_line(created_at="1889-05-06T15:00:00Z")],
    "time_in_future": [a_line(created_at="2014-05-06T15:00:00Z", received_at="2014-05-06T14:59:00Z")],
    "not_an_object": [b"[1, 2]", b"7"],
    "too_deep": [b'{"a":' * 50 + b"1" + b"}" * 50],
}
STRANGE_BUT_VALID = [
    a_line(id="naive", created_at="2014-05-06T15:00:00", text="words without a symbol, at a naive time"),
    a_line(id="path", text="$../x rises, $../../etc/passwd too"),
    a_line(id="signs", text="$$$ everywhere"),
    a_line(id="future", created_at="2014-05-06T15:00:20Z", received_at="2014-05-06T15:00:00Z", text="20 s ahead"),
    a_line(id="p0", text="the id of an earlier post", created_at="2014-05-16T19:59:59Z"),
]
KNOWN = {"FLEET_SOURCE__KNOWN": '["test"]', "FLEET_SCHEDULE__BUSY_DELAY_S": "60"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Some hundred posts with every kind of bad line between them."""
    bad = [line for lines in BAD.values() for line in lines]
    return write_recording(tmp_path_factory.mktemp("recording"), POSTS, [*bad, *STRANGE_BUT_VALID])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded server, the same for all runs that may follow each other."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(recording: Recording, data_dir: Path) -> dict[str, Any]:
    """The summary of an ordered run with one worker."""
    return replayed(recording, data_dir, **KNOWN)


def is_explained(summary: dict[str, Any]) -> bool:
    """Whether every line and every leg has its end: nothing is lost and nothing is interim."""
    refused, outcomes = summary["refused"], summary["outcomes"]
    read = summary["accepted"] + sum(refused.values())
    return bool(
        summary["messages_read"] == read
        and sum(outcomes.values()) == summary["legs"] > 0
        and not {str(outcome) for outcome in INTERIM} & outcomes.keys()
    )


# ---- what goes in comes out ------------------------------------------------------------------------------


def test_every_line_and_every_leg_is_explained(undisturbed: dict[str, Any], recording: Recording) -> None:
    """Rule: accepted + refused = read, outcomes sum to legs, nothing interim is left; and it trades."""
    assert undisturbed["messages_read"] == recording.count
    assert is_explained(undisturbed)
    assert undisturbed["orders"] >= 5
    assert undisturbed["outcomes"]["executed"] >= 5


def test_every_bad_line_is_refused_with_its_reason_and_nothing_else_is_lost(undisturbed: dict[str, Any]) -> None:
    """Rule: the issue's bad input, each kind counted by name."""
    expected = {reason: len(lines) for reason, lines in BAD.items()} | {"duplicate_id": 1}

    assert undisturbed["refused"] == dict(sorted(expected.items()))
    assert undisturbed["accepted"] == POSTS + len(STRANGE_BUT_VALID) - 1


def test_the_summary_has_the_agreed_keys(undisturbed: dict[str, Any]) -> None:
    """Rule: scripts read them."""
    agreed = "messages_read accepted refused legs outcomes decisions orders fills final_equity seconds"

    assert {*agreed.split(), "messages_per_second", "digest"} <= undisturbed.keys()


def test_what_was_refused_is_kept_with_its_reason(undisturbed: dict[str, Any], data_dir: Path) -> None:
    """Rule: a dead letter for each refused line, but for ids seen before; the run's keys stay to be looked at."""
    done = fleet("--profile", "replay", "--data-dir", str(data_dir / "replay"), "dead", "--limit", "100", "--json")
    letters = json.loads(done.stdout)

    assert len(letters) == sum(undisturbed["refused"].values()) - 1
    assert {letter["reason"] for letter in letters} == BAD.keys()
    assert max(len(letter["raw"]) for letter in letters) <= 4096


# ---- the same result at every speed ------------------------------------------------------------------------


def test_a_second_run_with_two_workers_is_the_same_run(
    undisturbed: dict[str, Any], recording: Recording, data_dir: Path
) -> None:
    """Rule: ordered runs give identical decisions and fills, twice in a row and at any worker count."""
    second = replayed(recording, data_dir, "--workers", "2", **KNOWN)

    assert second["digest"] == undisturbed["digest"]
    assert second["outcomes"] == undisturbed["outcomes"]
    assert second["final_equity"] == undisturbed["final_equity"]


def test_a_free_run_on_a_shared_server_leaves_the_others_keys_alone(
    recording: Recording, server_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Rule: a namespace of its own, removed afterwards; unordered, every leg is explained all the same."""
    redis_client.set("fleet:state", "somebody's")
    redis_client.set("rq:job:x", "somebody's")
    words = ("--no-ordered", "--workers", "2")
    summary = replayed(recording, tmp_path, *words, FLEET_REDIS_URL=server_url, **KNOWN)

    assert is_explained(summary)
    assert sorted(redis_client.scan_iter()) == ["fleet:state", "rq:job:x"]


# ---- kill -9 ---------------------------------------------------------------------------------------------


def legs_of(client: redis.Redis) -> int:
    """How many legs the run has opened."""
    return int(client.hget("replay:tally", "legs") or 0)


def kill_a_child(process: "subprocess.Popen[str]", words: str) -> None:
    """Kill -9 of the child whose command line has these words, as soon as there is one."""
    found: dict[int, str] = {}

    def there() -> bool:
        found.update(children_of(process.pid, lambda line: words in line))
        return bool(found)

    assert eventually(there)
    os.kill(next(iter(found)), signal.SIGKILL)


def client_when_up(data_dir: Path) -> redis.Redis:
    """A client of the run's embedded server."""
    assert eventually(lambda: find(data_dir / "replay") is not None)
    url = find(data_dir / "replay")
    assert url is not None
    return redis.Redis.from_url(url, decode_responses=True)


def after(client: redis.Redis, legs: int) -> Callable[[], bool]:
    """Whether so many legs were opened."""
    return lambda: legs_of(client) >= legs


def test_killed_workers_and_a_killed_router_change_nothing(
    undisturbed: dict[str, Any], recording: Recording, tmp_path: Path
) -> None:
    """Rule: kill -9 at any instruction: the run goes on, no leg is lost, and it is the undisturbed run."""
    environ = {"FLEET_DATA_DIR": str(tmp_path), **KNOWN}
    victims = ("work consensus", "work immediate", "fleet route", "work consensus")
    with running(*replay_words(recording), **environ) as process, client_when_up(tmp_path) as client:
        for number, words in enumerate(victims, start=1):
            assert eventually(after(client, 20 * number))
            kill_a_child(process, words)
        output, errors = process.communicate(timeout=240)

    assert process.returncode == 0, errors[-3000:]
    summary = json.loads(output)
    assert is_explained(summary)
    assert summary["digest"] == undisturbed["digest"]


# ---- what is refused -------------------------------------------------------------------------------------


def test_a_live_profile_is_refused(recording: Recording) -> None:
    """Rule: exit code 3, by name, before anything is opened."""
    done = fleet(*replay_words(recording), FLEET_PROFILE="live", FLEET_LIVE_CONFIRMED="yes")

    assert done.returncode == 3
    assert "FLEET_PROFILE is 'live'" in done.stderr


def test_a_server_that_holds_a_live_environment_is_refused(
    recording: Recording, server_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Rule: whatever the namespace: not beside real money; nothing of it is touched."""
    redis_client.set("fleet:environment", '{"v":1,"profile":"live"}')
    done = fleet(*replay_words(recording), FLEET_REDIS_URL=server_url, FLEET_DATA_DIR=str(tmp_path))

    assert done.returncode == 3
    assert "live environment" in done.stderr
    assert list(redis_client.scan_iter()) == ["fleet:environment"]


def test_an_impossible_speed_is_refused(recording: Recording, tmp_path: Path) -> None:
    """Rule: exit code 2, naming the option, the value and what is valid."""
    done = fleet(*replay_words(recording, "--speed", "nan"), FLEET_DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "--speed is 'nan'; valid: max, or a positive number" in " ".join(done.stderr.split())


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    """Rule: exit code 2, naming the file."""
    done = fleet("replay", "nowhere.jsonl", FLEET_DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "nowhere.jsonl" in done.stderr

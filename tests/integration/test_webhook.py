"""The webhook: who may send, when a sender is told that his posts are safe, and what happens when they are too many."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis

from config.settings import load_settings
from pipeline.errors import SettingsError
from pipeline.models import OrchestratorState
from tests.accounts import ROOT, until
from workers.adapters import source_webhook
from workers.adapters.lines import RawPost, Source
from workers.adapters.source_webhook import WebhookSource
from workers.collect import Collector, build_collector
from workers.wiring import Runtime

TOKEN = "sixteen-characters-and-more"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def a_post(name: str, text: str = "$GRPL beats expectations") -> bytes:
    """One line as a sender sends it."""
    return orjson.dumps(
        {"id": name, "created_at": "2026-01-02T15:00:00Z", "source": "desk", "author": "ann", "text": text}
    )


@pytest.fixture
def fleet(server_url: str, redis_client: redis.Redis, tmp_path: Path) -> Runtime:
    """A runtime whose source is a webhook on a free port, on an empty server, RUNNING."""
    environ = {
        "FLEET_REDIS_URL": server_url,
        "FLEET_DATA_DIR": str(tmp_path),
        "FLEET_SOURCE__KIND": "webhook",
        "FLEET_SOURCE__PORT": "0",
        "FLEET_SOURCE__TOKEN": TOKEN,
        "FLEET_MARKET__BARS_DIR": str(ROOT / "config" / "demo" / "bars"),
    }
    found = Runtime(load_settings(environ=environ))
    found.initialise_if_empty("test", found.clock.now())
    return found


@pytest.fixture
def collector(fleet: Runtime) -> Iterator[Collector]:
    """The fleet's collector, listening; nobody turns it."""
    found = build_collector(fleet)
    yield found
    found.source.close()


@pytest.fixture
def turning(collector: Collector) -> Iterator[Collector]:
    """The same, turned by a thread as by its process."""
    over = threading.Event()

    def turn() -> None:
        while not over.is_set():
            collector.step()

    thread = threading.Thread(target=turn)
    thread.start()
    yield collector
    over.set()
    thread.join(60)


def address(collector: Collector) -> str:
    """Where it listens."""
    assert isinstance(collector.source, WebhookSource)
    return f"http://127.0.0.1:{collector.source.port}/posts"


def send(collector: Collector, body: bytes, headers: dict[str, str] = HEADERS) -> httpx.Response:
    """One request with patience."""
    return httpx.post(address(collector), content=body, headers=headers, timeout=120)


def some(source: Source, limit: int) -> list[RawPost]:
    """What is read first."""
    read: list[RawPost] = []
    while not read:
        read = source.read(limit)
    return read


def behind(fleet: Runtime, act: Callable[[], httpx.Response]) -> "tuple[ThreadPoolExecutor, Any]":
    """The act in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    return pool, pool.submit(act)


# ---- who may send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"Authorization": "Bearer \xff\xfe"},
    ],
)
def test_a_stranger_sends_nothing(turning: Collector, headers: dict[str, str], fleet: Runtime) -> None:
    """401, and nothing of it was read."""
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = httpx.post(address(turning), content=a_post("a"), headers=raw, timeout=60)  # type: ignore[arg-type]

    assert answer.status_code == 401
    assert TOKEN not in answer.text
    assert fleet.inbox.waiting() == 0


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/posts", 405), ("PUT", "/posts", 405), ("POST", "/", 404), ("GET", "/x", 404)]
)
def test_there_is_one_thing_to_be_done_here(turning: Collector, method: str, path: str, code: int) -> None:
    """POST /posts."""
    url = address(turning).removesuffix("/posts") + path

    assert httpx.request(method, url, headers=HEADERS, timeout=60).status_code == code


def test_a_webhook_without_a_token_does_not_start(fleet: Runtime) -> None:
    """It would trade for everybody. Other processes of the fleet do not need it."""
    source = fleet.settings.source.model_copy(update={"token": None})
    open_to_all = Runtime(fleet.settings.model_copy(update={"source": source}))

    with pytest.raises(SettingsError, match=r"source\.token is not set"):
        build_collector(open_to_all)


def test_a_port_that_is_taken_is_said(collector: Collector) -> None:
    """With its number."""
    assert isinstance(collector.source, WebhookSource)
    port = collector.source.port

    with pytest.raises(SettingsError, match=f"source.host:port = 127.0.0.1:{port}: Address already in use"):
        WebhookSource("127.0.0.1", port, TOKEN).connect()


# ---- when posts are safe -----------------------------------------------------------------------------------


def test_posts_are_answered_once_they_are_in_redis(turning: Collector, fleet: Runtime) -> None:
    """One or many, with or without a last line's end; blank lines are none."""
    assert send(turning, a_post("a")).json() == {"received": 1}
    assert fleet.inbox.waiting() == 1
    answer = send(turning, b"\n".join([a_post("b"), b"", a_post("c"), b"  ", b""]))

    assert (answer.status_code, answer.json()) == (200, {"received": 2})
    assert fleet.inbox.waiting() == 3


def test_nobody_is_told_before(collector: Collector, fleet: Runtime) -> None:
    """While the collector has them in hand and Redis has not, the sender waits."""
    pool, answer = behind(fleet, lambda: send(collector, a_post("a")))
    read = some(collector.source, 10)
    assert not answer.done()
    collector.intake.take([post.line for post in read], fleet.clock.now())
    assert not answer.done()
    assert isinstance(collector.source, WebhookSource)
    collector.source.handed_over()

    assert answer.result(60).status_code == 200
    assert fleet.inbox.waiting() == 1
    pool.shutdown()


def test_a_request_is_safe_as_a_whole_or_not_at_all(collector: Collector, fleet: Runtime) -> None:
    """Of three lines two are handed over: its sender is not told yet."""
    pool, answer = behind(fleet, lambda: send(collector, b"\n".join(map(a_post, "abc"))))
    source = collector.source
    assert isinstance(source, WebhookSource)
    read = some(source, 2)
    source.handed_over()
    assert not answer.done()
    read += source.read(10)
    source.handed_over()

    assert answer.result(60).json() == {"received": 3}
    assert [post.mark.offset for post in read] == [1, 2, 3]
    pool.shutdown()


def test_what_is_sent_twice_counts_once(turning: Collector, fleet: Runtime) -> None:
    """A sender that got no answer sends again, and is told that it is safe."""
    assert [send(turning, a_post("a")).status_code for _ in range(3)] == [200] * 3

    assert fleet.inbox.waiting() == 1
    assert turning.intake.refused == {"duplicate_id": 2}


def test_a_line_that_cannot_be_used_is_kept_and_harms_no_other(turning: Collector, fleet: Runtime) -> None:
    """It is safe too: among the dead letters, with its reason."""
    assert send(turning, b"\n".join([b"{nonsense", a_post("a")])).status_code == 200

    assert fleet.inbox.waiting() == 1
    assert [letter["reason"] for letter in fleet.inbox.dead_letters(10)] == ["not_json"]


# ---- too much ------------------------------------------------------------------------------------------------


def test_a_body_has_bounds(turning: Collector) -> None:
    """1 MiB, 1000 lines, and not nothing."""
    assert send(turning, b"x" * (source_webhook.MOST_BODY_BYTES + 1)).status_code == 413
    assert send(turning, b"{}\n" * 1001).status_code == 400
    assert send(turning, b"\n \n").status_code == 400


def test_what_cannot_be_held_is_refused_at_once(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After; what waits already is not lost."""
    monkeypatch.setattr(source_webhook, "MOST_WAITING_BYTES", len(a_post("a")) + 10)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, collector, a_post("a"))
        assert isinstance(collector.source, WebhookSource)
        waiting = collector.source._waiting
        until(lambda: len(waiting) == 1)
        refused = send(collector, a_post("b"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        until(collector.step)

        assert first.result(60).status_code == 200


def test_a_fleet_that_takes_nothing_says_so(
    collector: Collector, fleet: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STOPPED: the sender is told to come again, and the post is taken when the fleet goes on."""
    monkeypatch.setattr(source_webhook, "SAFE_WITHIN_S", 0.2)
    fleet.state.write(OrchestratorState.STOPPED, "test", fleet.clock.now())
    assert collector.step() == 0
    assert send(collector, a_post("a")).status_code == 503
    fleet.state.write(OrchestratorState.RUNNING, "test", fleet.clock.now())

    assert collector.step() == 1
    assert fleet.inbox.waiting() == 1

"""Telling people: in time, whatever the other side does; at least once; never with the address."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
import redis
import structlog
from pydantic import SecretStr, ValidationError

from config.watch import WatchSettings
from pipeline.errors import SettingsError
from workers.adapters.alarms import Alarm, Notice, RedisAlarms
from workers.adapters.keys import Keys
from workers.adapters.notify import Apprise, LogMessenger, NotToldError, Webhook, Words, messenger
from workers.log import configure_log
from workers.tell import Teller

TOKEN = "T0K3N"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise asks for it
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
BEGAN = "2026-01-05T12:00:00+00:00"
RAISED = Notice("1-0", "raised", "queue_lag", "immediate", "700 jobs wait", BEGAN, BEGAN)
RECOVERED = Notice("2-0", "recovered", "queue_lag", "immediate", "700 jobs wait", "2026-01-05T12:01:00+00:00")


class Hook:
    """A webhook on the loopback that answers as told, and what it heard."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.heard.append(json.loads(body))
                self.send_response(hook.status)
                if hook.status == 302:
                    self.send_header("Location", hook.url)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/{TOKEN}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Answers 200."""
    found = Hook()
    yield found
    found.close()


@contextmanager
def a_listener(drip: bytes = b"") -> Iterator[str]:
    """The address of somebody who takes calls and never ends an answer: silent, or a byte now and then."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        over = threading.Event()

        def serve() -> None:
            with server.accept()[0] as conversation:
                while not over.wait(0.02):
                    if drip:
                        conversation.sendall(drip)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{TOKEN}"
        over.set()
        thread.join()


WORDS = Words("paper", "docs/runbook.md")


def test_a_webhook_hears_text_for_people_and_fields_for_machines(hook: Hook) -> None:
    """One POST for both notices; each names its page of the runbook."""
    Webhook(hook.url, 10, WORDS).tell([RAISED, RECOVERED])

    (heard,) = hook.heard
    assert heard["text"].splitlines() == [
        "[paper] CRITICAL queue_lag immediate: jobs wait for a worker (700 jobs wait). docs/runbook.md#queue_lag",
        "[paper] RECOVERED queue_lag immediate (was: 700 jobs wait)",
    ]
    assert heard["alarms"][0] == {
        "id": "1-0",
        "event": "raised",
        "code": "queue_lag",
        "severity": "critical",
        "subject": "immediate",
        "detail": "700 jobs wait",
        "at": "2026-01-05T12:00:00+00:00",
        "since": "2026-01-05T12:00:00+00:00",
        "runbook": "docs/runbook.md#queue_lag",
    }
    assert (heard["environment"], heard["v"], [alarm["id"] for alarm in heard["alarms"]]) == (
        "paper",
        1,
        ["1-0", "2-0"],
    )


def test_a_reminder_says_since_when() -> None:
    """The newest words, and the moment it began."""
    still = Notice("3-0", "reminded", "queue_lag", "immediate", "900 jobs wait", "2026-01-05T16:00:00+00:00", BEGAN)

    assert WORDS.line(still) == (
        "[paper] STILL CRITICAL queue_lag immediate: jobs wait for a worker "
        "(since 2026-01-05T12:00:00+00:00: 900 jobs wait). docs/runbook.md#queue_lag"
    )


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500])
def test_any_other_answer_is_no_yes(hook: Hook, status: int) -> None:
    """It is told again; no redirect is followed with what was said."""
    hook.status = status

    with pytest.raises(NotToldError, match=str(status)):
        Webhook(hook.url, 10, WORDS).tell([RAISED])
    assert len(hook.heard) == 1


@pytest.mark.parametrize("drip", [b"", b"H", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
def test_a_webhook_that_hangs_or_drips_is_left_in_time(drip: bytes) -> None:
    """The bound holds for the call as a whole; that this test ends is the proof."""
    with a_listener(drip) as url, pytest.raises(NotToldError, match="no answer in time") as caught:
        Webhook(url, 0.3, WORDS).tell([RAISED])

    assert TOKEN not in str(caught.value)


def test_apprise_speaks_to_every_other_service(hook: Hook) -> None:
    """Here its own JSON."""
    Apprise(hook.url.replace("http", "json"), 10, WORDS).tell([RAISED])

    (heard,) = hook.heard
    assert heard["title"] == "signal-fleet"
    assert heard["message"].startswith("[paper] CRITICAL queue_lag immediate: ")


def test_a_service_that_says_no_or_hangs_was_not_told(hook: Hook) -> None:
    """While a call hangs no second one is begun."""
    hook.status = 500
    with pytest.raises(NotToldError, match="it said no"):
        Apprise(hook.url.replace("http", "json"), 10, WORDS).tell([RAISED])

    with a_listener() as url:
        stuck = Apprise(url.replace("http", "json"), 0.2, WORDS)
        with pytest.raises(NotToldError, match="no answer in time"):
            stuck.tell([RAISED])
        with pytest.raises(NotToldError, match="still hangs"):
            stuck.tell([RAISED])


def test_the_scheme_of_the_address_says_who_tells() -> None:
    """Without one the log does; an unknown one is refused at the start, and never repeated."""
    assert isinstance(messenger(WatchSettings(), "paper"), LogMessenger)
    assert isinstance(messenger(WatchSettings(url=SecretStr(f"https://x/{TOKEN}")), "paper"), Webhook)
    assert isinstance(messenger(WatchSettings(url=SecretStr(f"slack://{TOKEN}A/B1/C2")), "paper"), Apprise)
    with pytest.raises(SettingsError, match=r"watch\.url has a scheme") as caught:
        messenger(WatchSettings(url=SecretStr(f"nowhere://{TOKEN}")), "paper")
    with pytest.raises(ValidationError) as invalid:
        WatchSettings(url=SecretStr(TOKEN))

    assert TOKEN not in str(caught.value) + repr(invalid.value.errors(include_input=False))


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_log_line_shows_the_address(hook: Hook, level: Any) -> None:
    """Libraries love to say whom they call."""
    before, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
    stream = StringIO()
    configure_log(level, "json", stream)
    try:
        Webhook(hook.url, 10, WORDS).tell([RAISED])
        Apprise(hook.url.replace("http", "json"), 10, WORDS).tell([RAISED])
        hook.status = 500
        for one in (Webhook(hook.url, 10, WORDS), Apprise(hook.url.replace("http", "json"), 10, WORDS)):
            with pytest.raises(NotToldError):
                one.tell([RAISED])
        for address in (f"slack://{TOKEN}", f"nowhere://{TOKEN}"):
            with pytest.raises(SettingsError):
                Apprise(address, 10, WORDS)
    finally:
        logging.getLogger().setLevel(before)
        logging.getLogger().handlers[:] = handlers
        structlog.reset_defaults()

    assert len(hook.heard) == 4
    assert TOKEN not in stream.getvalue()


# ---- the teller ------------------------------------------------------------------------------------------


class Deaf:
    """A messenger that nobody answers, until somebody does."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.deaf = True

    def tell(self, notices: Any) -> None:
        self.calls.append([notice.code for notice in notices])
        if self.deaf:
            raise NotToldError("no answer in time")


def a_teller(client: redis.Redis, **settings: Any) -> tuple[RedisAlarms, Deaf, list[float], Teller]:
    """A teller whose clock is a list of one number."""
    alarms, deaf, clock = RedisAlarms(client, Keys("test")), Deaf(), [0.0]
    alarms.open_group()
    known = {"call_s": 1, "retry_s": 15, "retry_cap_s": 40} | settings
    return alarms, deaf, clock, Teller(alarms, deaf, WatchSettings(**known), lambda: clock[0])


def now_of(client: redis.Redis) -> datetime:
    """The server's clock, as the ids of entries have it."""
    server: Any = client
    return datetime.fromtimestamp(server.time()[0], UTC)


def test_after_a_failure_the_teller_pauses_longer_each_time(redis_client: redis.Redis) -> None:
    """15, 30, 40, 40 s: doubled up to the cap; nothing is lost meanwhile."""
    alarms, deaf, clock, teller = a_teller(redis_client)
    alarms.sound(Alarm("book_drift", "AAA", "1 and 2", NOON))
    calls = []
    for second in range(130):
        clock[0] = float(second)
        if teller.ready:
            redis_client.xautoclaim("test:alarms", "tellers", "tellers", 0, "0-0")  # its lease is over
            server: Any = redis_client
            server.xclaim("test:alarms", "tellers", "tellers", 0, [row["id"] for row in entries(server)], idle=9_999)
            teller.turn(now_of(redis_client))
            calls.append(second)

    assert calls == [0, 15, 45, 85, 125]
    assert teller.failures == 5
    deaf.deaf, clock[0] = False, 170.0
    redis_client.xclaim(
        "test:alarms", "tellers", "tellers", 0, [row["id"] for row in entries(redis_client)], idle=9_999
    )
    assert teller.turn(now_of(redis_client)) == 1
    assert (teller.failures, alarms.untold(9, 0)) == (0, [])


def entries(client: Any) -> list[dict[str, str]]:
    """Everything in the stream."""
    return [{"id": entry_id} for entry_id, _ in client.xrange("test:alarms")]


def test_what_nobody_could_be_told_for_a_day_is_dropped(redis_client: redis.Redis) -> None:
    """With a log line; what is younger is told."""
    alarms, deaf, _, teller = a_teller(redis_client, give_up_s=60)
    deaf.deaf = False
    redis_client.xadd("test:alarms", {"event": "raised", "code": "halted", "subject": "", "detail": ""}, id="1000-0")
    alarms.sound(Alarm("book_drift", "AAA", "1 and 2", NOON))
    with structlog.testing.capture_logs() as lines:
        told = teller.turn(now_of(redis_client))

    assert (told, deaf.calls) == (1, [["book_drift"]])
    assert [line["code"] for line in lines if line["event"] == "alarm.dropped"] == ["halted"]
    assert alarms.untold(9, 0) == []


def test_a_storm_is_told_twenty_at_a_time(redis_client: redis.Redis) -> None:
    """One call a turn."""
    alarms, deaf, _, teller = a_teller(redis_client)
    deaf.deaf = False
    for n in range(25):
        alarms.sound(Alarm("book_drift", f"S{n}", "1 and 2", NOON))

    assert [teller.turn(now_of(redis_client)) for _ in range(3)] == [20, 5, 0]
    assert len(deaf.calls) == 2


def test_without_an_address_the_log_line_is_the_message(redis_client: redis.Redis) -> None:
    """Its code is stable; a raised one is an error."""
    alarms = RedisAlarms(redis_client, Keys("test"))
    alarms.open_group()
    alarms.sound(Alarm("book_drift", "AAA", "1 and 2", NOON))
    alarms.quiet("book_drift", NOON)
    with structlog.testing.capture_logs() as lines:
        Teller(alarms, LogMessenger(), WatchSettings()).turn(now_of(redis_client))

    found: list[Any] = [
        (line["log_level"], line["about"], line["code"]) for line in lines if line["event"] == "alarm.delivered"
    ]
    assert found == [("error", "raised", "book_drift"), ("info", "recovered", "book_drift")]

"""Log lines: one JSON object each, harmless on a terminal, without secrets."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from workers.log import configure_log


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def a_log(level: str = "info") -> io.StringIO:
    """Configure the log; what it prints."""
    out = io.StringIO()
    configure_log(level, "auto", out)
    return out


def only(out: io.StringIO) -> dict[str, Any]:
    """The one line that was printed."""
    (line,) = out.getvalue().splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def test_off_a_terminal_each_event_is_one_json_object() -> None:
    """With its time, its level and the ids that are bound."""
    out = a_log()
    structlog.contextvars.bind_contextvars(message_id="rss-1")
    structlog.get_logger().info("signal.decided", score=61.5)
    event = only(out)

    assert event.pop("at").endswith("Z")
    assert event == {"event": "signal.decided", "level": "info", "message_id": "rss-1", "score": 61.5}


def test_on_a_terminal_lines_are_for_people() -> None:
    """No JSON to read with the eye."""
    out = io.StringIO()
    configure_log("info", "console", out)
    structlog.get_logger().info("signal.decided", score=61.5)

    assert "signal.decided" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize(
    ("evil", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nforged line", r"a\nforged line"),
        ("\r\t\x00\x7f", r"\r\t\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202etxt\u2066\u2028\ufeff", r"\u202etxt\u2066\u2028\ufeff"),
        ("€ ünï 🚀", "€ ünï 🚀"),
    ],
)
def test_control_characters_in_values_are_shown_not_obeyed(evil: str, shown: str) -> None:
    """An author's name cannot clear a screen, forge a line or turn text around."""
    out = a_log()
    structlog.get_logger().info("post.refused", author=evil, inner={"a": [evil]}, path=Path("x"))

    assert (only(out)["author"], only(out)["inner"]) == (shown, {"a": [shown]})


@pytest.mark.parametrize("name", ["password", "api_key", "apikey", "auth_token", "client_secret", "redis_passwd"])
def test_a_field_named_like_a_secret_is_masked(name: str) -> None:
    """Also deep inside."""
    out = a_log()
    structlog.get_logger().info("child.started", **{name: "hunter2"}, env={name: "hunter2"})

    assert "hunter2" not in out.getvalue()
    assert only(out)[name] == "***"


@pytest.mark.parametrize("name", ["passed", "bypass_rule", "symbol"])
def test_a_field_that_only_resembles_one_is_shown(name: str) -> None:
    """Near-misses stay readable."""
    out = a_log()
    structlog.get_logger().info("child.started", **{name: "shown"})

    assert only(out)[name] == "shown"


def test_credentials_in_addresses_are_masked_in_values_and_tracebacks() -> None:
    """Exceptions of libraries repeat addresses."""
    out = a_log()
    error = ConnectionError("redis://user:hunter2@h:6379/0 \x1b[31m")
    structlog.get_logger().critical("process.failed", exc_info=error, url="redis://:hunter2@h:6379/0")

    assert "hunter2" not in out.getvalue()
    assert only(out)["url"] == "redis://***@h:6379/0"
    assert r"redis://***@h:6379/0 \x1b[31m" in only(out)["exception"]


def test_lines_of_libraries_come_as_events_with_their_words_as_a_field() -> None:
    """RQ logs sentences; ours are fixed names."""
    out = a_log()
    logging.getLogger("rq.worker").warning("Worker %s\x1b[0m", "w1")
    event = only(out)

    assert (event["event"], event["logger"], event["message"]) == ("library.logged", "rq.worker", r"Worker w1\x1b[0m")


def test_a_library_with_a_handler_of_its_own_loses_it() -> None:
    """Otherwise every line of RQ comes twice."""
    logging.getLogger("rq.worker").addHandler(logging.StreamHandler(io.StringIO()))
    out = a_log()
    logging.getLogger("rq.worker").warning("once")

    assert logging.getLogger("rq.worker").handlers == []
    assert len(out.getvalue().splitlines()) == 1


def test_lines_below_the_level_are_not_printed() -> None:
    """`log.level` is the least urgent line shown."""
    out = a_log("warning")
    structlog.get_logger().info("signal.decided")
    structlog.get_logger().warning("turn.delayed")

    assert only(out)["event"] == "turn.delayed"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2**70, str(2**70)), (float("nan"), "nan"), (float("-inf"), "-inf"), (Path("a"), "a"), ({"b"}, ["b"]), (-1, -1)],
)
def test_what_json_cannot_say_is_said_as_text(value: object, shown: object) -> None:
    """A log line is never the reason a decision fails."""
    out = a_log()
    structlog.get_logger().info("signal.decided", observed=value)

    assert only(out)["observed"] == shown


def test_every_event_of_ours_is_named_noun_verb_past() -> None:
    """Fixed strings, so that they can be searched and counted."""
    sources = (Path(__file__).parents[3] / "workers").rglob("*.py")
    calls = re.compile(r"\blog\.(?:debug|info|warning|error|critical)\(\s*f?\"([^\"]*)\"")
    names = {name for file in sources for name in calls.findall(file.read_text())}

    assert names
    assert {name for name in names if not re.fullmatch(r"[a-z_]+\.[a-z_]+(ed|lost|sent|met|left|kept)", name)} == set()

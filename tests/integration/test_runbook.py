"""docs/runbook.md has an entry for every alarm, and every command in it is one."""

import re
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from typer.main import get_command

from tests.chaos import families
from tests.chaos.outages import KINDS
from tests.tools.operations_page import asked
from workers.alarm_codes import CODES
from workers.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text("utf-8")
ENTRY = re.compile(r"^### (\S.*?)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \|", re.MULTILINE)
CODE = re.compile(r"```\n(.*?)```|`([^`\n]+)`", re.DOTALL)
OTHERS = {"Nobody watches", "Alarms are not told"}


def entries() -> dict[str, str]:
    """The alarms' entries by title."""
    return dict(ENTRY.findall(PAGE.split("## Alarms")[1].split("## By hand")[0]))


def code() -> list[str]:
    """Every command of the page, one a line, without its comment."""
    texts = [fenced or inline for fenced, inline in CODE.findall(PAGE)]
    return [line.partition("  #")[0].strip() for text in texts for line in text.splitlines()]


def test_every_alarm_has_an_entry_and_every_entry_an_alarm() -> None:
    """Its heading is the anchor that each message names; the table says how bad it is."""
    assert set(entries()) - OTHERS == set(CODES)
    assert {(name, anchor, severity) for name, anchor, severity in ROW.findall(PAGE)} == {
        (code, code, about.severity) for code, about in CODES.items()
    }


@pytest.mark.parametrize("name", sorted(CODES))
def test_an_entry_says_what_it_means_what_to_check_and_what_to_do(name: str) -> None:
    """In this order."""
    assert re.findall(r"^\*\*(\w+)\*\*", entries()[name], re.MULTILINE) == ["Means", "Check", "Do"]


def test_every_drill_has_an_entry_that_says_what_is_seen_and_what_to_do() -> None:
    """And each way in which Redis may be away, a row of its own."""
    section = PAGE.split("## What recovers by itself")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    drills = {name for _, drill, *_ in rows[1:] for name in re.findall(r"`(\w+)`", drill)}
    outages = {what.removeprefix("Redis: ") for what, *_ in rows if what.startswith("Redis: ")}

    assert drills == set(families.ALL)
    assert outages == set(KINDS)
    assert all(len(row) == 4 and all(row) for row in rows)


def test_every_alert_leads_to_a_heading() -> None:
    """The anchor that GitHub makes of it."""
    rules = yaml.safe_load((ROOT / "docker" / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    pages = [rule["annotations"]["runbook"] for group in rules for rule in group["rules"]]
    titles = re.findall(r"^#{2,3} (.+)$", PAGE, re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}

    assert {page.partition("#")[0] for page in pages} == {"docs/runbook.md"}
    assert {page.partition("#")[2] for page in pages} - anchors - {"{{ $labels.code }}"} == set()


def test_every_command_of_the_fleet_exists_with_its_options() -> None:
    """A verb or an option that was renamed is found here and not at three in the morning."""
    verbs: Any = getattr(get_command(app), "commands")  # noqa: B009  # typer's own click has no types here
    lines = [line.split() for line in code() if line.startswith("fleet ")]

    assert len(lines) > 40
    for words in lines:
        rest = [word for word in words[1:] if word not in {"--data-dir", "COPY"}]
        assert rest[0] in verbs, words
        known = {name for parameter in verbs[rest[0]].params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest[1:] if word.startswith("-")} <= known, words


def test_every_redis_command_is_one_the_server_knows(redis_client: redis.Redis) -> None:
    """With its subcommand; options of redis-cli itself apart."""
    lines = [line.split()[1:] for line in code() if line.startswith("redis-cli ")]

    assert len(lines) > 10
    for words in lines:
        if not words[0].startswith("--"):
            name = "|".join(words[:2]) if words[0] in {"config", "acl"} else words[0]
            assert asked(redis_client, ["COMMAND", "INFO", name]) != [None], words

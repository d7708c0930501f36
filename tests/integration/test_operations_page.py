"""docs/operations.md is true: its commands answer what it shows, and its table is what a real run leaves."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.tools.operations_page import PAGE, commands, filled, runner, servers, shapes, shown

ROW = re.compile(r"^\| (`fleet:[^|]+) \| ([^|]+) \| .* \| ([^|]+) \|$", re.MULTILINE)
UNITS = {"s": 1, "day": 86_400, "days": 86_400}
ACCOUNTS = "fleet:paper:account"


@pytest.fixture(scope="module")
def found() -> Iterator[Mapping[str, str]]:
    """A demo run that ended and a fleet at work."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-page-"))
    try:
        with servers(folder) as addresses:
            yield addresses
    finally:
        shutil.rmtree(folder)


def table() -> list[tuple[str, str, str]]:
    """Pattern, type and life of every key in the page's table."""
    rows = []
    for names, kinds, life in ROW.findall(PAGE.read_text("utf-8")):
        keys = [
            name if name.startswith("fleet:") else ACCOUNTS.rsplit(":", 1)[0] + name
            for name in re.findall(r"`([^`]+)`", names)
        ]
        each = kinds.split(", ")
        rows += [(key, each[min(n, len(each) - 1)], life.strip()) for n, key in enumerate(keys)]
    return rows


def pattern(key: str) -> re.Pattern[str]:
    """A row's key as it may be: words in capitals stand for any name."""
    return re.compile(re.sub(r"(?<=:)[A-Z]+(?:-[A-Z]*nn)?(?=$|:)", ".+", key))


def limit(life: str) -> int | None:
    """The seconds a life begins with, None where it names none."""
    words = re.match(r"(\d+) (\w+)", life)
    return int(words[1]) * UNITS[words[2]] if words and words[2] in UNITS else None


def test_every_command_of_the_page_answers_what_it_shows(found: Mapping[str, str]) -> None:
    """Up to numbers, and the order of what has none. After a change: `python -m tests.tools.operations_page`."""
    page = PAGE.read_text("utf-8")

    assert len(commands(page)) > 40
    for shown_block, block in zip(shapes(page), shapes(filled(page, runner(found, real=False))), strict=True):
        assert block == shown_block


@pytest.mark.parametrize("name", ["demo", "fleet"])
def test_the_table_of_keys_is_what_a_run_leaves(found: Mapping[str, str], name: str) -> None:
    """Every key has a row; its type is the row's, and it lives no longer than the row says."""
    with redis.Redis.from_url(found[name], decode_responses=True) as client:
        server: Any = client
        rows = [(pattern(key), kind, limit(life), life) for key, kind, life in table()]
        for key in server.scan_iter(count=1000):
            if key.startswith(("rq:", f"{name}:rq:")):
                continue
            plain = f"fleet:{key.split(':', 1)[1]}"
            mine = [row for row in rows if row[0].fullmatch(plain)]
            assert mine, f"{plain} has no row"
            assert server.type(key) in {row[1] for row in mine}, plain
            ttl, lives, life = server.ttl(key), mine[0][2], mine[0][3]
            if lives is None:
                assert ttl == -1, f"{plain} has a life of {ttl} s, the table says: {life}"
            elif ttl == -1:
                assert " " in life.split(" ", 2)[-1] or "after" in life, f"{plain} has no end, the table says: {life}"
            else:
                assert ttl <= lives, f"{plain} lives {ttl} s, the table says: {life}"


def test_a_reply_looks_as_redis_cli_shows_it() -> None:
    """Compared by hand with redis-cli 7.0.15: numbers are aligned, quotes and bytes escaped, lists nested."""
    many = [str(n) for n in range(10)]

    assert shown(3) == "(integer) 3\n"
    assert shown(None) == "(nil)\n"
    assert shown([]) == "(empty array)\n"
    assert shown('a "b"\n\xe9') == '"a \\"b\\"\\n\\xc3\\xa9"\n'
    assert shown([["1-0", ["id", "x"]]]) == '1) 1) "1-0"\n   2) 1) "id"\n      2) "x"\n'
    assert shown(many).splitlines()[0] == ' 1) "0"'
    assert shown(many).splitlines()[9] == '10) "9"'

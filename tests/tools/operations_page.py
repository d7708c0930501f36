"""Runs every command of docs/operations.md that follows a `<!-- run -->`: `python -m tests.tools.operations_page`.

`> COMMAND` goes to redis-cli, `$ fleet ...` to the command line, against a demo run that has ended (`demo:*`) and a
fleet at work (`fleet:*`). Written to the page as redis-cli shows it (or would, where it is missing); the test runs them
again and compares up to numbers.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import redis

from config.settings import load_settings
from pipeline.models import TradingState
from workers.adapters.embedded import EmbeddedServer
from workers.process import Heartbeat
from workers.wiring import Runtime

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "operations.md"
FENCE: Final = re.compile(r"(<!-- run -->\n```\n)(.*?)(\n```)", re.DOTALL)
NUMBER: Final = re.compile(r"\d+(?:[.,:+TZ-]\d+)*")
HEX: Final = re.compile(r"\b[0-9a-f]+\b")
PLACE: Final = re.compile(r"^(?: *\d+\) )*")
WIDTH: Final = 118
MOST_LINES: Final = 16
DEMO: Final = ("--profile", "demo", "--data-dir", ".fleet/demo")
Run = Callable[[str], str]


# ---- the page --------------------------------------------------------------------------------------------


def filled(page: str, run: Run) -> str:
    """The page with the output of each of its commands."""
    return FENCE.sub(lambda fence: fence[1] + _answers(fence[2], run) + fence[3], page)


def commands(page: str) -> list[str]:
    """Every command of the page that is run."""
    return [line for fence in FENCE.findall(page) for line in fence[1].splitlines() if line.startswith(("> ", "$ "))]


def shapes(page: str) -> list[list[str]]:
    """For each block the lines with every number and hash as a 0, in no order: the same from run to run."""
    blocks = [fence[1].splitlines() for fence in FENCE.findall(page)]
    return [sorted(NUMBER.sub("0", HEX.sub("0", PLACE.sub("", line))) for line in block) for block in blocks]


def _answers(block: str, run: Run) -> str:
    """The block's commands, each with what it answers."""
    asked = [line for line in block.splitlines() if line.startswith(("> ", "$ "))]
    return "\n".join(line for command in asked for line in (command, *_cut(run(command))))


def _cut(output: str) -> list[str]:
    lines = [line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in output.rstrip("\n").splitlines()]
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]


# ---- what the commands are asked of ----------------------------------------------------------------------


@contextmanager
def servers(demo_folder: Path) -> Iterator[Mapping[str, str]]:
    """Addresses by namespace: a demo run that ended, and a fleet at work; both end with the block."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    command = [sys.executable, "-m", "workers.cli", "--data-dir", str(demo_folder), "run", "--demo"]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    with EmbeddedServer(demo_folder / "demo") as demo, EmbeddedServer(demo_folder / "live") as live:
        a_fleet_at_work(live.url)
        yield {"demo": demo.url, "fleet": live.url, "demo_folder": str(demo_folder / "demo")}


def a_fleet_at_work(url: str) -> Runtime:
    """Posts of the demo as if they came now: some decided upon, some voting, some claimed, some not yet read."""
    demo = ROOT / "config" / "demo"
    variables = {"FLEET_PROFILE": "paper", "FLEET_REDIS_URL": url, "FLEET_MARKET__BARS_DIR": str(demo / "bars")}
    variables["FLEET_MARKET__CALENDAR_START"] = "2025-01-02"  # a long calendar takes seconds to build
    fleet = Runtime(load_settings(environ=variables))
    now = fleet.clock.now()
    fleet.initialise_if_empty("fleet run", now)
    posts = [post for line in (demo / "posts.jsonl").read_bytes().splitlines()[:70] if (post := _post(line))]
    intake, router = fleet.intake(), fleet.router("route-desk-1")
    router.block_ms = 1
    for part, routed, drained in ((posts[:30], True, True), (posts[30:50], True, False), (posts[50:], False, False)):
        at = fleet.clock.now()
        intake.take([orjson.dumps(post | {"created_at": at.isoformat()}) for post in part], at)
        while routed and router.step():
            pass
        if drained:
            fleet.scheduler.drain()
    intake.take([b"no post at all"], now)
    fleet.control.deny("author", "PumpPalace", "eve", "promos", now)
    fleet.control.set(TradingState.REDUCING, "eve", "checking the feed", now)
    Heartbeat(fleet.client, fleet.keys, "route-desk-1", "route")(50)
    watcher = fleet.watcher()
    watcher._born = float("-inf")
    watcher.step()
    return fleet


def _post(line: bytes) -> dict[str, Any]:
    """The post of a line of the recording, empty for one that is none."""
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def runner(found: Mapping[str, str], *, real: bool) -> Run:
    """Runs a line of the page. `real`: redis-cli itself, else what it would show."""
    clients = {name: redis.Redis.from_url(found[name], decode_responses=True, protocol=2) for name in ("demo", "fleet")}

    def run(line: str) -> str:
        words = shlex.split(line[2:])
        if line.startswith("$ "):
            return _fleet(words, found)
        name = "demo" if "demo:" in line else "fleet"
        if real:
            command = ["redis-cli", "-u", found[name], "--no-raw", *words]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return shown(asked(clients[name], words))

    return run


def _fleet(words: list[str], found: Mapping[str, str]) -> str:
    """A command of ours, in this process."""
    from workers import cli  # noqa: PLC0415  # RQ reads its prefix when it is imported

    demo = list(DEMO) == words[1 : 1 + len(DEMO)]
    words = ["fleet", *(words[1 + len(DEMO) :] if demo else words[1:])]
    kept, output = (dict(os.environ), sys.argv), io.StringIO()
    variables = (
        {"FLEET_PROFILE": "demo", "FLEET_REDIS_URL": found["demo"]} if demo else {"FLEET_REDIS_URL": found["fleet"]}
    )
    bars = {} if demo else {"FLEET_MARKET__BARS_DIR": str(ROOT / "config" / "demo" / "bars")}
    os.environ.update(variables | bars)
    sys.argv = words
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            cli.main()
    finally:
        os.environ.clear()
        os.environ.update(kept[0])
        sys.argv = kept[1]
    return output.getvalue()


# ---- redis-cli -------------------------------------------------------------------------------------------


def shown(reply: Any, indent: str = "") -> str:
    """A reply as redis-cli shows it on a terminal."""
    if reply is None:
        return "(nil)\n"
    if isinstance(reply, int):
        return f"(integer) {reply}\n"
    if isinstance(reply, str):
        return "".join(['"', *map(_escaped, reply.encode()), '"\n'])
    if not reply:
        return "(empty array)\n"
    width = len(str(len(reply)))
    inner = indent + " " * (width + 2)
    texts = [shown(row, inner) for row in reply]
    return "".join(f"{indent if n else ''}{n + 1:>{width}}) {text}" for n, text in enumerate(texts))


def asked(client: redis.Redis, words: list[str]) -> Any:
    """The reply as it came over the wire (RESP2), which no library has read anything into."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*words)  # type: ignore[no-untyped-call]
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return f"\\{character}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
    return named.get(character) or (character if 32 <= byte < 127 else f"\\x{byte:02x}")


def main() -> None:
    """Write the page."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-page-"))
    try:
        with servers(folder) as found:
            page = PAGE.read_text("utf-8")
            PAGE.write_text(filled(page, runner(found, real=shutil.which("redis-cli") is not None)), "utf-8")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

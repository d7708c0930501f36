"""What a fleet leaves in Redis when it is ended in the middle of its work: `python -m tests.tools.leave_behind FILE`.

Run by a release's own code before the next changes a format; `test_rolling_upgrade.py` has the next go on with it.
"""

import base64
import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import redis

from pipeline.models import Label
from tests.delivery import NOON, a_message, a_runtime, later, work_off
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.rq_factory import IMMEDIATE
from workers.wiring import Runtime

VOLATILE: Final = ("rq:worker", "demo:heartbeat")


def leave(fleet: Runtime) -> None:
    """An order at the venue, a signal held for the open, jobs, a claim, votes, a follow-up, a message in the stream."""
    close = fleet.sessions.session_of(NOON).close
    _route(fleet, a_message("m-order", symbols=("ZELK",), confidence=0.95))
    work_off(fleet, IMMEDIATE)
    _route(fleet, a_message("m-held", symbols=("GRPL",), confidence=0.95, at=close + timedelta(hours=2)))
    work_off(fleet, IMMEDIATE)
    _route(fleet, a_message("m-again", symbols=("LXMN",), confidence=0.95, at=later(60)))
    queue: Any = fleet.queues.queues[IMMEDIATE]
    queue.empty()
    fleet.followups.add(IMMEDIATE, "trade", ("m-again", "LXMN"), later(90))
    _route(fleet, *(a_message(f"m-claimed-{n}", symbols=("OLVN",), at=later(70 + n)) for n in range(2)))
    fleet.scheduler.drain(later(120).isoformat())
    _route(fleet, a_message("m-listed", symbols=("FYRO",), label=Label.NEUTRAL, at=later(130)))
    _route(fleet, a_message("m-queued", symbols=("OLVN",), confidence=0.95, at=later(140)))
    fleet.inbox.append([a_message("m-stream", symbols=("WYVN",), at=later(150))])


def _route(fleet: Runtime, *messages: Any) -> None:
    fleet.inbox.append(messages)
    fleet.router("r1").step()


def keyspace(client: Any) -> dict[str, Any]:
    """Every key that lasts, with its type and value; of a stream its entries."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    kinds = {key.decode(): client.type(key).decode() for key in sorted(client.scan_iter())}
    lasting = {key: kind for key, kind in kinds.items() if not key.startswith(VOLATILE)}
    return {key: {"type": kind, "value": _plain(readers[kind](key))} for key, kind in lasting.items()}


def _plain(value: Any) -> Any:
    """As JSON has it; bytes that are no text as {"base64": ...}."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key.decode(): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple | set) else value


def main() -> None:
    """Leave it, and write it into FILE."""
    with EmbeddedServer(Path(tempfile.mkdtemp())) as server:
        leave(a_runtime(server.url, Path(tempfile.mkdtemp()), FLEET_GATE__GATE_QUEUE="true"))
        found = keyspace(redis.Redis.from_url(server.url))
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

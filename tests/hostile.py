"""A hundred and more jobs that somebody with access to Redis could write; each would leave a mark if it ran."""

import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRADE: list[Any] = ["workers.jobs.trade", None, ["m1", "ZELK"], {}]
HERE = "tests.hostile.must_not_run"
MARK_VARIABLE = "HOSTILE_MARK"
TEXTS = ("<img src=x onerror=alert(1)>", "\x1b]0;owned\x07\x1b[2J", "../../../../etc/passwd")


@dataclass(frozen=True)
class Hostile:
    """One job as it is written by hand: its id, its hash, or another thing where the hash should be."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    job_id: bytes | None = None
    instead: str | None = None


def must_not_run(*_: object, **__: object) -> None:
    """What callbacks of strangers name."""
    Path(os.environ.get(MARK_VARIABLE, "must-not-run")).touch()


class _Bomb:
    """Runs a shell when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def packed(value: object) -> bytes:
    """JSON as RQ packs it."""
    return zlib.compress(json.dumps(value).encode())


def hostile_jobs(mark: Path) -> list[Hostile]:
    """All of them; `mark` is the file that running one would make."""
    return [
        *_pickles(mark),
        *_functions(mark),
        *_shapes(),
        *_arguments(),
        *_fields(mark),
        *_bombs(),
        *_ids(),
    ]


def _data(name: str, data: bytes) -> Hostile:
    return Hostile(name, {"data": data})


def _pickles(mark: Path) -> Iterator[Hostile]:
    """Pickle bytes, packed and plain, and a pickle whose name is one of ours."""
    for protocol in range(6):
        raw = pickle.dumps(("workers.jobs.trade", None, (_Bomb(mark),), {}), protocol)
        yield _data(f"pickle protocol {protocol}", zlib.compress(raw))
        yield _data(f"plain pickle protocol {protocol}", raw)
    yield Hostile("pickled meta", {"data": packed(TRADE), "meta": pickle.dumps(_Bomb(mark))})
    yield Hostile("pickled result", {"data": packed(TRADE), "result": pickle.dumps(_Bomb(mark))})


def _functions(mark: Path) -> Iterator[Hostile]:
    """JSON that names what is not on the list; the first ones would make the mark."""
    shell = [f"touch {mark}"]
    for name in ("os.system", "posix.system", "subprocess.getoutput", "os.popen", "pathlib.os.system", "pty.os.system"):
        yield _data(name, packed([name, None, shell, {}]))
    code = [f"__import__('pathlib').Path({str(mark)!r}).touch()"]
    for name in ("builtins.exec", "builtins.eval", "timeit.timeit", "workers.jobs.__builtins__.exec"):
        yield _data(name, packed([name, None, code, {}]))
    for name in (
        "workers.jobs.__loader__",
        "workers.jobs.__loader__.load_module",
        "workers.jobs.__spec__.loader.exec_module",
        "workers.jobs.trade.__globals__",
        "workers.jobs.trade.__class__",
        "workers.jobs._run",
        "workers.jobs.runtime",
        "workers.jobs.Callable",
        "workers.jobs.trade ",
        " workers.jobs.trade",
        "workers.jobs.trade\x00",
        "workers.jobs.Trade",
        "workers.jobs:trade",
        "workers..jobs.trade",
        "workers.jobs",
        "workers.cli.main",
        "rq.job.Job.fetch",
        HERE,
        "",
        "trade",
        *TEXTS,
    ):
        yield _data(f"function {name!r}", packed([name, None, [], {}]))
    for odd in (None, 5, True, [], ["workers.jobs.trade"], {"workers.jobs.trade": 1}):
        yield _data(f"function {odd!r}", packed([odd, None, [], {}]))


def _shapes() -> Iterator[Hostile]:
    """Data that is no list of four."""
    for value in ({}, "workers.jobs.trade", 7, None, [], TRADE[:3], [*TRADE, 1], [TRADE], dict(enumerate(TRADE))):
        yield _data(f"shape {value!r}", packed(value))
    for name, raw in (
        ("no JSON", b"{"),
        ("NaN", b'["workers.jobs.drain",null,[NaN],{}]'),
        ("infinite", b'["workers.jobs.drain",null,[1e999],{}]'),
        ("no UTF-8", b'["workers.jobs.trade",null,["\xff","ZELK"],{}]'),
        ("nothing", b""),
        ("deep", b"[" * 200_000),
        ("two values", b"[][]"),
    ):
        yield _data(name, zlib.compress(raw))
    yield _data("plain JSON", json.dumps(TRADE).encode())
    yield _data("cut zlib", packed(TRADE)[:-6])


def _arguments() -> Iterator[Hostile]:
    """Our functions with arguments they never get."""
    wrong: dict[str, list[Any]] = {
        "trade": [
            [],
            ["m1"],
            ["m1", "ZELK", None, None],
            [1, "ZELK"],
            [["m1"], "ZELK"],
            [None, None],
            ["m1", "zelk"],
            ["m1", "ZELK\n"],
            ["m1", "TOOLONG"],
            ["m" * 121, "ZELK"],
            ["m1", "ZELK", "now"],
            ["m1", "ZELK", 5],
            "m1",
            {"message_id": "m1"},
            None,
            *([text, "ZELK"] for text in TEXTS),
            *(["m1", text] for text in TEXTS),
        ],
        "consensus": [[], [[]], [[1]], ["ZELK-1"], [{"a": 1}], [["ZELK-1", TEXTS[1]]]],
        "drain": [[], [-1], [True], [1.5], ["1"], [2**63], [[1]]],
        "settle": [["yesterday"], [{}], [None, None]],
    }
    for name, cases in wrong.items():
        for args in cases:
            yield _data(f"{name} {args!r:.60}", packed([f"workers.jobs.{name}", None, args, {}]))
    yield _data("instance", packed(["workers.jobs.trade", "os", ["m1", "ZELK"], {}]))
    yield _data("keywords", packed(["workers.jobs.trade", None, ["m1", "ZELK"], {"at": "x"}]))
    yield _data("keywords list", packed(["workers.jobs.trade", None, ["m1", "ZELK"], []]))


def _fields(mark: Path) -> Iterator[Hostile]:
    """A job of ours with something that ours never have."""
    odd: list[dict[str, Any]] = [{f"{kind}_callback_name": HERE} for kind in ("success", "failure", "stopped")]
    odd += [{f"{kind}_callback_name": "os.system"} for kind in ("success", "failure", "stopped")]
    odd += [
        {"timeout": value}
        for value in ("-1", "0", "3601", "9" * 30, "None", "1h", " 60", "60.5", "inf", "\u0663", "", TEXTS[1])
    ]
    odd += [{"result_ttl": value} for value in ("-1", "0", "9" * 11, "x")]
    odd += [{"failure_ttl": "-1"}, {"retries_left": "1000000"}, {"retries_left": "-1"}, {"retry_intervals": "[60]"}]
    odd += [{"repeats_left": "3", "repeat_intervals": "[0]"}, {"repeat_intervals": "[0]"}]
    odd += [{"dependency_ids": '["other"]'}, {"dependency_id": "other"}, {"allow_dependency_failures": "1"}]
    odd += [{"webhooks": json.dumps([{"url": "http://127.0.0.1:9/", "job_status": "failed", "method": "POST"}])}]
    odd += [{"rate_limit_key": "k", "rate_limit_concurrency": "1"}, {"group_id": "g"}, {"meta": '{"a": 1}'}]
    odd += [{"result": '"x"'}, {"ttl": "-1"}, {"enqueue_at_front_on_retry": "1"}, {"unknown_field": str(mark)}]
    odd += [{"origin": value} for value in ("default", "", "../immediate", TEXTS[1])]
    odd += [{"status": "dancing"}, {"created_at": "garbage"}, {"enqueued_at": "2025"}, {"last_heartbeat": "\xff"}]
    odd += [{"description": text} for text in (*TEXTS, "x" * 301)]
    odd += [{"exc_info": b"plain"}, {"data": None}]
    for fields in odd:
        yield Hostile(f"fields {fields!r:.80}", {"data": packed(TRADE), **fields})


def _bombs() -> Iterator[Hostile]:
    """A few kilobytes that unpack to a hundred megabytes."""
    zeros = zlib.compress(b"0" * 100_000_000, 9)
    yield _data("zlib bomb", zeros)
    yield _data("JSON bomb", zlib.compress(b'["workers.jobs.consensus",null,[["' + b"A" * 100_000_000 + b'"]],{}]', 9))
    yield Hostile("traceback bomb", {"data": packed(TRADE), "exc_info": zeros})


def _ids() -> Iterator[Hostile]:
    """Ids that are none, and keys that hold no hash."""
    for job_id in (b"\xff\xfe", b"a:b", b"a b", b"x" * 201, b"a\n", *(text.encode() for text in TEXTS)):
        yield Hostile(f"id {job_id[:30]!r}", {"data": packed(TRADE)}, job_id=job_id)
    for kind in ("string", "list", "set", "zset", "stream"):
        yield Hostile(f"a {kind} instead of a hash", instead=kind)

"""Posts of a recording analyzed before their turn, in order, by processes of their own: its driver waits enough."""

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from typing import Final

from config.settings import Settings
from pipeline.errors import FleetError
from pipeline.ports import AnalyzerManager
from workers.adapters.forked import may_fork
from workers.adapters.posts import parse_post
from workers.wiring import Runtime

CHUNK: Final = 200
CHUNKS_AHEAD: Final = 4  # for each process
FEW: Final = 2_000  # posts that are read sooner than a process is started
MOST: Final = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """A post that the analyzer failed on, and how."""

    words: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """Analyzes lines that were parsed before: each becomes the body of its message, or a failure."""

    settings: Settings
    analyzer: AnalyzerManager

    @contextmanager
    def bodies(self, lines: Sequence[bytes]) -> Iterator[Iterator[bytes | Failure]]:
        """One answer for each line, in their order; with few lines, or on one core, in this process."""
        count = min(MOST, (os.cpu_count() or 1) - 1)
        known = frozenset(self.settings.source.known)
        if count < 1 or len(lines) < FEW:
            yield chain.from_iterable(map(partial(_read, self.analyzer, known), _chunks(lines)))
            return
        pool = ProcessPoolExecutor(count, *_beginning(self))
        try:
            yield _in_order(pool, lines, count * CHUNKS_AHEAD)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, lines: Sequence[bytes], most: int) -> Iterator[bytes | Failure]:
    """So many chunks at most are asked for before their turn: memory is bounded."""
    chunks = _chunks(lines)
    asked: deque[Future[list[bytes | Failure]]] = deque(pool.submit(_bodies, chunk) for chunk in islice(chunks, most))
    while asked:
        try:
            bodies = asked.popleft().result()
            asked.extend(pool.submit(_bodies, chunk) for chunk in islice(chunks, 1))
        except BrokenProcessPool as error:
            raise FleetError("a process that reads the recording ahead has died; run the replay again") from error
        yield from bodies


def _chunks(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (lines[start : start + CHUNK] for start in range(0, len(lines), CHUNK))


# ---- in a process of its own -----------------------------------------------------------------------------

_READING: dict[str, tuple[AnalyzerManager, frozenset[str]]] = {}


def _beginning(ahead: Ahead) -> tuple[BaseContext, Callable[..., None], tuple[object, ...]]:
    """How a process begins: as a copy of this one, analyzer and all, or where that is not safe by building it again."""
    if not may_fork():
        return get_context("spawn"), _begin_anew, (ahead.settings,)
    gc.collect()
    gc.freeze()
    return get_context("fork"), _begin, (ahead,)


def _begin_anew(settings: Settings) -> None:
    """Build the analyzer once."""
    _begin(Ahead(settings, Runtime(settings).analyzer))


def _begin(ahead: Ahead) -> None:
    """Be ready to read; end with the driver, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _READING["here"] = ahead.analyzer, frozenset(ahead.settings.source.known)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _bodies(lines: Sequence[bytes]) -> list[bytes | Failure]:
    return _read(*_READING["here"], lines)


def _read(analyzer: AnalyzerManager, known: frozenset[str], lines: Sequence[bytes]) -> list[bytes | Failure]:
    """The messages as they are kept; where one of them fails, each is read by itself."""
    try:
        posts = [parse_post(line, None, known) for line in lines]
        return [message.model_dump_json().encode() for message in analyzer.analyze_all(posts)]
    except Exception:  # noqa: BLE001  # told below, by the post it is of
        return [_body(analyzer, known, line) for line in lines]


def _body(analyzer: AnalyzerManager, known: frozenset[str], line: bytes) -> bytes | Failure:
    """The message as it is kept."""
    try:
        return analyzer.analyze(parse_post(line, None, known)).model_dump_json().encode()
    except Exception as error:  # noqa: BLE001  # seed: a failing analyzer skips the message
        return Failure(f"{type(error).__name__}: {error}")

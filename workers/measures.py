"""What this process measures of its own work, for `/metrics`. Nothing here asks Redis."""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pipeline.models import Outcome, Stage

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series beside each counter
REGISTRY: Final = CollectorRegistry()
for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

TURNS: Final = Histogram("fleet_turn_seconds", "Turns of a process's loop", ["role"], registry=REGISTRY, buckets=FAST)
DONE: Final = Counter(
    "fleet_done", "Units of work of a process: posts, messages, jobs queued, notices", ["role"], registry=REGISTRY
)
DELAYS: Final = Counter(
    "fleet_turn_delays", "Turns that failed for a passing reason", ["role", "error"], registry=REGISTRY
)
JOBS: Final = Histogram(
    "fleet_job_seconds", "RQ jobs by how they ended", ["queue", "job", "end"], registry=REGISTRY, buckets=FAST
)
STAGES: Final = Histogram("fleet_stage_seconds", "Stages of a decision", ["stage"], registry=REGISTRY, buckets=FAST)
DECIDED: Final = Counter("fleet_decided", "Decisions this worker made, repetitions too", ["outcome"], registry=REGISTRY)

MOST_NOTES: Final = 2_000  # of one job; a process that nobody asks keeps no more
_notes: deque[tuple[str, dict[str, float]]] = deque(maxlen=MOST_NOTES)


def note_decision(outcome: Outcome, stage_ms: Mapping[Stage, float]) -> None:
    """Remember a decision of the running job, until `notes` takes it to where it is counted."""
    _notes.append((str(outcome), {str(stage): ms / 1000 for stage, ms in stage_ms.items()}))


def notes() -> bytes:
    """What was remembered since the last time, as JSON; empty when there was nothing."""
    if not _notes:
        return b""
    found = list(_notes)
    _notes.clear()
    return orjson.dumps(found)


def count(told: bytes) -> None:
    """Count what a work-horse noted. It ran strangers' text: what is no measurement is left out."""
    with suppress(ValueError, TypeError, AttributeError):
        for outcome, seconds in orjson.loads(told):
            DECIDED.labels(Outcome(outcome)).inc()
            for stage, value in seconds.items():
                if isinstance(value, float) and 0 <= value < float("inf"):
                    STAGES.labels(Stage(stage)).observe(value)

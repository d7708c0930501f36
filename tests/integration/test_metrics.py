"""What a process says of itself and the watcher of the fleet; what is on a dashboard is really said."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from config.settings import load_settings
from config.watch import MetricsSettings
from pipeline.models import Outcome, Stage
from tests import warm
from tests.conftest import free_port
from tests.trunk import a_vote
from workers.adapters.metrics_http import serve
from workers.adapters.wire_votes import vote_json
from workers.alarm_codes import CODES
from workers.exporter import FleetCollector
from workers.fleet import everything, numbered
from workers.liveness import Liveness
from workers.measures import DECIDED, REGISTRY, STAGES, count, note_decision, notes
from workers.standing import Lag, QueueStanding, Standing, WorkerStanding
from workers.supervisor import ChildSpec
from workers.wiring import Runtime

ROOT = Path(__file__).parents[2]
SHOWN = [ROOT / "docker" / "prometheus" / "alerts.yml", ROOT / "docker" / "grafana" / "fleet.json"]
NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
FULL = Standing(
    at=NOW,
    state_by="eve",
    stream=Lag(3, 4.5),
    message_age_s=1.0,
    compared_age_s=12.0,
    queues={"immediate": QueueStanding(Lag(2, 1.5), {"queued": 2, "finished": 5})},
    workers=(WorkerStanding("work-immediate-h-1", "immediate", "busy", 5, 1, 2.5, 0.1),),
    processes={"route": (0.5, 3.0)},
    tally={
        "accepted": 9,
        "legs": 8,
        "orders": 1,
        "leg:executed": 1,
        "decision:vetoed": 2,
        "rule:vetoed:rsi_overbought": 2,
        "rule:error:Odd:Name": 1,
        "refused:not_json": 3,
        "dead:three_strikes": 1,
    },
    open_alarms=("queue_lag:immediate", "queue_lag:consensus", "halted"),
    limits={"session_loss": 0.25},
    equity_usd=99_000.0,
)


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample as Prometheus would read it."""
    text = generate_latest(registry).decode()
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def fleet_registry(standing: Standing | None) -> CollectorRegistry:
    """What a watcher exports."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(lambda: standing, lambda: 2))
    return registry


def test_the_fleet_is_told_in_numbers_worked_by_hand() -> None:
    """Counters end in _total; a rule may have colons of its own."""
    found = samples(fleet_registry(FULL))

    assert found["fleet_stream_lag_messages", ()] == 3
    assert found["fleet_stream_lag_seconds", ()] == 4.5
    assert found["fleet_messages_accepted_total", ()] == 9
    assert found["fleet_leg_outcomes_total", (("outcome", "executed"),)] == 1
    assert found["fleet_rule_outcomes_total", (("outcome", "vetoed"), ("rule", "rsi_overbought"))] == 2
    assert found["fleet_rule_outcomes_total", (("outcome", "error"), ("rule", "Odd:Name"))] == 1
    assert found["fleet_alarm_open", (("code", "queue_lag"),)] == 2
    assert found["fleet_alarm_open", (("code", "stream_lag"),)] == 0
    assert found["fleet_trading_state", (("state", "ACTIVE"),)] == 1
    assert found["fleet_heartbeat_age_seconds", (("role", "route"),)] == 0.5
    assert found["fleet_limit_used_ratio", (("limit", "session_loss"),)] == 0.25
    assert found["fleet_watch_turn_timestamp_seconds", ()] == NOW.timestamp()
    assert found["fleet_watch_failures", ()] == 2


def test_rq_is_told_by_the_names_of_rq_exporter() -> None:
    """So that dashboards made for it work."""
    found = samples(fleet_registry(FULL))

    assert found["rq_jobs", (("queue", "immediate"), ("status", "queued"))] == 2
    worker = (("name", "work-immediate-h-1"), ("queues", "immediate"))
    assert found["rq_workers", (*worker, ("state", "busy"))] == 1
    assert found["rq_job_successful_total", worker] == 5
    assert found["rq_job_failed_total", worker] == 1
    assert found["rq_working_seconds_total", worker] == 2.5


def test_before_the_first_look_nothing_is_told_of_the_fleet() -> None:
    """An old or empty number would be taken for a true one."""
    assert {name for name, _ in samples(fleet_registry(None))} == {"fleet_watch_failures"}


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_every_metric_that_is_shown_or_alerted_on_is_exported(page: Path) -> None:
    """By the watcher or by a process; and every label that is asked for."""
    exported = samples(fleet_registry(FULL)).keys() | samples(REGISTRY).keys()
    families = {family.name for family in REGISTRY.collect()}
    known = {name for name, _ in exported} | {
        family + end for family in families for end in ("_bucket", "_count", "_sum", "_total")
    }
    asked = set(re.findall(r"\b(?:fleet|rq)_[a-z_]+", re.sub(r'"[^"]*"', "", "\n".join(expressions(page)))))

    assert asked
    assert asked - known == set()


def expressions(page: Path) -> list[str]:
    """PromQL of an alert file or a dashboard."""
    if page.suffix == ".json":
        panels = json.loads(page.read_text("utf-8"))["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    groups = yaml.safe_load(page.read_text("utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_alarm_has_an_alert() -> None:
    """Those of Redis being away apart: the watcher's own age says that."""
    listed = re.findall(r'code=~"([a-z_|]+)"', "\n".join(expressions(SHOWN[0])))

    assert {code for codes in listed for code in codes.split("|")} == set(CODES) - {"redis_down"}


def until(holds: Callable[[], object]) -> None:
    """Wait for it; processes are slow to start on a busy machine."""
    warm.until(holds, 240)


# ---- one process -----------------------------------------------------------------------------------------


def get(port: int, path: str, seconds: float = 30) -> tuple[int, bytes]:
    """Status and body."""
    conversation = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        conversation.request("GET", path)
        answer = conversation.getresponse()
        return answer.status, answer.read()
    finally:
        conversation.close()


def test_a_loop_that_does_not_turn_is_not_healthy() -> None:
    """At 59.9 s it is, at 60 s it is not; a turn that fails for Redis is a turn."""
    clock, port = [0.0], free_port()
    liveness = Liveness(60, lambda: clock[0])
    serve(MetricsSettings(port=port), CollectorRegistry(), liveness)
    clock[0] = 59.9
    assert get(port, "/healthz")[0] == 200
    clock[0] = 60.0
    assert get(port, "/healthz")[0] == 503
    liveness.mark("ConnectionError")

    status, body = get(port, "/healthz")
    assert (status, json.loads(body)) == (200, {"alive": True, "turned_s_ago": 0.0, "failing": "ConnectionError"})
    assert get(port, "/metrics")[0] == 200
    assert get(port, "/")[0] == 404


def test_a_port_that_is_taken_keeps_nobody_from_working() -> None:
    """It is told in the log; the first process still answers."""
    port = free_port()
    for _ in range(2):
        serve(MetricsSettings(port=port), CollectorRegistry(), Liveness())

    assert get(port, "/healthz")[0] == 200


def test_children_of_one_command_have_ports_of_their_own() -> None:
    """The watcher the first, others after it; none has one unless a port is set."""
    settings = load_settings(environ={"FLEET_METRICS__PORT": "9400"})
    ports = [(child.name, child.env["FLEET_METRICS__PORT"]) for child in everything(settings)]

    assert ports[:3] == [("watch", "9400"), ("route", "9401"), ("schedule", "9402")]
    assert len({port for _, port in ports}) == len(ports)
    assert [child.env for child in numbered([ChildSpec("a", ("a",))], None)] == [{}]


def a_process(url: str, port: int, *words: str, **more: str) -> "subprocess.Popen[bytes]":
    """A process of the fleet with a page."""
    variables = {"FLEET_REDIS_URL": url, "FLEET_METRICS__PORT": str(port), "FLEET_METRICS__STUCK_S": "5"}
    demo = {"FLEET_MARKET__BARS_DIR": str(ROOT / "config" / "demo" / "bars"), "FLEET_PROFILE": "paper"}
    short = {"FLEET_MARKET__CALENDAR_START": "2025-01-02"}  # a long calendar takes seconds to build
    command = [sys.executable, "-m", "workers.cli", *words]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ | demo | short | variables | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def a_hook() -> Iterator[tuple[str, list[Any]]]:
    """The address of a webhook and what it heard."""
    heard: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        Thread(target=hook.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{hook.server_port}/T0K3N", heard
        hook.shutdown()


def healthy(port: int, seconds: float = 30) -> bool:
    """Whether the page says so; whoever does not answer is not."""
    try:
        return get(port, "/healthz", seconds)[0] == 200
    except OSError:
        return False


def test_a_process_whose_turn_hangs_fails_its_health(redis_client: redis.Redis, server_url: str) -> None:
    """A server that answers nobody: the turn hangs in its call, and the page says 503."""
    port = free_port()
    process = a_process(server_url, port, "schedule")
    server: Any = redis_client
    pid = int(server.info("server")["process_id"])
    try:
        until(lambda: healthy(port))
        os.kill(pid, signal.SIGSTOP)
        until(lambda: get(port, "/healthz")[0] == 503)
    finally:
        os.kill(pid, signal.SIGCONT)
        process.terminate()
        process.wait(60)


def test_the_watcher_tells_an_address_and_serves_the_fleet(redis_client: redis.Redis, server_url: str) -> None:
    """The whole process: here a server without a file of its own is an alarm at once."""
    port = free_port()
    with a_hook() as (address, heard):
        told = {"FLEET_WATCH__URL": address, "FLEET_WATCH__INTERVAL_S": "0.5"}
        process = a_process(server_url, port, "watch", **told)
        try:
            until(lambda: heard and b'fleet_processes{role="watch"}' in get(port, "/metrics")[1])
            page = get(port, "/metrics")[1].decode()
        finally:
            process.terminate()
            process.wait(60)

    assert [(alarm["code"], alarm["subject"]) for alarm in heard[0]["alarms"]] == [("redis_unsafe", "append_only")]
    assert 'fleet_alarm_open{code="redis_unsafe"} 1.0' in page


def test_a_process_that_waits_for_redis_is_healthy_and_the_watcher_tells_it() -> None:
    """Restarting it would bring no server back; that there is none is told, also by a watcher that never saw one."""
    ports = free_port(), free_port()
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with a_hook() as (address, heard):
        told = {"FLEET_WATCH__URL": address, "FLEET_WATCH__INTERVAL_S": "0.5", "FLEET_WATCH__REDIS_S": "1"}
        processes = [a_process(nowhere, ports[0], "route"), a_process(nowhere, ports[1], "watch", **told)]
        try:
            until(lambda: heard)
            assert [healthy(port) for port in ports] == [True, True]
            assert json.loads(get(ports[0], "/healthz")[1])["failing"] == "RedisAwayError"
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)

    assert [alarm["code"] for alarm in heard[0]["alarms"]] == ["redis_down"]


# ---- stages ----------------------------------------------------------------------------------------------


def test_stages_are_measured_in_the_work_horse_and_counted_by_its_worker() -> None:
    """What was noted once is counted once; what is no measurement is left out."""
    before = [seen(STAGES, stage="risk"), seen(DECIDED, outcome="executed")]
    notes()
    note_decision(Outcome.EXECUTED, {Stage.RISK: 2.0, Stage.GATE: 1.0})
    note_decision(Outcome.NO_CONSENSUS, {})
    told = notes()
    count(told)
    assert notes() == b""
    for hostile in (
        b"",
        b"x",
        b"[[1]]",
        b'[["executed",{"risk":"1"}]]',
        b'[["nonsense",{}]]',
        b'[["vetoed",{"x":1.0}]]',
    ):
        count(hostile)

    assert [seen(STAGES, stage="risk") - before[0], seen(DECIDED, outcome="executed") - before[1]] == [1, 2]


def seen(metric: Any, **labels: str) -> float:
    """How often it was counted."""
    child = metric.labels(**labels)
    values = [one.value for one in child._child_samples() if one.name in {"_count", "_total"}]
    return float(values[0])


def test_a_worker_s_page_has_the_stages_of_its_horses(redis_client: redis.Redis, server_url: str) -> None:
    """A claim decided by a real warm worker shows on its own page, with the job's time; stopped it has no page."""
    port = free_port()
    fleet = Runtime(load_settings(environ={"FLEET_REDIS_URL": server_url}))
    redis_client.rpush("fleet:claim:OLVN-1", *[vote_json(a_vote(n, at=fleet.clock.now())) for n in (1, 2)])
    process = a_process(server_url, port, "work", "consensus")
    try:
        until(lambda: healthy(port))
        process.send_signal(signal.SIGSTOP)
        assert not healthy(port, 1)
        process.send_signal(signal.SIGCONT)
        until(lambda: healthy(port))
        fleet.queues.enqueue("consensus", "consensus", "c-1", (["OLVN-1"],), "one claim")
        until(
            lambda: (
                b'fleet_job_seconds_count{end="done",job="consensus",queue="consensus"} 1.0' in get(port, "/metrics")[1]
            )
        )
        page = get(port, "/metrics")[1].decode()
    finally:
        process.terminate()
        process.wait(60)

    assert re.search(r'fleet_decided_total\{outcome="[a-z_]+"\} 1.0', page), page
    assert 'fleet_stage_seconds_count{stage="validator"} 1.0' in page

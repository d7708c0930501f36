"""The composition's services as processes: their own words, variables, accounts and healthchecks, on a real server.

They reach it over TLS, as they would on several hosts.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from config.settings import load_settings
from pipeline.models import Outcome
from tests.accounts import ROOT, Container, Guarded, composition, environment, guarded_server, start, until
from tests.conftest import free_port
from tests.delivery import a_message, routed
from tests.tls import CA, tls_door
from workers.accounts import Server, write_accounts
from workers.adapters.rq_factory import IMMEDIATE
from workers.wiring import Runtime

pytestmark = pytest.mark.timeout(1_200)  # eight processes on a machine that may be very busy
PROCESSES: Final = (
    "collector",
    "router",
    "scheduler",
    "worker-immediate",
    "worker-consensus",
    "worker-maintenance",
    "watcher",
    "dashboard",
)
STUCK: Final = PROCESSES[:-1]  # the dashboard answers its healthcheck itself
#: An hour of the demo a minute, over and over: its orders come every few seconds; and a watcher that looks each second.
HASTE: Final = {
    "FLEET_PLAYBACK__FIRST": "2025-09-17T13:45:00Z",
    "FLEET_PLAYBACK__LAST": "2025-09-17T14:45:00Z",
    "FLEET_PLAYBACK__SPEED": "60",
    "FLEET_WATCH__INTERVAL_S": "1",
}


class Composition:
    """The server and its services, each begun once; `again` begins another of one."""

    def __init__(self, folder: Path, server: Guarded, tls_port: int) -> None:
        self.server = server
        self._door = Guarded(tls_port, folder / "secrets-tls")
        shutil.copytree(server.secrets, self._door.secrets)
        write_accounts(self._door.secrets, Server("127.0.0.1", tls_port, tls=True))
        self._folder = folder
        self._services = composition()["services"]
        for service in self._services.values():
            service.setdefault("environment", {}).update(HASTE | {"FLEET_REDIS__TLS_CA": str(CA)})
        self._services["dashboard"]["environment"] |= {
            "FLEET_DASHBOARD__HOST": "127.0.0.1",
            "FLEET_DASHBOARD__PORT": str(free_port()),
        }
        self.containers: list[Container] = []

    def again(self, name: str, *words: str) -> Container:
        """Another container of the service, with more words behind its command."""
        folder, service = self._folder / f"{name}-{len(self.containers)}", self._services[name]
        more = {**service, "command": [*service["command"], *words]}
        self.containers.append(start(name, more, folder, self._door))
        return self.containers[-1]

    def runtime(self, service: str) -> Runtime:
        """The service's fleet in this process, under the account that may do anything."""
        environ = environment(self._services[service], self._folder / "admin", self._door)
        return Runtime(load_settings(environ=environ | {"FLEET_REDIS_URL": self._door.url("admin")}))

    def one(self, name: str) -> Container:
        """The first that still runs."""
        return next(one for one in self.containers if one.name == name and one.process.poll() is None)

    def fleet(self, service: str, *words: str) -> str:
        """`docker compose run --rm SERVICE WORDS`; what it prints."""
        environ = environment(self._services[service], self._folder / service, self._door)
        command = [sys.executable, "-m", "workers.cli", *words]
        done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{service} {words}: {done.stderr}"
        return done.stdout

    def workers(self, queue: str) -> int:
        """RQ's workers on the queue."""
        with self.server.client("operator") as looker:
            return len(list(looker.smembers(f"rq:workers:{queue}")))

    def words(self) -> str:
        """The end of every log."""
        return "\n".join(f"{one.name}: {one.said()[-600:]}" for one in self.containers)

    def tally(self, field: str) -> int:
        """One of the fleet's counters."""
        with self.server.client("operator") as looker:
            return int(str(looker.hget("fleet:tally", field) or 0))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Everything that `docker compose up --wait` waits for, healthy."""
    folder = tmp_path_factory.mktemp("composition")
    options = ("--appendonly", "yes", "--maxmemory", "64mb")
    with guarded_server(folder, *options) as server, tls_door(server.port) as port:
        found = Composition(folder, server, port)
        try:
            for name in PROCESSES:
                found.again(name)
            for one in found.containers:
                until(one.healthy, why=found.words)
            yield found
        finally:
            for one in found.containers:
                one.process.kill()
                one.process.wait()


def age(container: Container) -> None:
    """Make its last sign of life half a minute older."""
    role = container.service["healthcheck"]["test"][-1]
    pulse = container.folder / "data" / "pulse" / role
    past = time.time() - 30  # noqa: TID251
    os.utime(pulse, (past, past))


def test_out_of_the_box_posts_become_orders_on_paper(up: Composition) -> None:
    """The demo plays by itself, at any hour of any day; every process runs under the account of its role."""
    until(lambda: up.tally("leg:executed"), 600, up.words)

    found = up.fleet("operator", "status", "--json")
    assert '"state": "running"' in found
    assert '"trading_state": "ACTIVE"' in found


@pytest.mark.parametrize("name", STUCK)
def test_a_healthcheck_fails_once_its_process_is_stuck(up: Composition, name: str) -> None:
    """Stopped: nobody renews the sign of life. Continued: it is renewed."""
    container = up.one(name)
    container.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, container.process.pid, os.WSTOPPED | os.WNOWAIT)
    age(container)
    assert not container.healthy()
    assert not container.healthy()
    container.process.send_signal(signal.SIGCONT)

    until(container.healthy, why=up.words)
    age(container)
    until(container.healthy, why=up.words)


def test_a_process_may_be_scaled_and_killed(up: Composition) -> None:
    """`--scale worker-immediate=2`, one of them with two processes; `docker kill` of one, and it comes back."""
    second = up.again("worker-immediate", "-n", "2")
    until(second.healthy, why=up.words)
    until(lambda: up.workers("immediate") >= 3, why=up.words)
    for name in ("collector", "worker-immediate"):
        up.one(name).process.kill()
        until(up.again(name).healthy, why=up.words)
    legs = up.tally("legs")

    until(lambda: up.tally("legs") > legs, why=up.words)


def test_people_look_and_act_under_accounts_of_their_own(up: Composition) -> None:
    """`docker compose run --rm operator ...` and `control ...`."""
    assert "fleet:" in up.fleet("operator", "inspect", "keys", "--limit", "5")
    assert "HALTED" in up.fleet("control", "halt", "--why", "drill")
    up.fleet("control", "flatten", "--why", "drill")

    assert "ACTIVE" in up.fleet("control", "resume", "--why", "drill")


def test_what_died_three_times_is_queued_again_by_who_may_act(up: Composition) -> None:
    """A body that nobody can read is mended: `fleet dead` shows the leg, `fleet requeue` brings it to its end."""
    fleet, post = up.runtime("worker-immediate"), a_message("mended", symbols=("ZELK",), confidence=0.95)
    leg, body = "mended:ZELK", fleet.keys.message("mended")
    fleet.client.set(body, "{}", ex=1000)
    fleet.backlog.accept([routed(post)])
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-mended-ZELK", ("mended", "ZELK"), f"urgent {leg}")
    until(lambda: fleet.journal.outcome(leg) is Outcome.ERROR, why=up.words)
    fleet.client.set(body, post.model_dump_json(), ex=1000)
    assert f"fleet requeue {leg}" in up.fleet("operator", "dead", "--limit", "100")

    assert "attempt 2" in up.fleet("control", "requeue", leg, "--why", "mended")
    until(lambda: fleet.journal.outcome(leg) not in (Outcome.ERROR, None), why=up.words)


def test_nobody_was_refused_anything(up: Composition) -> None:
    """An account that lacks a permission shows here, however quietly the process bore it."""
    assert up.server.denials() == []


def test_everybody_ends_in_good_order(up: Composition) -> None:
    """SIGTERM, as `docker compose down` sends it: exit code 0 within the grace."""
    alive = [one for one in up.containers if one.process.poll() is None]
    for one in alive:
        one.process.terminate()

    assert {one.name: one.process.wait(300) for one in alive} == dict.fromkeys((one.name for one in alive), 0)
    assert len(alive) >= len(PROCESSES)

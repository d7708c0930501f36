"""The embedded server against the traps of embedded servers: persistence, locks, orphans, strangers on the port."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from workers.adapters.embedded import DataDirInUseError, EmbeddedServer, EmbeddedServerError, find
from workers.adapters.lifeline import Watchdog

HOLD = "import sys, pathlib; from workers.adapters.embedded import EmbeddedServer\n"
HOLD += "print(EmbeddedServer(pathlib.Path(sys.argv[1])).start(), flush=True); sys.stdin.read()"


def client_of(url: str) -> redis.Redis:
    """A client of that server."""
    return redis.Redis.from_url(url, decode_responses=True)


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether the condition came true in time: for facts about other processes, which no fake clock moves."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that nobody reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_server_answers_once_started(tmp_path: Path) -> None:
    """`start` returns an address on loopback where PING is answered."""
    with EmbeddedServer(tmp_path) as server:
        assert server.url.startswith("redis://127.0.0.1:")
        assert client_of(server.url).ping()


def test_the_server_never_evicts_and_writes_an_append_only_file(tmp_path: Path) -> None:
    """The binary's defaults persist nothing; ours are the production server's."""
    with EmbeddedServer(tmp_path) as server:
        config = client_of(server.url).config_get("append*", "maxmemory-policy", "bind", "save")

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"
    assert config["save"] == ""


def test_data_survives_a_stop(tmp_path: Path) -> None:
    """What was written before SHUTDOWN is there after the next start."""
    with EmbeddedServer(tmp_path) as server:
        client_of(server.url).set("fleet:state", "kept")
    with EmbeddedServer(tmp_path) as server:
        assert client_of(server.url).get("fleet:state") == "kept"


def test_a_killed_server_is_revived_at_the_same_address_with_its_data(tmp_path: Path) -> None:
    """After kill -9 of the server the fleet's clients find it again where it was."""
    with EmbeddedServer(tmp_path) as server:
        url, pid = server.url, server.pid
        client_of(url).set("fleet:state", "kept")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: server.pid is None)

        assert server.revive()

        assert server.url == url
        assert client_of(url).get("fleet:state") == "kept"
        assert find(tmp_path) == url


def test_a_living_server_needs_no_revival(tmp_path: Path) -> None:
    """`revive` may be asked at every turn."""
    with EmbeddedServer(tmp_path) as server:
        assert not server.revive()


def test_a_second_start_on_the_same_folder_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    """Two servers on one append-only file would destroy it."""
    with EmbeddedServer(tmp_path), pytest.raises(DataDirInUseError, match=f"process {os.getpid()}.*FLEET_DATA_DIR"):
        EmbeddedServer(tmp_path).start()


def test_a_refused_start_leaves_the_running_server_findable(tmp_path: Path) -> None:
    """The loser must not remove the winner's card."""
    with EmbeddedServer(tmp_path) as server:
        with pytest.raises(DataDirInUseError):
            EmbeddedServer(tmp_path).start()

        assert find(tmp_path) == server.url


def test_a_stale_lock_file_is_harmless(tmp_path: Path) -> None:
    """A lock is held by a living process, not by a file that is there."""
    (tmp_path / "lock").write_text("4194304\n")

    with EmbeddedServer(tmp_path) as server:
        assert client_of(server.url).ping()


def test_a_start_that_fails_frees_the_folder_and_says_what_the_server_said(tmp_path: Path) -> None:
    """A damaged file is reported with the end of the server's own log."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(EmbeddedServerError, match=r"server\.log ends: .*manifest"):
        EmbeddedServer(tmp_path).start()

    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").unlink()
    with EmbeddedServer(tmp_path) as server:
        assert client_of(server.url).ping()


def test_others_find_the_server_by_its_folder(tmp_path: Path) -> None:
    """`fleet status` in another shell needs no address."""
    with EmbeddedServer(tmp_path) as server:
        assert find(tmp_path) == server.url
        assert (tmp_path / "server.json").stat().st_mode & 0o077 == 0
    assert find(tmp_path) is None


@pytest.mark.parametrize("card", ["", "{", "[]", '{"url": 5}', '{"url": "redis://127.0.0.1:1/0"}'])
def test_a_damaged_card_finds_nothing(tmp_path: Path, card: str) -> None:
    """A half-written or foreign server.json is no server."""
    (tmp_path / "server.json").write_text(card)

    assert find(tmp_path) is None


def test_a_stranger_on_the_port_is_not_taken_for_our_server(tmp_path: Path) -> None:
    """After a crash the card stays and its port may be somebody else's: the run id must match."""
    with EmbeddedServer(tmp_path / "theirs") as theirs:
        card = {"url": theirs.url, "process_id": theirs.pid, "run_id": "0" * 40}
        (tmp_path / "server.json").write_text(json.dumps(card))

        assert find(tmp_path) is None


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has started the server of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"redis://")
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_its_parent_and_the_folder_is_free(
    tmp_path: Path, holder: "subprocess.Popen[bytes]", number: signal.Signals
) -> None:
    """A killed parent leaves no orphan behind, and nothing that was written is lost."""
    url = find(tmp_path)
    assert url is not None
    client_of(url).set("fleet:state", "kept")
    server = json.loads((tmp_path / "server.json").read_text())["process_id"]

    holder.send_signal(number)
    holder.wait()

    assert eventually(lambda: is_gone(server))
    with EmbeddedServer(tmp_path) as again:
        assert client_of(again.url).get("fleet:state") == "kept"


def test_the_watchdog_ends_the_child_of_a_parent_that_is_gone() -> None:
    """Where the kernel does not do it: the parent's end of the pipe closes, the child gets SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    watchdog = Watchdog(child.pid)
    assert watchdog._process.stdin is not None
    watchdog._process.stdin.close()

    assert child.wait(timeout=120) == -signal.SIGTERM
    watchdog._process.wait()
    child.communicate()


def test_a_dismissed_watchdog_ends_nobody() -> None:
    """After an orderly end its process id may be a stranger's."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    Watchdog(child.pid).dismiss()

    assert child.poll() is None
    child.communicate()
    assert child.returncode == 0

"""Redis accounts: what each role can, what it cannot, and how their passwords are made."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from pipeline.errors import SettingsError
from tests.accounts import Guarded, guarded_server
from workers.accounts import ROLES, Server, render, write_accounts

PROCESSES = ("collector", "router", "scheduler", "worker", "watcher")
READERS = ("dashboard", "operator")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One server with the shipped accounts."""
    with guarded_server(tmp_path_factory.mktemp("guarded")) as found:
        yield found


def may(server: Guarded, role: str, *words: str) -> bool:
    """Whether the account may run the command; DRYRUN runs nothing."""
    with server.client("admin") as admin:
        return bool(admin.execute_command("ACL", "DRYRUN", role, *words) == "OK")


# ---- what each can ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("collector", "XADD fleet:analyzed * id m"),
        ("collector", "HSET fleet:source:posts offset 1"),
        ("router", "XREADGROUP GROUP routers r STREAMS fleet:analyzed >"),
        ("router", "RPUSH fleet:batch:AAPL {}"),
        ("router", "RPUSH rq:queue:immediate job"),
        ("scheduler", "SET fleet:state {}"),
        ("scheduler", "RPUSH rq:queue:consensus job"),
        ("worker", "BLMOVE rq:queue:immediate rq:queue:immediate:intermediate LEFT RIGHT 1"),
        ("worker", "INFO server"),
        ("worker", "SUBSCRIBE rq:pubsub:work-immediate-h-1"),
        ("worker", "HSET fleet:intent:o state SENT"),
        ("watcher", "XADD fleet:alarms * code halt"),
        ("watcher", "XINFO STREAM fleet:analyzed"),
        ("dashboard", "HGETALL fleet:positions"),
        ("dashboard", "HGETALL rq:job:j"),
        ("operator", "SCAN 0 MATCH fleet:*"),
        ("operator", "MEMORY USAGE fleet:tally"),
        ("control", "HSET fleet:control trading_state HALTED"),
        ("control", "HSET fleet:deny:symbol AAPL {}"),
        ("health", "PING"),
        ("admin", "CONFIG GET maxmemory"),
    ],
)
def test_an_account_can_do_its_work(server: Guarded, role: str, command: str) -> None:
    """What the role lives on; whole processes run under them in test_composition."""
    assert may(server, role, *command.split())


# ---- what each cannot ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("collector", "GET fleet:account"),
        ("collector", "RPUSH fleet:batch:AAPL {}"),
        ("collector", "RPUSH rq:queue:immediate job"),
        ("collector", "HSET fleet:intent:o state SENT"),
        ("router", "SET fleet:message:m {}"),
        ("router", "HGETALL fleet:positions"),
        ("router", "HSET fleet:intent:o state SENT"),
        ("router", "HGETALL rq:worker:w"),
        ("scheduler", "HSET fleet:intent:o state SENT"),
        ("scheduler", "HSET fleet:positions AAPL {}"),
        ("scheduler", "RPUSH fleet:batch:AAPL {}"),
        ("worker", "SET fleet:message:m {}"),
        ("worker", "SET fleet:environment {}"),
        ("worker", "HGETALL fleet:source:posts"),
        ("watcher", "HSET fleet:control trading_state ACTIVE"),
        ("watcher", "HSET fleet:positions AAPL {}"),
        ("watcher", "HSET rq:job:j data x"),
        ("health", "GET fleet:state"),
        ("health", "INFO"),
    ],
)
def test_an_account_cannot_do_anothers_work(server: Guarded, role: str, command: str) -> None:
    """A process that was taken over reaches no further than its role."""
    assert not may(server, role, *command.split())


@pytest.mark.parametrize("role", PROCESSES)
def test_no_process_changes_a_deny_list_and_only_the_scheduler_the_fleets_state(server: Guarded, role: str) -> None:
    """Both are a person's."""
    assert not may(server, role, "HSET", "fleet:deny:symbol", "AAPL", "{}")
    assert not may(server, role, "HDEL", "fleet:deny:symbol", "AAPL")
    assert may(server, role, "SET", "fleet:state", "{}") == (role == "scheduler")


@pytest.mark.parametrize("role", [*PROCESSES, *READERS, "control", "health"])
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "CONFIG GET requirepass",
        "CONFIG SET maxmemory 1",
        "SHUTDOWN",
        "DEBUG SLEEP 1",
        "ACL SETUSER worker +@all",
        "ACL LIST",
        "REPLICAOF h 1",
        "MONITOR",
        "CLIENT KILL ID 1",
        "SCRIPT FLUSH",
        "FUNCTION LOAD x",
        "MODULE LOAD /x",
        "BGREWRITEAOF",
        "SWAPDB 0 1",
        "GET somebody:elses:key",
        "SET somebody:elses:key 1",
    ],
)
def test_no_account_of_the_fleet_reaches_the_server_or_strangers_keys(server: Guarded, role: str, command: str) -> None:
    """Only `admin`, which no process has, may."""
    assert not may(server, role, *command.split())


@pytest.mark.parametrize("role", READERS)
def test_who_looks_writes_nothing_at_all(server: Guarded, role: str) -> None:
    """Neither by a command, nor through a script, which is judged by what it calls."""
    with server.client("admin") as admin, server.client(role) as looker:
        admin.set("fleet:state", "kept")
        assert looker.eval("return redis.call('GET', KEYS[1])", 1, "fleet:state") == "kept"
        for script in ("redis.call('SET', KEYS[1], 'x')", "redis.call('DEL', KEYS[1])"):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|acl"):
                looker.eval(f"return {script}", 1, "fleet:state")
        writes = ("SET fleet:state x", "DEL fleet:state", "HSET fleet:control a b", "LPUSH rq:queue:immediate j")
        assert [command for command in writes if may(server, role, *command.split())] == []

        assert admin.get("fleet:state") == "kept"


def test_a_script_of_the_router_stops_no_fleet(server: Guarded) -> None:
    """EVALSHA must name its keys as written; what it calls is still judged one by one."""
    with server.client("router") as router:
        assert router.eval("return redis.call('GET', KEYS[1])", 1, "fleet:state") is not False
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|acl"):
            router.eval("return redis.call('SET', KEYS[1], 'x')", 1, "fleet:state")


def test_nobody_comes_in_without_an_account(server: Guarded) -> None:
    """The default user is off."""
    with redis.Redis(port=server.port) as stranger, pytest.raises((AuthenticationError, NoPermissionError)):
        stranger.get("fleet:state")
    with redis.Redis.from_url(server.url("worker")) as known:
        assert known.ping()
    liar = redis.Redis.from_url(server.url("worker").replace("@", "x@"))
    with liar, pytest.raises(AuthenticationError):
        liar.ping()


# ---- how they are made -----------------------------------------------------------------------------------------


def test_every_role_has_a_password_of_its_own_that_only_its_hash_tells(tmp_path: Path) -> None:
    """The ACL file is no secret that opens anything."""
    write_accounts(tmp_path, Server())
    urls = [(tmp_path / role / "fleet_redis_url").read_text().strip() for role in ROLES]
    passwords = [
        re.fullmatch(rf"redis://{role}:([\w-]{{43}})@redis:6379/0", url) for role, url in zip(ROLES, urls, strict=True)
    ]
    acl = (tmp_path / "redis" / "users.acl").read_text()

    assert len({found[1] for found in passwords if found}) == len(ROLES)
    assert all(found and found[1] not in acl for found in passwords)
    assert {line.split()[0] for line in acl.splitlines()} == {"user"}
    assert "user default off" in acl.splitlines()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """It runs at every start of the composition."""
    made = write_accounts(tmp_path, Server())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert write_accounts(tmp_path, Server()) == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(made) == len(ROLES) + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in before} == {0o444}


def test_a_new_password_leaves_the_old_one_valid_until_the_next_run(tmp_path: Path) -> None:
    """So that processes are given the new one, one by one, without an outage."""
    with guarded_server(tmp_path) as server:
        made_at = Server("127.0.0.1", server.port)
        old = server.url("router")

        def lets_in(url: str) -> bool:
            with server.client("admin") as admin, redis.Redis.from_url(url) as client:
                admin.execute_command("ACL", "LOAD")
                try:
                    return bool(client.ping())
                except AuthenticationError:
                    return False

        assert write_accounts(server.secrets, made_at, rotate=["router"]) == ["router/fleet_redis_url"]
        new = server.url("router")
        assert new != old
        assert [lets_in(old), lets_in(new)] == [True, True]
        write_accounts(server.secrets, made_at)

        assert [lets_in(old), lets_in(new)] == [False, True]


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    """Nothing is written for it."""
    with pytest.raises(SettingsError, match="--rotate is 'routers'; valid: collector, router"):
        write_accounts(tmp_path, Server(), rotate=["routers"])

    assert list(tmp_path.iterdir()) == []


def test_another_prefix_has_accounts_of_its_own_keys() -> None:
    """Two fleets on one server do not meet."""
    acl = render("other", "other:rq", dict.fromkeys(ROLES, "#0"))

    assert "~other:analyzed" in acl
    assert "~other:rq:job:*" in acl
    assert "fleet:" not in acl

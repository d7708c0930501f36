"""docker-compose.yml: every process, durable Redis, nothing open to the world; commands that exist."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config.settings import Settings, load_settings
from workers.adapters.rq_factory import QUEUES

ROOT: Final = Path(__file__).parents[2]
PROCESSES: Final = {
    "collector": ["collect"],
    "router": ["route"],
    "scheduler": ["schedule"],
    "worker-immediate": ["work", "immediate"],
    "worker-consensus": ["work", "consensus"],
    "worker-maintenance": ["work", "maintenance"],
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, merge keys resolved."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_every_process_of_the_fleet_is_a_service(compose: dict[str, Any]) -> None:
    """One queue per worker: two would lose jobs."""
    commands = {name: service["command"] for name, service in compose["services"].items() if name in PROCESSES}

    assert commands == PROCESSES
    assert set(compose["services"]) == {*PROCESSES, "redis", "dashboard"}
    assert {command[1] for command in commands.values() if command[0] == "work"} == set(QUEUES)


@pytest.mark.parametrize("name", PROCESSES)
def test_commands_are_verbs_of_the_command_line(name: str) -> None:
    """A renamed verb must not be found out in production."""
    verbs = re.findall(r"@app\.command\(\)\ndef (\w+)\(", (ROOT / "workers" / "verbs" / "processes.py").read_text())

    assert PROCESSES[name][0] in verbs


def test_redis_keeps_everything_and_evicts_nothing(compose: dict[str, Any]) -> None:
    """Its data lies on a named volume."""
    redis = compose["services"]["redis"]
    options = " ".join(redis["command"])

    assert redis["image"] == "redis:7-alpine"
    assert "--appendonly yes" in options
    assert "--maxmemory-policy noeviction" in options
    assert redis["volumes"] == ["redis-data:/data"]
    assert set(compose["volumes"]) == {"redis-data"}
    assert "ports" not in redis


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_waits_for_redis_and_is_watched(compose: dict[str, Any], name: str) -> None:
    """It is restarted, reads its input only, and its health is its own heartbeat."""
    service = compose["services"][name]

    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["volumes"] == ["${FLEET_DATA:-./data}:/input:ro"]
    role = "-".join(PROCESSES[name])
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "workers.health", role]


def test_variables_of_the_services_are_variables_of_the_fleet(compose: dict[str, Any]) -> None:
    """Unknown ones would be refused at start, so they are tried here."""
    environment = compose["services"]["router"]["environment"]
    plain = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
    url = load_settings(environ=plain).redis.url

    assert url is not None
    assert url.get_secret_value() == "redis://redis:6379/0"


def test_only_the_dashboard_is_reachable_and_only_from_this_machine(compose: dict[str, Any]) -> None:
    """It has no login of its own; it reads JSON jobs and deletes nothing."""
    open_ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}

    assert open_ports == {"dashboard": ["127.0.0.1:9181:9181"]}
    assert {"--json", "--disable-delete"} <= set(compose["services"]["dashboard"]["command"])
    assert "FLEET_REDIS_URL" not in compose["services"]["dashboard"]["environment"]


def test_a_job_may_end_before_its_container_is_killed(compose: dict[str, Any]) -> None:
    """The grace is longer than the longest job."""
    grace = int(compose["services"]["worker-immediate"]["stop_grace_period"].removesuffix("s"))

    assert grace > Settings().workers.job_timeout_s


# ---- files beside it -------------------------------------------------------------------------------------


def test_lock_files_pin_every_package_and_name_no_place() -> None:
    """Neither a registry nor a path of the machine that resolved them."""
    lines = [
        line
        for name in ("requirements.lock", "requirements-dev.lock")
        for line in (ROOT / name).read_text().split("\n")
    ]

    assert len(lines) > 80
    assert [line for line in lines if line and not re.fullmatch(r"[a-z0-9.-]+==[0-9a-z.]+( ; [^/:]+)?", line)] == []


def test_the_run_lock_holds_every_dependency_of_the_project() -> None:
    """A dependency added later must be locked too."""
    project = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]")[0]
    wanted = {re.split(r"[<>=]", name)[0].lower().replace("_", "-") for name in re.findall(r'"([^"]+)"', project)}
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}

    assert wanted - locked == set()


def test_continuous_integration_runs_the_readmes_command() -> None:
    """And nothing else."""
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_image_runs_our_packages_first_and_not_as_root() -> None:
    """Their names are common: another distribution's must not win."""
    docker = (ROOT / "Dockerfile").read_text()

    assert "PYTHONPATH=/app" in docker
    assert "USER fleet" in docker
    assert not docker.startswith("# syntax")

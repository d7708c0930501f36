"""docker-compose.yml: every process, durable Redis, nothing open to the world; commands that exist."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from config.settings import Settings, load_settings
from pipeline.errors import SettingsError
from tests.accounts import composition
from workers.accounts import ROLES, Server, write_accounts
from workers.adapters.rq_factory import QUEUES

ROOT: Final = Path(__file__).parents[2]
PROCESSES: Final = {
    "collector": ["collect"],
    "router": ["route"],
    "scheduler": ["schedule"],
    "worker-immediate": ["work", "immediate"],
    "worker-consensus": ["work", "consensus"],
    "worker-maintenance": ["work", "maintenance"],
    "watcher": ["watch"],
}
DASHBOARD: Final = ["dashboard"]


TOOLS: Final = {"operator", "control"}
ROLES_OF: Final = {
    "collector": "collector",
    "router": "router",
    "scheduler": "scheduler",
    "worker-immediate": "worker",
    "worker-consensus": "worker",
    "worker-maintenance": "worker",
    "watcher": "watcher",
    "dashboard": "dashboard",
    "operator": "operator",
    "control": "control",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, merge keys resolved, variables at their defaults."""
    return composition()


def test_every_process_of_the_fleet_is_a_service(compose: dict[str, Any]) -> None:
    """One queue per worker: two would lose jobs."""
    commands = {name: service["command"] for name, service in compose["services"].items() if name in PROCESSES}

    assert commands == PROCESSES
    assert compose["services"]["dashboard"]["command"] == DASHBOARD
    assert set(compose["services"]) == {*PROCESSES, *TOOLS, "accounts", "redis", "dashboard"}
    assert {command[1] for command in commands.values() if command[0] == "work"} == set(QUEUES)


@pytest.mark.parametrize("name", PROCESSES)
def test_commands_are_verbs_of_the_command_line(name: str) -> None:
    """A renamed verb must not be found out in production."""
    verbs = re.findall(r"@app\.command\(\)\ndef (\w+)\(", (ROOT / "workers" / "verbs" / "processes.py").read_text())

    assert PROCESSES[name][0] in verbs


def test_redis_keeps_everything_evicts_nothing_and_is_reached_from_inside_only(compose: dict[str, Any]) -> None:
    """Its data lies on a named volume, its accounts in a file, its port nowhere."""
    redis = compose["services"]["redis"]
    options = " ".join(redis["command"])

    assert redis["image"] == "redis:7-alpine"
    assert "--appendonly yes" in options
    assert "--maxmemory-policy noeviction" in options
    assert "--aclfile /acl/users.acl" in options
    assert redis["volumes"] == ["redis-data:/data", "acl:/acl:ro"]
    assert "ports" not in redis
    assert redis["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert "--user health" in redis["healthcheck"]["test"][1]


def test_services_start_in_order(compose: dict[str, Any]) -> None:
    """Passwords before Redis, Redis before everybody else; `--wait` knows what is to end and what is to be healthy."""
    services = compose["services"]

    assert services["accounts"]["depends_on"] == {}
    assert services["redis"]["depends_on"] == {"accounts": {"condition": "service_completed_successfully"}}
    others = [service for name, service in services.items() if name not in {"accounts", "redis"}]
    assert all(service["depends_on"] == {"redis": {"condition": "service_healthy"}} for service in others)
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"accounts", *TOOLS}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_watched_by_its_own_sign_of_life(compose: dict[str, Any], name: str) -> None:
    """Asked for often enough that a stack is known to be up, or one of it to be stuck, within a minute."""
    check = compose["services"][name]["healthcheck"]

    assert check["test"] == ["CMD", "python", "-m", "workers.health", "-".join(PROCESSES[name])]
    assert check["interval"] == "5s"
    assert check["retries"] == 3


def test_no_container_can_do_more_than_it_must(compose: dict[str, Any]) -> None:
    """Not root, nothing written but memory and named volumes, no capability, bounded, ended by an init process."""
    for name, service in compose["services"].items():
        assert service["user"] == ("999:1000" if name == "redis" else "10001:10001"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert 0 < service["cpus"] <= 1, name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert "container_name" not in service, name
        once = name in {"accounts", *TOOLS}
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        assert service.get("init", name == "redis") is True, name


def test_a_role_sees_its_own_secrets_and_nobody_elses(compose: dict[str, Any]) -> None:
    """The volume of its role, read-only; only the one-shot that makes them sees all."""
    for name, service in compose["services"].items():
        mounted = [volume for volume in service["volumes"] if "secrets-" in volume]
        if name == "accounts":
            assert mounted == [f"secrets-{role}:/accounts/{role}" for role in ROLES]
        elif name != "redis":
            assert mounted == [f"secrets-{ROLES_OF[name]}:/secrets:ro"]
            assert service["environment"]["FLEET_SECRETS_DIR"].startswith("/secrets"), name
    assert set(compose["volumes"]) == {"redis-data", "acl", *(f"secrets-{role}" for role in ROLES)}


def test_whoever_is_made_first_a_volume_belongs_to_its_writer_and_is_empty(compose: dict[str, Any]) -> None:
    """An empty volume takes owner and content of what it is mounted over, and containers are made before any runs."""
    image = (ROOT / "Dockerfile").read_text("utf-8").split("FROM ")[-1]
    (listed,) = re.findall(r"for folder in ((?:[/\w]+|\s|\\)+);", image)
    owned = {folder for folder in listed.split() if folder.startswith("/")}
    mounted = {
        volume.split(":")[1]
        for name, service in compose["services"].items()
        for volume in service["volumes"]
        if name != "redis" and not volume.startswith((".", "/"))
    }

    assert 'install --directory --owner fleet --group fleet "$folder"' in image
    assert mounted <= owned
    assert not [(a, b) for a in owned for b in owned if b.startswith(f"{a}/")]


def test_no_secret_is_in_the_file(compose: dict[str, Any]) -> None:
    """Neither passwords nor keys; the venue's key is a file as well, for those alone that send orders."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    holders = {name for name, service in compose["services"].items() if service.get("secrets")}

    assert re.findall(r"rediss?://[^@\s]*@", text) == []
    assert "API_KEY:" not in text
    assert compose["secrets"] == {"venue-key": {"file": "/dev/null"}, "watch-url": {"file": "/dev/null"}}
    assert holders == {"worker-immediate", "worker-consensus", "worker-maintenance", "control", "watcher"}


@pytest.mark.parametrize("feed", ["demo", "file", "webhook"])
def test_variables_of_the_services_are_variables_of_the_fleet(
    compose: dict[str, Any], feed: str, tmp_path: Path
) -> None:
    """Unknown ones would be refused at start, so they are tried here, with every feed."""
    write_accounts(tmp_path, Server())
    for name in PROCESSES:
        service = compose["services"][name]
        given = {key: str(value or "") for key, value in service["environment"].items()}
        given["FLEET_SETTINGS_FILE"] = str(ROOT / "config" / "feeds" / f"{feed}.yaml")
        given["FLEET_SECRETS_DIR"] = str(tmp_path / ROLES_OF[name])
        url = load_settings(environ=given).redis.url

        assert url is not None
        assert url.get_secret_value().startswith(f"redis://{ROLES_OF[name]}:")


def test_the_feed_is_chosen_by_one_variable_and_is_the_demo_by_default(compose: dict[str, Any]) -> None:
    """The demo plays for ever and can never move money."""
    for name in PROCESSES:
        assert compose["services"][name]["environment"]["FLEET_SETTINGS_FILE"] == "/app/config/feeds/demo.yaml"
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    demo = load_settings(extra_file=ROOT / "config" / "feeds" / "demo.yaml", environ={})

    assert "${FLEET_FEED:-demo}" in text
    assert demo.playback.round_s == 2340  # 6.5 hours at ten times the speed
    assert demo.venue.kind == "paper"
    venue = {"KIND": "http", "BASE_URL": "https://v.example", "SANDBOX": "true"}
    with pytest.raises(SettingsError, match=r"valid: profile paper, clock live, venue\.kind paper"):
        load_settings(
            extra_file=ROOT / "config" / "feeds" / "demo.yaml",
            environ={f"FLEET_VENUE__{name}": value for name, value in venue.items()},
        )


def test_what_is_reachable_is_reachable_from_this_machine_only(compose: dict[str, Any]) -> None:
    """The dashboard and, at any free port, the webhook: a collector may be scaled."""
    open_ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}

    assert open_ports == {"dashboard": ["127.0.0.1:9181:9181"], "collector": ["127.0.0.1:0:8081"]}


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
    assert "USER 10001:10001" in docker
    assert not docker.startswith("# syntax")
    assert re.findall(r"^FROM (\S+)", docker, re.MULTILINE) == ["python:3.12-slim"] * 2


def test_the_image_is_built_once_whoever_runs_it(compose: dict[str, Any]) -> None:
    """Two services that build one name at the same time collide on a machine that has no such image yet."""
    ours = {name: service for name, service in compose["services"].items() if name != "redis"}

    assert [name for name, service in ours.items() if "build" in service] == ["accounts"]
    assert {service["image"] for service in ours.values()} == {"signal-fleet:latest"}


def test_the_builder_is_sent_what_the_image_copies_and_nothing_else() -> None:
    """A secret or a data folder that lies beside must never get into an image."""
    docker = (ROOT / "Dockerfile").read_text()
    copied = {
        word for words in re.findall(r"^COPY (?!--from)(.+) \S+$", docker, re.MULTILINE) for word in words.split()
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()

    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied

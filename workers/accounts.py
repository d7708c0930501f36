"""Redis accounts: one per role with a password of its own, as an ACL file and as folders of secret files."""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import FOLDER
from pipeline.errors import SettingsError

TEMPLATE: Final = FOLDER / "redis" / "users.acl.template"
ROLES: Final = ("collector", "router", "scheduler", "worker", "watcher", "dashboard", "operator", "control", "admin")
#: Secrets beside the account's address that a role is given, each made once: (role, file).
EXTRA: Final = (("dashboard", "fleet_dashboard__password"), ("collector", "fleet_source__token"))
URL: Final = "fleet_redis_url"
ACL_FOLDER: Final = "redis"
ACL_FILE: Final = "users.acl"
BYTES: Final = 32
READABLE: Final = 0o444  # by the container's user, whoever wrote it; the folder above is what closes it to others
FOLDER_MODE: Final = 0o755


def _token() -> str:
    return secrets.token_urlsafe(BYTES)


@dataclass(frozen=True, slots=True)
class Server:
    """Where processes find Redis, and the first word of every key of the fleet and of RQ."""

    host: str = "redis"
    port: int = 6379
    tls: bool = False
    prefix: str = "fleet"
    rq_prefix: str = "rq"

    def url(self, role: str, password: str) -> str:
        """The role's address with its password."""
        return f"{'rediss' if self.tls else 'redis'}://{role}:{password}@{self.host}:{self.port}/0"


def write_accounts(
    folder: Path, server: Server, rotate: Sequence[str] = (), token: Callable[[], str] = _token
) -> list[str]:
    """Write `folder`/redis/users.acl and `folder`/ROLE/fleet_redis_url; the names of the secrets that were made.

    What is there is kept, so this may be called at every start. A role in `rotate` gets a new password; its old one
    stays valid, beside it, until the file is written once more. Other secrets of a role are made once.
    Raises SettingsError for an unknown role or a folder that cannot be written.
    """
    if unknown := sorted(set(rotate) - set(ROLES)):
        raise SettingsError(f"--rotate is {unknown[0]!r}; valid: {', '.join(ROLES)}")
    try:
        return _write(folder, server, rotate, token)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; valid: a folder that can be written to") from error


def _write(folder: Path, server: Server, rotate: Sequence[str], token: Callable[[], str]) -> list[str]:
    made: list[str] = []
    hashes: dict[str, str] = {}
    for role in ROLES:
        file = folder / role / URL
        old = _password_of(file)
        valid = [old] if old else []
        if not old or role in rotate:
            valid.insert(0, token())
            made.append(f"{role}/{URL}")
        _put(file, f"{server.url(role, valid[0])}\n")
        hashes[role] = " ".join(f"#{hashlib.sha256(one.encode()).hexdigest()}" for one in valid)
    for role, name in EXTRA:
        if not (folder / role / name).exists():
            _put(folder / role / name, f"{token()}\n")
            made.append(f"{role}/{name}")
    _put(folder / ACL_FOLDER / ACL_FILE, render(server.prefix, server.rq_prefix, hashes))
    return made


def render(prefix: str, rq_prefix: str, hashes: dict[str, str]) -> str:
    """The ACL file: one line an account, without comments, which Redis does not know there."""
    words = {"fleet": prefix, "rq": rq_prefix, **hashes}
    lines: list[str] = []
    for line in TEMPLATE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        filled = re.sub(r"\{(\w+)\}", lambda found: words[found[1]], line)
        if line[0] == " ":
            lines[-1] += filled
        else:
            lines.append(filled)
    return "\n".join([*lines, ""])


def _password_of(file: Path) -> str | None:
    """The password in a role's address, None when there is none yet."""
    found = re.fullmatch(r"rediss?://\w+:([\w-]+)@\S+\s*", file.read_text(encoding="utf-8")) if file.exists() else None
    return found[1] if found else None


def _put(file: Path, text: str) -> None:
    """The file with this text, complete or not at all."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READABLE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        os.fchmod(descriptor, READABLE)
        out.flush()
        os.fsync(descriptor)
    fresh.replace(file)

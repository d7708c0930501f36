"""What verbs share: options, the runtime they ask for, how they answer."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from config.settings import Settings, load_settings
from pipeline.errors import SettingsError

FAILED, SETTINGS, REFUSED = 1, 2, 3

err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Why = Annotated[str, typer.Option("--why", help="the reason, kept with the act")]
By = Annotated[str, typer.Option("--by", help="who does this; default: the user")]


def read_settings() -> Settings:
    """The settings of this environment; RQ's key prefix is set to match, before RQ is imported and reads it."""
    settings = load_settings()
    os.environ["RQ_KEY_PREFIX"] = settings.rq_prefix
    return settings


def runtime() -> Any:
    """The process's runtime, with its log; a Runtime, which cannot be named before RQ's prefix is set."""
    settings = read_settings()
    from workers.log import configure_log
    from workers.wiring import Runtime, use

    configure_log(settings.log.level, settings.log.format)
    return use(Runtime(settings))


@contextmanager
def reading() -> Iterator[Any]:
    """A runtime to read from: a running server, else the embedded one of the data folder, opened for a moment."""
    settings = read_settings()
    from workers.adapters.embedded import EmbeddedServer, find

    if settings.redis.url is not None or find(settings.data_dir) is not None:
        yield runtime()
        return
    if not (settings.data_dir / "appendonlydir").exists():
        raise SettingsError(
            f"no server runs and data_dir {settings.data_dir} holds no data; set FLEET_REDIS_URL, "
            "start `fleet run`, or give --data-dir (the demo's: --profile demo --data-dir .fleet/demo)"
        )
    with EmbeddedServer(settings.data_dir) as server:
        os.environ["FLEET_REDIS_URL"] = server.url
        yield runtime()


def reason(why: str) -> str:
    """The reason as given. Raises SettingsError for an empty one."""
    if not why.strip():
        raise SettingsError("--why is empty; valid: a reason that the next person understands")
    return why


def who(by: str) -> str:
    """Who acts: as given, else the user of this machine."""
    return by or os.environ.get("SUDO_USER") or getpass.getuser()


def show(document: Any, *, as_json: bool, text: Any) -> None:
    """Answer with the document as JSON, or with a text or table for people."""
    if as_json:
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode())
    elif isinstance(text, str):
        typer.echo(text)
    else:
        Console().print(text)

"""`fleet`: one verb per process and per act of an operator. Exit codes: 0 done, 1 failed, 2 settings, 3 refused."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

FAILED, SETTINGS, REFUSED = 1, 2, 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
By = Annotated[str, typer.Option("--by", help="who does this")]
Why = Annotated[str, typer.Option("--why", help="the reason, kept with the act")]
DEFAULT_BY = os.environ.get("USER", "operator")


@app.callback()
def _common(
    profile: Annotated[str | None, typer.Option(help="paper, replay, live or demo")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder of the embedded server")] = None,
) -> None:
    """Options of every verb."""
    if profile is not None:
        os.environ["FLEET_PROFILE"] = profile
    if data_dir is not None:
        os.environ["FLEET_DATA_DIR"] = str(data_dir.resolve())


def load() -> Any:
    """The settings of this environment, with RQ's key prefix set to match: RQ reads it when it is imported."""
    from config.settings import load_settings

    settings = load_settings()
    prefix = settings.redis.key_prefix
    os.environ["RQ_KEY_PREFIX"] = "rq" if prefix == "fleet" else f"{prefix}:rq"
    return settings


def runtime() -> Any:
    """This process's runtime."""
    settings = load()
    from workers.log import configure_log
    from workers.wiring import Runtime, use

    configure_log(settings.log.level, settings.log.format)
    return use(Runtime(settings))

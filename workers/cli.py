"""`fleet`: one verb per process and per act of an operator.

Exit codes: 0 done, 1 failed, 2 settings or usage, 3 refused.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline.errors import FleetError, RefusedError, SettingsError
from workers import analyze, model
from workers.plain import plain
from workers.verbs import accounts, control, dashboard, processes, reading
from workers.verbs.common import FAILED, REFUSED, SETTINGS, err
from workers.verbs.hints import hint

PACKAGES = ("config", "pipeline", "workers")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _common(
    profile: Annotated[str | None, typer.Option(help="paper, replay, live or demo")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder of the embedded server")] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML file of settings of your own")] = None,
) -> None:
    """Options of every verb."""
    if profile is not None:
        os.environ["FLEET_PROFILE"] = profile
    if data_dir is not None:
        os.environ["FLEET_DATA_DIR"] = str(data_dir.resolve())
    if settings is not None:
        os.environ["FLEET_SETTINGS_FILE"] = str(settings.resolve())


for family in (processes, control, reading, dashboard, accounts, analyze):
    app.add_typer(family.app)
app.add_typer(model.app, name="model")


def main() -> None:
    """The console script: failures as one clear line and a stable exit code."""
    try:
        _own_packages()
        code = app(standalone_mode=False)  # answers the code of typer.Exit instead of raising it
    except SettingsError as error:
        _fail(SETTINGS, "settings", error)
    except RefusedError as error:
        _fail(REFUSED, "refused", error)
    except redis.RedisError as error:  # before FleetError: an outage is both
        cause = error.__cause__ or error
        _fail(FAILED, f"Redis ({type(cause).__name__})", cause)
    except FleetError as error:
        _fail(FAILED, "failed", error)
    except typer.Abort:
        sys.exit(FAILED)
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()
        sys.exit(SETTINGS)
    else:
        sys.exit(code or 0)


def _own_packages() -> None:
    """Refuse to run with a stranger's `config`, `pipeline` or `workers` on the path (STYLE C)."""
    roots = {}
    for name in PACKAGES:
        module = __import__(name)
        roots[name] = Path(str(module.__file__)).resolve().parent.parent
    if len(set(roots.values())) != 1:
        places = ", ".join(f"{name} from {root}" for name, root in roots.items())
        raise SettingsError(f"packages come from different places: {places}; valid: all from one installation")


def _fail(code: int, what: str, error: BaseException) -> None:
    err.print(f"[red]fleet: {what}:[/red] ", end="")
    words = "; ".join(filter(None, (plain(str(error)).rstrip("."), hint(error))))
    err.print(words, markup=False, highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The verb of the page for people."""

from importlib.util import find_spec

import typer

from pipeline.errors import SettingsError
from workers.verbs.common import err, runtime

app = typer.Typer()


@app.command()
def dashboard() -> None:
    """One page for people: how the fleet stands, and rq-dashboard beside it, behind a login."""
    missing = [name for name in ("flask", "rq_dashboard", "six") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"{missing[0]} is not installed; valid: the extra, as in pip install '.[dashboard]'")
    fleet = runtime()
    from workers.dashboard.serve import serve
    from workers.stop import Stop

    settings = fleet.settings.dashboard
    err.print(f"http://{settings.host}:{settings.port}   (Ctrl-C ends)", markup=False, highlight=False)
    raise typer.Exit(serve(fleet, Stop().listen()))

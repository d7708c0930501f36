"""Verbs that only read."""

import os
import re
from typing import Annotated, Any

import orjson
import typer

from config.settings import Settings, effective
from pipeline.errors import RefusedError
from workers.plain import plain
from workers.verbs.common import SETTINGS, Json, err, read_settings, reading, show

app = typer.Typer()


@app.command()
def status(
    *, as_json: Json = False, watch: Annotated[bool, typer.Option("--watch", help="refresh until Ctrl-C")] = False
) -> None:
    """How the fleet stands: state, lag, queues, processes, outcomes, the book."""
    with reading() as fleet:
        from workers.screen import status_table, watch_status
        from workers.status import status as read

        if watch and not as_json:
            watch_status(lambda: read(fleet))
        else:
            show(found := read(fleet), as_json=as_json, text=status_table(found))


@app.command()
def trace(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="message, leg or decision id")], *, as_json: Json = False
) -> None:
    """One message's or decision's way through every stage, with every number."""
    with reading() as fleet:
        from workers.story import tell
        from workers.trace import trace as gather

        found = gather(fleet, wanted)
        if found is None:
            raise RefusedError(f"nothing is known of {plain(wanted)}; `fleet inspect decisions` lists what was decided")
        show(found, as_json=as_json, text=tell(found))


@app.command()
def inspect(
    what: Annotated[
        str, typer.Argument(help="decisions, orders, positions, lists, claims, control, alarms, keys, or a SYMBOL")
    ] = "decisions",
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    serve: Annotated[bool, typer.Option("--serve", help="keep the embedded server open for redis-cli")] = False,
    as_json: Json = False,
) -> None:
    """What Redis holds, in words: the same as redis-cli shows."""
    with reading() as fleet:
        from workers.inspect import inspect as look

        rows = look(fleet, what, limit)
        show(rows, as_json=as_json, text="\n".join(plain(orjson.dumps(row).decode()) for row in rows) or "nothing")
        if serve:
            url = re.sub(r"//[^@/]*@", "//***@", os.environ.get("FLEET_REDIS_URL", ""))
            err.print(f"redis-cli -u {url}   (Ctrl-C ends)", markup=False)
            from workers.stop import Stop

            Stop().listen().wait(10**9)


@app.command()
def dead(*, limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20, as_json: Json = False) -> None:
    """What could not be used, newest first, with the reason; what three strikes ended can be requeued."""
    with reading() as fleet:
        again = {work.job_id: work.id for work in fleet.dead_work.all() if work.open}
        rows = [row | {"requeue": again.get(row["raw"])} for row in fleet.inbox.dead_letters(limit)]
        text = "\n".join(map(_letter, rows))
        show(rows, as_json=as_json, text=text or "no dead letters")


@app.command()
def check(*, as_json: Json = False) -> None:
    """The effective settings with the place each came from, and whether market data and Redis can be used."""
    settings = read_settings()
    rows = effective(settings)
    problems = _problems(settings)
    document = {"profile": settings.profile, "problems": problems, "settings": [row.model_dump() for row in rows]}
    text = "\n".join(
        [*(f"{r.path} = {r.value}   [{r.origin}]" for r in rows), "", *(problems or ["no problems found"])]
    )
    show(document, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(SETTINGS)


def _letter(row: dict[str, Any]) -> str:
    """A dead letter on one line."""
    again = f" | fleet requeue {row['requeue']}" if row["requeue"] else ""
    return plain(f"{row['id']} {row['stage']} {row['reason']}: {row['detail']} | {row['raw'][:80]}{again}")


def _problems(settings: Settings) -> list[str]:
    from workers.checks import problems

    return problems(settings)

"""Verbs that run: one per process, the whole fleet, a replay."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import RefusedError, SettingsError, TransientError
from workers.verbs.children import preloaded
from workers.verbs.common import Json, err, read_settings, runtime, show

app = typer.Typer()


@app.command()
def collect(
    file: Annotated[
        Path | None, typer.Argument(help="JSON lines, .gz too; default: source.path of the settings")
    ] = None,
) -> None:
    """Read posts from the source, analyze them, push them to the fleet."""
    if file is not None:
        os.environ["FLEET_SOURCE__PATH"] = str(file)
    fleet, stop = _ready("collect")
    from workers.collect import PATIENCE_S, build_collector

    collector = build_collector(fleet)
    _turn(fleet, "collect", collector.step, stop, interval=PATIENCE_S, until=lambda: collector.ended)


@app.command()
def route() -> None:
    """Route analyzed messages: urgent legs to the immediate queue, the rest to their symbol's list."""
    fleet, stop = _ready("route")
    from workers.process import process_name

    router = fleet.router(process_name("route"))
    _turn(fleet, "route", router.step, stop, interval=0.0, finish=router.finish)


@app.command()
def schedule() -> None:
    """Queue what is due: drains, follow-ups, releases at the open, settlement, the janitor."""
    fleet, stop = _ready("schedule")
    if not fleet.settings.is_live:
        fleet.initialise_if_empty("fleet schedule", fleet.clock.now())
    _turn(fleet, "schedule", lambda: fleet.scheduler.turn(fleet.clock.now()), stop, interval=1.0)


@app.command()
def watch() -> None:
    """Look at the whole fleet, raise alarms and tell people, and serve its metrics. Any number may run."""
    fleet, stop = _page(runtime())  # it does not wait for Redis: that Redis is away is an alarm
    from workers.exporter import export

    watcher = fleet.watcher()
    export(watcher)
    _turn(fleet, "watch", watcher.step, stop, interval=fleet.settings.watch.interval_s)


@app.command()
def work(
    queue: Annotated[str, typer.Argument(help="immediate, consensus or maintenance")],
    number: Annotated[int, typer.Option("-n", min=1, max=64, help="worker processes")] = 1,
) -> None:
    """Run the jobs of ONE queue with RQ workers."""
    fleet = runtime()
    from workers.adapters.rq_factory import QUEUES
    from workers.fleet import several_workers
    from workers.work import work as work_one

    if queue not in QUEUES:
        raise SettingsError(f"QUEUE is {queue!r}; valid: {', '.join(QUEUES)}")
    raise typer.Exit(several_workers(fleet, queue, number, preloaded(fleet)) if number > 1 else work_one(fleet, queue))


@app.command()
def run(
    *,
    demo: Annotated[bool, typer.Option("--demo", help="replay the recorded day this project ships")] = False,
    as_json: Json = False,
) -> None:
    """Run everything on this machine: Redis from FLEET_REDIS_URL, else an embedded server."""
    if demo:
        os.environ["FLEET_PROFILE"] = "demo"
        _replay(None, ordered=True, speed="max", workers=None, keep=True, as_json=as_json)
        return
    settings = read_settings()
    from workers import fleet as crew
    from workers.process import await_server
    from workers.stop import Stop

    stop = Stop().listen()
    with crew.server(settings) as server:
        os.environ["FLEET_REDIS_URL"] = server.url
        fleet = runtime()
        await_server(fleet.client, "run", stop)
        err.print(
            f"[bold]signal-fleet[/bold] runs on {server.url.split('@')[-1]} "
            f"(profile {settings.profile}). Ctrl-C stops it; `fleet status` shows how it stands."
        )
        raise typer.Exit(crew.run(fleet, os.environ, stop, server.revive, preloaded(fleet)))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="recorded posts, JSON lines, .gz too")],
    bars: Annotated[Path | None, typer.Option(help="folder of SYMBOL.csv")] = None,
    daily_bars: Annotated[
        Path | None, typer.Option(help="folder of daily SYMBOL.csv; default: the bars folder")
    ] = None,
    vix: Annotated[Path | None, typer.Option(help="VIX file")] = None,
    index: Annotated[str | None, typer.Option(help="symbol of the market's index")] = None,
    speed: Annotated[str, typer.Option(help="max, or event seconds per second")] = "max",
    *,
    ordered: Annotated[bool, typer.Option(help="account changes in event order; else a free run")] = True,
    gate_queue: Annotated[
        bool, typer.Option("--gate-queue", help="hold closed-session orders for the next open")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, max=32, help="workers on each deciding queue")] = None,
    keep: Annotated[bool, typer.Option(help="keep the keys on a shared Redis after the run")] = False,
    as_json: Json = False,
) -> None:
    """Push a recording through the real fleet, in a namespace or server of its own."""
    if os.environ.get("FLEET_PROFILE", "replay") not in {"replay", "demo"}:
        raise RefusedError(f"FLEET_PROFILE is {os.environ['FLEET_PROFILE']!r}; a replay runs as replay or demo only")
    os.environ.setdefault("FLEET_PROFILE", "replay")
    options = {
        "FLEET_MARKET__BARS_DIR": bars,
        "FLEET_MARKET__DAILY_BARS_DIR": daily_bars,
        "FLEET_MARKET__VIX_CSV": vix,
        "FLEET_MARKET__INDEX_SYMBOL": index,
        "FLEET_GATE__GATE_QUEUE": "true" if gate_queue else None,
    }
    os.environ.update({name: str(value) for name, value in options.items() if value is not None})
    _replay(file, ordered=ordered, speed=speed, workers=workers, keep=keep, as_json=as_json)


def _page(fleet: Any) -> tuple[Any, Any]:
    """The runtime, whose page is served from now on, and its wish to end."""
    from workers.adapters.metrics_http import serve
    from workers.measures import REGISTRY
    from workers.stop import Stop

    serve(fleet.settings.metrics, REGISTRY, fleet.liveness)
    return fleet, Stop().listen()


def _ready(role: str) -> tuple[Any, Any]:
    """The process's runtime and its wish to end, once Redis serves."""
    fleet, stop = _page(runtime())
    from workers.process import await_server

    try:
        await_server(fleet.client, role, stop, fleet.liveness)
    except TransientError as error:
        raise typer.Exit(0) from error  # asked to end while it waited
    return fleet, stop


def _turn(
    fleet: Any, role: str, step: Any, stop: Any, *, interval: float, until: Any = None, finish: Any = None
) -> None:
    from workers.adapters.pulse import Pulse
    from workers.process import Heartbeat, process_name, run_process

    name = process_name(role)

    def one_turn() -> int:
        done = int(step())
        if not done and until is not None and until():
            stop.set()
        return done

    beat = Heartbeat(fleet.client, fleet.keys, name, role, pulse=Pulse(fleet.settings.data_dir, role))
    words = {"interval": interval, "stop": stop, "liveness": fleet.liveness, "finish": finish}
    code = run_process(name, one_turn, heartbeat=beat, **words)
    raise typer.Exit(code)


def _replay(file: Path | None, *, ordered: bool, speed: str, workers: int | None, keep: bool, as_json: bool) -> None:
    from workers.replay_run import run_replay

    summary = run_replay(read_settings, runtime, file, ordered=ordered, speed=speed, workers=workers, keep=keep)
    from workers.screen import hints_text, summary_text

    show(summary, as_json=as_json, text=summary_text(summary))
    if not as_json:
        typer.echo(hints_text(summary, os.environ.get("FLEET_DATA_DIR", ".fleet")))

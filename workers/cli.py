"""`fleet`: one verb per process and per act of an operator.

Exit codes: 0 done, 1 failed, 2 settings or usage, 3 refused.
"""

import getpass
import os
import re
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import orjson
import redis
import typer
from rich.console import Console

from config.settings import Settings, effective, load_settings
from pipeline.errors import FleetError, RefusedError, SettingsError
from pipeline.models import OrchestratorState, TradingState
from workers import analyze, model
from workers.plain import plain

FAILED, SETTINGS, REFUSED = 1, 2, 3
MOST_DOLLARS = 1_000_000_000  # sums of whole micro-dollars stay exact up to nine times that
PACKAGES = ("config", "pipeline", "workers")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Why = Annotated[str, typer.Option("--why", help="the reason, kept with the act")]
By = Annotated[str, typer.Option("--by", help="who does this; default: the user")]


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


# ---- processes -------------------------------------------------------------------------------------------


@app.command()
def collect(
    file: Annotated[
        Path | None, typer.Argument(help="JSON lines, .gz too; default: source.path of the settings")
    ] = None,
) -> None:
    """Read posts from the source, analyze them, push them to the fleet."""
    if file is not None:
        os.environ["FLEET_SOURCE__PATH"] = str(file)
    fleet = _runtime()
    from workers.collect import build_collector

    collector = build_collector(fleet)
    _turn(fleet, "collect", collector.step, interval=0.5, until=lambda: collector.ended)


@app.command()
def route() -> None:
    """Route analyzed messages: urgent legs to the immediate queue, the rest to their symbol's list."""
    fleet = _runtime()
    from workers.process import process_name

    router = fleet.router(process_name("route"))
    _turn(fleet, "route", router.step, interval=0.0)


@app.command()
def schedule() -> None:
    """Queue what is due: drains, follow-ups, releases at the open, settlement, the janitor."""
    fleet = _runtime()
    if not fleet.settings.is_live:
        fleet.initialise_if_empty("fleet schedule", fleet.clock.now())
    _turn(fleet, "schedule", lambda: fleet.scheduler.turn(fleet.clock.now()), interval=1.0)


@app.command()
def work(
    queue: Annotated[str, typer.Argument(help="immediate, consensus or maintenance")],
    number: Annotated[int, typer.Option("-n", min=1, max=64, help="worker processes")] = 1,
) -> None:
    """Run the jobs of ONE queue with RQ workers."""
    fleet = _runtime()
    from workers.adapters.rq_factory import QUEUES
    from workers.fleet import several_workers
    from workers.work import work as work_one

    if queue not in QUEUES:
        raise SettingsError(f"QUEUE is {queue!r}; valid: {', '.join(QUEUES)}")
    raise typer.Exit(several_workers(fleet, queue, number) if number > 1 else work_one(fleet, queue))


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
    settings = _settings()
    from workers import fleet as crew
    from workers.stop import Stop

    stop = Stop().listen()
    with crew.server(settings) as server:
        os.environ["FLEET_REDIS_URL"] = server.url
        fleet = _runtime()
        err.print(
            f"[bold]signal-fleet[/bold] runs on {server.url.split('@')[-1]} "
            f"(profile {settings.profile}). Ctrl-C stops it; `fleet status` shows how it stands."
        )
        raise typer.Exit(crew.run(fleet, os.environ, stop, server.revive))


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


# ---- control ---------------------------------------------------------------------------------------------


@app.command()
def start(by: By = "") -> None:
    """Let the fleet take messages and trade: state RUNNING; a missing trading state becomes ACTIVE."""
    fleet = _runtime()
    now = fleet.clock.now()
    if not fleet.settings.orchestrator.enabled:
        raise SettingsError("orchestrator.enabled is false; valid: true to start")
    fleet.state.claim_namespace(fleet.settings.profile)
    if fleet.control.why() is None:
        fleet.control.set(TradingState.ACTIVE, _who(by), "fleet start", now)
    fleet.reconcile_first(f"fleet start at {now.isoformat()}")
    fleet.state.write(OrchestratorState.RUNNING, _who(by), now)
    typer.echo(f"running, trading state {fleet.control.trading_state().value}")


@app.command()
def stop(by: By = "") -> None:
    """End intake, bring what is buffered to its end, then STOPPED (the scheduler writes it)."""
    fleet = _runtime()
    fleet.state.write(OrchestratorState.STOPPING, _who(by), fleet.clock.now())
    typer.echo("stopping: `fleet status` shows when it is stopped")


@app.command()
def halt(why: Why, by: By = "") -> None:
    """Send nothing to the market but `flatten`."""
    _set_trading(TradingState.HALTED, why, by)


@app.command()
def reduce(why: Why, by: By = "") -> None:
    """Send only orders that shrink exposure."""
    _set_trading(TradingState.REDUCING, why, by)


@app.command()
def resume(
    why: Why,
    by: By = "",
    *,
    accept: Annotated[bool, typer.Option("--accept", help="our book becomes the broker's where they differ")] = False,
    cash_flow: Annotated[
        str, typer.Option(help="dollars of the difference that were paid in (10000) or out (-10000): no result")
    ] = "0",
) -> None:
    """Trade again after halt, reduce, drift or a week's loss. A person's act, with a reason; refused in drift."""
    flow = _dollars(cash_flow)
    if flow and not accept:
        raise SettingsError(f"--cash-flow is {cash_flow}; valid: together with --accept")
    fleet = _runtime()
    from workers.control import DriftError, counted
    from workers.control import resume as act

    try:
        resumed = act(fleet, _who(by), _reason(why), accept=accept, cash_flow=flow)
    except DriftError as error:
        raise RefusedError(plain(str(error))) from error
    for drift in resumed.drifts:
        typer.echo(plain(f"accepted: {drift}"))
    if resumed.drifts:
        typer.echo(counted(resumed.change))
    typer.echo(f"trading state {resumed.state.value}")


@app.command()
def flatten(why: Why, by: By = "", *, as_json: Json = False) -> None:
    """Withdraw every working order and close every position, also under HALTED; names orders still in flight."""
    fleet = _runtime()
    from workers.control import flatten as act

    rows = act(fleet, _who(by), _reason(why), fleet.clock.now())
    text = "\n".join(plain(f"{r['symbol']}: {r['quantity']} {r['status']} {r['error'] or ''}".rstrip()) for r in rows)
    if any(row["in_flight"] for row in rows):
        text += "\norders in flight may still arrive: flatten again"
    _show(rows, as_json=as_json, text=text or "flat")
    if any(row["error"] or row["in_flight"] or row["refused"] for row in rows):
        raise typer.Exit(FAILED)


@app.command()
def deny(
    kind: Annotated[str, typer.Argument(help="symbol, author or source")],
    name: Annotated[str, typer.Argument(help="what is denied")],
    why: Why,
    by: By = "",
    *,
    off: Annotated[bool, typer.Option("--off", help="allow it again")] = False,
) -> None:
    """Forbid a symbol, an author or a source, on every worker at once."""
    fleet = _runtime()
    if kind not in {"symbol", "author", "source"}:
        raise SettingsError(f"KIND is {kind!r}; valid: symbol, author, source")
    act = fleet.control.allow if off else fleet.control.deny
    act(kind, name, _who(by), _reason(why), fleet.clock.now())
    typer.echo(f"{kind} {plain(name)} {'allowed' if off else 'denied'}")


@app.command()
def mute(
    author: Annotated[str, typer.Argument(help="author whose posts end as spam")],
    why: Why,
    by: By = "",
    *,
    off: Annotated[bool, typer.Option("--off", help="listen again")] = False,
) -> None:
    """Forbid an author: his posts end as spam."""
    deny("author", author, why, by, off=off)


# ---- reading ---------------------------------------------------------------------------------------------


@app.command()
def status(
    *, as_json: Json = False, watch: Annotated[bool, typer.Option("--watch", help="refresh until Ctrl-C")] = False
) -> None:
    """How the fleet stands: state, lag, queues, processes, outcomes, the book."""
    with _reading() as fleet:
        from workers.screen import status_table, watch_status
        from workers.status import status as read

        if watch and not as_json:
            watch_status(lambda: read(fleet))
        else:
            _show(found := read(fleet), as_json=as_json, text=status_table(found))


@app.command()
def trace(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="message, leg or decision id")], *, as_json: Json = False
) -> None:
    """One message's or decision's way through every stage, with every number."""
    with _reading() as fleet:
        from workers.story import tell
        from workers.trace import trace as gather

        found = gather(fleet, wanted)
        if found is None:
            raise RefusedError(f"nothing is known of {plain(wanted)}; `fleet inspect decisions` lists what was decided")
        _show(found, as_json=as_json, text=tell(found))


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
    with _reading() as fleet:
        from workers.inspect import inspect as look

        rows = look(fleet, what, limit)
        _show(rows, as_json=as_json, text="\n".join(plain(orjson.dumps(row).decode()) for row in rows) or "nothing")
        if serve:
            url = re.sub(r"//[^@/]*@", "//***@", os.environ.get("FLEET_REDIS_URL", ""))
            err.print(f"redis-cli -u {url}   (Ctrl-C ends)", markup=False)
            from workers.stop import Stop

            Stop().listen().wait(10**9)


@app.command()
def dead(*, limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20, as_json: Json = False) -> None:
    """What could not be used, newest first, with the reason."""
    with _reading() as fleet:
        rows = fleet.inbox.dead_letters(limit)
        text = "\n".join(plain(f"{r['id']} {r['stage']} {r['reason']}: {r['detail']} | {r['raw'][:80]}") for r in rows)
        _show(rows, as_json=as_json, text=text or "no dead letters")


@app.command()
def check(*, as_json: Json = False) -> None:
    """The effective settings with the place each came from, and whether market data and Redis can be used."""
    settings = _settings()
    rows = effective(settings)
    problems = _problems(settings)
    document = {"profile": settings.profile, "problems": problems, "settings": [row.model_dump() for row in rows]}
    text = "\n".join(
        [*(f"{r.path} = {r.value}   [{r.origin}]" for r in rows), "", *(problems or ["no problems found"])]
    )
    _show(document, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(SETTINGS)


app.add_typer(analyze.app)
app.add_typer(model.app, name="model")


# ---- inside ----------------------------------------------------------------------------------------------


def main() -> None:
    """The console script: failures as one clear line and a stable exit code."""
    try:
        _own_packages()
        code = app(standalone_mode=False)  # answers the code of typer.Exit instead of raising it
    except SettingsError as error:
        _fail(SETTINGS, "settings", error)
    except RefusedError as error:
        _fail(REFUSED, "refused", error)
    except FleetError as error:
        _fail(FAILED, "failed", error)
    except redis.RedisError as error:
        _fail(FAILED, f"Redis ({type(error).__name__})", error)
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
    err.print(plain(str(error)), markup=False, highlight=False)
    sys.exit(code)


def _settings() -> Settings:
    """The settings of this environment; RQ's key prefix is set to match, before RQ is imported and reads it."""
    settings = load_settings()
    os.environ["RQ_KEY_PREFIX"] = settings.rq_prefix
    return settings


def _runtime() -> Any:
    settings = _settings()
    from workers.log import configure_log
    from workers.wiring import Runtime, use

    configure_log(settings.log.level, settings.log.format)
    return use(Runtime(settings))


class _reading:  # noqa: N801  # a context manager used like a function
    """A runtime to read from: a running server, else the embedded one of the data folder, opened for a moment."""

    def __enter__(self) -> Any:
        settings = _settings()
        from workers.adapters.embedded import EmbeddedServer, find

        self._server = None
        if settings.redis.url is None and find(settings.data_dir) is None:
            if not (settings.data_dir / "appendonlydir").exists():
                raise SettingsError(
                    f"no server runs and data_dir {settings.data_dir} holds no data; set FLEET_REDIS_URL, "
                    "start `fleet run`, or give --data-dir (the demo's: --profile demo --data-dir .fleet/demo)"
                )
            self._server = EmbeddedServer(settings.data_dir)
            os.environ["FLEET_REDIS_URL"] = self._server.start()
        return _runtime()

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()


def _turn(fleet: Any, role: str, step: Any, *, interval: float, until: Any = None) -> None:
    from workers.process import Heartbeat, process_name, run_process
    from workers.stop import Stop

    name = process_name(role)
    stop_flag = Stop().listen()

    def one_turn() -> int:
        done = int(step())
        if not done and until is not None and until():
            stop_flag.set()
        return done

    beat = Heartbeat(fleet.client, fleet.keys, name, role)
    raise typer.Exit(run_process(name, one_turn, heartbeat=beat, interval=interval, stop=stop_flag))


def _replay(file: Path | None, *, ordered: bool, speed: str, workers: int | None, keep: bool, as_json: bool) -> None:
    from workers.replay_run import run_replay

    summary = run_replay(_settings, _runtime, file, ordered=ordered, speed=speed, workers=workers, keep=keep)
    from workers.screen import hints_text, summary_text

    _show(summary, as_json=as_json, text=summary_text(summary))
    if not as_json:
        typer.echo(hints_text(summary, os.environ.get("FLEET_DATA_DIR", ".fleet")))


def _set_trading(state: TradingState, why: str, by: str) -> None:
    fleet = _runtime()
    fleet.control.set(state, _who(by), _reason(why), fleet.clock.now())
    typer.echo(f"trading state {state.value}")


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > MOST_DOLLARS:
        raise SettingsError(f"--cash-flow is {text!r}; valid: dollars from -{MOST_DOLLARS} to {MOST_DOLLARS}")
    return amount


def _reason(why: str) -> str:
    if not why.strip():
        raise SettingsError("--why is empty; valid: a reason that the next person understands")
    return why


def _who(by: str) -> str:
    return by or os.environ.get("SUDO_USER") or getpass.getuser()


def _problems(settings: Settings) -> list[str]:
    from workers.checks import problems

    return problems(settings)


def _show(document: Any, *, as_json: bool, text: Any) -> None:
    if as_json:
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode())
    elif isinstance(text, str):
        typer.echo(text)
    else:
        Console().print(text)


if __name__ == "__main__":
    main()

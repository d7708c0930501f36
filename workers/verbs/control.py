"""Verbs that act: start and stop, trading states, deny-lists."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from pipeline.errors import RefusedError, SettingsError
from pipeline.models import OrchestratorState, TradingState
from workers.plain import plain
from workers.verbs.common import FAILED, By, Json, Why, reason, runtime, show, who

MOST_DOLLARS = 1_000_000_000  # sums of whole micro-dollars stay exact up to nine times that

app = typer.Typer()


@app.command()
def start(by: By = "") -> None:
    """Let the fleet take messages and trade: state RUNNING; a missing trading state becomes ACTIVE."""
    fleet = runtime()
    now = fleet.clock.now()
    if not fleet.settings.orchestrator.enabled:
        raise SettingsError("orchestrator.enabled is false; valid: true to start")
    fleet.state.claim_namespace(fleet.settings.profile)
    if fleet.control.why() is None:
        fleet.control.set(TradingState.ACTIVE, who(by), "fleet start", now)
    fleet.reconcile_first(f"fleet start at {now.isoformat()}")
    fleet.state.write(OrchestratorState.RUNNING, who(by), now)
    typer.echo(f"running, trading state {fleet.control.trading_state().value}")


@app.command()
def stop(by: By = "") -> None:
    """End intake, bring what is buffered to its end, then STOPPED (the scheduler writes it)."""
    fleet = runtime()
    fleet.state.write(OrchestratorState.STOPPING, who(by), fleet.clock.now())
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
    fleet = runtime()
    from workers.control import DriftError, counted
    from workers.control import resume as act

    try:
        resumed = act(fleet, who(by), reason(why), accept=accept, cash_flow=flow)
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
    fleet = runtime()
    from workers.control import flatten as act

    rows = act(fleet, who(by), reason(why), fleet.clock.now())
    text = "\n".join(plain(f"{r['symbol']}: {r['quantity']} {r['status']} {r['error'] or ''}".rstrip()) for r in rows)
    if any(row["in_flight"] for row in rows):
        text += "\norders in flight may still arrive: flatten again"
    show(rows, as_json=as_json, text=text or "flat")
    if any(row["error"] or row["in_flight"] or row["refused"] for row in rows):
        raise typer.Exit(FAILED)


@app.command()
def requeue(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="leg or claim id, as `fleet dead` shows it")],
    why: Why,
    by: By = "",
) -> None:
    """Have a decision that three strikes ended tried again; refused once an order of it was sent."""
    fleet = runtime()
    from workers.requeue import requeue as act

    work = act(fleet, wanted, who(by), reason(why), fleet.clock.now())
    typer.echo(plain(f"{work.id}: attempt {work.attempt} is queued"))


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
    fleet = runtime()
    if kind not in {"symbol", "author", "source"}:
        raise SettingsError(f"KIND is {kind!r}; valid: symbol, author, source")
    act = fleet.control.allow if off else fleet.control.deny
    act(kind, name, who(by), reason(why), fleet.clock.now())
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


def _set_trading(state: TradingState, why: str, by: str) -> None:
    fleet = runtime()
    fleet.control.set(state, who(by), reason(why), fleet.clock.now())
    typer.echo(f"trading state {state.value}")


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > MOST_DOLLARS:
        raise SettingsError(f"--cash-flow is {text!r}; valid: dollars from -{MOST_DOLLARS} to {MOST_DOLLARS}")
    return amount

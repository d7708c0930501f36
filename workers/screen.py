"""What people see on a terminal: status, traces and summaries as text."""

import shutil
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape as without_markup
from rich.table import Table

from workers.plain import plain

REFRESH_S = 1.0


def escape(text: str) -> str:
    """Words of people and strangers: no control characters, and no markup of rich's."""
    return without_markup(plain(text))


def status_table(found: dict[str, Any]) -> Group:
    """The status as tables."""
    head = Table(title=f"signal-fleet ({found['profile']}) at {found['at'][:19]}Z", show_header=False)
    control = found["control"]
    head.add_row("state", escape(f"{found['state']} ({found['state_by']})"))
    head.add_row("trading", escape(f"{control['trading_state']} ({control['reason']}, {control['by']})"))
    head.add_row("venue", _venue(found["venue"]))
    head.add_row("stream waiting", f"{found['stream']['waiting']}{_age(found['stream'])}")
    lists = found["lists"]
    head.add_row("lists", f"{lists['votes']} votes of {lists['symbols']} symbols{_age(lists)}")
    head.add_row("claims / follow-ups / held", f"{found['claims']} / {found['followups']} / {found['held']}")
    for name, queue in found["queues"].items():
        head.add_row(f"queue {name}", f"{queue['waiting']} waiting{_age(queue)}, {queue['running']} running")
    head.add_row("processes", ", ".join(f"{p['role']} {p['pid']}" for p in found["processes"]) or "none")
    head.add_row("RQ workers", str(len(found["workers"])))
    head.add_row("dead letters", str(found["dead"]))
    head.add_row("limits used", ", ".join(f"{n} {used:.0%}" for n, used in found["limits"].items() if used) or "none")
    for alarm in found["alarms"]:
        head.add_row("[red]ALARM[/red]", escape(f"{alarm['code']} {alarm['subject']}: {alarm['detail']}"))
    book = found["book"]
    worth = book.get("unknown") or f"{Decimal(book['equity']):,.2f} / {Decimal(book['cash']):,.2f} USD"
    head.add_row("equity / cash", worth)
    return Group(head, _acts(control["history"]), outcome_table(found), _positions(found["book"]["positions"]))


def _age(lag: dict[str, Any]) -> str:
    """How long the oldest waits, when something does."""
    return f" (the oldest {lag['oldest_s']:.0f} s)" if lag["oldest_s"] else ""


def _acts(history: list[dict[str, Any]]) -> Table:
    table = Table(title="last control acts" if history else "no control acts")
    for name in ("when", "what", "by", "reason"):
        table.add_column(name)
    for act in history:
        table.add_row(f"{act['at']:%Y-%m-%d %H:%M:%S}", *(escape(act[name]) for name in ("what", "by", "reason")))
    return table


def _venue(venue: dict[str, Any]) -> str:
    """The venue, its breaker and how well its book is known, in words."""
    if venue["waits"] is not None:
        return f"{venue['kind']}, entries wait: books compared {venue['waits']}"
    if venue["breaker"] == "closed":
        return f"{venue['kind']}, {venue['failures']} failed calls lately" if venue["failures"] else str(venue["kind"])
    return f"{venue['kind']}, entries held back: breaker {venue['breaker']}, trial from {venue['trial_at'][11:19]}Z"


def watch_status(read: Callable[[], dict[str, Any]]) -> None:
    """Refresh the status until Ctrl-C."""
    with Live(status_table(read()), auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH_S)
            live.update(status_table(read()), refresh=True)


def outcome_table(found: dict[str, Any]) -> Table:
    """Legs per outcome and the rules that ended them."""
    table = Table(title=f"{found['legs']} legs, {found['decisions']} decisions, {found['orders']} orders")
    table.add_column("outcome")
    table.add_column("legs", justify="right")
    table.add_column("rules (decisions)")
    for outcome, count in sorted(found["outcomes"].items(), key=lambda row: -row[1]):
        mine = {name.split(":", 1)[1]: n for name, n in found["rules"].items() if name.startswith(f"{outcome}:")}
        rules = ", ".join(f"{rule} {n}" for rule, n in sorted(mine.items(), key=lambda row: -row[1]))
        table.add_row(outcome, str(count), escape(rules))
    return table


def _positions(positions: dict[str, Any]) -> Table:
    table = Table(title="positions" if positions else "no positions")
    table.add_column("symbol")
    table.add_column("quantity", justify="right")
    table.add_column("average price", justify="right")
    for symbol, position in positions.items():
        table.add_row(symbol, str(position["quantity"]), position["average_price"])
    return table


def summary_text(found: dict[str, Any]) -> Group:
    """A replay's summary."""
    head = Table(title="the recording is over", show_header=False)
    refused = ", ".join(f"{reason} {n}" for reason, n in found["refused"].items()) or "none"
    head.add_row("messages", f"{found['messages_read']} read, {found['accepted']} accepted; refused: {refused}")
    head.add_row("orders / fills / trades", f"{found['orders']} / {found['fills']} / {found['trades']['closed']}")
    money = {name: f"{Decimal(found[name]):,.2f} USD" for name in ("profit", "starting_equity", "final_equity")}
    head.add_row("P&L", f"{money['profit']} on {money['starting_equity']}; equity {money['final_equity']}")
    head.add_row("closed trades", f"{found['trades']['won']} won, {found['trades']['lost']} lost")
    head.add_row("time", f"{found['seconds']} s, {found['messages_per_second']} messages/s")
    return Group(outcome_table(found), head)


def hints_text(found: dict[str, Any], data_dir: str) -> str:
    """Where to look next: commands as they work from here, one a line."""
    example = found["examples"].get("executed") or next(iter(found["examples"].values()), "ID")
    where = f"{_program()} --profile {found['profile']} --data-dir {_near(data_dir)}"
    return "\n".join(
        (
            "\nlook further:",
            f"  {where} trace '{example}'   # why a trade",
            f"  {where} inspect decisions   # what was decided",
            f"  {where} dead   # bad input, with reasons",
            f"  {where} inspect keys --serve   # keeps Redis open and prints its address for redis-cli",
        )
    )


def _program() -> str:
    """How this program was called, as short as it works from here."""
    called = Path(sys.argv[0])
    return "fleet" if called.name != "fleet" or shutil.which("fleet") == str(called) else _near(str(called))


def _near(path: str) -> str:
    """The path relative to the working directory when it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path

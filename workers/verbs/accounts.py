"""The verb that makes the fleet's secrets."""

from pathlib import Path
from typing import Annotated

import typer

from workers.accounts import ROLES, Server, write_accounts
from workers.verbs.common import read_settings

app = typer.Typer()


@app.command()
def acl(
    folder: Annotated[Path, typer.Argument(help="where users.acl and each role's secrets are written; kept if there")],
    host: Annotated[str, typer.Option(help="Redis's host as the processes see it")] = "redis",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="its port")] = 6379,
    rotate: Annotated[
        list[str] | None, typer.Option(help="role that gets a new password; may be given several times")
    ] = None,
    *,
    tls: Annotated[bool, typer.Option("--tls", help="addresses are rediss://")] = False,
) -> None:
    """Make Redis's accounts, one per role: an ACL file with hashes, and each role's address as a secret file."""
    settings = read_settings()
    server = Server(host, port, tls=tls, prefix=settings.redis.key_prefix, rq_prefix=settings.rq_prefix)
    made = write_accounts(folder, server, rotate or ())
    for name in made:
        typer.echo(f"made {name}")
    typer.echo(f"{folder}/redis/users.acl: {len(ROLES)} accounts; ACL LOAD takes it up")

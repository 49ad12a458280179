"""`ragline migrate`: the database's schema, up and down."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ragline.cli.servers import postgres_dsn, quiet_clients, reachable

app = typer.Typer(invoke_without_command=True)


@app.callback()
def migrate(
    context: typer.Context,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say whether the schema is the newest.")
    ] = False,
) -> None:
    """Bring PostgreSQL's schema to the newest revision; `ragline migrate down REVISION` takes it back.

    Exit codes: 0 the schema is the newest, 1 it is not (--check) or the migration failed, 3 PostgreSQL does not answer.
    """
    if context.invoked_subcommand is not None:
        return
    from storage.postgres import migrate as migrations

    quiet_clients()
    dsn, head = postgres_dsn(), migrations.head_revision()
    before = asyncio.run(reachable(migrations.current_revision(dsn), "postgres_dsn"))
    if before == head:
        typer.echo(f"the schema is the newest: {head}")
    elif check:
        typer.echo(f"the schema is {before or 'empty'}, the newest is {head}; run `ragline migrate`")
        raise typer.Exit(1)
    else:
        asyncio.run(reachable(migrations.upgrade(dsn), "postgres_dsn"))
        typer.echo(f"migrated from {before or 'an empty database'} to {head}")


@app.command()
def down(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Where to stop; `base` is the empty database.")],
) -> None:
    """Take the schema back to an older revision. What only newer tables hold is lost.

    Exit codes: 0 done, 2 there is no such revision, 3 PostgreSQL does not answer.
    """
    from alembic.util import CommandError

    from storage.postgres import migrate as migrations

    quiet_clients()
    try:
        asyncio.run(reachable(migrations.downgrade(postgres_dsn(), revision), "postgres_dsn"))
    except CommandError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"the schema is {revision}")

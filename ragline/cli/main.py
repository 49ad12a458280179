"""The `ragline` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ragline import __version__
from ragline.cli import dlq, migrate, rebuild, topics
from ragline.cli.ask import ask
from ragline.cli.dev import dev
from ragline.cli.doctor import doctor
from ragline.cli.evaluate import evaluate
from ragline.cli.init import init
from ragline.cli.processes import edge, relay, worker
from ragline.cli.settings import settings
from ragline.cli.upload import upload

app = typer.Typer(
    name="ragline",
    help="The event-driven backend for products that chat over their own documents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(dev)
app.command()(ask)
app.command()(upload)
app.command("eval")(evaluate)
app.command()(init)
app.command()(edge)
app.command()(worker)
app.command()(relay)
app.add_typer(migrate.app, name="migrate")
app.add_typer(topics.app, name="topics")
app.add_typer(dlq.app, name="dlq")
app.add_typer(rebuild.app, name="rebuild")
app.command()(settings)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ragline {__version__}")
        raise typer.Exit


@app.callback()
def ragline(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The event-driven backend for products that chat over their own documents."""


def main() -> None:
    """Runs the command line; errors a person can mend are one line and an exit code (1 if nothing else is said)."""
    from ragline.client.errors import ClientError
    from ragline.settings import SettingsError
    from schemas.errors import RaglineError

    try:
        app()
    except (ClientError, SettingsError, RaglineError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, ClientError) else 1)


if __name__ == "__main__":
    main()

"""`ragline dev`: the whole of Ragline on one machine."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

_LAST_PORT = 65535


def _check_ports(first: int, n_edges: int) -> None:
    if first + n_edges - 1 > _LAST_PORT:
        raise typer.BadParameter(f"{n_edges} edges from port {first} on end beyond port {_LAST_PORT}")


def dev(
    *,
    home: Annotated[Path | None, typer.Option(help="Folder that holds all data. [default: .ragline]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the first edge; 0 takes free ones. [default: 8080]")
    ] = None,
    edges: Annotated[int, typer.Option(min=1, max=64, help="Number of edges, on ports N, N+1, …")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of workers.")] = 1,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write addresses, keys and process ids here when everything answers.")
    ] = None,
    embedded: Annotated[
        bool,
        typer.Option("--embedded/--no-embedded", help="Run Kafka and PostgreSQL here, or use those of the settings."),
    ] = True,
) -> None:
    """Run everything on this machine: real Kafka and PostgreSQL, edges, workers and relay. Ctrl-C stops all."""
    if ready_file is not None:  # before the slow imports: nobody shall take an earlier run's file for this one's
        with contextlib.suppress(OSError):
            ready_file.unlink()
    from ragline.dev_stack.environment import announce_home
    from ragline.dev_stack.errors import ChildDiedError, DevStackError
    from ragline.dev_stack.narrator import Narrator
    from ragline.dev_stack.supervisor import DevOptions, Supervisor
    from ragline.settings import SettingsError, check_model_keys, load_settings

    narrator = Narrator()
    try:
        if home is not None:
            announce_home(home)
        settings = load_settings()
        check_model_keys(settings)
        port = settings.edge.port if port is None else port
        _check_ports(port, edges)
        options = DevOptions(
            settings.home, port, n_edges=edges, n_workers=workers, ready_file=ready_file, embedded=embedded
        )
        asyncio.run(Supervisor(options, settings, narrator).run())
    except (DevStackError, SettingsError) as error:
        narrator.failure(str(error), error.tail if isinstance(error, ChildDiedError) else "")
        raise typer.Exit(1) from None

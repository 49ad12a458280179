"""`ragline upload`: files into the library, with what becomes of each."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from ragline.cli.ask import ApiKey, Url
from ragline.cli.printable import printable
from ragline.cli.settings import NEVER_FOLDED

if TYPE_CHECKING:
    from ragline.client.target import Target
    from ragline.client.uploads import Uploaded
    from schemas.http import DocumentProgress


class _Watching(Protocol):
    def tell(self, path: Path, progress: DocumentProgress) -> None: ...
    def done(self, result: Uploaded) -> None: ...


def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files, or folders of files.")],
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until each is searchable.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per document, a line each.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Upload documents and wait until they can be asked about.

    A document whose bytes are there already counts as done; one that failed is tried again. Ctrl-C cancels: what
    this command sent and is not learnt yet is deleted.

    Exit codes: 0 all are indexed, 1 some failed (each reason is shown), 2 wrong use, 3 no server answers or it does
    not know the key, 130 cancelled.
    """
    from ragline.client.target import find_target
    from ragline.client.uploads import find_files
    from ragline.settings import load_settings

    paths = find_files(files)
    target = find_target(load_settings(), urls=tuple(url or ()), api_key=api_key)
    watching = _Lines() if as_json else _bars(paths)
    began = time.monotonic()
    with watching if isinstance(watching, AbstractContextManager) else nullcontext():
        results = asyncio.run(_upload(target, paths, watching, wait=wait))
    if not as_json:
        _show_table(results)
        typer.echo(_summary(results, took_s=time.monotonic() - began))
    if any(result.status == "cancelled" for result in results):
        raise typer.Exit(130)
    if not all(result.is_good for result in results):
        raise typer.Exit(1)


async def _upload(target: Target, paths: list[Path], watching: _Watching, *, wait: bool) -> list[Uploaded]:
    from ragline.client.connection import Connection
    from ragline.client.uploads import upload_all

    async with Connection(target) as connection:
        return await upload_all(connection, paths, wait=wait, tell=watching.tell, done=watching.done)


class _Lines:
    """For programs: a line of JSON as each document is done."""

    def tell(self, path: Path, progress: DocumentProgress) -> None:
        """Progress is for people."""

    def done(self, result: Uploaded) -> None:
        """Print it."""
        typer.echo(
            json.dumps(
                {
                    "path": str(result.path).encode("utf-8", "replace").decode(),
                    "document_id": str(result.document_id) if result.document_id is not None else None,
                    "status": result.status,
                    "is_new": result.is_new,
                    "is_tried_again": result.is_tried_again,
                    "n_pages": result.n_pages,
                    "n_passages": result.n_passages,
                    "error": result.error,
                },
                ensure_ascii=False,
            )
        )


def _bars(paths: list[Path]) -> _Watching:
    from rich.console import Console

    from ragline.cli.upload_bars import Bars

    console = Console()
    return Bars(console, paths) if console.is_terminal else _Silence()


class _Silence:
    """Where nobody watches: the table at the end says it all."""

    def tell(self, path: Path, progress: DocumentProgress) -> None:
        """Nothing."""

    def done(self, result: Uploaded) -> None:
        """Nothing."""


def _show_table(results: list[Uploaded]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("file", "status", "pages", "passages", "document"):
        justify: Literal["right", "left"] = "right" if column in {"pages", "passages"} else "left"
        table.add_column(column, overflow="fold", justify=justify, no_wrap=column == "document")
    for r in results:
        how = ", tried again" if r.is_tried_again else ", was there already" if r.is_good and not r.is_new else ""
        style = "green" if r.status == "indexed" else "" if r.is_good else "red"
        numbers = [str(n) if n else "" for n in (r.n_pages, r.n_passages)]
        table.add_row(
            Text(printable(r.path.name)), Text(r.status + how, style=style), *numbers, str(r.document_id or "")
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else NEVER_FOLDED).print(table)
    for r in results:
        if not r.is_good and (r.error or r.status != "cancelled"):
            typer.echo(f"error: {printable(str(r.path))}: {printable(r.error or r.status)}", err=True)


def _summary(results: list[Uploaded], *, took_s: float) -> str:
    counts = Counter(result.status for result in results).most_common()
    found = f"{sum(r.n_pages for r in results):,} pages, {sum(r.n_passages for r in results):,} passages"
    return f"{len(results):,} files: {', '.join(f'{n:,} {status}' for status, n in counts)}; {found}; {took_s:.1f} s"

"""`ragline rebuild`: what is derived, compared with what it is derived from, and mended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from ragline.cli.servers import postgres_dsn, quiet_clients, reachable
from ragline.client.errors import UnreachableError, WrongUseError
from ragline.settings import load_settings

if TYPE_CHECKING:
    from consumers.rebuild.conversations import ConversationsReport
    from ragline.wiring.rebuild import Stores

ResultT = TypeVar("ResultT")

app = typer.Typer(no_args_is_help=True, help="Derive again what is derived, compare it row by row, mend what differs.")

Tenant = Annotated[UUID | None, typer.Option(metavar="ID", help="This tenant only. [all]")]
Execute = Annotated[bool, typer.Option("--execute", help="Mend what differs; else it is only shown.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def conversations(*, tenant: Tenant = None, execute: Execute = False, as_json: AsJson = False) -> None:
    """Compare sessions and messages with the events of archive and log. Without --execute nothing is changed.

    Sessions with an answer being written are passed over; each other one is mended in a transaction of its own.

    Exit codes: 0 all is as the events say, or was mended, 1 something differs or could not be compared,
    2 wrong use, 3 a server does not answer.
    """
    from consumers.rebuild.conversations import ConversationsReport, rebuild_conversations

    report = ConversationsReport()

    async def run(stores: Stores, tenants: list[UUID]) -> None:
        with _status(f"{len(tenants)} tenants") as tell:
            for id_ in tenants:
                await rebuild_conversations(
                    stores.database,
                    stores.blobs,
                    id_,
                    report,
                    execute=execute,
                    on_progress=lambda: tell(f"{report.n_sessions} sessions, {report.n_messages} messages"),
                )

    _with_stores(tenant, run)
    if as_json:
        _print_json({"dry_run": not execute, **asdict(report)})
    else:
        _show_conversations(report)
        _show_end(report.n_different, report.n_mended, execute=execute)
    if report.n_left_alone or report.n_different > report.n_mended:
        raise typer.Exit(1)


@app.command()
def vectors(*, tenant: Tenant = None, execute: Execute = False, as_json: AsJson = False) -> None:
    """Compare the search index with the passages in PostgreSQL, embedded anew. Without --execute nothing is changed.

    What differs is written anew, a batch of passages at a time, while the index's writer waits. Documents that
    were learnt under another embedding model than the configured one are found by search again after --execute.

    Exit codes: 0 all is as the passages say, or was mended, 1 something differs, 2 wrong use,
    3 a server does not answer.
    """
    from consumers.rebuild.vectors import VectorsReport

    report = VectorsReport()

    async def run(stores: Stores, tenants: list[UUID]) -> None:
        with _status(f"{len(tenants)} tenants") as tell:
            async with stores.vector_tables() as tables:
                for id_ in tenants:
                    await tables.rebuild(
                        id_, report, execute=execute, on_progress=lambda: tell(f"{report.n_passages} passages")
                    )

    _with_stores(tenant, run)
    if as_json:
        _print_json({"dry_run": not execute, **asdict(report)})
    else:
        typer.echo(f"{report.n_passages} passages: {report.n_different} rows differ")
        for one in report.differences:
            typer.echo(f"  passage {one.passage_id} of batch {one.batch_id}: {one.kind}")
        _show_rest(len(report.differences), report.n_different - report.n_stale)
        if report.n_stale:
            typer.echo(f"{report.n_stale} rows are of no indexed document")
        if report.n_other_models:
            typer.echo(
                f"{report.n_other_models} passages of other embedding models, which search does not find:"
                f" {report.n_adopted} are of this one now"
            )
        _show_end(report.n_different, report.n_mended, execute=execute)
    if report.n_different > report.n_mended or report.n_other_models > report.n_adopted:
        raise typer.Exit(1)


def _show_conversations(report: ConversationsReport) -> None:
    typer.echo(f"{report.n_sessions} sessions, {report.n_messages} messages: {report.n_different} rows differ")
    for one in report.differences:
        columns = f" ({', '.join(one.columns)})" if one.columns else ""
        typer.echo(f"  {one.table} {one.id} of session {one.session_id}: {one.kind}{columns}")
    _show_rest(len(report.differences), report.n_different)
    if report.n_busy:
        typer.echo(f"{report.n_busy} sessions were passed over: an answer is being written")
    if report.n_left_alone:
        typer.echo(f"{report.n_left_alone} sessions could not be compared:")
    for left in report.left_alone:
        typer.echo(f"  session {left.session_id}: {left.reason}")
    _show_rest(len(report.left_alone), report.n_left_alone)


def _show_rest(n_shown: int, n: int) -> None:
    if n > n_shown:
        typer.echo(f"  … and {n - n_shown} more")


def _show_end(n_different: int, n_mended: int, *, execute: bool) -> None:
    if execute:
        typer.echo(f"{n_mended} rows mended")
    elif n_different:
        typer.echo("nothing was changed; mend with --execute")


def _with_stores(tenant: UUID | None, work: Callable[[Stores, list[UUID]], Awaitable[ResultT]]) -> ResultT:
    """What the work gives for the tenant, or for all. Raises: UnreachableError; WrongUseError without such a tenant."""
    from consumers.rebuild.store import tenants
    from providers.ports import ProviderError
    from ragline.wiring.rebuild import rebuild_stores

    quiet_clients()
    settings, dsn = load_settings(), postgres_dsn()

    async def run() -> ResultT:
        async with rebuild_stores(settings, dsn) as stores:
            async with stores.database.transaction() as work_:
                known = await tenants(work_)
            if tenant is not None and tenant not in known:
                raise WrongUseError(f"there is no tenant {tenant}")
            return await work(stores, known if tenant is None else [tenant])

    try:
        return asyncio.run(reachable(run(), "postgres_dsn"))
    except ProviderError as error:
        raise UnreachableError(f"the embedding model: {error.detail}; what was done stays done, run it again") from None


def _status(text: str) -> AbstractContextManager[Callable[[str], None]]:
    """A line on a terminal that says how far it is; nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from contextlib import contextmanager

    from rich.console import Console

    @contextmanager
    def shown() -> Any:
        with Console(stderr=True).status(text) as status:
            yield status.update

    return shown()


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))

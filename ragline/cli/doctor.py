"""`ragline doctor`: what is wrong with this installation, and what to do."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragline.cli.printable import printable
from ragline.cli.servers import kafka_bootstrap, postgres_dsn, quiet_clients
from ragline.client.errors import WrongUseError

if TYPE_CHECKING:
    from ragline.doctor.findings import Finding, Patient

NEVER_FOLDED = 500
_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: status, checks.")] = False,
    no_models: Annotated[
        bool,
        typer.Option("--no-models", help="Ask no model; else each is asked once, for at most 16 tokens."),
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a tar.gz for a bug report, without secrets and without content."),
    ] = None,
) -> None:
    """Check everything that this installation rests on, and say what to do about what is wrong.

    Servers and settings are those of this folder, or of the `ragline dev` that runs in it. Nothing of yours is
    changed: what is written to try a store is removed, and one record that counts for no reader goes to Kafka.

    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is wrong, 2 FILE cannot be written.
    """
    quiet_clients()
    findings = asyncio.run(_examined(_patient(asks_models=not no_models), bundle))
    is_wrong = any(one.status == "wrong" for one in findings)
    if as_json:
        checks = [asdict(one) for one in findings]
        typer.echo(
            json.dumps({"status": "wrong" if is_wrong else "ok", "checks": checks}, ensure_ascii=False, indent=2)
        )
    else:
        _show(findings)
        if bundle is not None:
            typer.echo(f"\n{bundle} holds the report, without secrets; look through it before you send it")
    if is_wrong:
        raise typer.Exit(1)


async def _examined(patient: Patient, bundle: Path | None) -> list[Finding]:
    from ragline.doctor.examination import groups
    from ragline.doctor.findings import examine
    from ragline.doctor.redaction import Redactor, known_secrets

    redactor = Redactor(known_secrets(patient.settings))
    found = await examine(patient, groups(patient.settings))
    if bundle is not None:
        from ragline.doctor.bundle import write_bundle

        try:
            await write_bundle(bundle, patient, found, redactor)
        except OSError as error:
            raise WrongUseError(f"{bundle} cannot be written: {error.strerror}") from None
    return [replace(one, found=redactor.text(one.found)) for one in found]


def _patient(*, asks_models: bool) -> Patient:
    from pydantic import SecretStr

    from ragline.client.target import home_stack
    from ragline.doctor.findings import Patient
    from ragline.settings import load_settings

    settings = load_settings()
    addresses = {"kafka_bootstrap": kafka_bootstrap(), "postgres_dsn": SecretStr(postgres_dsn())}
    stack = home_stack(settings.home)
    known = (settings.client.url.rstrip("/"),) if settings.client.url else stack.urls if stack is not None else ()
    return Patient(settings.model_copy(update=addresses), edges=known, asks_models=asks_models)


def _show(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    for one in findings:
        found = Text(printable(one.found))
        if one.remedy:
            found.append(f"\n→ {one.remedy}", style="bold" if one.status == "wrong" else "")
        table.add_row(Text(one.status, style=_STYLES[one.status]), one.name, found)
    Console(highlight=False, width=None if sys.stdout.isatty() else NEVER_FOLDED).print(table)
    n = {status: sum(one.status == status for one in findings) for status in _STYLES}
    typer.echo(f"\n{n['ok']} ok, {n['warning']} warnings, {n['wrong']} wrong, {n['skipped']} skipped")

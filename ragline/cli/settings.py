"""`ragline settings`: what every process sees."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

NEVER_FOLDED = 500


def settings(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object: name → value, source, where.")] = False
) -> None:
    """Show the effective settings and where each comes from; secrets are masked.

    Exit codes: 0 shown, 1 a setting is wrong.
    """
    from ragline.settings import load_settings, setting_sources
    from ragline.settings_report import report

    rows = report(load_settings(), setting_sources())
    if as_json:
        described = {row.name: {k: v for k, v in asdict(row).items() if k != "name"} for row in rows}
        typer.echo(json.dumps(described, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "source"):
        table.add_column(column, overflow="fold")
    for row in rows:
        value = "" if row.value is None else json.dumps(row.value, ensure_ascii=False).strip('"')
        source = f"{row.source} {row.where}".strip()
        table.add_row(row.name, Text(value), Text(source, style="dim" if row.source == "default" else ""))
    Console(highlight=False, width=None if sys.stdout.isatty() else NEVER_FOLDED).print(table)

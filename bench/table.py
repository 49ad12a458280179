"""The table, for a terminal and for docs/measurements.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Row

HEADS = ("line", "measure", "limit", "baseline", "ours", "ratio", "verdict", "note")
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def verdict(row: Row) -> str:
    """`ok` or `short`; nothing for what has no limit."""
    return "" if row.ok is None else ("ok" if row.ok else "short")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    return (row.line, row.measure, row.limit, row.baseline, row.ours, row.ratio, verdict(row), row.note)


def show(rows: Sequence[Row]) -> None:
    """Prints the table; plain lines where there is no terminal."""
    console = Console()
    table = Table(*HEADS, title=f"Ragline bench · {machine()}", title_justify="left")
    for row in rows:
        colour = {"ok": "green", "short": "red"}.get(verdict(row), "")
        table.add_row(*cells(row)[:6], f"[{colour}]{verdict(row)}[/]" if colour else "", row.note)
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def markdown(rows: Sequence[Row], page: str) -> str:
    """The page with its table renewed; what people wrote around it stays."""
    lines = [machine(), "", f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    block = "\n".join([BEGIN, *lines, END])
    before, found, rest = page.partition(BEGIN)
    if not found:
        return f"{page.rstrip()}\n\n{block}\n".lstrip()
    return before + block + rest.partition(END)[2]


def machine() -> str:
    """Where and of what this was measured."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · commit {_commit()} · {_processor()}, {os.cpu_count()} cores, "
        f"{memory_gib:.0f} GiB · {platform.system()} {platform.release()} · Python {platform.python_version()} · "
        f"load {load:.1f}"
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return found.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")

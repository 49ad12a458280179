"""What `ragline dev` writes for programs, to its home and to `--ready-file`: what answers where, what runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from ragline.dev_stack.home import write_private

IN_HOME = "ready.json"


class RunningProcess(TypedDict):
    """One process; `pid` is the program itself. An edge has a `url`, others if they serve their metrics."""

    role: str
    pid: int
    url: NotRequired[str]


class ReadyReport(TypedDict):
    """The whole file (design §2)."""

    base_url: str
    api_key: str
    admin_email: str
    admin_password: str
    kafka_bootstrap: str
    postgres_dsn: str
    home: str
    processes: list[RunningProcess]


def write(path: Path, report: ReadyReport) -> None:
    """Replace the file atomically; only its owner may read it, for it holds secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps(report, indent=2))

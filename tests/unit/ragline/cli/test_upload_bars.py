"""What a person is told while files are learnt."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ragline.cli.upload_bars import Bars, share, step
from ragline.client.uploads import Uploaded
from schemas.events import ErrorInfo
from schemas.http import DocumentProgress


@pytest.mark.parametrize(
    ("progress", "per_cent", "said"),
    [
        (DocumentProgress(status="queued", step="queued"), 5, "queued"),
        (DocumentProgress(status="parsing", step="parsing"), 5, "parsing"),
        (
            DocumentProgress(status="parsing", step="parsing", n_parsed=1000, n_pages=5000, eta_s=83.6),
            10,
            "parsing, page 1,000 of 5,000, 0:01:24 left",
        ),
        (
            DocumentProgress(status="embedding", step="embedding", n_pages=14, n_passages=96, n_embedded=48, eta_s=2),
            62.5,
            "embedding, 48/96 passages of 14 pages, 0:00:02 left",
        ),
        (
            DocumentProgress(status="indexing", step="indexing", n_passages=9, n_embedded=9),
            95,
            "indexing, 9/9 passages",
        ),
        (
            DocumentProgress(status="failed", step="failed", error=ErrorInfo(code="c", message="It is \x1b[31mred.")),
            100,
            "failed, It is \\x1b[31mred.",
        ),
    ],
)
def test_step_pages_passages_time_and_reason(progress: DocumentProgress, per_cent: float, said: str) -> None:
    assert (share(progress), step(progress)) == (per_cent, said)


def test_one_bar_for_all_and_a_screen_of_those_in_work() -> None:
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=True)
    paths = [Path(f"[{n}]\x1b.txt") for n in range(30)]
    bars = Bars(console, paths)
    for path in paths[:5]:
        bars.done(Uploaded(path, None, "failed" if path == paths[0] else "indexed", is_new=True))
    bars.tell(paths[5], DocumentProgress(status="parsing", step="parsing", n_parsed=1, n_pages=2))
    shown = io.StringIO()
    Console(file=shown, width=100).print(bars.progress)
    lines = [line.split() for line in shown.getvalue().splitlines()]
    assert lines[0][:2] == ["30", "files"]
    assert "1 failed" in " ".join(lines[0])
    assert len(lines) == 1 + 12
    assert lines[1][0] == "[5]\\x1b.txt"
    assert "parsing, page 1 of 2" in " ".join(lines[1])

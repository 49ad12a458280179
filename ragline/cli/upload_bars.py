"""A bar for each file that is being learnt, and one for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ragline.cli.printable import printable
from ragline.client.uploads import Uploaded
from schemas.http import DocumentProgress

_SHOWN = 12
_STEPS = {"accepted": 5, "queued": 5, "parsing": 5, "embedding": 30, "indexing": 95, "indexed": 100, "failed": 100}


class Bars:
    """Moves while it is entered; at most a screen of them, the first ones first."""

    def __init__(self, console: Console, paths: Sequence[Path]) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._n_failed = 0
        self._all = self.progress.add_task(f"{len(paths):,} files", total=len(paths), step="", visible=len(paths) > 1)
        self._bars: dict[Path, TaskID] = {
            path: self.progress.add_task(
                escape(printable(path.name)), total=100, step="uploading", visible=number < _SHOWN
            )
            for number, path in enumerate(paths)
        }

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def tell(self, path: Path, progress: DocumentProgress) -> None:
        """How far the document is."""
        self.progress.update(self._bars[path], completed=share(progress), step=escape(step(progress)))

    def done(self, result: Uploaded) -> None:
        """The bar is full, and makes room for one that is not shown yet."""
        self._n_failed += not result.is_good
        self.progress.update(self._all, advance=1, step=f"{self._n_failed:,} failed" if self._n_failed else "")
        self.progress.update(self._bars[result.path], completed=100, step=escape(result.status), visible=False)
        waiting = (task for task in self.progress.tasks if not task.visible and not task.finished)
        if (following := next(waiting, None)) is not None:
            self.progress.update(following.id, visible=True)


def share(progress: DocumentProgress) -> float:
    """Per cent of the way."""
    begin = float(_STEPS.get(progress.status, 0))
    if progress.status == "parsing" and progress.n_pages:
        return begin + (_STEPS["embedding"] - begin) * progress.n_parsed / progress.n_pages
    if progress.status == "embedding" and progress.n_passages:
        return begin + (_STEPS["indexing"] - begin) * progress.n_embedded / progress.n_passages
    return begin


def step(progress: DocumentProgress) -> str:
    """The step in words: pages or passages done, how long it will take, or why it failed."""
    said = [progress.step or progress.status]
    if progress.status == "parsing" and progress.n_pages:
        said.append(f"page {progress.n_parsed:,} of {progress.n_pages:,}")
    elif progress.status in {"embedding", "indexing"} and progress.n_passages:
        pages = f" of {progress.n_pages:,} pages" if progress.n_pages else ""
        said.append(f"{progress.n_embedded:,}/{progress.n_passages:,} passages{pages}")
    elif progress.error is not None:
        said.append(printable(progress.error.message))
    if progress.eta_s:
        said.append(f"{timedelta(seconds=round(progress.eta_s))} left")
    return ", ".join(said)

"""A bar for each file that is being learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ragline.client.uploads import Uploaded
from schemas.http import DocumentProgress

_SHOWN = 12


class Bars:
    """Moves while it is entered; at most a screen of them, the first ones first."""

    def __init__(self, console: Console, paths: Sequence[Path], steps: Mapping[str, int]) -> None:
        self._steps = steps
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._bars: dict[Path, TaskID] = {
            path: self._progress.add_task(escape(path.name), total=100, step="uploading", visible=number < _SHOWN)
            for number, path in enumerate(paths)
        }

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def tell(self, path: Path, progress: DocumentProgress) -> None:
        """How far the document is."""
        done = float(self._steps.get(progress.status, 0))
        step = progress.step or progress.status
        if progress.status == "embedding" and progress.n_passages:
            done += (self._steps["indexing"] - done) * progress.n_embedded / progress.n_passages
            step = f"embedding {progress.n_embedded}/{progress.n_passages}"
        self._progress.update(self._bars[path], completed=done, step=escape(step))

    def done(self, result: Uploaded) -> None:
        """The bar is full, and makes room for one that is not shown yet."""
        self._progress.update(self._bars[result.path], completed=100, step=escape(result.status), visible=False)
        waiting = (task for task in self._progress.tasks if not task.visible and not task.finished)
        if (following := next(waiting, None)) is not None:
            self._progress.update(following.id, visible=True)

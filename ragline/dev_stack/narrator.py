"""What a person sees while the stack starts and runs: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

_PLAIN_EVERY_S = 5.0


class _Terminal(Console):
    """A terminal that may be closed while the stack runs on, or while it stops: what cannot be shown is dropped."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more; that is no reason to end."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As always, but never raises."""
        with contextlib.suppress(OSError, ValueError):
            super().print(*objects, **options)


class Narrator:
    """Tells of progress, events and the address; nothing else writes to the terminal."""

    def __init__(self) -> None:
        self._console = _Terminal(highlight=False, soft_wrap=True)
        self._errors = _Terminal(highlight=False, soft_wrap=True, stderr=True)
        self._status: Status | None = None
        self._said: dict[str, float] = {}

    def progress(self, text: str) -> None:
        """What is being done now. Where there is no terminal, a step that repeats itself is told every few seconds."""
        if self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status(escape(text))
                self._status.start()
            self._status.update(escape(text))
            return
        step = text.split(":", maxsplit=1)[0]
        if time.monotonic() - self._said.get(step, float("-inf")) >= _PLAIN_EVERY_S:
            self._said[step] = time.monotonic()
            self._console.print(escape(text))

    def settled(self) -> None:
        """The moving line ends."""
        if self._status is not None:
            with contextlib.suppress(OSError, ValueError):
                self._status.stop()
            self._status = None

    def event(self, text: str, detail: str = "") -> None:
        """Something that happened, and the lines that explain it."""
        self._console.print(escape(text), style="yellow")
        if detail:
            self._console.print(_quoted(detail), style="dim")

    def failure(self, text: str, detail: str = "") -> None:
        """Why the stack ends."""
        self.settled()
        if detail:
            self._errors.print(_quoted(detail), style="dim")
        self._errors.print(f"[bold red]error:[/] {escape(text)}")

    def ready(self, *, base_url: str, api_key: str, seconds: float) -> None:
        """The stack answers."""
        self.settled()
        self._console.print(f"\n[bold green]Ragline is ready[/] after {seconds:.1f} s")
        self._console.print(f"  API documentation  [bold]{escape(base_url)}/docs[/]")
        self._console.print(f"  API key            [bold]{escape(api_key)}[/]")
        self._console.print("  Ctrl-C stops everything.\n")


def _quoted(lines: str) -> str:
    return escape("\n".join(f"  │ {line}" for line in lines.splitlines()))

"""The shape that every supervised thing has, be it an embedded server or a role of Ragline."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ragline.dev_stack.spawning import Child


class Service(Protocol):
    """Something that the supervisor keeps running."""

    @property
    def role(self) -> str:
        """As in the ready file: `edge`, `worker`, `relay`, `kafka` or `postgres`."""

    @property
    def name(self) -> str:
        """Unique in the stack: `edge-1`."""

    @property
    def url(self) -> str | None:
        """Where an edge answers."""

    @property
    def stop_signal(self) -> int:
        """What asks it for a quick, clean end."""

    def spawn(self) -> Child:
        """Start the process. Holds before: what it needs (ports, data folder) is prepared."""

    async def wait_ready(self, child: Child) -> None:
        """Returns when the process serves. Raises: ChildDiedError if it ends first."""


def log_file(home: Path, name: str) -> Path:
    """Where the process called `name` writes."""
    return home / "logs" / f"{name}.log"

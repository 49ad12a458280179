"""`ragline` at a terminal of its own, as a person runs it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack import DevStack, environment


@dataclass
class Terminal:
    """A command at work, and all that it has sent so far."""

    process: subprocess.Popen[bytes]
    descriptor: int
    seen: bytes = b""

    def until(self, shown: bytes) -> None:
        """Reads until `shown` was sent. Raises: EOFError if the command ended before."""
        while shown not in self.seen:
            if not self._read():
                raise EOFError(self.seen)

    def ended(self) -> int:
        """Reads all; the exit code."""
        while self._read():
            pass
        return self.process.wait()

    def _read(self) -> bool:
        try:
            piece = os.read(self.descriptor, 4096)
        except OSError:  # EIO: the other side is closed
            return False
        self.seen += piece
        return bool(piece)


@contextmanager
def at_a_terminal(stack: DevStack, *arguments: str | Path) -> Iterator[Terminal]:
    """Runs `ragline ARGUMENTS` in the stack's folder."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ragline.cli.main", *map(str, arguments)],
        cwd=stack.folder,
        env=environment({"TERM": "xterm-256color"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    with process, open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor, not a path
        yield Terminal(process, terminal.fileno())

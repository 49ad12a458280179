"""What a process writes to its log."""

from __future__ import annotations

import logging
import time


class OnceInAWhile(logging.Filter):
    """Lets a library say the same thing once in `every_s`: a broker that is away is one line, not thirty a second."""

    def __init__(self, library: str, *, every_s: float) -> None:
        super().__init__()
        self._library = library
        self._every_s = every_s
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what the library said a moment ago."""
        if record.name.partition(".")[0] != self._library:
            return True
        now = time.monotonic()
        if now - self._said_at.get(str(record.msg), -self._every_s) < self._every_s:
            return False
        self._said_at[str(record.msg)] = now
        return True

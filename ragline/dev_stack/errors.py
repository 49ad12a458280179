"""Why the development stack cannot start, in one line for a person."""

from __future__ import annotations


class DevStackError(Exception):
    """The stack cannot run; `str(error)` is one line: what happened, to which thing, what to do."""


class ChildDiedError(DevStackError):
    """A process ended before it was ready; `tail` holds the last lines it wrote."""

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail

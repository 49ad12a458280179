"""How many pages a parser has read, for who waits for it."""

from __future__ import annotations

import os
import re

_MESSAGE = re.compile(rb"\x1epages (\d{1,9}) (\d{1,9})\n")

_descriptor: int | None = None


def tell_on(descriptor: int) -> None:
    """From now on pages are told there."""
    global _descriptor  # noqa: PLW0603 - of a process that parses one file and ends
    _descriptor = descriptor


def tell_pages(n_read: int, n_pages: int) -> None:
    """So many of so many are read; nobody may listen."""
    if _descriptor is not None:
        os.write(_descriptor, b"\x1epages %d %d\n" % (n_read, n_pages))


def heard_pages(output: bytes) -> tuple[tuple[int, int] | None, bytes]:
    """What was told last in `output`, and the rest of it."""
    told = None
    for match in _MESSAGE.finditer(output):
        told = int(match[1]), int(match[2])
    return told, _MESSAGE.sub(b"", output)

"""Citation markers in an answer: `[1]`, `[1][3]`, `[1, 2]`, `[1-3]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_GROUP = re.compile(r"[\[【［]\s*(\d{1,3}(?:\s*[,;、，–-]\s*\d{1,3})*)\s*[\]】］](?!\(https?:)")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`", re.DOTALL)
_RANGE = re.compile(r"(\d+)\s*[–-]\s*(\d+)|(\d+)")
_MAX_RANGE = 50


@dataclass(frozen=True, slots=True)
class Marker:
    """One bracket: the numbers that it names, and where it stands, in code points."""

    numbers: tuple[int, ...]
    start: int
    end: int


def markers(text: str) -> list[Marker]:
    """The markers of `text` in order; what stands in Markdown code is none."""
    code = [(match.start(), match.end()) for match in _CODE.finditer(text)] if "`" in text or "~~~" in text else []
    found, i = [], 0
    for match in _GROUP.finditer(text):
        while i < len(code) and code[i][1] <= match.start():
            i += 1
        if i < len(code) and code[i][0] <= match.start():
            continue
        found.append(Marker(tuple(_numbers(match[1])), match.start(), match.end()))
    return found


def without_markers(text: str) -> str:
    """`text` with its markers taken out, together with the space before each."""
    pieces, start = [], 0
    for marker in markers(text):
        pieces.append(text[start : marker.start].rstrip(" "))
        start = marker.end
    return "".join([*pieces, text[start:]])


def _numbers(inside: str) -> Iterator[int]:
    for match in _RANGE.finditer(inside):
        if match[3]:
            yield int(match[3])
        else:
            first, last = int(match[1]), int(match[2])
            yield from range(first, max(first, min(last, first + _MAX_RANGE)) + 1)

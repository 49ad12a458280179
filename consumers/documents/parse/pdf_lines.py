"""The lines of a PDF page with their places, as PDFium finds them."""

from __future__ import annotations

import ctypes
import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pypdfium2.raw as pdfium

BROKEN_WORD = "\ufffe"
"""PDFium's sign for a hyphen at the end of a line, in the middle of a word (as is U+0002)."""

_SEGMENT_END = re.compile(f"\r\n|(?<={BROKEN_WORD})")
_BOLD = re.compile(r"bold|black|heavy|medi(?!um)|semib|demi|cmbx", re.IGNORECASE)
_FIXED = re.compile(r"courier|mono|consol|menlo|typewriter|cmtt|sltt", re.IGNORECASE)
_WIDE_CHARACTER = re.compile("[\U00010000-\U0010ffff]")
_IDEOGRAPH = re.compile("[\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]")
_SPACES = re.compile(r"\s+")
_LOOSE = 0.52
"""Letters wider than this share of the type's size, on average, have gaps between them."""
_CELL_GAP = 1.5
_NAME_BYTES = 128
_FIXED_PITCH = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A visual line; positions in points, `y` upwards; `size` is the type's, in points.

    `is_fixed`: all characters of its font are of one width.
    """

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    baseline: float
    size: float
    is_bold: bool
    is_fixed: bool
    ends_in_space: bool = False

    @property
    def ends_word(self) -> bool:
        """Whether the last word is whole."""
        return not self.text.endswith(BROKEN_WORD)

    @property
    def character_width(self) -> float:
        """Mean width of a letter; an ideograph counts as two."""
        return (self.x1 - self.x0) / (len(self.text) + len(_IDEOGRAPH.findall(self.text)))

    def is_level_with(self, other: Line) -> bool:
        """Whether both stand on one baseline, as cells of a row do."""
        return abs(self.baseline - other.baseline) < 0.15 * max(self.size, other.size)

    def shares_row(self, other: Line) -> bool:
        """Whether both stand at the same height."""
        overlap = min(self.top, other.top) - max(self.bottom, other.bottom)
        return overlap >= 0.5 * min(self.top - self.bottom, other.top - other.bottom)


def page_lines(textpage: Any) -> list[Line]:
    """The lines of a page in the order in which its file draws them; superscripts join the line they stand in.

    What wide gaps part (cells of a table, columns) is a line each.
    """
    text = textpage.get_text_range(0, -1, errors="ignore").replace("\x02", BROKEN_WORD)
    has_wide = _WIDE_CHARACTER.search(text) is not None
    lines: list[Line] = []
    for start, end in _segments(text):
        line = _line(textpage, text, start, end, has_wide=has_wide)
        if line is None:
            continue
        if lines and _continues_row(lines[-1], line):
            lines[-1] = _joined(lines[-1], line)
        else:
            lines += _cells(textpage, line, text, start, end) if not has_wide else [line]
    return lines


def _segments(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for match in _SEGMENT_END.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    return [*spans, (start, len(text))]


def _line(textpage: Any, text: str, start: int, end: int, *, has_wide: bool) -> Line | None:
    raw = text[start:end]
    stripped = raw.strip()
    if not stripped.strip(BROKEN_WORD):
        return None
    first = start + len(raw) - len(raw.lstrip())
    last = first + len(stripped.rstrip(BROKEN_WORD)) - 1  # the sign itself has no place
    positions: tuple[int, ...] = (first, (first + last) // 2, last)
    if has_wide:  # PDFium counts UTF-16 units
        positions = tuple(position + len(_WIDE_CHARACTER.findall(text, 0, position)) for position in positions)
    indexes = [pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, position) for position in positions]
    boxes = [box for box in (_box(textpage, index) for index in indexes) if box is not None]
    if not boxes:
        return None
    box = sorted(boxes, key=lambda box: box[3] - box[2])[len(boxes) // 2]
    fonts = [_font(textpage, index) for index in (indexes[0], indexes[2])]
    x, baseline = ctypes.c_double(), ctypes.c_double(box[2])
    pdfium.FPDFText_GetCharOrigin(textpage, indexes[1], ctypes.byref(x), ctypes.byref(baseline))
    return Line(
        text=" ".join(stripped.split()),
        x0=min(box[0] for box in boxes),
        x1=max(box[1] for box in boxes),
        top=box[3],
        bottom=box[2],
        baseline=baseline.value,
        size=max(_size(textpage, indexes[0]), _size(textpage, indexes[2])) or box[3] - box[2],
        is_bold=all(is_bold for is_bold, _ in fonts),
        is_fixed=all(is_fixed for _, is_fixed in fonts),
        ends_in_space=raw != raw.rstrip(),
    )


def _cells(textpage: Any, line: Line, text: str, start: int, end: int) -> list[Line]:
    """The line, parted where gaps are far wider than spaces."""
    if line.is_fixed or line.character_width < _LOOSE * line.size:
        return [line]
    starts, ends = [start], []
    for space in _SPACES.finditer(text, start, end):
        before = _box(textpage, pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, space.start() - 1))
        after = _box(textpage, pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, space.end()))
        if before is not None and after is not None and after[0] - before[1] > _CELL_GAP * line.size:
            ends.append(space.start())
            starts.append(space.end())
    if not ends:
        return [line]
    cells = (
        _line(textpage, text, first, last, has_wide=False) for first, last in zip(starts, [*ends, end], strict=True)
    )
    return [cell for cell in cells if cell is not None]


def _box(textpage: Any, index: int) -> tuple[float, float, float, float] | None:
    """(left, right, bottom, top) with the font's full height; None for a character without a place."""
    rect = pdfium.FS_RECTF()
    if not pdfium.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(rect)):
        return None
    bottom, top = min(rect.bottom, rect.top), max(rect.bottom, rect.top)
    return (min(rect.left, rect.right), max(rect.left, rect.right), bottom, top) if top > bottom else None


def _size(textpage: Any, index: int) -> float:
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFText_GetMatrix(textpage, index, ctypes.byref(matrix)):
        return 0.0
    return float(pdfium.FPDFText_GetFontSize(textpage, index) * math.hypot(matrix.b, matrix.d))


def _font(textpage: Any, index: int) -> tuple[bool, bool]:
    """(bold, of fixed width), by what the font says of itself and by its name."""
    name = ctypes.create_string_buffer(_NAME_BYTES)
    flags = ctypes.c_int()
    length = pdfium.FPDFText_GetFontInfo(textpage, index, name, _NAME_BYTES, ctypes.byref(flags))
    is_bold, is_fixed = _named(name.value) if 0 < length <= _NAME_BYTES else (False, False)
    is_bold = is_bold or pdfium.FPDFText_GetFontWeight(textpage, index) >= 600
    return is_bold, is_fixed or bool(flags.value & _FIXED_PITCH)


@lru_cache(maxsize=1024)
def _named(name: bytes) -> tuple[bool, bool]:
    known = name.decode("latin-1")
    return _BOLD.search(known) is not None, _FIXED.search(known) is not None


def _continues_row(line: Line, following: Line) -> bool:
    gap = following.x0 - line.x1
    size = max(line.size, following.size)
    return line.ends_word and line.shares_row(following) and -0.3 * line.size <= gap <= 2 * size


def _joined(line: Line, following: Line) -> Line:
    gap = following.x0 - line.x1
    space = " " if gap > 0.15 * line.size or line.ends_in_space else ""
    larger = line if line.size >= following.size else following
    return replace(
        larger,
        text=f"{line.text}{space}{following.text}",
        x0=line.x0,
        x1=max(line.x1, following.x1),
        is_bold=line.is_bold and following.is_bold,
        is_fixed=line.is_fixed and following.is_fixed,
        ends_in_space=following.ends_in_space,
    )

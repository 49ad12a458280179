"""Rows of a table into blocks that each say what their columns are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from consumers.documents.parse.building import TextBuilder

Row = Sequence[tuple[int, str]]
"""The cells of a row that are not blank, in order: (column from 0, text)."""

_MAX_BLOCK = 700
"""Characters of header and rows that stand together: about what a passage holds."""
_MAX_COLUMNS = 200
_MAX_NAME = 120
_MAX_WITHOUT_HEADER = 5
"""After so many rows of a table without a header there is none."""
_LETTER = re.compile(r"[^\W\d_]")
_YEAR = re.compile(r"(?:19|20)\d\d")
_WIDE = re.compile("[\u1100-\uffdc]")
_CELL = " | "


class TableWriter:
    """Adds rows to `builder` as tables: each begins with the header, so that a passage out of the middle is understood.

    A row too long for that is a table of its own with a line for each cell, `name: value`. The header is the first
    row whose cells are names; behind a blank row it is another one if what follows it is no row of names. Memory does
    not grow with the rows.
    """

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._header: dict[int, str] = {}
        self._header_line = ""
        self._candidate: Row = []  # another header, or a row like the others: the next one tells
        self._lines: list[str] = []
        self._n_characters = 0
        self._n_without_header = 0
        self._has_data = False
        self._is_parted = True

    def add(self, row: Row) -> None:
        """The next row; one without cells parts two tables."""
        cells = [(column, " ".join(text.split())) for column, text in row]
        cells = [(column, text) for column, text in cells if text]
        self._decide(is_header=bool(cells) and not _are_names(cells))
        if not cells:
            self._is_parted = True
        elif self._is_parted and len(cells) > 1 and _are_names(cells) and not _YEAR.fullmatch(cells[0][1]):
            self._is_parted = False
            self._candidate = cells
            if not self._header:
                self._decide(is_header=True)
        else:
            self._n_without_header += len(cells) > 1 and not self._header
            self._is_parted = not self._header and self._n_without_header < _MAX_WITHOUT_HEADER
            self._add_data(cells)

    def end(self) -> None:
        """The table is over."""
        self._decide(is_header=False)
        self._flush()

    def _decide(self, *, is_header: bool) -> None:
        cells, self._candidate = self._candidate, []
        if cells and is_header:
            self._flush()
            self._header = dict(cells)
            self._header_line = _line(cells, 0)
            self._has_data = False
        elif cells:
            self._add_data(cells)

    def _flush(self) -> None:
        """The rows so far are a block; a header without rows is one, too."""
        lines = self._lines
        if self._header_line and (lines or not self._has_data):
            lines = [self._header_line, *lines]
        self._builder.add("table", "\n".join(lines))
        self._lines, self._n_characters = [], 0
        self._has_data = self._has_data or bool(lines)

    def _add_data(self, cells: Row) -> None:
        line = _line(cells, min(self._header, default=0))
        n_characters = _width(line) + 1
        if self._header and n_characters + _width(self._header_line) > _MAX_BLOCK:
            self._add_record(cells)
            return
        if self._n_characters + n_characters + _width(self._header_line) > _MAX_BLOCK:
            self._flush()
        self._lines.append(line)
        self._n_characters += n_characters
        self._has_data = True

    def _add_record(self, cells: Row) -> None:
        if self._lines:
            self._flush()
        self._has_data = True
        names = self._header
        lines = [f"{names[column][:_MAX_NAME]}: {text}" if column in names else text for column, text in cells]
        self._builder.add("table", "\n".join(lines))


def _line(cells: Row, first: int) -> str:
    """The cells on one line, blank ones between them kept, so that columns can be counted."""
    last = cells[-1][0]
    if last - first > _MAX_COLUMNS:
        return _CELL.join(text for _, text in cells)
    by_column = dict(cells)
    return _CELL.join(by_column.get(column, "") for column in range(min(first, cells[0][0]), last + 1)).strip()


def _are_names(cells: Row) -> bool:
    return all(_is_name(text) for _, text in cells)


def _is_name(text: str) -> bool:
    return len(text) <= 100 and (_LETTER.search(text) is not None or _YEAR.fullmatch(text) is not None)


def _width(text: str) -> int:
    """Characters, wide ones counted twice: they have more tokens."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))

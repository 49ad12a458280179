"""The body of a Word document, element by element, into blocks."""

from __future__ import annotations

from typing import Any

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import BlockKind
from consumers.documents.parse.docx_styles import Styles, value
from consumers.documents.parse.ooxml import free, local_name

_CELL = " | "


class _Table:
    def __init__(self) -> None:
        self.rows: list[str] = []
        self.cells: list[str] = []
        self.cell: list[str] = []

    def end_cell(self) -> None:
        self.cells.append(" ".join(" ".join(self.cell).split()))
        self.cell = []

    def end_row(self) -> None:
        if any(self.cells):
            self.rows.append(_CELL.join(self.cells))
        self.cells = []


class Body:
    """Takes the events of one part in order (see `etree.iterparse`) and frees the elements that are done."""

    def __init__(self, builder: TextBuilder, styles: Styles) -> None:
        self._builder = builder
        self._styles = styles
        self._tables: list[_Table] = []
        self._n_fallbacks = 0
        self._run: list[str] = []  # consecutive list items, or lines of code
        self._run_kind: BlockKind = "list"

    def take(self, event: str, element: Any) -> None:
        """One event."""
        name = local_name(element)
        if name == "Fallback":  # repeats what its sibling Choice says
            self._n_fallbacks += 1 if event == "start" else -1
        elif event == "start":
            if name == "tbl" and not self._n_fallbacks:
                self._tables.append(_Table())
        elif name in ("p", "tc", "tr", "tbl"):
            if not self._n_fallbacks:
                self._end(name, element)
            free(element)

    def flush(self) -> None:
        """The part is over."""
        if self._run:
            self._builder.add(self._run_kind, "\n".join(self._run))
            self._run = []

    def _end(self, name: str, element: Any) -> None:
        if name == "p":
            self._paragraph(element)
        elif not self._tables:
            return
        elif name == "tc":
            self._tables[-1].end_cell()
        elif name == "tr":
            self._tables[-1].end_row()
        else:
            self._end_table()

    def _end_table(self) -> None:
        rows = self._tables.pop().rows
        if self._tables:
            self._tables[-1].cell.extend(rows)
        else:
            self.flush()
            self._builder.add("table", "\n".join(rows))

    def _paragraph(self, element: Any) -> None:
        text = _text(element)
        if not text.strip():
            return
        if self._tables:
            self._tables[-1].cell.append(text)
            return
        kind, level = self._kind(element)
        if kind in ("list", "code"):
            if self._run and self._run_kind != kind:
                self.flush()
            self._run_kind = kind
            self._run.append(text if kind == "code" else f"- {text.strip()}")
            return
        self.flush()
        self._builder.add(kind, text, level=level)

    def _kind(self, element: Any) -> tuple[BlockKind, int]:
        style_id = value(element, "pPr/{*}pStyle") or ""
        outline_level = value(element, "pPr/{*}outlineLvl")
        level = self._styles.heading_level(style_id)
        if outline_level is not None and outline_level.isdecimal():
            level = int(outline_level) + 1 if int(outline_level) < 9 else 0
        if level:
            return "heading", min(level, 6)
        if self._styles.is_code(style_id):
            return "code", 0
        is_list = element.find("{*}pPr/{*}numPr") is not None or self._styles.is_list(style_id)
        return ("list" if is_list else "paragraph"), 0


def _text(paragraph: Any) -> str:
    """What the runs of a paragraph show. Text that was deleted (`delText`) or is a field's code is none."""
    pieces: list[str] = []
    for element in paragraph.iter():
        parent = element.getparent()
        if parent is None or local_name(parent) != "r":
            continue
        name = local_name(element)
        if name == "t":
            pieces.append(element.text or "")
        elif name in ("tab", "ptab"):
            pieces.append("\t")
        elif name in ("br", "cr"):
            pieces.append("\n")
        elif name == "noBreakHyphen":
            pieces.append("-")
    return "".join(pieces)

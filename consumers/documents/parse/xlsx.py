"""Excel workbooks: each sheet under its name, rows with their headers, values as they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits, Source
from consumers.documents.parse.number_formats import BUILT_IN, formatter, general
from consumers.documents.parse.ooxml import Package, attribute, free, local_name, opened
from consumers.documents.parse.sniff import XLSX
from consumers.documents.parse.tables import TableWriter

_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_ERRORS_AND_TEXT = ("e", "str", "d")


def parse_xlsx(source: Source, limits: ParseLimits) -> ParsedDocument:
    """Sheets in their order, hidden ones marked; a formula is its last result, without one the formula itself.

    Rows are read as a stream. Comments follow their sheet. Raises: ParseFailed.
    """
    with opened(source, "Excel workbook") as package:
        builder = TextBuilder(max_characters=limits.max_characters)
        main = package.main_part("xl/workbook.xml")
        workbook = package.small_part(main)
        if workbook is None:
            raise package.malformed()
        related = package.relationships(main)
        parts = {other.kind: other.target for other in related}
        texts = _shared_texts(package, parts.get("sharedStrings"), limits)
        cells = _Cells(texts, _formats(package.small_part(parts.get("styles", ""))), from_1904=_is_from_1904(workbook))
        targets = {other.id: other.target for other in related if other.kind == "worksheet"}
        for sheet in workbook.iter("{*}sheet"):
            if (target := targets.get(attribute(sheet, "id") or "")) is not None:
                is_hidden = sheet.get("state", "visible") != "visible"
                _add_sheet(package, target, sheet.get("name", "") + " (hidden)" * is_hidden, cells, builder)
        if builder.is_empty:
            raise ParseFailed("empty_document", "The workbook holds no values.")
        return builder.finish(XLSX, title=package.title())


def _add_sheet(package: Package, part: str, name: str, cells: _Cells, builder: TextBuilder) -> None:
    rows = _rows(package, part, cells)
    first = next((row for row in rows if row), None)
    if first is None:
        return
    builder.add("heading", name, level=1)
    table = TableWriter(builder)
    table.add(first)
    for row in rows:
        table.add(row)
    table.end()
    for other in package.relationships(part):
        if other.kind in ("comments", "threadedComment"):
            root = package.small_part(other.target)
            for comment in () if root is None else root.iter("{*}comment", "{*}threadedComment"):
                text = "".join(comment.itertext())
                builder.add("paragraph", f"Comment on {comment.get('ref', 'a cell')}: {text}" if text.strip() else "")


def _rows(package: Package, part: str, cells: _Cells) -> Iterator[list[tuple[int, str]]]:
    """The rows that are there; where some are left out between them there is one without cells."""
    number = 0
    for _, element in package.events(part, tags=("{*}row",), events=("end",)):
        stated = element.get("r", "")
        following = int(stated) if stated.isdecimal() and len(stated) < 8 else number + 1
        if following > number + 1:
            yield []
        number = following
        row = cells.row(element)
        free(element)
        yield row


class _Cells:
    """What cells show."""

    def __init__(self, texts: list[str], formats: list[str], *, from_1904: bool) -> None:
        self._texts = texts
        self._formats = formats
        self._from_1904 = from_1904

    def row(self, element: Any) -> list[tuple[int, str]]:
        """(column from 0, text) of the cells that show something. Columns never go back, whatever is stated."""
        row = []
        column = 0
        for cell in element:
            reference = _REFERENCE.fullmatch(cell.get("r", ""))
            column = max(column, _column(reference[1])) if reference else column
            text = self._text(cell)
            if text and not text.isspace():
                row.append((column, text))
            column += 1
        return row

    def _text(self, cell: Any) -> str:
        kind = cell.get("t", "n")
        value = formula = ""
        for child in cell:
            match local_name(child):
                case "v":
                    value = child.text or ""
                case "is":
                    return _rich_text(child)
                case "f":
                    formula = child.text or ""
        if not value:
            return f"={formula}" if formula and kind != "str" else ""
        if kind == "s":
            return self._texts[int(value)] if value.isdecimal() and int(value) < len(self._texts) else ""
        if kind == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        return value if kind in _ERRORS_AND_TEXT else self._number(value, cell.get("s", "0"))

    def _number(self, value: str, style: str) -> str:
        try:
            number = float(value)
        except ValueError:
            return value
        if not abs(number) < 1e300:
            return value
        code = self._formats[int(style)] if style.isdecimal() and int(style) < len(self._formats) else ""
        return formatter(code)(number, self._from_1904) if code else general(number)


def _column(letters: str) -> int:
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return column - 1


def _shared_texts(package: Package, part: str | None, limits: ParseLimits) -> list[str]:
    texts: list[str] = []
    n_characters = 0
    for _, element in () if part is None else package.events(part, tags=("{*}si",), events=("end",)):
        texts.append(_rich_text(element))
        n_characters += len(texts[-1])
        if n_characters > limits.max_characters:
            raise ParseFailed("too_large_text", "The workbook holds too much text; split it.")
        free(element)
    return texts


def _rich_text(element: Any) -> str:
    """The text of its runs, without the reading aids (`rPh`) of Japanese."""
    return "".join(text.text or "" for text in element.iter("{*}t") if local_name(text.getparent()) != "rPh")


def _formats(styles: Any | None) -> list[str]:
    """The format code of each cell style; "" for a number as it is."""
    if styles is None:
        return []
    codes = dict(BUILT_IN)
    for element in styles.iter("{*}numFmt"):
        if element.get("numFmtId", "").isdecimal():
            codes[int(element.get("numFmtId"))] = element.get("formatCode", "")
    styled = styles.find("{*}cellXfs")
    ids = [] if styled is None else [element.get("numFmtId", "0") for element in styled.iter("{*}xf")]
    return [codes.get(int(number), "") if number.isdecimal() else "" for number in ids]


def _is_from_1904(workbook: Any) -> bool:
    properties = workbook.find("{*}workbookPr")
    return properties is not None and properties.get("date1904", "0") in ("1", "true")

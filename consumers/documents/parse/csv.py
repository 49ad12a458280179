"""Separated values (CSV, TSV): the encoding and the dialect are found out, rows are read one by one."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseLimits
from consumers.documents.parse.tables import TableWriter
from consumers.documents.parse.text import encoding_of

MEDIA_TYPE = "text/csv"
_SEPARATORS = ("\t", ";", "|", ",")
_SAMPLE_CHARACTERS = 64 * 1024
_MAX_QUOTED = 1 << 20
"""A quoted field longer than this was opened by a stray quotation mark."""


def parse_csv(path: Path, limits: ParseLimits, *, media_type: str | None) -> ParsedDocument:
    """Rows with their header, see `TableWriter`. Raises: ParseFailed."""
    encoding = encoding_of(path, media_type=media_type, limits=limits)
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
        file.seek(0)
        separator = separator_of(sample) or ","
        try:
            return _document(file, separator, limits, quoting=csv.QUOTE_MINIMAL)
        except csv.Error:
            file.seek(0)
            return _document(file, separator, limits, quoting=csv.QUOTE_NONE)


def parse_csv_text(text: str, limits: ParseLimits) -> ParsedDocument:
    """The same for text that is in memory. Raises: ParseFailed."""
    separator = separator_of(text[:_SAMPLE_CHARACTERS]) or ","
    try:
        return _document(io.StringIO(text, newline=""), separator, limits, quoting=csv.QUOTE_MINIMAL)
    except csv.Error:
        return _document(io.StringIO(text, newline=""), separator, limits, quoting=csv.QUOTE_NONE)


def separator_of(sample: str, *, least_columns: int = 2, least_rows: int = 1, least_share: float = 0.7) -> str | None:
    """What parts the values in the first lines of a file, None if they do not look like rows of one width."""
    best: tuple[float, int] = (0.0, 0)
    found = None
    for separator in _SEPARATORS:
        widths = _widths(sample, separator)
        if len(widths) < least_rows:
            continue
        width, n_rows = Counter(widths).most_common(1)[0]
        share = n_rows / len(widths)
        if width >= least_columns and share >= least_share and (share, width) > best:
            best, found = (share, width), separator
    return found


def _widths(sample: str, separator: str) -> list[int]:
    lines = sample.splitlines(keepends=True)
    if len(sample) >= _SAMPLE_CHARACTERS and len(lines) > 1:
        lines.pop()  # cut short
    csv.field_size_limit(sys.maxsize)
    return [len(row) for row in csv.reader(lines, delimiter=separator) if row]


def _document(lines: Iterable[str], separator: str, limits: ParseLimits, *, quoting: int) -> ParsedDocument:
    csv.field_size_limit(_MAX_QUOTED if quoting == csv.QUOTE_MINIMAL else sys.maxsize)
    builder = TextBuilder(max_characters=limits.max_characters)
    table = TableWriter(builder)
    for row in _rows(lines, separator, quoting):
        table.add([(column, text) for column, text in enumerate(row) if text and not text.isspace()])
    table.end()
    return builder.finish(MEDIA_TYPE)


def _rows(lines: Iterable[str], separator: str, quoting: int) -> Iterator[list[str]]:
    if quoting == csv.QUOTE_NONE:
        return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=separator)

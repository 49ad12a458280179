"""PDF by PDFium: text page by page, columns in reading order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits, Source
from consumers.documents.parse.pdf_extras import Outline, attachments, form_of, said_beside
from consumers.documents.parse.pdf_lines import Line, page_lines
from consumers.documents.parse.pdf_order import in_reading_order
from consumers.documents.parse.pdf_paragraphs import Reader
from consumers.documents.parse.sniff import PDF

MAX_PAGES = 100_000
_AT_ONCE = 100
"""Pages whose lines are in memory together; the first ones show the usual type size and the words."""
_MAX_MISSING = 100
"""A page count may lie: after so many pages in a row that cannot be loaded there are no more."""
_FILE_NAME = re.compile(
    r"untitled|microsoft word|document\d*|.*\.(?:docx?|pptx?|xlsx?|pdf|tex|dvi|indd|qxd|rtf)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Page:
    lines: list[Line]
    said_beside: list[str]


def parse_pdf(source: Source, limits: ParseLimits) -> ParsedDocument:
    """Pages, headings (by type size, weight and the outline) and paragraphs; pages count as in the file.

    Filled fields and notes stand at the end of their page, the names of attached files at the end.
    A page that cannot be read is blank. Raises: ParseFailed `password_needed`, `malformed_file`, `no_text_layer`,
    `too_large_text`.
    """
    with _opened(source) as document:
        outline, files = Outline(document), attachments(document)
        title = document.get_metadata_value("Title").strip()
    builder = TextBuilder(max_characters=limits.max_characters)
    reader = Reader()
    pages = _pages(source)
    n_pages = 0
    has_text = False
    while some := list(itertools.islice(pages, _AT_ONCE)):
        reader.learn([page.lines for page in some])
        for page in some:
            builder.begin_page()
            for kind, text, level in reader.pieces(page.lines):
                found = outline.take(n_pages, text) if kind in ("heading", "paragraph") else 0
                builder.add("heading" if found else kind, text, level=found or level)
            has_text = has_text or not builder.is_empty
            builder.add("list", "\n".join(page.said_beside) if has_text else "")
            n_pages += 1
    if n_pages == 0:
        raise _malformed()
    if not has_text:
        raise ParseFailed(
            "no_text_layer",
            "The PDF has no text layer: its pages are images, as in a scan; run text recognition (OCR) on it first.",
        )
    builder.add("list", "\n".join(f"Attached file: {name}" for name in files))
    return builder.finish(PDF, title=None if _FILE_NAME.fullmatch(title) else title)


def _malformed() -> ParseFailed:
    return ParseFailed("malformed_file", "The PDF is damaged or cut short and cannot be read; upload it again.")


def _opened(source: Source) -> pypdfium2.PdfDocument:
    try:
        document = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise ParseFailed(
                "password_needed", "The PDF is protected by a password; remove it and upload the file again."
            ) from error
        raise _malformed() from error
    if len(document) > MAX_PAGES:
        raise ParseFailed("too_large_text", f"The PDF has more than {MAX_PAGES:,} pages; split it.")
    return document


def _pages(source: Source) -> Iterator[_Page]:
    """Each page, its lines in reading order; pages that cannot be loaded are blank, at the end left out."""
    n_missing = 0
    for page in _loaded(source):
        if page is None:
            n_missing += 1
            if n_missing > _MAX_MISSING:
                return
            continue
        yield from (_Page([], []) for _ in range(n_missing))
        n_missing = 0
        yield _Page(in_reading_order(page.lines), page.said_beside)


def _loaded(source: Source) -> Iterator[_Page | None]:
    """Each page, its lines as drawn. PDFium keeps what it has read of a file until that is closed."""
    for start in itertools.count(0, _AT_ONCE):
        with _opened(source) as document:
            n_pages = len(document)
            form = form_of(document)
            for number in range(start, min(start + _AT_ONCE, n_pages)):
                yield _page(document, number, form)
        if start + _AT_ONCE >= n_pages:
            return


def _page(document: pypdfium2.PdfDocument, number: int, form: Any | None) -> _Page | None:
    """A page, its lines as drawn; None if there is no such page."""
    try:
        page = document[number]
    except (pypdfium2.PdfiumError, IndexError):
        return None
    try:
        textpage = page.get_textpage()
        try:
            return _Page(page_lines(textpage), said_beside(page, form))
        finally:
            textpage.close()
    except pypdfium2.PdfiumError:
        return None
    finally:
        page.close()

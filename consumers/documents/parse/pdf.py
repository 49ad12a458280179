"""PDF by PDFium: text page by page, columns in reading order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pypdfium2
import pypdfium2.raw as pdfium

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits, Source
from consumers.documents.parse.pages_read import tell_pages
from consumers.documents.parse.pdf_extras import Outline, attachments, form_of, said_beside
from consumers.documents.parse.pdf_lines import Line, page_lines
from consumers.documents.parse.pdf_order import in_reading_order
from consumers.documents.parse.pdf_paragraphs import Reader
from consumers.documents.parse.sniff import PDF

MAX_PAGES = 100_000
_AT_ONCE = 100
"""Pages whose lines are in memory together; the first ones show the usual type size and the words."""
_MOST_KEPT = 32 * 1024 * 1024
_MAX_MISSING = 100
"""A page count may lie: after so many pages in a row that cannot be loaded there are no more."""
_SAMPLE = 32
"""Characters of a page that tell whether its fonts can be read."""
_FILE_NAME = re.compile(
    r"untitled|microsoft word|document\d*|.*\.(?:docx?|pptx?|xlsx?|pdf|tex|dvi|indd|qxd|rtf)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Page:
    lines: list[Line]
    said_beside: list[str]
    is_shapes: bool = False


def parse_pdf(source: Source, limits: ParseLimits) -> ParsedDocument:
    """Pages, headings (by type size, weight and the outline) and paragraphs; pages count as in the file.

    Filled fields and notes stand at the end of their page, the names of attached files at the end.
    A page that cannot be read is blank. Raises: ParseFailed `password_needed`, `malformed_file`, `no_text_layer`,
    `too_large_text`.
    """
    with _opened(source) as document:
        outline, files = Outline(document), attachments(document)
        title = document.get_metadata_value("Title").strip()
        n_stated = len(document)
    builder = TextBuilder(max_characters=limits.max_characters)
    reader = Reader()
    pages = _pages(source)
    n_pages = 0
    has_text = has_shapes = False
    while some := list(itertools.islice(pages, _AT_ONCE)):
        reader.learn([page.lines for page in some])
        for page in some:
            builder.begin_page()
            for kind, text, level in reader.pieces(page.lines):
                found = outline.take(n_pages, text) if kind in ("heading", "paragraph") else 0
                builder.add("heading" if found else kind, text, level=found or level)
            has_text, has_shapes = has_text or not builder.is_empty, has_shapes or page.is_shapes
            builder.add("list", "\n".join(page.said_beside) if has_text else "")
            n_pages += 1
        tell_pages(n_pages, max(n_stated, n_pages))
    if n_pages == 0:
        raise _malformed()
    if not has_text:
        why = (
            "its fonts do not say which letters their shapes are"
            if has_shapes
            else "its pages are images, as in a scan"
        )
        raise ParseFailed("no_text_layer", f"The PDF has no text layer: {why}; run text recognition (OCR) on it first.")
    builder.add("list", "\n".join(f"Attached file: {name}" for name in files))
    return builder.finish(PDF, title=None if _FILE_NAME.fullmatch(title) else title)


def _is_shapes(textpage: Any) -> bool:
    """Whether most characters are mere shapes: no map says which letters they are, and PDFium makes letters up."""
    n_characters: int = textpage.count_chars()
    sample = range(0, n_characters, n_characters // _SAMPLE + 1)
    n_shapes = sum(pdfium.FPDFText_HasUnicodeMapError(textpage, index) == 1 for index in sample)
    return bool(2 * n_shapes > len(sample))


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
        yield replace(page, lines=in_reading_order(page.lines))


def _loaded(source: Source) -> Iterator[_Page | None]:
    """Each page, its lines as drawn.

    PDFium keeps what it has read of a file until that is closed, and reads the page tree from its start when it is
    opened: it is opened again only where what is kept has grown large.
    """
    process, number = psutil.Process(), 0
    while True:
        with _opened(source) as document:
            n_pages, form = len(document), form_of(document)
            n_bytes = process.memory_info().rss
            while number < n_pages:
                yield _page(document, number, form)
                number += 1
                if number % _AT_ONCE == 0 and process.memory_info().rss - n_bytes > _MOST_KEPT:
                    break
        if number >= n_pages:
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
            is_shapes = _is_shapes(textpage)
            return _Page([] if is_shapes else page_lines(textpage), said_beside(page, form), is_shapes)
        finally:
            textpage.close()
    except pypdfium2.PdfiumError:
        return None
    finally:
        page.close()

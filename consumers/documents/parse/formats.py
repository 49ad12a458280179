"""A file into a document: its type by content, then that type's parser, the only one that is loaded."""

from __future__ import annotations

from pathlib import Path

from consumers.documents.parse.document import ParsedDocument, ParseLimits
from consumers.documents.parse.sniff import DOCX, HTML, MARKDOWN, PDF, sniff


def parse(path: Path, *, name: str, media_type: str | None, limits: ParseLimits) -> ParsedDocument:
    """The document in the file at `path`, in this process. Raises: ParseFailed; MemoryError."""
    found = sniff(path, name=name, media_type=media_type)
    if found == PDF:
        from consumers.documents.parse.pdf import parse_pdf

        return parse_pdf(path, limits)
    if found == DOCX:
        from consumers.documents.parse.docx import parse_docx

        return parse_docx(path, limits)
    from consumers.documents.parse.text import decode, parse_text

    text = decode(path, media_type=media_type, limits=limits, is_html=found == HTML)
    if found == HTML:
        from consumers.documents.parse.html import parse_html

        return parse_html(text, limits)
    if found == MARKDOWN:
        from consumers.documents.parse.markdown import parse_markdown

        return parse_markdown(text, limits)
    return parse_text(text, limits)

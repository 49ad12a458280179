"""A file into a document: its type by content, then that type's parser, the only one that is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from consumers.documents.parse.document import ParsedDocument, ParseLimits, Source
from consumers.documents.parse.sniff import DOCX, EML, EPUB, PDF, PPTX, XLSX, sniff
from consumers.documents.parse.sniff_text import CODE, CSV, HTML, IPYNB, JSON, MARKDOWN, TEXT, XML

_PACKED = {
    PDF: ("pdf", "parse_pdf"),
    DOCX: ("docx", "parse_docx"),
    XLSX: ("xlsx", "parse_xlsx"),
    PPTX: ("pptx", "parse_pptx"),
    EPUB: ("epub", "parse_epub"),
}
_TEXTUAL = {
    CSV: ("csv", "parse_csv_text"),
    HTML: ("html", "parse_html"),
    XML: ("xml", "parse_xml"),
    JSON: ("json", "parse_json"),
    IPYNB: ("ipynb", "parse_ipynb"),
    CODE: ("code", "parse_code"),
    MARKDOWN: ("markdown", "parse_markdown"),
    TEXT: ("text", "parse_text"),
}
"""(module, function) by media type."""
_MODULES = [f"{__package__}.{module}" for module, _ in (*_PACKED.values(), *_TEXTUAL.values(), ("eml", ""))]
_LIBRARIES = ("charset_normalizer", "puremagic")
_PAGE = "<html><body><p>A page with a sentence.</p></body></html>"


def load() -> None:
    """Loads what parses; reading a page loads word lists, too, on which else every small page would spend a second."""
    for module in (*_MODULES, *_LIBRARIES):
        importlib.import_module(module)
    parse_text_of(HTML, _PAGE, ParseLimits())


def parse(path: Path, *, name: str, media_type: str | None, limits: ParseLimits) -> ParsedDocument:
    """The document in the file at `path`, in this process. Raises: ParseFailed; MemoryError."""
    found = sniff(path, name=name, media_type=media_type)
    if found in _PACKED:
        return parse_packed(found, path, limits)
    if found == EML:
        from consumers.documents.parse.eml import parse_eml

        return parse_eml(path, limits)
    if found == CSV:
        from consumers.documents.parse.csv import parse_csv

        return parse_csv(path, limits, media_type=media_type)
    from consumers.documents.parse.text import decode

    text = decode(path, media_type=media_type, limits=limits, is_html=found in (HTML, XML))
    return parse_text_of(found, text, limits)


def parse_packed(media_type: str, source: Source, limits: ParseLimits) -> ParsedDocument:
    """The document in a file that is no text, whose type is known. Raises: ParseFailed; MemoryError."""
    module, function = _PACKED[media_type]
    return _loaded(module, function)(source, limits)


def parse_text_of(media_type: str, text: str, limits: ParseLimits) -> ParsedDocument:
    """The document in a text whose type is known. Raises: ParseFailed; MemoryError."""
    module, function = _TEXTUAL[media_type]
    return _loaded(module, function)(text, limits)


def _loaded(module: str, function: str) -> Callable[..., ParsedDocument]:
    found: Callable[..., ParsedDocument] = getattr(
        importlib.import_module(f"consumers.documents.parse.{module}"), function
    )
    return found

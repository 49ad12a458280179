"""HTML: the page's main text without its navigation; headings, lists, tables and code keep their shape."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree, html

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.html_blocks import add_blocks

MEDIA_TYPE = "text/html"
_NO_LETTERS = re.compile(r"[\W_]+")
_MAX_DEPTH = 200
_MAX_ELEMENTS = 50_000
_LEAST_SHARE = 0.3
"""A main text with less than this share of the page's text, navigation aside, has lost something."""
_MOST_SHARE = 0.97
"""With more than this there was nothing to leave out, and the page itself has the better structure."""
_NOISE = (
    "//script|//style|//noscript|//template|//svg|//iframe"
    "|//sup[contains(concat(' ',@class,' '),' reference ')]|//span[contains(@class,'mw-editsection')]"
)


def parse_html(text: str, limits: ParseLimits) -> ParsedDocument:
    """The main text as trafilatura finds it, or the whole text without navigation where that loses too much.

    The title is the page's own, else its first heading. Raises: ParseFailed.
    """
    root = _quiet_tree(text)
    title = root.findtext(".//title") or root.findtext(".//h1")
    whole = _document(root, title, limits)
    body = _main_text(root)
    if body is None or not "".join(body.itertext()).strip():
        return whole
    main = _document(body, title, limits)
    share = _n_letters(main.text) / max(1, _n_letters(whole.text))
    return main if _LEAST_SHARE <= share <= _MOST_SHARE else whole


def add_page(text: str, builder: TextBuilder) -> None:
    """Adds the whole text of a page (a chapter, a message), if it has any. Raises: ParseFailed."""
    try:
        root = _quiet_tree(text)
    except ParseFailed as failed:
        if failed.code != "empty_document":
            raise
    else:
        add_blocks(root, builder)


def _quiet_tree(text: str) -> Any:
    root = _tree(text)
    for element in root.xpath(_NOISE):
        element.drop_tree()
    return root


def _document(root: Any, title: str | None, limits: ParseLimits) -> ParsedDocument:
    builder = TextBuilder(max_characters=limits.max_characters)
    add_blocks(root, builder)
    return builder.finish(MEDIA_TYPE, title=title)


def _n_letters(text: str) -> int:
    return len(text) - sum(map(len, _NO_LETTERS.findall(text)))


def _tree(text: str) -> Any:
    # As bytes: lxml refuses text with an encoding declaration, and what a page declares may lie.
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True, no_network=True)
    data = text.replace("\x00", "").encode("utf-8", "replace")
    try:
        root = html.document_fromstring(data, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        if "empty" in str(error).lower():
            raise ParseFailed("empty_document", "The page holds no text.") from error
        raise ParseFailed("malformed_file", "The HTML is damaged and cannot be read.") from error
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise ParseFailed("malformed_file", "The HTML is nested too deeply to be read.")
    return root


def _main_text(root: Any) -> Any | None:
    """trafilatura's main text as a tree; None where it finds none, or the page would keep it busy for minutes."""
    if not _is_tame(root):
        return None
    from trafilatura import bare_extraction

    for cell in root.iter("td", "th"):
        cell.attrib.pop("colspan", None)  # trafilatura would make as many cells
        _flatten(cell)
    document = bare_extraction(root, include_comments=False, include_tables=True, with_metadata=False)
    return getattr(document, "body", None)


def _is_tame(root: Any) -> bool:
    depth = 0
    for number, (event, _) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        depth += 1 if event == "start" else -1
        if depth > _MAX_DEPTH or number > 2 * _MAX_ELEMENTS:
            return False
    return True


def _flatten(cell: Any) -> None:
    """A cell's lists and paragraphs as one text: trafilatura drops them."""
    if len(cell) == 0 or cell.find(".//table") is not None:
        return
    for element in cell.iter("li", "br", "p", "div"):
        element.tail = f" {element.tail or ''}" if element.tag != "li" else f", {element.tail or ''}"
    text = " ".join("".join(cell.itertext()).split()).replace(" ,", ",").strip(" ,")
    for child in list(cell):
        cell.remove(child)
    cell.text = text

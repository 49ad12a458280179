"""Word documents (transitional and strict OOXML): paragraphs, headings, lists and tables in the body's order."""

from __future__ import annotations

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseLimits, Source
from consumers.documents.parse.docx_blocks import Body
from consumers.documents.parse.docx_styles import Styles
from consumers.documents.parse.ooxml import opened
from consumers.documents.parse.sniff import DOCX

_AFTER_THE_BODY = ("footnotes", "endnotes", "comments", "header", "footer")
_MAX_PARTS = 64


def parse_docx(source: Source, limits: ParseLimits) -> ParsedDocument:
    """The body, then notes, comments, headers and footers; a table's rows are lines, its cells parted by " | ".

    Text boxes stand before the paragraph they hang on. Parts are read as streams: memory does not grow with them.
    Raises: ParseFailed.
    """
    with opened(source, "Word document") as package:
        builder = TextBuilder(max_characters=limits.max_characters)
        main = package.main_part("word/document.xml")
        related = package.relationships(main)
        styles = next((other.target for other in related if other.kind == "styles"), "")
        styled = Styles(package.small_part(styles))
        notes = [other.target for kind in _AFTER_THE_BODY for other in related if other.kind == kind]
        for name in [main, *notes[:_MAX_PARTS]]:
            body = Body(builder, styled)
            for event, element in package.events(name):
                body.take(event, element)
            body.flush()
        return builder.finish(DOCX, title=package.title())

"""Markdown (CommonMark with tables): headings, code as it stands, tables and lists whole."""

from __future__ import annotations

from functools import cache

from markdown_it import MarkdownIt

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import BlockKind, ParsedDocument, ParseLimits

_BLOCK_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "table_open": "table",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "blockquote_open": "paragraph",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
}


def parse_markdown(text: str, limits: ParseLimits) -> ParsedDocument:
    """The source stays as it is written, so that quotes and code are exact; only headings lose their marks.

    The title is the first heading of level 1. Raises: ParseFailed.
    """
    source = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    lines = source.split("\n")
    builder = TextBuilder(max_characters=limits.max_characters)
    title = None
    first = _front_matter_end(lines)
    tokens = _parser().parse("\n".join([""] * first + lines[first:]))
    for index, token in enumerate(tokens):
        kind = _BLOCK_KINDS.get(token.type)
        if token.level != 0 or kind is None or token.map is None:
            continue
        if kind == "heading":
            heading = tokens[index + 1].content
            title = title or (heading if token.tag == "h1" else None)
            builder.add("heading", heading, level=int(token.tag[1:]))
        else:
            builder.add(kind, "\n".join(lines[slice(*token.map)]))
    return builder.finish("text/markdown", title=title)


@cache
def _parser() -> MarkdownIt:
    # Only the block structure is needed: inline marks stay as they are written.
    return MarkdownIt("commonmark").enable("table").disable("inline")


def _front_matter_end(lines: list[str]) -> int:
    """Lines of metadata between `---` at the very start are no text."""
    if lines[0].strip() != "---":
        return 0
    for number, line in enumerate(lines[1:200], start=1):
        if line.strip() in ("---", "..."):
            return number + 1
    return 0

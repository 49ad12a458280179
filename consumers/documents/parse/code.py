"""Source code in any language: definitions stay whole."""

from __future__ import annotations

import re

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseLimits

MEDIA_TYPE = "text/x-source-code"
_CLOSES = re.compile(r"[)\]}>;]|end\b|else\b|elif\b|except\b|finally\b|catch\b|\*/")
"""Begins a line that belongs to what is above it, however far it is indented."""


def parse_code(text: str, limits: ParseLimits) -> ParsedDocument:
    """A block begins behind a blank line where the next line is not indented: mostly one for each definition.

    Comments and decorators stay with what follows them. Raises: ParseFailed.
    """
    builder = TextBuilder(max_characters=limits.max_characters)
    block: list[str] = []
    is_parted = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line.strip():
            is_parted = True
        elif is_parted and not line[0].isspace() and not _CLOSES.match(line):
            builder.add("code", "\n".join(block))
            block, is_parted = [], False
        else:
            is_parted = False
        block.append(line.rstrip())
    builder.add("code", "\n".join(block))
    return builder.finish(MEDIA_TYPE)

"""JSON, one value or one a line: each element on lines of its own, its texts as they are meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits

MEDIA_TYPE = "application/json"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_MAX_INDENT = 12
MAX_DEPTH = 1_000
"""What people and programs write is far from it; what is beyond says nothing but brackets."""
_EMPTY = {"{": "}", "[": "]"}


def parse_json(text: str, limits: ParseLimits) -> ParsedDocument:
    """A block for each value, and for each element of an outermost array or object.

    Escapes are resolved; a damaged file is shown as far as it goes. Raises: ParseFailed, also beyond `MAX_DEPTH`.
    """
    builder = TextBuilder(max_characters=limits.max_characters)
    for lines in _elements(text):
        builder.add("code", "\n".join(lines), gap="\n")
    return builder.finish(MEDIA_TYPE)


def _elements(text: str) -> Iterator[list[str]]:
    """The lines of what belongs together."""
    lines: list[str] = []
    line: list[str] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in "}]":
            if line and line[-1] in _EMPTY:  # nothing in it
                line.append(piece)
            else:
                lines.append("".join(line))
                line = [" " * min(max(depth - 1, 0), _MAX_INDENT), piece]
            depth = max(0, depth - 1)
        elif piece == ",":
            lines.append("".join([*line, piece]))
            line = [" " * min(depth, _MAX_INDENT)]
        elif piece == ":":
            line.append(": ")
        else:
            if line and line[-1] in _EMPTY:
                lines.append("".join(line))
                line = [" " * min(depth, _MAX_INDENT)]
            line.append(_plain(piece))
            depth += piece in _EMPTY
            if depth > MAX_DEPTH:
                raise ParseFailed("malformed_file", f"The JSON is nested more than {MAX_DEPTH:,} deep.")
        if depth <= 1 and (piece == "," or (depth == 0 and piece != ":")):
            yield [*lines, "".join(line)] if depth == 0 else lines
            lines, line = [], line if depth else []
    yield [*lines, "".join(line)]


def _plain(piece: str) -> str:
    """A text with its escapes resolved, line ends aside; anything else as it is."""
    if "\\" not in piece:
        return piece
    try:
        return '"' + str(json.loads(piece, strict=False)).replace("\n", "\\n") + '"'
    except ValueError:
        return piece

"""What the sandbox and its child process say to each other."""

from __future__ import annotations

import msgspec

from consumers.documents.parse.document import ParsedDocument, ParseLimits


class ParseRequest(msgspec.Struct, frozen=True):
    """What the child is told, as its only argument."""

    path: str
    name: str
    media_type: str | None
    limits: ParseLimits
    parent_pid: int


class ParseReply(msgspec.Struct, frozen=True):
    """What the child answers on its standard output: a document, or why there is none."""

    document: ParsedDocument | None = None
    code: str = ""
    message: str = ""

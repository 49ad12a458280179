"""What the sandbox and its fork server say to each other."""

from __future__ import annotations

import struct

import msgspec

from consumers.documents.parse.document import ParsedDocument, ParseLimits

N_DESCRIPTORS = 4
"""With each request: standard input, output and error of the parser, and the pipe for its process id and status."""
MAX_REQUEST_BYTES = 64 * 1024
_NUMBER = struct.Struct("<q")
NUMBER_BYTES = _NUMBER.size


def told(number: int) -> bytes:
    """A process id, or an exit status: the exit code, or minus the signal that ended the process."""
    return _NUMBER.pack(number)


def heard(data: bytes) -> int:
    """What `told` packed."""
    (number,) = _NUMBER.unpack(data)
    return int(number)


class ParseRequest(msgspec.Struct, frozen=True):
    """What is to be read."""

    path: str
    name: str
    media_type: str | None
    limits: ParseLimits


class ParseReply(msgspec.Struct, frozen=True):
    """What the parser answers on its standard output: a document, or why there is none."""

    document: ParsedDocument | None = None
    code: str = ""
    message: str = ""

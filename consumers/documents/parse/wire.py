"""What the sandbox and its fork server say to each other."""

from __future__ import annotations

import struct

import msgspec

from consumers.documents.parse.document import ParseLimits
from consumers.documents.passages import PassageSize, PassageSpan

N_DESCRIPTORS = 4
"""With each request: standard input, output and error of the parser, and the pipe for its process id and status."""
MAX_REQUEST_BYTES = 64 * 1024
_NUMBER = struct.Struct("<q")
NUMBER_BYTES = _NUMBER.size
_LENGTH = struct.Struct("<I")
LENGTH_BYTES = _LENGTH.size


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
    size: PassageSize
    limits: ParseLimits


class ReplyPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of what the parser answers on its standard output: text and passages add up, in order.

    An answer with a `code` says why there is no document. What ends without its last part is none.
    """

    code: str = ""
    message: str = ""
    media_type: str = ""
    n_pages: int = 0
    text: str = ""
    passages: tuple[PassageSpan, ...] = ()
    is_last: bool = False


_DECODER = msgspec.msgpack.Decoder(ReplyPart)


def framed(part: ReplyPart) -> bytes:
    """As msgpack, its length before it."""
    body = msgspec.msgpack.encode(part)
    return _LENGTH.pack(len(body)) + body


def part_length(data: bytes) -> int:
    """How many bytes the part has that stands behind these `LENGTH_BYTES`."""
    (length,) = _LENGTH.unpack(data)
    return int(length)


def part_of(body: bytes) -> ReplyPart:
    """Raises: msgspec.MsgspecError."""
    return _DECODER.decode(body)

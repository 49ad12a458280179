"""The child process of the sandbox: `python -m consumers.documents.parse.child REQUEST`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from consumers.documents.parse.document import ParseFailed
from consumers.documents.parse.limits import bind
from consumers.documents.parse.wire import ParseReply, ParseRequest


def main(argument: str) -> int:
    """Parses what `argument` (a ParseRequest as JSON) names, writes a ParseReply as msgpack to standard output."""
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not spoil the answer
    request = msgspec.json.decode(argument, type=ParseRequest)
    bind(request.limits, parent_pid=request.parent_pid)
    answer = _answer(request)
    while answer:
        answer = answer[os.write(output, answer) :]
    return 0


def _answer(request: ParseRequest) -> memoryview:
    from consumers.documents.parse.formats import parse

    try:
        document = parse(Path(request.path), name=request.name, media_type=request.media_type, limits=request.limits)
        return memoryview(msgspec.msgpack.encode(ParseReply(document=document)))
    except ParseFailed as failed:
        return memoryview(msgspec.msgpack.encode(ParseReply(code=failed.code, message=failed.message)))


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(status)  # no clean-up of what ends anyway

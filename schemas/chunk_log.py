"""Reads raw records of `chat.chunks.v1`: one that cannot be read does not exist, for every reader alike (design §6)."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.chunks import ChunkRecord
from schemas.envelope import decode_body
from schemas.errors import DeadLetter
from schemas.topics import CHAT_CHUNKS

_KINDS = {kind.encode(): kind for kind in CHAT_CHUNKS.kept}


def kind_of(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """The record's type, of those that the topic carries; empty for any other."""
    for name, raw in headers:
        if name == "ce_type":
            return _KINDS.get(raw or b"", "")
    return ""


def read_chunk(kind: str, value: bytes | None) -> ChunkRecord | None:
    """The record of that type with this body; None if it cannot be read."""
    try:
        body = decode_body(CHAT_CHUNKS, kind, value)
    except DeadLetter:
        return None
    return body if isinstance(body, ChunkRecord) else None

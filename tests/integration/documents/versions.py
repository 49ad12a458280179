"""Versions of a document: asked for, learnt, switched, searched."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from consumers.documents.claims import document_prefix
from retrieval.search import Searcher
from schemas.commands import ReplaceDocument, RestoreVersion
from schemas.envelope import Envelope
from schemas.events import (
    DocumentIndexed,
    DocumentUploaded,
    RestoreRequested,
)
from schemas.ids import new_id
from schemas.records import Body
from storage.postgres.passages import PassageVisibility
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room

QUERY = "line of the document"


def lines(word: str, n: int = 35) -> bytes:
    return "\n".join(f"line {i} of the document in its {word} version" for i in range(n)).encode()


async def replace_command(room: Room, document_id: UUID, data: bytes) -> Envelope:
    key = f"{document_prefix(room.tenant_id, document_id)}uploads/{new_id().hex}"
    stored = await room.blobs.put_bytes(key, data)
    sha256, size_bytes = stored.sha256, stored.size_bytes
    return room.envelope(ReplaceDocument(document_id=document_id, blob_key=key, sha256=sha256, size_bytes=size_bytes))


async def answer(room: Room, command: Envelope) -> Body:
    await room.send(command)
    return await room.heard.answer(command)


async def replace(room: Room, document_id: UUID, data: bytes) -> int:
    """The number of the new version."""
    told = await answer(room, await replace_command(room, document_id, data))
    assert isinstance(told, DocumentUploaded), told
    return told.version


async def restore(room: Room, document_id: UUID, version: int) -> RestoreRequested:
    told = await answer(room, room.envelope(RestoreVersion(document_id=document_id, version=version)))
    assert isinstance(told, RestoreRequested), told
    return told


async def indexed(room: Room, document_id: UUID, version: int, *, times: int = 1) -> DocumentIndexed:
    """The version's last DocumentIndexed, when there are as many."""

    def found() -> list[DocumentIndexed]:
        ends = [end for end in room.heard.of(document_id, DocumentIndexed) if end.version == version]
        return ends if len(ends) >= times else []

    ends: list[DocumentIndexed] = await room.heard.until(found)
    return ends[-1]


async def active(room: Room, document_id: UUID) -> int | None:
    row = await room.row("SELECT active_version FROM documents WHERE id = $1", document_id)
    number: int | None = row["active_version"]
    return number


async def vectors_of(room: Room, *, model: str = "hash-16") -> dict[str, int]:
    """Rows of the tenant's table by version."""
    sizes = await room.vectors.batch_sizes(table_name(room.tenant_id, model))
    found: dict[str, int] = {}
    for batch_id, n in sizes.items():
        version = batch_id.split(".")[1]
        found[version] = found.get(version, 0) + n
    return found


def searcher(room: Room) -> Searcher:
    return Searcher(room.vectors, HashEmbedder(), PassageVisibility(room.database))


async def stopped(embedder: HashEmbedder) -> None:
    """Returns when the embedder waits, as it was told to."""
    async with asyncio.timeout(20):
        while embedder.gate.is_set():
            await asyncio.sleep(0.005)


async def versions_found(room: Room) -> dict[int, int]:
    """How many passages of which versions one search shows, if it may show all."""
    found = await searcher(room).find(room.tenant_id, QUERY, limit=200, mode="text")
    return dict(Counter(item.passage.version for item in found.items))

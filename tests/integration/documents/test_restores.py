"""Restores: any version that was indexed is active again without being learnt anew, if what it needs is still there."""

from __future__ import annotations

from consumers.documents.superseded import remove_superseded
from schemas.commands import ReplaceDocument
from schemas.events import (
    CommandRejected,
    DocumentDeleted,
    DocumentFailed,
    RestoreRequested,
)
from tests.integration.documents.room import HashEmbedder, Room
from tests.integration.documents.test_learning import purged
from tests.integration.documents.versions import (
    answer,
    indexed,
    lines,
    replace,
    replace_command,
    restore,
    vectors_of,
    versions_found,
)


async def test_any_version_is_restored_without_being_parsed_or_embedded_again(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        await replace(room, document_id, lines("second"))
        await indexed(room, document_id, 2)
        await remove_superseded(room.database, room.vectors)
        assert await vectors_of(room) == {"2": 35}
        embedded = dict(embedder.counts)
        told = await restore(room, document_id, 1)
        assert (told.version, told.status, told.request) == (1, "embedding", 3)
        assert (await indexed(room, document_id, 1, times=2)).is_active
        assert await versions_found(room) == {1: 35}
        assert dict(embedder.counts) == embedded, "nothing was embedded again"
        kinds = [type(event).__name__ for event in room.heard.by_document[document_id]]
        assert kinds.count("DocumentParsed") == 2, "and nothing parsed"
        by_bytes = await answer(room, await replace_command(room, document_id, lines("second")))
        assert isinstance(by_bytes, RestoreRequested), "the bytes of an earlier version restore it"
        await indexed(room, document_id, 2, times=2)
        assert await versions_found(room) == {2: 35}
        same = await answer(room, await replace_command(room, document_id, lines("second")))
        assert isinstance(same, CommandRejected)
        assert (same.code, same.extra) == ("duplicate_document", {"document_id": str(document_id), "version": 2})
    await remove_superseded(room.database, room.vectors)
    assert await vectors_of(room) == {"2": 35}


async def test_to_restore_what_is_active_keeps_it_from_what_is_in_work(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        embedder.gate.clear()
        await replace(room, document_id, lines("second"))
        assert (await restore(room, document_id, 1)).status == "indexed"
        embedder.gate.set()
        assert not (await indexed(room, document_id, 2)).is_active
        assert await versions_found(room) == {1: 35}


async def test_a_version_that_failed_may_be_tried_again(room: Room) -> None:
    async with room.consuming(), room.learning(HashEmbedder()):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        command = await replace_command(room, document_id, lines("second"))
        assert isinstance(command.body, ReplaceDocument)
        await room.blobs.delete(command.body.blob_key)
        await room.send(command)
        [failed] = await room.heard.until(lambda: room.heard.of(document_id, DocumentFailed))
        assert failed.error.code == "blob_missing"
        await room.blobs.put_bytes(command.body.blob_key, lines("second"))
        assert (await restore(room, document_id, 2)).status == "queued"
        assert (await indexed(room, document_id, 2)).is_active


async def test_vectors_that_vanished_from_the_blob_store_are_embedded_again(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        await replace(room, document_id, lines("second"))
        await indexed(room, document_id, 2)
        [gone, *_] = [key for key in await room.keys(document_id) if key.startswith("v1/batch-")]
        await room.blobs.delete(f"tenants/{room.tenant_id}/documents/{document_id}/{gone}")
        embedder.counts.clear()
        await restore(room, document_id, 1)
        assert (await indexed(room, document_id, 1, times=2)).is_active
        assert sum(embedder.counts.values()) == 10, "one batch"
        assert await versions_found(room) == {1: 35}


async def test_a_restore_under_another_embedding_model_embeds_again_and_leaves_nothing_behind(room: Room) -> None:
    class Other(HashEmbedder):
        @property
        def model(self) -> str:
            return "other-16"

    async with room.consuming():
        async with room.learning(HashEmbedder()):
            document_id = await room.upload(lines("first"))
            await indexed(room, document_id, 1)
            await replace(room, document_id, lines("second"))
            await indexed(room, document_id, 2)
        await remove_superseded(room.database, room.vectors)
        async with room.learning(Other()):
            await restore(room, document_id, 1)
            assert (await indexed(room, document_id, 1, times=2)).is_active
            await remove_superseded(room.database, room.vectors)
            assert (await vectors_of(room), await vectors_of(room, model="other-16")) == ({}, {"1": 35})
            assert isinstance(await room.delete(document_id), DocumentDeleted)
            await purged(room, document_id)
    assert await vectors_of(room, model="other-16") == {}

"""A document whose embedding model changes while it is learnt: the old model's table forgets it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from consumers.documents.purge import purge_deleted
from schemas.errors import Retry
from schemas.events import DocumentDeleted, DocumentIndexed, PassagesEmbedded
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room
from tests.integration.documents.test_index import handle, index_commands
from tests.integration.documents.versions import lines, stopped


class OtherEmbedder(HashEmbedder):
    """The same vectors under another name."""

    @property
    def model(self) -> str:
        return "other-16"


async def rows(room: Room, embedder: HashEmbedder) -> int:
    return await room.vectors.count(table_name(room.tenant_id, embedder.model))


async def learnt_partly(room: Room) -> UUID:
    """Of 35 passages 20 are in the table of `hash-16`."""
    embedder = HashEmbedder()
    embedder.stop_after = 2
    async with room.learning(embedder):
        document_id = await room.upload(lines("only"))
        await stopped(embedder)
        async with asyncio.timeout(20):
            while await rows(room, embedder) < 20:
                await asyncio.sleep(0.01)
    return document_id


async def test_no_table_keeps_a_document_that_another_model_finished(room: Room) -> None:
    old, new = HashEmbedder(), OtherEmbedder()
    new.stop_after = 0
    async with room.consuming():
        document_id = await learnt_partly(room)
        async with room.learning(new):
            await stopped(new)
            assert await rows(room, old) == 0
            assert await handle(room, await index_commands(room)) == []
            assert await rows(room, old) == 0, "a batch of the old model that comes late is not written"
            new.gate.set()
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        assert (await rows(room, old), await rows(room, new)) == (0, 35)
        assert isinstance(await room.delete(document_id), DocumentDeleted)
    assert await purge_deleted(room.database, room.blobs, room.vectors) == 1
    assert (await rows(room, old), await rows(room, new)) == (0, 0)


@pytest.mark.parametrize("finisher", [HashEmbedder, OtherEmbedder])
async def test_a_change_of_model_that_is_cut_off_loses_no_passage(
    room: Room, monkeypatch: pytest.MonkeyPatch, finisher: type[HashEmbedder]
) -> None:
    """The rows are gone and nothing says so yet; then the old model is set again, or the new one tries again."""
    delete, cut_off = room.vectors.delete_batches, asyncio.Event()

    async def delete_and_fail(table: str, batch_ids: Sequence[str]) -> None:
        await delete(table, batch_ids)
        cut_off.set()
        raise Retry("cut off", after_s=0.01)

    async with room.consuming():
        document_id = await learnt_partly(room)
        monkeypatch.setattr(room.vectors, "delete_batches", delete_and_fail)
        async with room.learning(OtherEmbedder()), asyncio.timeout(20):
            await cut_off.wait()
        monkeypatch.setattr(room.vectors, "delete_batches", delete)
        embedder = finisher()
        async with room.learning(embedder):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert await rows(room, embedder) == 35
    assert (await rows(room, HashEmbedder())) + (await rows(room, OtherEmbedder())) == 35


async def test_a_batch_of_the_first_of_three_models_that_comes_late_leaves_nothing_waiting(room: Room) -> None:
    """A model, another, and the first again: the first one's commands are of vectors that are made anew."""
    first, between, again = HashEmbedder(), OtherEmbedder(), HashEmbedder()
    first.stop_after = between.stop_after = 1
    again.stop_after = 0
    async with room.consuming(with_index=False):
        async with room.learning(first):
            document_id = await room.upload(lines("only", 20))
            await stopped(first)
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
        late = await index_commands(room)
        assert len(late) == 1
        async with room.learning(between):
            await stopped(between)
        async with room.learning(again):
            await stopped(again)
            assert await handle(room, late) == []
            again.gate.set()
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded)[-1].n_embedded == 20)
    assert await handle(room, await index_commands(room)) == ["DocumentIndexed"]
    assert (await room.version(document_id))["status"] == "indexed"
    assert (await rows(room, again), await rows(room, between)) == (20, 0)

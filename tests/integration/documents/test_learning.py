"""From AddDocument to a searchable document, and back to nothing, over the real servers."""

from __future__ import annotations

import asyncio
from uuid import UUID

from providers.embeddings import WordLlamaEmbedder
from retrieval.search import Searcher
from schemas.events import (
    CommandRejected,
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsed,
    DocumentUploaded,
    PassagesEmbedded,
)
from schemas.ids import new_id
from storage.postgres.passages import PassageVisibility, passages_by_id
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room

LINES = b"\n".join(b"line %d of the document" % n for n in range(35))


async def test_an_added_document_becomes_searchable_and_tells_every_step(room: Room) -> None:
    embedder = WordLlamaEmbedder()
    text = "Whales are mammals of the sea.\nCompilers turn source text into code.\nKings wear crowns."
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(text.encode(), "facts.txt")
        end = await room.heard.end(document_id)
        searcher = Searcher(room.vectors, embedder, PassageVisibility(room.database))
        [best, *_] = (await searcher.find(room.tenant_id, "how does a compiler work?", limit=2)).items
        foreign = await searcher.find(new_id(), "how does a compiler work?", limit=2)
    await embedder.close()
    assert end == DocumentIndexed(document_id=document_id, version=1, n_pages=1, n_passages=3, n_tokens=9)
    kinds = [type(event) for event in room.heard.by_document[document_id]]
    assert kinds == [DocumentUploaded, DocumentParsed, PassagesEmbedded, DocumentIndexed]
    assert best.passage.text == "Compilers turn source text into code."
    assert text[best.passage.start : best.passage.end] == best.passage.text
    assert (best.passage.document_name, best.passage.heading_path) == ("facts.txt", ("Part", "One"))
    assert foreign.items == ()
    assert (await room.version(document_id))["status"] == "indexed"
    async with room.database.transaction(room.tenant_id) as work:
        assert await passages_by_id(work, [new_id(), best.passage.id]) == [best.passage]
    async with room.database.transaction(new_id()) as work:
        assert await passages_by_id(work, [best.passage.id]) == []


async def test_the_same_bytes_at_once_in_many_partitions_make_one_document(room: Room) -> None:
    commands = [await room.add_command(LINES, f"{n}.txt") for n in range(12)]
    async with room.consuming(with_index=False):
        await asyncio.gather(*(room.send(command) for command in commands))
        answers = [await room.heard.answer(command) for command in commands]
    uploaded = [answer for answer in answers if isinstance(answer, DocumentUploaded)]
    refused = [answer for answer in answers if isinstance(answer, CommandRejected)]
    assert (len(uploaded), len(refused)) == (1, 11)
    assert {(r.code, r.status, r.extra["document_id"]) for r in refused} == {
        ("duplicate_document", 409, str(uploaded[0].document_id))
    }
    assert (await room.row("SELECT count(*) AS n FROM documents"))["n"] == 1


async def test_two_transactions_with_the_same_bytes_wait_for_each_other(room: Room) -> None:
    """What two workers with different partitions do at the same time."""
    from consumers.documents.subscriber import documents

    first, second = await room.add_command(LINES, "1.txt"), await room.add_command(LINES, "2.txt")
    handle = documents().handle
    assert handle is not None

    async def transact(command: object, hold: asyncio.Event, entered: asyncio.Event) -> list[str]:
        async with room.database.transaction() as work:
            outgoing = await handle(work, [command])  # type: ignore[list-item]
            entered.set()
            await hold.wait()
        return [type(envelope.body).__name__ for _, envelope in outgoing]

    hold, entered, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    go.set()
    one = asyncio.create_task(transact(first, hold, entered))
    await entered.wait()
    two = asyncio.create_task(transact(second, go, asyncio.Event()))
    done, _ = await asyncio.wait([two], timeout=0.3)
    assert not done
    hold.set()
    assert (await one, await two) == (["DocumentUploaded"], ["CommandRejected"])


async def test_a_deleted_document_is_gone_for_readers_at_once_and_then_everywhere(room: Room) -> None:
    embedder = HashEmbedder()
    table = table_name(room.tenant_id, embedder.model)
    async with room.consuming(), room.learning(embedder):
        kept = await room.upload(b"another document")
        document_id = await room.upload(LINES)
        assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        assert isinstance(await room.heard.end(kept), DocumentIndexed)
        assert await room.vectors.count(table) == 36
        assert isinstance(await room.delete(document_id), DocumentDeleted)
        for relation in ("passages", "document_batches"):
            left = await room.row(f"SELECT count(*) AS n FROM {relation} WHERE document_id = $1", document_id)
            assert left["n"] == 0
        await purged(room, document_id)
        assert await room.keys(document_id) == []
        assert await room.vectors.count(table) == 1
        again = await room.delete(document_id)
        assert isinstance(again, CommandRejected)
        assert (again.code, again.status) == ("document_not_found", 404)
        same_bytes = await room.upload(LINES)
        assert isinstance(await room.heard.end(same_bytes), DocumentIndexed)


async def purged(room: Room, document_id: UUID) -> None:
    async with asyncio.timeout(10):
        while (await room.row("SELECT purged_at FROM documents WHERE id = $1", document_id))["purged_at"] is None:
            await asyncio.sleep(0.05)


async def test_deleting_a_document_in_work_stops_its_job_and_leaves_nothing(room: Room) -> None:
    embedder = HashEmbedder()
    embedder.stop_after = 2
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(LINES)
        await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
        assert isinstance(await room.delete(document_id), DocumentDeleted)
        await purged(room, document_id)
        embedder.gate.set()
        other = await room.upload(b"the slot is free again")
        assert isinstance(await room.heard.end(other), DocumentIndexed)
    assert await room.keys(document_id) == []
    table = table_name(room.tenant_id, embedder.model)
    of_it = await room.vectors.search(
        table, vector=None, text="line document", limit=50, document_ids=[str(document_id)]
    )
    assert of_it == {"text": []}
    assert (await room.version(document_id))["status"] == "deleted"
    assert room.heard.of(document_id, DocumentFailed) == []


async def test_bytes_that_are_gone_or_changed_end_the_document_with_a_reason(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        gone, changed = await room.add_command(b"gone"), await room.add_command(b"changed")
        await room.blobs.delete(gone.body.blob_key)  # type: ignore[attr-defined]
        await room.blobs.put_bytes(changed.body.blob_key, b"other")  # type: ignore[attr-defined]
        theirs = await room.add_command(b"another tenant's")
        foreign = theirs.body.model_copy(update={"blob_key": theirs.body.blob_key.replace("tenants/", "tenants/0")})  # type: ignore[attr-defined]
        expected = ((gone, "blob_missing"), (changed, "blob_corrupt"), (room.envelope(foreign), "blob_missing"))
        for command, code in expected:
            await room.send(command)
            end = await room.heard.end(UUID(command.body.key()))
            assert isinstance(end, DocumentFailed)
            assert end.error.code == code
            assert end.error.message.endswith("upload it again.")
            assert (await room.version(end.document_id))["error_code"] == code

"""The search index follows from the passages: what was lost, turned or doubled in it is found, exactly, and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import lancedb
import numpy as np
import numpy.typing as npt
import pytest

from consumers.index.table_locks import lock_tables
from consumers.rebuild.other_models import warn_of_other_models
from consumers.rebuild.vectors import VectorsReport, VectorTables
from providers.ports import ProviderError
from ragline.dev_stack.embedded import EmbeddedServers
from retrieval.search import Searcher
from schemas.events import DocumentIndexed
from storage.ports import VectorRow
from storage.postgres.passages import PassageVisibility
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room, open_room


@pytest.fixture
async def room(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(dsn, servers.kafka_bootstrap, tmp_path) as opened:
        yield opened


async def learn(room: Room, *names: str) -> list[UUID]:
    """A document a name, of 25 passages in three batches, indexed."""
    async with room.learning(HashEmbedder()), room.consuming():
        ids = [await room.upload("\n".join(f"{name} {n}" for n in range(25)).encode()) for name in names]
        for id_ in ids:
            assert isinstance(await room.heard.end(id_), DocumentIndexed)
    return ids


async def rebuild(room: Room, *, execute: bool = False) -> VectorsReport:
    report = VectorsReport()
    await VectorTables(room.database, room.vectors, HashEmbedder()).rebuild(room.tenant_id, report, execute=execute)
    return report


def table(room: Room) -> str:
    return table_name(room.tenant_id, HashEmbedder().model)


async def nearest(room: Room, text: str) -> str:
    """The passage whose vector is that of the text."""
    [vector] = await HashEmbedder().embed([text])
    hits = await room.vectors.search(table(room), vector=vector, text=None, limit=1)
    return hits["vector"][0].passage_id


async def test_exactly_the_damage_is_found_and_mended(room: Room) -> None:
    first, second = await learn(room, "first", "second")
    assert await rebuild(room) == VectorsReport(n_passages=50)
    passages = await ids_of(room, first)
    opened = await (await lancedb.connect_async(str(room.folder / "vectors"))).open_table(table(room))
    await opened.delete(f"passage_id = '{passages[3]}'")
    await opened.update({"vector": [0.0] * 16}, where=f"passage_id = '{passages[12]}'")
    await opened.update({"terms": "forged"}, where=f"passage_id = '{passages[13]}'")
    doubled = await opened.query().where(f"passage_id = '{passages[24]}'").to_arrow()
    await opened.add(doubled)
    rows = [VectorRow("nobody-0", "nobody", 1, "nobody.1.0", 0, "first 3"), VectorRow("n-1", "n", 1, "n.1.0", 0, "x")]
    for row in rows:
        await room.vectors.replace_batches(table(room), [([row], np.eye(1, 16, dtype=np.float32))], dimensions=16)
    dry = await rebuild(room)
    assert {(one.passage_id, one.kind) for one in dry.differences} == {
        (str(passages[3]), "missing"),
        (str(passages[12]), "changed"),
        (str(passages[13]), "changed"),
        (str(passages[24]), "extra"),
    }
    assert (dry.n_different, dry.n_stale, dry.n_mended) == (6, 2, 0)
    assert (await rebuild(room)).n_different == 6
    mended = await rebuild(room, execute=True)
    assert (mended.n_different, mended.n_mended) == (6, 6)
    assert await rebuild(room, execute=True) == VectorsReport(n_passages=50)
    assert await room.vectors.count(table(room)) == 50
    assert await nearest(room, "first 12") == str(passages[12])
    assert await nearest(room, "second 3") == str((await ids_of(room, second))[3])


async def test_a_table_that_is_gone_is_built_from_the_passages(room: Room) -> None:
    [kept, deleted] = await learn(room, "kept", "deleted")
    async with room.consuming(with_index=False):
        await room.delete(deleted)
    assert (await rebuild(room)).n_stale == 25
    await room.vectors.drop(table(room))
    assert (await rebuild(room)).n_different == 25
    assert (await rebuild(room, execute=True)).n_mended == 25
    assert await rebuild(room) == VectorsReport(n_passages=25)
    assert await nearest(room, "kept 7") == str((await ids_of(room, kept))[7])


async def test_it_waits_for_the_writer_of_the_table(room: Room) -> None:
    """A writer has written its rows when it has not yet committed that they are indexed."""
    await learn(room, "one")
    async with room.database.transaction() as writer:
        await lock_tables(writer, [table(room)])
        await writer.execute("UPDATE document_batches SET indexed_at = NULL")
        rebuilding = asyncio.create_task(rebuild(room, execute=True))
        async with asyncio.timeout(20):
            while not await waiting(room):
                await asyncio.sleep(0.01)
        await writer.execute("UPDATE document_batches SET indexed_at = now()")
    assert await rebuilding == VectorsReport(n_passages=25)


async def waiting(room: Room) -> int:
    row = await room.row(
        "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(row["n"])


class Other(HashEmbedder):
    """Another model; its vectors are shorter. Fails where it is told to: now and for good, in this order."""

    model = "other-12"
    dimensions = 12
    fails_after = -2

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.fails_after -= 1
        if self.fails_after in (-1, 0):
            raise ProviderError("overloaded", "not now", retryable=self.fails_after == 0, retry_after_s=0)
        vectors = (await super().embed(texts))[:, :12]
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


async def test_what_another_model_embedded_is_said_and_then_embedded_anew(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when it breaks off in the middle; deleted documents leave nothing behind."""
    [*_, deleted] = await learn(room, *(f"document {n}" for n in range(8)))
    other = Other()
    await warn_of_other_models(room.database, other.model)
    assert (
        "search does not find 8 documents: they were learnt under the embedding model hash-16, and other-12 is"
        " configured; run `ragline rebuild vectors --execute`" in caplog.text
    )
    tables, now = VectorTables(room.database, room.vectors, other), table_name(room.tenant_id, other.model)
    shown, broken, mended, clean = (VectorsReport() for _ in range(4))
    await tables.rebuild(room.tenant_id, shown, execute=False)
    assert shown == VectorsReport(n_other_models=200)
    other.fails_after = 20
    with pytest.raises(ProviderError):
        await tables.rebuild(room.tenant_id, broken, execute=True)
    assert 0 < broken.n_adopted < 200
    assert await room.vectors.count(table(room)) == 200 - broken.n_adopted
    await tables.rebuild(room.tenant_id, mended, execute=True)
    assert mended.n_other_models == mended.n_adopted == 200 - broken.n_adopted
    assert (await room.vectors.count(table(room)), await room.vectors.count(now)) == (0, 200)
    await tables.rebuild(room.tenant_id, clean, execute=False)
    assert clean == VectorsReport(n_passages=200)
    left = await room.row("SELECT count(*) AS n FROM document_batches WHERE blob_key IS NOT NULL")
    assert left["n"] == 0, "a restore would take the vectors of the other model from there"
    caplog.clear()
    await warn_of_other_models(room.database, other.model)
    assert caplog.text == ""
    searcher = Searcher(room.vectors, other, PassageVisibility(room.database))
    [best] = (await searcher.find(room.tenant_id, "document 3 7", limit=1, mode="vector")).items
    assert best.passage.text == "document 3 7"
    async with room.learning(HashEmbedder()), room.consuming():
        await room.delete(deleted)
        async with asyncio.timeout(20):
            while await room.vectors.count(now) > 175:
                await asyncio.sleep(0.02)


async def ids_of(room: Room, document_id: UUID) -> list[UUID]:
    """The passages of a document, in order."""
    async with room.database.transaction() as work:
        rows = await work.fetch("SELECT id FROM passages WHERE document_id = $1 ORDER BY ordinal", document_id)
    return [row["id"] for row in rows]

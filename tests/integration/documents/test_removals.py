"""Removals: what is broken of one tenant is told and tried again, and everybody else's goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from consumers.documents.claims import document_prefix
from consumers.documents.purge import purge_deleted
from consumers.documents.removals import AT_ONCE, PutOff
from consumers.documents.superseded import remove_superseded
from consumers.index.table_locks import lock_tables
from consumers.index.upkeep import IndexUpkeep
from schemas.ids import new_id
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room
from tests.library import add_document

MODEL = "hash-16"


async def add_version(room: Room, tenant_id: UUID, text: str) -> UUID:
    """An indexed document with its one version, batch and blob, and rows in its tenant's table."""
    id_ = await add_document(room.database, room.vectors, HashEmbedder(), tenant_id, [text])
    key = f"{document_prefix(tenant_id, id_)}v1/original"
    await room.blobs.put_bytes(key, text.encode())
    async with room.database.transaction() as work:
        await work.execute(
            "INSERT INTO document_versions (document_id, version, tenant_id, user_id, status, requested_by,"
            " correlation_id, blob_key, sha256, size_bytes, embedding_model)"
            " VALUES ($1, 1, $2, $2, 'indexed', $1, $1, $3, $4, 1, $5)",
            id_,
            tenant_id,
            key,
            id_.hex,
            MODEL,
        )
        await work.execute(
            "INSERT INTO document_batches (document_id, version, batch, tenant_id, n_rows) VALUES ($1, 1, 0, $2, 1)",
            id_,
            tenant_id,
        )
    return id_


async def delete(room: Room, document_ids: list[UUID]) -> None:
    async with room.database.transaction() as work:
        for id_ in document_ids:
            await work.execute("UPDATE documents SET deleted_at = clock_timestamp() WHERE id = $1", id_)


async def supersede(room: Room, document_ids: list[UUID]) -> None:
    async with room.database.transaction() as work:
        for id_ in document_ids:
            await work.execute(
                "UPDATE document_versions SET superseded_at = clock_timestamp() WHERE document_id = $1", id_
            )


async def unpurged(room: Room) -> set[UUID]:
    async with room.database.transaction() as work:
        return {row["id"] for row in await work.fetch("SELECT id FROM documents WHERE purged_at IS NULL")}


@contextmanager
def broken_table(room: Room, tenant_id: UUID) -> Iterator[None]:
    """The tenant's table is damaged on disk, until it is restored from a copy."""
    folder = room.folder / "vectors" / f"{table_name(tenant_id, MODEL)}.lance"
    copy = room.folder / "copy"
    shutil.copytree(folder, copy)
    for manifest in folder.rglob("*.manifest"):
        manifest.write_bytes(b"garbage")
    yield
    shutil.rmtree(folder)
    copy.rename(folder)


async def test_a_tenants_broken_table_holds_up_its_own_removals_alone(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = new_id(), new_id()
    first = [await add_version(room, broken, f"text {n}") for n in range(AT_ONCE + 1)]
    last = await add_version(room, whole, "another's")
    await delete(room, [*first, last])
    put_off = PutOff[UUID]()
    with broken_table(room, broken):
        assert await purge_deleted(room.database, room.blobs, room.vectors, put_off) == 1
        assert await unpurged(room) == set(first)
        assert await room.vectors.count(table_name(whole, MODEL)) == 0
        assert put_off.keys() == first[:1], "the rest of it is not tried in vain again and again"
        assert f"what is left of {first[0]} cannot be removed yet: Retry: vector table" in caplog.text
    assert await purge_deleted(room.database, room.blobs, room.vectors, put_off) == AT_ONCE, "in the next round"
    assert await unpurged(room) == set(first[:1])
    assert await purge_deleted(room.database, room.blobs, room.vectors, PutOff(for_s=0)) == 1, "and it, later"
    assert await room.vectors.count(table_name(broken, MODEL)) == 0


async def test_a_table_that_is_optimized_holds_up_nobody_elses(room: Room) -> None:
    large, small = new_id(), new_id()
    deleted = [await add_version(room, tenant_id, "gone") for tenant_id in (large, small)]
    superseded = [await add_version(room, tenant_id, "old") for tenant_id in (large, small)]
    await delete(room, deleted)
    await supersede(room, superseded)
    async with room.database.transaction() as work:
        await lock_tables(work, [table_name(large, MODEL)])
        assert await purge_deleted(room.database, room.blobs, room.vectors) == 1
        assert await remove_superseded(room.database, room.vectors) == 1
    assert await unpurged(room) >= {deleted[0]}
    assert await purge_deleted(room.database, room.blobs, room.vectors) == 1
    assert await remove_superseded(room.database, room.vectors) == 1


async def test_a_table_that_cannot_be_optimized_holds_up_nobody_elses(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = new_id(), new_id()
    upkeep = IndexUpkeep(database=room.database, vectors=room.vectors, after_rows=1)
    for tenant_id in (broken, whole):
        await add_version(room, tenant_id, "a text")
        upkeep.committed(table_name(tenant_id, MODEL), 1)
    with broken_table(room, broken):
        assert await upkeep.optimize_due() == [table_name(whole, MODEL)]
        assert "index upkeep" in caplog.text
    assert await upkeep.optimize_due() == [table_name(broken, MODEL)]


async def test_a_documents_broken_blobs_hold_up_that_document_alone(room: Room) -> None:
    tenant_id = new_id()
    ids = [await add_version(room, tenant_id, f"text {n}") for n in range(3)]
    blob = room.blobs._path(f"{document_prefix(tenant_id, ids[0])}v1/original")
    blob.unlink()
    blob.mkdir()  # what stands there cannot be removed as a blob is
    await delete(room, ids)
    put_off = PutOff[UUID]()
    assert await purge_deleted(room.database, room.blobs, room.vectors, put_off) == 0
    assert await purge_deleted(room.database, room.blobs, room.vectors, put_off) == 2, "the others, in the next round"
    assert await unpurged(room) == {ids[0]}
    blob.rmdir()
    assert await purge_deleted(room.database, room.blobs, room.vectors) == 1


async def test_superseded_versions_of_a_broken_table_hold_up_nobody_elses(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = new_id(), new_id()
    first = [await add_version(room, broken, f"text {n}") for n in range(AT_ONCE + 1)]
    last = await add_version(room, whole, "another's")
    await supersede(room, [*first, last])
    put_off = PutOff[tuple[UUID, int]]()
    with broken_table(room, broken):
        assert await remove_superseded(room.database, room.vectors, put_off) == 1
        assert put_off.keys() == [(first[0], 1)]
        assert "cannot be removed yet" in caplog.text
    assert await remove_superseded(room.database, room.vectors, put_off) == AT_ONCE
    assert await remove_superseded(room.database, room.vectors) == 1
    assert await remove_superseded(room.database, room.vectors) == 0

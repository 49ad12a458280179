"""The writer of the vector tables: redelivery, deletion and upkeep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from consumers.documents.purge import purge_deleted
from consumers.index.table_locks import lock_tables, lock_to_add, try_lock_to_optimize
from consumers.index.upkeep import IndexUpkeep
from consumers.index.writer import IndexWriter
from schemas.envelope import Envelope, decode
from schemas.errors import Busy, Retry
from schemas.events import DocumentDeleted, DocumentIndexed, PassagesEmbedded
from schemas.topics import KNOWLEDGE_INDEX
from storage.postgres import outbox
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room
from tests.integration.edge.world import eventually

TABLE_MODEL = "hash-16"


async def embedded(room: Room, data: bytes) -> list[Envelope]:
    """A document up to its vectors; the commands that would index it."""
    async with room.learning(HashEmbedder()), room.consuming(with_index=False):
        document_id = await room.upload(data)
        n_batches = -(-len(data.splitlines()) // 10)
        await room.heard.until(lambda: len(room.heard.of(document_id, PassagesEmbedded)) == n_batches)
    return await index_commands(room)


async def index_commands(room: Room) -> list[Envelope]:
    """The commands that would index what is embedded."""
    async with room.database.transaction() as work:
        rows = await work.fetch("SELECT * FROM outbox WHERE topic = $1 ORDER BY seq", KNOWLEDGE_INDEX.name)
    records = [outbox._record(row) for row in rows]
    return [decode(KNOWLEDGE_INDEX, record.headers, record.value) for record in records]


async def handle(room: Room, commands: Sequence[Envelope], upkeep: IndexUpkeep | None = None) -> list[str]:
    upkeep = upkeep or IndexUpkeep(database=room.database, vectors=room.vectors)
    writer = IndexWriter(blobs=room.blobs, vectors=room.vectors, upkeep=upkeep)
    async with room.database.transaction() as work:
        outgoing = await writer.handle(work, commands)
    return [type(envelope.body).__name__ for _, envelope in outgoing]


async def test_batches_may_come_in_any_order_and_more_than_once(room: Room) -> None:
    commands = await embedded(room, b"\n".join(b"line %d" % n for n in range(25)))
    assert len(commands) == 3
    table = table_name(room.tenant_id, TABLE_MODEL)
    assert await handle(room, [commands[2], commands[0], commands[2]]) == []
    assert await room.vectors.count(table) == 15
    assert (await room.row("SELECT active_version FROM documents"))["active_version"] is None
    assert await handle(room, commands) == ["DocumentIndexed"]
    assert await room.vectors.count(table) == 25
    assert (await room.row("SELECT active_version FROM documents"))["active_version"] == 1
    assert await handle(room, commands) == []
    assert await room.vectors.count(table) == 25


async def test_a_write_whose_transaction_failed_is_written_again_not_twice(room: Room) -> None:
    commands = await embedded(room, b"one\ntwo")

    async def crash_before_commit() -> None:
        upkeep = IndexUpkeep(database=room.database, vectors=room.vectors)
        writer = IndexWriter(blobs=room.blobs, vectors=room.vectors, upkeep=upkeep)
        async with room.database.transaction() as work:
            await writer.handle(work, commands)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await crash_before_commit()
    assert await handle(room, commands) == ["DocumentIndexed"]
    assert await room.vectors.count(table_name(room.tenant_id, TABLE_MODEL)) == 2


async def test_batches_of_a_deleted_document_are_not_indexed(room: Room) -> None:
    [command] = await embedded(room, b"one\ntwo")
    async with room.consuming(with_index=False):
        assert isinstance(await room.delete(command.body.document_id), DocumentDeleted)  # type: ignore[attr-defined]
    assert await handle(room, [command]) == []
    assert await room.vectors.count(table_name(room.tenant_id, TABLE_MODEL)) == 0


@pytest.mark.parametrize("data", [b"", b"no array", b"\x93NUMPY\x01\x00\x06\x00{}"])
async def test_vectors_that_cannot_be_read_fail_the_document_and_no_other(room: Room, data: bytes) -> None:
    [bad] = await embedded(room, b"bad")
    [_, good] = await embedded(room, b"good")
    await room.blobs.put_bytes(bad.body.blob_key, data)  # type: ignore[attr-defined]
    assert sorted(await handle(room, [bad, good])) == ["DocumentFailed", "DocumentIndexed"]


async def test_the_purge_is_repeated_until_everything_is_gone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = await embedded(room, b"one\ntwo")
    await handle(room, commands)
    async with room.consuming(with_index=False):
        await room.delete(commands[0].body.document_id)  # type: ignore[attr-defined]

    async def away(*_: Any) -> int:
        raise Retry("the blob store is away")

    with monkeypatch.context() as patched:
        patched.setattr(room.blobs, "delete_prefix", away)
        assert await purge_deleted(room.database, room.blobs, room.vectors) == 0
    assert await purge_deleted(room.database, room.blobs, room.vectors) == 1
    assert await purge_deleted(room.database, room.blobs, room.vectors) == 0
    assert await room.vectors.count(table_name(room.tenant_id, TABLE_MODEL)) == 0
    assert [key async for key in room.blobs.list_keys("tenants/")] == []


async def test_a_table_is_optimized_after_enough_rows_or_when_left_alone(room: Room) -> None:
    upkeep = IndexUpkeep(database=room.database, vectors=room.vectors, after_rows=100)
    commands = await embedded(room, b"one\ntwo")
    table = table_name(room.tenant_id, TABLE_MODEL)
    await handle(room, commands, upkeep)
    assert await upkeep.optimize_due() == []
    assert await upkeep.optimize_due() == [table]
    assert await upkeep.optimize_due() == []
    upkeep.committed(table, 100)
    async with room.database.transaction() as writer:
        await lock_tables(writer, [table])
        assert await upkeep.optimize_due() == []
        async with room.database.transaction() as other:
            assert not await try_lock_to_optimize(other, table)
    assert await upkeep.optimize_due() == [table]
    upkeep.committed(table, 100)
    async with room.database.transaction() as writer:
        await lock_to_add(writer, [table], within_s=1)
        assert await upkeep.optimize_due() == [table]
    assert await room.vectors.count(table) == 2


async def test_who_waits_for_a_table_says_so_soon(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.index.writer.SOON_S", 0.01)
    commands = await embedded(room, b"one\ntwo")
    async with room.database.transaction() as writer:
        await lock_tables(writer, [table_name(room.tenant_id, TABLE_MODEL)])
        with pytest.raises(Busy):
            await asyncio.wait_for(handle(room, commands), 10)
    assert await handle(room, commands) == ["DocumentIndexed"]


async def test_what_is_learnt_waits_for_no_optimize(room: Room) -> None:
    commands = await embedded(room, b"one\ntwo")
    table = table_name(room.tenant_id, TABLE_MODEL)
    async with room.database.transaction() as upkeep:
        assert await try_lock_to_optimize(upkeep, table)
        assert await asyncio.wait_for(handle(room, commands), 10) == ["DocumentIndexed"]
        assert await room.vectors.count(table) == 2


async def test_who_waits_to_remove_holds_up_nobody_who_adds(room: Room) -> None:
    commands = await embedded(room, b"one\ntwo")
    table = table_name(room.tenant_id, TABLE_MODEL)

    async def remove() -> None:
        async with room.database.transaction() as work:
            await lock_tables(work, [table])

    async with room.database.transaction() as upkeep:
        assert await try_lock_to_optimize(upkeep, table)
        removing = asyncio.create_task(remove())
        await eventually(lambda: is_waiting(room))
        assert await asyncio.wait_for(handle(room, commands), 10) == ["DocumentIndexed"]
        assert not removing.done()
    await removing


async def is_waiting(room: Room) -> bool:
    row = await room.row(
        "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return bool(row["n"])


async def test_a_large_table_waits_for_more_rows(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    upkeep = IndexUpkeep(database=room.database, vectors=room.vectors, after_rows=100)
    commands = await embedded(room, b"one\ntwo")
    table = table_name(room.tenant_id, TABLE_MODEL)
    await handle(room, commands)
    monkeypatch.setattr("consumers.index.upkeep.AFTER_SHARE", 100)
    upkeep.committed(table, 199)
    assert await upkeep.optimize_due() == []
    upkeep.committed(table, 1)
    assert await upkeep.optimize_due() == [table]
    upkeep.committed(table, 199)
    assert await upkeep.optimize_due() == []
    assert await upkeep.optimize_due() == [table]


async def test_an_indexed_document_is_told_as_caused_by_its_last_batch(room: Room) -> None:
    commands = await embedded(room, b"one\ntwo")
    async with room.consuming():
        event = await room.heard.end(commands[0].body.document_id)  # type: ignore[attr-defined]
    assert isinstance(event, DocumentIndexed)
    assert room.heard.by_cause[commands[0].id] == [event]

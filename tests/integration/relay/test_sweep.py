"""What a worker committed and never published is published by the relay, under the same ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from consumers.relay.retention import delete_expired
from consumers.relay.sweep import sweep_once
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.envelope import Envelope, decode
from schemas.events import SessionDeleted
from schemas.ids import new_id
from schemas.topics import CHAT_EVENTS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.log.tail import Records, Tail, TopicPartition
from storage.postgres import inbox, outbox
from storage.postgres.unit_of_work import Database

TENANT = new_id()


def event(session_id: UUID, version: int) -> Envelope:
    body = SessionDeleted(session_id=session_id, session_version=version)
    return Envelope(body=body, tenant_id=TENANT, source="test")


async def test_forgotten_records_are_published_in_order_and_marked(
    servers: EmbeddedServers, database: Database, producer: LogProducer
) -> None:
    session = new_id()
    found: list[Envelope] = []

    def take(_: TopicPartition, records: Records) -> None:
        envelopes = [decode(CHAT_EVENTS, record.headers, record.value) for record in records]
        found.extend(one for one in envelopes if one.tenant_id == TENANT)

    tail = Tail(servers.kafka_bootstrap, [CHAT_EVENTS], take, client_id="test-relay")
    await tail.start()
    events = [event(session, version) for version in range(1, 21)]
    async with database.transaction() as work:
        await outbox.add(work, [(CHAT_EVENTS, one) for one in events])
    assert await sweep_once(database, producer, older_than_s=60) == 0
    assert await sweep_once(database, producer, older_than_s=0) == 20
    assert await sweep_once(database, producer, older_than_s=0) == 0
    await tail.until(await tail.end_offsets())
    assert [one.id for one in found] == [one.id for one in events]
    await tail.stop()


async def test_a_relay_that_dies_between_publish_and_mark_is_repeated_under_the_same_ids(
    servers: EmbeddedServers, database: Database, producer: LogProducer
) -> None:
    session = new_id()
    found: list[UUID] = []

    def take(_: TopicPartition, records: Records) -> None:
        envelopes = [decode(CHAT_EVENTS, record.headers, record.value) for record in records]
        found.extend(one.id for one in envelopes if one.body.key() == str(session))

    tail = Tail(servers.kafka_bootstrap, [CHAT_EVENTS], take, client_id="test-relay")
    await tail.start()
    events = [event(session, version) for version in range(1, 6)]
    async with database.transaction() as work:
        await outbox.add(work, [(CHAT_EVENTS, one) for one in events])
    ids = [one.id for one in events]
    async with database.transaction() as work:
        await work.execute("SELECT FROM outbox_unpublished WHERE id = $1 FOR UPDATE", ids[2])  # it cannot mark
        relay = asyncio.create_task(sweep_once(database, producer, older_than_s=0))
        async with asyncio.timeout(20):
            while len(found) < len(ids):
                await asyncio.sleep(0.01)
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
    assert await sweep_once(database, producer, older_than_s=0) == len(ids)
    assert await sweep_once(database, producer, older_than_s=0) == 0
    await tail.until(await tail.end_offsets())
    await tail.stop()
    assert found == [*ids, *ids]


async def test_the_feed_is_in_commit_order(database: Database) -> None:
    session = new_id()
    for version in (1, 2, 3):
        async with database.transaction() as work:
            await outbox.add(work, [(CHAT_EVENTS, event(session, version))])
    async with database.transaction() as work:
        rows = await work.fetch("SELECT xact_id::text::bigint AS xact, seq FROM outbox ORDER BY xact_id, seq")
    assert rows == sorted(rows, key=lambda row: row["seq"])
    assert len({row["xact"] for row in rows}) == 3


async def test_rows_are_kept_31_days_and_what_was_never_published_longer(database: Database, tmp_path: Path) -> None:
    old, unpublished, young = (event(new_id(), 1) for _ in range(3))
    async with database.transaction() as work:
        await outbox.add(work, [(CHAT_EVENTS, one) for one in (old, unpublished, young)])
        await inbox.admit(work, "test", [old, young])
        await outbox.mark_published(work, [old.id, young.id])
        for table, column, key in (("outbox", "created_at", "id"), ("inbox", "at", "key")):
            await work.execute(
                f"UPDATE {table} SET {column} = now() - interval '32 days 1 minute' WHERE {key} = ANY($1::uuid[])",
                [old.id, unpublished.id],
            )
    assert await delete_expired(database, LocalBlobStore(tmp_path)) >= 2
    async with database.transaction() as work:
        kept = await work.fetch("SELECT id FROM outbox WHERE id = ANY($1::uuid[])", [old.id, unpublished.id, young.id])
        known = await work.fetch("SELECT key FROM inbox WHERE consumer = 'test' AND key = ANY($1)", [old.id, young.id])
        await outbox.mark_published(work, [unpublished.id])
    assert {row["id"] for row in kept} == {unpublished.id, young.id}
    assert {row["key"] for row in known} == {young.id}

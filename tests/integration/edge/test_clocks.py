"""Processes whose clocks are wrong by an hour: times come from PostgreSQL and from the broker, not from them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from producers.edge.app import EdgeLimits
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.chunks import AttemptOpened
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.log.tail import TopicPartition, read_range
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_streams import all_of, asked, checkpoint, reading
from tests.integration.edge.world import Person, RunningEdge, running_edge, shown

pytestmark = pytest.mark.usefixtures("consumers")

HOUR_S = 3600.0


async def test_records_are_stamped_by_the_broker(servers: EmbeddedServers) -> None:
    raw = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, acks="all", enable_idempotence=True)
    await raw.start()
    record = Envelope(body=AttemptOpened(completion_id=new_id(), attempt=0), tenant_id=new_id(), source="test")
    try:
        for off_s in (-2 * HOUR_S, 2 * HOUR_S):
            ack = await raw.send_and_wait(
                CHAT_CHUNKS.name,
                record.body.encode(),
                partition=0,
                headers=record.headers(),
                timestamp_ms=int((time.time() + off_s) * 1000),
            )
            where = TopicPartition(CHAT_CHUNKS.name, 0)
            [found] = [
                one async for one in read_range(servers.kafka_bootstrap, where, ack.offset, ack.offset + 1, whole=True)
            ]
            assert abs(found.timestamp / 1000 - time.time()) < 60
    finally:
        await raw.stop()


async def test_what_is_decided_has_the_databases_time(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
    async with database.transaction() as work:
        same = await work.fetchval(
            "SELECT c.created_at = o.created_at FROM completions c, outbox o"
            " WHERE c.id = $1 AND o.type = 'ragline.chat.completion_requested.v1'",
            writer.id,
        )
    assert same, "both are the transaction's time"


@pytest.mark.parametrize("clock_off_s", [-HOUR_S, HOUR_S])
@pytest.mark.parametrize("has_offset", [True, False])
async def test_an_edge_whose_clock_is_wrong_serves_every_stream(
    servers: EmbeddedServers,
    edge: RunningEdge,
    somebody: Person,
    producer: LogProducer,
    database: Database,
    tmp_path: Path,
    *,
    clock_off_s: float,
    has_offset: bool,
) -> None:
    """Its base is a checkpoint with an offset, or none at all: then it looks for the time of the completion."""
    async with edge.client(somebody) as client:
        before = await asked(client, producer, somebody)
        await before.open()
        offset = await before.write("one ")
        if has_offset:
            await checkpoint(database, before, offset + 1)
        await before.write("two ")
        limits = EdgeLimits(ring_bytes=12 * 2_000)
        async with (
            running_edge(
                servers.kafka_bootstrap,
                database,
                producer,
                LocalBlobStore(tmp_path),
                limits,
                clock_off_s=clock_off_s,
            ) as wrong,
            wrong.client(somebody) as skewed,
        ):
            live = asyncio.create_task(all_of(skewed, before.id))
            during = await asked(skewed, producer, somebody)
            await during.open()
            for i in range(8):  # more than the ring holds
                await during.write(f"{i} ")
            async with reading(skewed, during.id) as stream:
                assert shown([await anext(stream), await anext(stream)]) in during.text
            for writer in (before, during):
                await writer.write("end")
                await writer.finish()
            assert shown(await live) == before.text == "one two end"
            assert shown(await all_of(skewed, during.id)) == during.text

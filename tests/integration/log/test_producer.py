"""A producer that the broker refuses for good ends its process; one that is only cut off does not."""

from __future__ import annotations

import asyncio

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.chunks import AttemptOpened
from schemas.envelope import Envelope
from schemas.errors import Retry, Stop
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS
from storage.log.producer import LogProducer
from tests.fencing import fence, producer_id


def record() -> Envelope:
    """A fence of no completion: it counts for nobody."""
    return Envelope(body=AttemptOpened(completion_id=new_id(), attempt=0), tenant_id=new_id(), source="test")


async def test_a_fenced_producer_stops_its_process(servers: EmbeddedServers, producer: LogProducer) -> None:
    watching = asyncio.create_task(producer.watch())
    await producer.publish(CHAT_CHUNKS, record(), timeout_s=10)
    await fence(servers.kafka_bootstrap, [producer_id(producer)])
    with pytest.raises(Retry, match="ProducerFenced"):
        await producer.publish(CHAT_CHUNKS, record(), timeout_s=10)
    with pytest.raises(Stop, match="the process must start anew: ProducerFenced"):
        await asyncio.wait_for(watching, timeout=5)
    assert producer.is_dead
    with pytest.raises(Stop):
        await producer.send(CHAT_CHUNKS, record())


async def test_a_gap_in_its_numbers_stops_its_process(producer: LogProducer) -> None:
    """As after a record that never arrived: the sender itself goes on, and every record is refused."""
    sent = record()
    ack = await producer.publish(CHAT_CHUNKS, sent, timeout_s=10)
    assert producer._producer is not None
    numbers = producer._producer._txn_manager
    numbers.increment_sequence_number((CHAT_CHUNKS.name, ack.partition), 7)
    with pytest.raises(Retry, match="OutOfOrderSequenceNumber"):
        await producer.publish(CHAT_CHUNKS, sent, timeout_s=10)
    with pytest.raises(Stop, match="OutOfOrderSequenceNumber"):
        await asyncio.wait_for(producer.watch(), timeout=5)


async def test_an_outage_is_no_death(servers: EmbeddedServers, producer: LogProducer) -> None:
    await producer.publish(CHAT_CHUNKS, record(), timeout_s=10)
    servers.freeze("kafka")
    try:
        with pytest.raises(Retry):
            await producer.publish(CHAT_CHUNKS, record(), timeout_s=0.5)
    finally:
        servers.thaw("kafka")
    await producer.publish(CHAT_CHUNKS, record(), timeout_s=20)
    assert not producer.is_dead

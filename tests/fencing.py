"""Fences an idempotent producer as the broker does it: somebody writes under its id with a higher epoch."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.producer.transaction_manager import PidAndEpoch

from schemas.chunks import AttemptOpened
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS
from storage.log.producer import LogProducer


def producer_id(producer: LogProducer) -> int:
    """The id that the broker gave it."""
    assert producer._producer is not None
    return int(producer._producer._txn_manager.producer_id)


async def newest_producer_id(bootstrap: str) -> int:
    """The broker numbers its producers: those of all that started before have lower ids."""
    own = LogProducer(bootstrap, client_id="test-newest")
    await own.start()
    try:
        return producer_id(own)
    finally:
        await own.stop()


async def fence(bootstrap: str, producer_ids: Iterable[int]) -> None:
    """Holds after: these producers can write no more chunks, and do not know it. What is written counts for nobody."""
    for id_ in producer_ids:
        impostor = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        await impostor.start()
        impostor._txn_manager._pid_and_epoch = PidAndEpoch(id_, 1)
        record = Envelope(body=AttemptOpened(completion_id=new_id(), attempt=0), tenant_id=new_id(), source="test")
        try:
            for partition in range(CHAT_CHUNKS.partitions):
                await impostor.send_and_wait(
                    CHAT_CHUNKS.name,
                    record.body.encode(),
                    key=record.body.key().encode(),
                    partition=partition,
                    headers=record.headers(),
                )
        finally:
            await impostor.stop()

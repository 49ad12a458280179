"""What cannot be read on a topic that only tails read is kept, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiokafka import TopicPartition

from consumers.message_search.subscriber import message_search
from consumers.relay.inspection import INSPECTED, inspections
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.envelope import Envelope
from schemas.events import SessionDeleted
from schemas.ids import new_id
from schemas.topics import CHAT_EVENTS, IDENTITY_STATE, TOPICS
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.tail import Records, Tail
from storage.postgres.unit_of_work import Database


def test_every_topic_has_a_group_or_is_inspected_or_has_no_dead_letters() -> None:
    consumed_by_groups = {topic for topic in TOPICS if topic.name.partition(".")[2].startswith(("commands", "index"))}
    assert {topic for topic in TOPICS if topic.has_dead_letters} == consumed_by_groups | {CHAT_EVENTS, *INSPECTED}


async def test_malformed_records_of_every_event_topic_are_kept(
    servers: EmbeddedServers, database: Database, producer: LogProducer
) -> None:
    topics = (CHAT_EVENTS, *INSPECTED)
    marker = str(new_id()).encode()
    kept: list[tuple[str, str]] = []
    all_there = asyncio.Event()

    def take(partition: TopicPartition, records: Records) -> None:
        for record in records:
            headers = dict(record.headers)
            if headers.get("marker") == marker:
                kept.append((partition.topic.removesuffix(".dlq"), headers["dlq_reason"].decode()))
        if len(kept) >= len(topics):
            all_there.set()

    letters = [replace(topic, name=topic.dead_letter_topic) for topic in topics]
    tail = Tail(servers.kafka_bootstrap, letters, take, client_id="test-letters")
    await tail.start()
    good = Envelope(body=SessionDeleted(session_id=new_id(), session_version=1), tenant_id=new_id(), source="test")
    await producer.send_raw(CHAT_EVENTS.name, b"k", good.body.encode(), [*good.headers(), ("marker", marker)])
    await producer.send_raw(IDENTITY_STATE.name, b"key:gone", None, [("marker", marker)])
    for topic in topics:
        await producer.send_raw(topic.name, b"k", b"{", [("marker", marker)])
    failures: list[BaseException] = []
    publisher = OutboxPublisher(database, producer)
    publisher.start()
    subscribers = Subscribers(
        servers.kafka_bootstrap, slot_name=None, database=database, producer=producer, publisher=publisher
    )
    for subscription in (message_search(), *inspections()):
        subscribers.consume(subscription, failures.append)
    await subscribers.start()
    async with asyncio.timeout(30):
        await all_there.wait()
    await subscribers.stop()
    await publisher.stop()
    await tail.stop()
    assert sorted(kept) == sorted((topic.name, "missing_header") for topic in topics)
    assert not failures

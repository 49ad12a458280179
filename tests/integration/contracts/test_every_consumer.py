"""Every golden record goes through every consumer of its topic, as it stands in the log: it has its effect, or it is
refused for a reason that its sender is told. None becomes a dead letter, and none is passed over as unreadable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from consumers.completions.wakeup import wakeup_tail
from consumers.documents.subscriber import documents
from consumers.documents.wakeup import Wakeup
from consumers.index.subscriber import index
from consumers.index.upkeep import IndexUpkeep
from consumers.index.writer import IndexWriter
from consumers.message_search.subscriber import message_search
from consumers.relay.inspection import inspections
from consumers.transcript.subscriber import transcript
from producers.edge.auth import KeyRing
from producers.edge.event_tail import EventTail
from producers.edge.identity_tail import IdentityTail
from producers.edge.requested import RequestedCompletions
from producers.replay.dead_letters import DeadLetterDesk, Wanted
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.chunk_log import kind_of, read_chunk
from schemas.commands import CreateSession, DeleteSession
from schemas.envelope import Envelope, decode
from schemas.events import ApiKeyState, CancelRequested, CommandRejected, CompletionRequested
from schemas.ids import new_id
from schemas.stream_fold import EMPTY, accept
from schemas.topics import (
    CHAT_CHUNKS,
    CHAT_COMMANDS,
    CHAT_EVENTS,
    IDENTITY_STATE,
    KNOWLEDGE_COMMANDS,
    KNOWLEDGE_EVENTS,
    KNOWLEDGE_INDEX,
    TOPICS,
    USAGE_EVENTS,
    Topic,
)
from storage.blobs.local import LocalBlobStore
from storage.log.batch_runner import Subscription
from storage.log.producer import LogProducer, all_acked
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.tail import Records, Tail
from storage.postgres.unit_of_work import Database
from tests.fakes.vector_index import MemoryVectorIndex
from tests.golden import Golden, golden
from tests.groups import group_at_end
from tests.integration.edge.world import eventually

GROUPS = {
    (CHAT_COMMANDS.name, "transcript"),
    (KNOWLEDGE_COMMANDS.name, "documents"),
    (CHAT_EVENTS.name, "message_search"),
    (KNOWLEDGE_INDEX.name, "index"),
}
TAILS = {
    (CHAT_EVENTS.name, "edge"),
    (CHAT_EVENTS.name, "completions"),
    (CHAT_CHUNKS.name, "edge"),
    (CHAT_CHUNKS.name, "completions"),
    (KNOWLEDGE_EVENTS.name, "edge"),
    (KNOWLEDGE_EVENTS.name, "documents"),
    (IDENTITY_STATE.name, "edge"),
}


def on(topic: Topic) -> list[Golden]:
    """The golden records of a topic in the registry's order, what deletes last.

    All commands share an Idempotency-Key, which would let only the first of them in; they go without.
    """
    order = [*(kind for kind in topic.kept if kind != DeleteSession.ce_type), DeleteSession.ce_type]
    found = sorted((one for one in golden() if one.topic is topic), key=lambda one: order.index(one.kind))
    return [replace(one, headers={k: v for k, v in one.headers.items() if k != "ce_idempotencyid"}) for one in found]


async def publish(producer: LogProducer, records: Iterable[Golden]) -> None:
    """They stand in the log, byte for byte."""
    futures = [
        await producer.send_raw(one.topic.name, one.headers["ce_subject"].encode(), one.raw_value, one.raw_headers)
        for one in records
    ]
    await all_acked(futures)


@asynccontextmanager
async def consuming(
    servers: EmbeddedServers, database: Database, producer: LogProducer, subscriptions: Sequence[Subscription]
) -> AsyncIterator[list[str]]:
    """The consumers as a worker runs them; their groups, in the same order."""
    failures: list[BaseException] = []
    async with AsyncExitStack() as stack:
        publisher = OutboxPublisher(database, producer)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        subscribers = Subscribers(
            servers.kafka_bootstrap, slot_name="golden", database=database, producer=producer, publisher=publisher
        )
        groups = [await group_at_end(servers.kafka_bootstrap, one.topic) for one in subscriptions]
        for group, one in zip(groups, subscriptions, strict=True):
            subscribers.consume(replace(one, group=group), failures.append)
        await subscribers.start()
        stack.push_async_callback(subscribers.stop)
        runners = subscribers.runners

        async def all_read() -> bool:
            wanted = [len(on(one.topic)) for one in subscriptions]
            return all(runners[group].n_processed >= n for group, n in zip(groups, wanted, strict=True))

        yield groups
        await eventually(all_read, within_s=30)
    assert failures == []


async def no_dead_letters(servers: EmbeddedServers, database: Database, records: Sequence[Golden]) -> None:
    desk = DeadLetterDesk(servers.kafka_bootstrap, database, None)
    ids = {one.headers["ce_id"] for one in records}
    found = await desk.browse(Wanted(tenant_id=UUID(records[0].headers["ce_tenantid"])), limit=100)
    assert [(letter.type, letter.reason, letter.error) for letter in found.letters if letter.id in ids] == []


def test_every_consumer_of_the_registry_is_tried_here() -> None:
    assert {(topic.name, consumer) for topic in TOPICS for consumer in topic.consumers} == GROUPS | TAILS


@asynccontextmanager
async def outcomes(servers: EmbeddedServers, topic: Topic) -> AsyncIterator[dict[str, list[Envelope]]]:
    """What follows on a topic, by the id of its cause."""
    found: dict[str, list[Envelope]] = {}

    def take(_: TopicPartition, records: Records) -> None:
        for record in records:
            event = decode(topic, record.headers, record.value)
            found.setdefault(str(event.causation_id), []).append(event)

    tail = Tail(servers.kafka_bootstrap, [topic], take, client_id="test-outcomes")
    await tail.start()
    try:
        yield found
    finally:
        await tail.stop()


@pytest.mark.parametrize(
    ("subscription", "effective"),
    [
        (transcript(), {"RenameSession", "SetFavorite", "DeleteSession"}),
        (documents(), {"AddDocument", "ReplaceDocument", "UpdateDocument", "RestoreVersion", "DeleteDocument"}),
    ],
    ids=["transcript", "documents"],
)
async def test_commands(
    servers: EmbeddedServers,
    database: Database,
    producer: LogProducer,
    subscription: Subscription,
    effective: set[str],
) -> None:
    records = on(subscription.topic)
    first = records[0].decoded()
    async with (
        outcomes(servers, subscription.rejects_to) as told,
        consuming(servers, database, producer, [subscription]),
    ):
        if isinstance(first.body, CreateSession):  # the golden one has a profile, and there are none yet
            create = replace(first, id=new_id(), body=CreateSession(session_id=first.body.session_id))
            await producer.publish(CHAT_COMMANDS, create, timeout_s=10)
        await publish(producer, records)

        async def all_told() -> bool:
            return all(one.headers["ce_id"] in told for one in records)

        await eventually(all_told, within_s=30)
    took_effect = set()
    for one in records:
        body = told[one.headers["ce_id"]][0].body
        if isinstance(body, CommandRejected):
            assert body.status < 500, (one.name, body)
        else:
            took_effect.add(one.model.__name__)
    assert took_effect == effective
    await no_dead_letters(servers, database, records)


async def test_facts_and_batches(
    servers: EmbeddedServers, database: Database, producer: LogProducer, tmp_path: Path
) -> None:
    """Groups that are told facts: message search, the index, and the relay, which looks at every event."""
    vectors = MemoryVectorIndex()
    writer = IndexWriter(
        blobs=LocalBlobStore(tmp_path), vectors=vectors, upkeep=IndexUpkeep(database=database, vectors=vectors)
    )
    topics = (CHAT_EVENTS, KNOWLEDGE_INDEX, *(one.topic for one in inspections()))
    records = [one for topic in topics for one in on(topic)]
    async with consuming(servers, database, producer, [message_search(), index(writer), *inspections()]):
        await publish(producer, records)
    assert {USAGE_EVENTS, IDENTITY_STATE, KNOWLEDGE_EVENTS} <= {one.topic for one in records}
    await no_dead_letters(servers, database, records)


async def test_events_at_the_edge_and_the_wake_ups(
    servers: EmbeddedServers, producer: LogProducer, caplog: pytest.LogCaptureFixture
) -> None:
    records = [*on(CHAT_EVENTS), *on(KNOWLEDGE_EVENTS)]
    woken, asked, cancelled = asyncio.Event(), list[int](), list[UUID]()
    events = EventTail(servers.kafka_bootstrap, client_id="golden-edge")
    requested = RequestedCompletions(events)
    wakeup = Wakeup(servers.kafka_bootstrap, client_id="golden-documents", wake=woken.set)
    completions = wakeup_tail(
        servers.kafka_bootstrap,
        client_id="golden-completions",
        on_requested=lambda: asked.append(1),
        on_cancel=cancelled.append,
    )
    [request] = [body for one in records if isinstance(body := one.decoded().body, CompletionRequested)]
    [cancel] = [body for one in records if isinstance(body := one.decoded().body, CancelRequested)]
    async with AsyncExitStack() as stack:
        for tail in (events.tail, completions):
            await tail.start()
            stack.push_async_callback(tail.stop)
        wakeup.start()
        stack.push_async_callback(wakeup.stop)
        heard = {one.name: stack.enter_context(events.about(one.headers["ce_subject"])) for one in records}
        known = asyncio.create_task(requested.until_requested(request.completion_id, timeout_s=30))
        await asyncio.sleep(0)  # it listens now
        await publish(producer, records)
        for name, of_subject in heard.items():
            wanted = next(one for one in records if one.name == name)
            event = await of_subject.next(timeout_s=30)
            while event is not None and str(event.id) != wanted.headers["ce_id"]:
                event = await of_subject.next(timeout_s=30)
            assert event is not None, name
            assert event.body == wanted.decoded().body
        await asyncio.wait_for(known, 30)

        async def all_woken() -> bool:
            if not woken.is_set():  # the wake-up is a hint, and began at a time of its own
                await publish(producer, on(KNOWLEDGE_EVENTS))
            return bool(asked) and cancel.completion_id in cancelled and woken.is_set()

        await eventually(all_woken, within_s=30)
    assert requested.is_deleted(request.session_id)
    assert [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING] == []


async def test_the_stream_of_an_answer(servers: EmbeddedServers, producer: LogProducer) -> None:
    """As edges and takers read it: records of the partition, through the one fold."""
    records, state, read = on(CHAT_CHUNKS), EMPTY, list[object]()
    ids = {one.headers["ce_id"].encode() for one in records}

    def take(_: TopicPartition, found: Records) -> None:
        nonlocal state
        for record in found:
            if dict(record.headers).get("ce_id") in ids:
                chunk = read_chunk(kind_of(record.headers), record.value)
                assert chunk is not None, record
                read.append(chunk)
                state = accept(state, chunk)

    tail = Tail(servers.kafka_bootstrap, [CHAT_CHUNKS], take, client_id="golden-chunks")
    await tail.start()
    try:
        await publish(producer, records)

        async def all_read() -> bool:
            return len(read) >= len(records)

        await eventually(all_read, within_s=30)
    finally:
        await tail.stop()
    assert read == [one.decoded().body for one in records]
    assert state.attempt > 0
    assert state.ended in read


async def test_keys_at_the_edge(servers: EmbeddedServers, producer: LogProducer) -> None:
    records = on(IDENTITY_STATE)
    await publish(producer, records)
    ring = KeyRing()
    identity = IdentityTail(servers.kafka_bootstrap, ring, client_id="golden-identity")
    await identity.start(timeout_s=30)
    await identity.tail.stop()
    [key] = [body for one in records if isinstance(body := one.decoded().body, ApiKeyState)]
    assert ring.get(key.hash) is not None

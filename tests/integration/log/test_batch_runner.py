"""The batch runner on a real broker and a real PostgreSQL: once, in order, poison apart, through redelivery."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import aiokafka.producer.message_accumulator
import aiokafka.producer.producer
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.commands import CreateSession
from schemas.envelope import Envelope, decode
from schemas.errors import Busy, DeadLetter, Retry, Stop
from schemas.events import CommandRejected, SessionCreated
from schemas.ids import derived_id, new_id
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS
from storage.log.batch_runner import Subscription
from storage.log.dead_letters import DeadLetters
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.tail import Records, Tail
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from tests.groups import group_at_end
from tests.integration.edge.world import eventually

TENANT = new_id()


@dataclass
class Recorder:
    """A handler that creates a session per command and remembers what it was handed."""

    fail: Callable[[Envelope], BaseException | None] = lambda _: None
    batches: list[list[UUID]] = field(default_factory=list)
    source: str = "test"

    async def handle(self, work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
        self.batches.append([command.id for command in commands])
        outgoing: list[Outgoing] = []
        for command in commands:
            if (error := self.fail(command)) is not None:
                raise error
            assert isinstance(command.body, CreateSession)
            await work.execute(
                "INSERT INTO sessions (id, tenant_id, user_id, name) VALUES ($1, $2, $3, $4)",
                command.body.session_id,
                command.tenant_id,
                command.tenant_id,
                command.body.name,
            )
            created = SessionCreated(
                session_id=command.body.session_id,
                session_version=1,
                name=command.body.name,
                profile_id=None,
                created_at=datetime.now(UTC),
            )
            outgoing.append((CHAT_EVENTS, command.caused(created, source=self.source, time=datetime.now(UTC))))
        return outgoing


class Events:
    """Everything on the chat events that a command of this test caused."""

    def __init__(self) -> None:
        self.by_cause: dict[UUID, list[Envelope]] = {}
        self._news = asyncio.Event()

    def take(self, _: TopicPartition, records: Records) -> None:
        for record in records:
            envelope = decode(CHAT_EVENTS, record.headers, record.value)
            if envelope.causation_id is not None:
                self.by_cause.setdefault(envelope.causation_id, []).append(envelope)
        self._news.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()


def command(name: str = "n", *, idempotency_id: UUID | None = None) -> Envelope:
    """A CreateSession of a new session; under a key, id and session derive from it as the edge does it."""
    body = CreateSession(session_id=derived_id(idempotency_id, "session") if idempotency_id else new_id(), name=name)
    id_ = derived_id(idempotency_id, name) if idempotency_id else new_id()
    return Envelope(body=body, tenant_id=TENANT, user_id=TENANT, source="test", id=id_, idempotency_id=idempotency_id)


@pytest.fixture
async def events(servers: EmbeddedServers) -> AsyncIterator[Events]:
    found = Events()
    tail = Tail(servers.kafka_bootstrap, [CHAT_EVENTS], found.take, client_id="test-events")
    await tail.start()
    yield found
    await tail.stop()


Run = Callable[..., object]


@asynccontextmanager
async def running(
    servers: EmbeddedServers,
    database: Database,
    producer: LogProducer,
    handle: Callable[[UnitOfWork, Sequence[Envelope]], Awaitable[list[Outgoing]]],
    *,
    group: str,
    slot: str = "worker-0",
    may_wait: bool = False,
) -> AsyncIterator[Subscribers]:
    """One worker process's subscriber of the chat commands."""
    publisher = OutboxPublisher(database, producer)
    publisher.start()
    subscribers = Subscribers(
        servers.kafka_bootstrap, slot_name=slot, database=database, producer=producer, publisher=publisher
    )
    heard: list[BaseException] = []
    subscription = Subscription(CHAT_COMMANDS, group, handle, rejects_to=CHAT_EVENTS, may_wait=may_wait)
    subscribers.consume(subscription, heard.append)
    await subscribers.start()
    try:
        yield subscribers
    finally:
        await subscribers.stop()
        await publisher.stop()
    assert heard == []


@pytest.fixture
async def group(servers: EmbeddedServers) -> str:
    """A group of this test's own that begins at the end of what other tests have sent."""
    return await group_at_end(servers.kafka_bootstrap, CHAT_COMMANDS)


def partition_of(one: Envelope) -> int:
    """Where Kafka's own partitioner puts it."""
    return int((murmur2(one.body.key().encode()) & 0x7FFFFFFF) % CHAT_COMMANDS.partitions)


async def send(producer: LogProducer, *commands: Envelope) -> None:
    for one in commands:
        await producer.publish(CHAT_COMMANDS, one, timeout_s=10)


@pytest.mark.parametrize("may_wait", [True, False])
async def test_what_may_wait_comes_in_few_batches(
    servers: EmbeddedServers, database: Database, producer: LogProducer, group: str, *, may_wait: bool
) -> None:
    recorder = Recorder(source=group)
    async with running(servers, database, producer, recorder.handle, group=group, may_wait=may_wait) as subscribers:
        runner = subscribers.runners[group]

        async def has(n: int) -> bool:
            return runner.n_processed >= n

        for n in range(30):
            await producer.publish(CHAT_COMMANDS, command(str(n)), timeout_s=5)
            if not may_wait:
                await eventually(partial(has, n + 1))
        await eventually(partial(has, 30))
    assert sum(map(len, recorder.batches)) == 30
    assert len(recorder.batches) <= 3 if may_wait else len(recorder.batches) == 30


async def test_a_command_takes_effect_once_and_its_outcome_is_told_again(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    recorder = Recorder(source=group)
    first = command()
    async with running(servers, database, producer, recorder.handle, group=group):
        await send(producer, first)
        await events.until(lambda: first.id in events.by_cause)
        await send(producer, first)
        await events.until(lambda: len(events.by_cause[first.id]) == 2)
    told = events.by_cause[first.id]
    assert told[0].id == told[1].id
    assert told[0].body == told[1].body
    async with database.transaction() as work:
        assert await work.fetchval("SELECT count(*) FROM sessions WHERE tenant_id = $1", TENANT) == 1
        assert await work.fetchval("SELECT count(*) FROM outbox") == 1


async def test_the_same_key_with_another_body_is_rejected(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    recorder = Recorder()
    key = new_id()
    one, other = command("one", idempotency_id=key), command("other", idempotency_id=key)
    async with running(servers, database, producer, recorder.handle, group=group):
        await send(producer, one, other, other)
        await events.until(lambda: len(events.by_cause.get(other.id, [])) == 2)
    rejected = events.by_cause[other.id]
    assert {type(envelope.body) for envelope in rejected} == {CommandRejected}
    assert rejected[0].id == rejected[1].id
    body = rejected[0].body
    assert isinstance(body, CommandRejected)
    assert (body.code, body.status) == ("idempotency_key_reused", 422)
    assert isinstance(events.by_cause[one.id][0].body, SessionCreated)


async def test_one_poison_record_in_a_batch_is_dead_lettered_and_the_others_take_effect_in_order(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    commands = [command(str(n)) for n in range(40)]
    poison = commands[17]
    recorder = Recorder(fail=lambda one: ValueError("cannot be done") if one.id == poison.id else None)
    await send(producer, *commands)
    async with running(servers, database, producer, recorder.handle, group=group):
        await events.until(lambda: all(one.id in events.by_cause for one in commands))
    rejected = events.by_cause[poison.id][0].body
    assert isinstance(rejected, CommandRejected)
    assert rejected.code == "dead_lettered"
    async with database.transaction() as work:
        assert await work.fetchval("SELECT count(*) FROM sessions WHERE tenant_id = $1", TENANT) >= 39
        assert not await work.fetchval("SELECT count(*) FROM inbox WHERE key = $1", poison.id)
    dead = await dead_letters(servers, poison.id)
    assert len(dead) == 1
    assert dead[0]["dlq_reason"] == b"processing_failed"


async def test_what_one_key_waits_for_holds_up_no_other_partition(
    servers: EmbeddedServers,
    database: Database,
    producer: LogProducer,
    events: Events,
    group: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.log.batch_runner.FIRST_BACKOFF_S", 60)
    monkeypatch.setattr("storage.log.batch_runner.LONGEST_BACKOFF_S", 60)
    commands = [command(str(n)) for n in range(40)]
    recorder = Recorder(fail=lambda one: Busy("taken") if one.id == commands[0].id else None)
    await send(producer, *commands)
    others = [one for one in commands if partition_of(one) != partition_of(commands[0])]
    async with running(servers, database, producer, recorder.handle, group=group):
        await events.until(lambda: all(one.id in events.by_cause for one in others))
    assert commands[0].id not in events.by_cause
    assert {type(event.body) for one in others for event in events.by_cause[one.id]} == {SessionCreated}


@pytest.fixture
async def any_producer(servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LogProducer]:
    """A producer that takes any header names, as those of other languages do."""
    for module in (aiokafka.producer.producer, aiokafka.producer.message_accumulator):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    started = LogProducer(servers.kafka_bootstrap, client_id="test-any")
    await started.start()
    yield started
    await started.stop()


class NotUtf8(str):
    """A header's name as another client may write it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Bytes that are no text."""
        return b"\xff\xfe"


async def test_records_that_cannot_be_read_are_dead_lettered_and_the_consumer_goes_on(
    servers: EmbeddedServers, database: Database, any_producer: LogProducer, events: Events, group: str
) -> None:
    producer, good = any_producer, command()
    headers = good.headers()
    marker = str(new_id()).encode()
    bad: list[tuple[bytes | None, list[tuple[str, bytes]]]] = [
        (b"{not json", headers),
        (b"\xff\xfe\x00", headers),
        (None, headers),
        (good.body.encode(), [("ce_id", b"\xff\xfe")]),
        (good.body.encode(), [*headers, ("traceparent", b"\x00")]),
        (good.body.encode(), [*headers, (NotUtf8("name"), b"1")]),
        (good.body.encode(), [h for h in headers if h[0] != "ce_type"]),
        (good.body.encode(), [(n, b"ragline.chat.unheard_of.v1" if n == "ce_type" else v) for n, v in headers]),
        (b'{"session_id": 5}', headers),
        (b'{"session_id": "' + b"x" * 100_000 + b'"}', headers),
    ]
    key = good.body.key().encode()
    sent = [await producer.send_raw(CHAT_COMMANDS.name, key, value, [*head, ("marker", marker)]) for value, head in bad]
    await send(producer, good)
    assert len({ack.offset for ack in await asyncio.gather(*sent)}) == len(bad)
    async with running(servers, database, producer, Recorder().handle, group=group):
        await events.until(lambda: good.id in events.by_cause)
    dead = await dead_letters(servers, None, marker=marker)
    assert len(dead) == len(bad)
    assert {headers["dlq_reason"].decode() for headers in dead} == {
        "malformed_body",
        "empty_body",
        "bad_header",
        "missing_header",
        "unknown_type",
    }


async def test_retry_pauses_and_then_everything_takes_effect_in_order(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    refusals = 3

    def fail(_: Envelope) -> BaseException | None:
        nonlocal refusals
        refusals -= 1
        return Retry("not yet") if refusals >= 0 else None

    session = new_id()
    commands = [command(str(n)) for n in range(5)]
    commands = [dataclasses.replace(one, correlation_id=session) for one in commands]
    async with running(servers, database, producer, Recorder(fail=fail).handle, group=group):
        await send(producer, *commands)
        await events.until(lambda: all(one.id in events.by_cause for one in commands))
    assert all(len(events.by_cause[one.id]) == 1 for one in commands)


async def test_two_owners_in_a_rebalance_change_nothing_twice(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    recorder = Recorder(source=group)
    commands = [command(str(n)) for n in range(300)]
    async with running(servers, database, producer, recorder.handle, group=group, slot="worker-0"):
        for one in commands[:150]:
            await producer.send(CHAT_COMMANDS, one)
        async with running(servers, database, producer, recorder.handle, group=group, slot="worker-1"):
            await send(producer, *commands[150:])
            await events.until(lambda: all(one.id in events.by_cause for one in commands), timeout_s=40)
        assert all(len({envelope.id for envelope in events.by_cause[one.id]}) == 1 for one in commands)
    async with database.transaction() as work:
        ids = [one.body.session_id for one in commands if isinstance(one.body, CreateSession)]
        assert await work.fetchval("SELECT count(*) FROM sessions WHERE id = ANY($1::uuid[])", ids) == 300


async def test_the_offsets_of_what_was_done_are_committed_and_nothing_is_read_again(
    servers: EmbeddedServers, database: Database, producer: LogProducer, events: Events, group: str
) -> None:
    first, second = command(), command()
    async with running(servers, database, producer, Recorder().handle, group=group):
        await send(producer, first)
        await events.until(lambda: first.id in events.by_cause)
    again = Recorder()
    async with running(servers, database, producer, again.handle, group=group):
        await send(producer, second)
        await events.until(lambda: second.id in events.by_cause)
    assert again.batches == [[second.id]]
    assert len(events.by_cause[first.id]) == 1


async def test_the_share_limit_stops_the_consumer_loudly(producer: LogProducer) -> None:
    letters = DeadLetters(producer, CHAT_COMMANDS, step="test", share=0.5, at_least=10, window=40)
    record = ConsumerRecord(CHAT_COMMANDS.name, 0, 0, 0, 0, b"key", b"{", None, 3, 1, ())
    error = DeadLetter("malformed_body", "cut short")
    letters.passed(20)
    for _ in range(20):
        await letters.keep(record, error)
    with pytest.raises(Stop, match=r"\(last: malformed_body\); stopped, so that a bad deploy"):
        await letters.keep(record, error)


async def dead_letters(
    servers: EmbeddedServers, command_id: UUID | None, *, marker: bytes | None = None
) -> list[dict[str, bytes]]:
    """The headers of the dead letters of one command, or with one marker."""
    consumer = AIOKafkaConsumer(
        CHAT_COMMANDS.dead_letter_topic, bootstrap_servers=servers.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found = []
        for records in (await consumer.getmany(timeout_ms=2000, max_records=10_000)).values():
            for record in records:
                headers = dict(record.headers)
                if marker is not None and headers.get("marker") == marker:
                    found.append(headers)
                if command_id is not None and headers.get("ce_id") == str(command_id).encode():
                    assert json.loads(record.value)
                    found.append(headers)
        return found
    finally:
        await consumer.stop()

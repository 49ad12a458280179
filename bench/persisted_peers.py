"""What *persisted* is measured against: raw batches, and the worker that one would write first."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer

from consumers.transcript.subscriber import transcript
from schemas.envelope import Envelope, decode
from schemas.ids import new_id
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS
from storage.log.producer import LogProducer
from storage.postgres import inbox, outbox
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from storage.postgres.unit_of_work import _init_connection as init_connection

if TYPE_CHECKING:
    from storage.postgres.unit_of_work import ProxyConnection

BATCH = 200

_TABLES = """
CREATE TABLE bench_messages (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, session_id uuid NOT NULL,
  sender text NOT NULL, status text NOT NULL, content text NOT NULL, created_at timestamptz NOT NULL);
CREATE INDEX ON bench_messages (session_id, id);
CREATE TABLE bench_inbox (consumer text, key uuid, command_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, key));
CREATE TABLE bench_outbox (id uuid PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY, causation_id uuid,
  topic text NOT NULL, key text NOT NULL, headers jsonb NOT NULL, value bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz);
CREATE INDEX ON bench_outbox (created_at) WHERE published_at IS NULL;
"""
_MESSAGES = (
    "INSERT INTO bench_messages SELECT * FROM"
    " unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])"
)
_INBOX = (
    "INSERT INTO bench_inbox (consumer, key, command_id) SELECT 'transcript', k, c"
    " FROM unnest($1::uuid[], $2::uuid[]) AS t(k, c) ON CONFLICT DO NOTHING"
)
_OUTBOX = (
    "INSERT INTO bench_outbox (id, causation_id, topic, key, headers, value) SELECT * FROM"
    " unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[])"
)


async def decided(work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
    """What the transcript makes of the commands, with its rows stored."""
    handle = transcript().handle
    assert handle is not None, "the transcript does something"
    return await handle(work, commands)


class RawBatches:
    """asyncpg and nothing else: batches of 200 messages, one transaction each, three `unnest` statements.

    A message is one row in each of three tables that look like ours (messages, inbox, outbox: same kinds of columns,
    primary keys, one secondary index). There is no Kafka, no decoding, no session, no completion and no second
    event: this is the floor that facts.md measured at 24–31,000 messages/s, not a program that does the same.
    Ids, headers and bodies are made beforehand; only what goes to PostgreSQL is timed.
    """

    def __init__(self, dsn: str, *, content: str) -> None:
        self._dsn = dsn
        self._content = content

    async def prepare(self) -> None:
        """Makes the tables."""
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(_TABLES)
        await connection.close()

    async def per_second(self, n_messages: int) -> float:
        """Messages per second."""
        batches = [self._rows() for _ in range(n_messages // BATCH)]
        connection = await asyncpg.connect(self._dsn)
        try:
            started = time.perf_counter()
            for messages, inbox_rows, outbox_rows in batches:
                async with connection.transaction():
                    await connection.execute(_INBOX, *inbox_rows)
                    await connection.execute(_MESSAGES, *messages)
                    await connection.execute(_OUTBOX, *outbox_rows)
            return len(batches) * BATCH / (time.perf_counter() - started)
        finally:
            await connection.close()

    def _rows(self) -> tuple[Sequence[Sequence[object]], Sequence[Sequence[object]], Sequence[Sequence[object]]]:
        now, tenant = datetime.now(UTC), new_id()
        ids, commands, events, sessions = ([new_id() for _ in range(BATCH)] for _ in range(4))
        headers = orjson.dumps({f"ce_{n}": os.urandom(18).hex() for n in "abcdefghij"}).decode()
        value = orjson.dumps({"session_id": str(tenant), "message_id": str(tenant), "content": self._content})
        keys = [str(id_) for id_ in sessions]
        return (
            (ids, _same(tenant), sessions, _same("user"), _same("complete"), _same(self._content), _same(now)),
            (commands, commands),
            (events, commands, _same(CHAT_EVENTS.name), keys, _same(headers), _same(value)),
        )


def _same(value: object) -> list[object]:
    return [value] * BATCH


Statement = tuple[str, tuple[object, ...]]


class _RecordedWork(UnitOfWork):
    """A transaction that also remembers its statements."""

    def __init__(self, connection: ProxyConnection) -> None:
        super().__init__(connection, None)
        self.statements: list[Statement] = []

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        self.statements.append((sql, args))
        return await super().fetch(sql, *args)

    async def execute(self, sql: str, *args: Any) -> int:
        self.statements.append((sql, args))
        return await super().execute(sql, *args)


class SameStatements:
    """The very statements that ours sends for batches of 200, sent again by asyncpg and nothing else.

    They are recorded beforehand in transactions that are rolled back, so every row is the same: session, two
    messages, completion, inbox, two outbox rows. No Kafka, no decoding, no deciding, no encoding, no marks.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def per_second(self, commands: Sequence[Envelope]) -> float:
        """Messages per second over commands whose sessions exist."""
        connection = await asyncpg.connect(self._dsn)
        await init_connection(connection)
        try:
            batches = [
                await self._recorded(connection, commands[start : start + BATCH])
                for start in range(0, len(commands), BATCH)
            ]
            started = time.perf_counter()
            for statements in batches:
                async with connection.transaction():
                    for sql, args in statements:
                        await connection.fetch(sql, *args)
            seconds = time.perf_counter() - started
            await connection.execute("TRUNCATE outbox_unpublished")  # not timed
            return len(commands) / seconds
        finally:
            await connection.close()

    async def _recorded(self, connection: asyncpg.Connection[Any], commands: Sequence[Envelope]) -> list[Statement]:
        transaction = connection.transaction()
        await transaction.start()
        work = _RecordedWork(cast("ProxyConnection", connection))
        admission = await inbox.admit(work, "same statements", commands)
        await outbox.add(work, await decided(work, admission.fresh))
        await transaction.rollback()
        return work.statements


class OneByOne:
    """The worker that one writes first: poll one record, one transaction, publish and await the ack, commit the offset.

    The very same decoding, statements and events as ours, with `acks=all`; only nothing is done in batches.
    """

    def __init__(self, bootstrap: str, database: Database, producer: LogProducer, *, group: str) -> None:
        self._bootstrap = bootstrap
        self._database = database
        self._producer = producer
        self._group = group
        self._events: list[UUID] = []

    async def per_second(self, n_messages: int) -> float:
        """Messages per second over the next `n_messages` of the topic."""
        consumer = AIOKafkaConsumer(
            CHAT_COMMANDS.name,
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            await self._one(consumer)
            started = time.perf_counter()
            for _ in range(n_messages):
                await self._one(consumer)
            seconds = time.perf_counter() - started
        finally:
            await consumer.stop()
        async with self._database.transaction() as work:  # not timed: the naive worker has no marks
            await outbox.mark_published(work, self._events)
        return n_messages / seconds

    async def _one(self, consumer: AIOKafkaConsumer) -> None:
        record = await asyncio.wait_for(consumer.getone(), 30)
        command = decode(CHAT_COMMANDS, record.headers, record.value)
        async with self._database.transaction() as work:
            admission = await inbox.admit(work, self._group, [command])
            records = await outbox.add(work, await decided(work, admission.fresh))
        await self._producer.publish_records(records)
        self._events += [one.id for one in records]
        await consumer.commit()

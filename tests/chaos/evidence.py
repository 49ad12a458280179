"""What the servers themselves say at the end: rows of PostgreSQL, records and group offsets of Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.chunks import AttemptFinished, ChunkRecord, CompletionChunk, StreamEnded
from schemas.envelope import decode, header_map
from schemas.events import TokenUsage
from schemas.stream_fold import EMPTY, FoldState, accept
from schemas.topics import CHAT_CHUNKS, TOPICS, USAGE_EVENTS


@dataclass(slots=True)
class LoggedStream:
    """The fold of one completion's records, by the project's one pure function."""

    state: FoldState = EMPTY
    text: str = ""
    attempts_with_text: set[int] = field(default_factory=set)
    finished: dict[int, TokenUsage] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)

    def take(self, body: ChunkRecord, id_: str) -> bool:
        """Whether the record counts."""
        after = accept(self.state, body)
        if after is self.state:
            return False
        if isinstance(body, CompletionChunk):
            self.text = body.text if after.epoch != self.state.epoch else self.text + body.text
            if body.text:
                self.attempts_with_text.add(body.attempt)
        elif isinstance(body, AttemptFinished):
            self.finished[body.attempt] = body.usage
        elif isinstance(body, StreamEnded):
            self.ends.add(id_)
        self.state = after
        return True


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a check may look at, read once when all is quiet."""

    completions: Mapping[str, Mapping[str, Any]]
    outbox_usage: Mapping[str, Mapping[int, TokenUsage]]
    published_usage: Mapping[str, Mapping[int, TokenUsage]]
    streams: Mapping[str, LoggedStream]
    n_sessions: int
    n_messages: int
    n_dead_letters: int
    counted_twice: Sequence[str]


async def gather(bootstrap: str, dsn: str) -> Evidence:
    """Reads both servers whole."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT * FROM completions")
        usage = await connection.fetch("SELECT value FROM outbox WHERE topic = $1", USAGE_EVENTS.name)
        n_sessions = await connection.fetchval("SELECT count(*) FROM sessions")
        n_messages = await connection.fetchval("SELECT count(*) FROM messages")
    finally:
        await connection.close()
    twice: list[str] = []
    dead = [topic.dead_letter_topic for topic in TOPICS if topic.has_dead_letters]
    n_dead = sum([1 for topic in dead async for _ in records(bootstrap, topic)])
    return Evidence(
        completions={str(row["id"]): dict(row) for row in rows},
        outbox_usage=_by_attempt([orjson.loads(row["value"]) for row in usage], twice),
        published_usage=_by_attempt(await _published_usage(bootstrap), twice),
        streams=await _logged_streams(bootstrap),
        n_sessions=n_sessions,
        n_messages=n_messages,
        n_dead_letters=n_dead,
        counted_twice=twice,
    )


async def records(bootstrap: str, topic: str) -> AsyncIterator[ConsumerRecord]:
    """Every record of the topic that there is now, each partition in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        metadata = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(topic, p) for p in metadata.partitions_for_topic(topic)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        while any([await consumer.position(p) < end for p, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for record in batch:
                    yield record
    finally:
        await consumer.stop()


async def open_work(dsn: str) -> dict[str, int]:
    """What is not done yet in PostgreSQL, by kind."""
    connection = await asyncpg.connect(dsn, timeout=5.0)
    try:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM completions WHERE finished_at IS NULL OR lease_owner IS NOT NULL"
            " OR status IN ('pending', 'in_progress', 'cancelling')) AS open_completions,"
            " (SELECT count(*) FROM outbox_unpublished) AS unpublished"
        )
    finally:
        await connection.close()
    return dict(row or {})


async def lag(bootstrap: str) -> dict[str, int]:
    """Records that a group has not committed yet, by group and partition; only those with any."""
    async with _admin(bootstrap) as (admin, consumer):
        found = {}
        for group, _ in await admin.list_consumer_groups():
            offsets = await admin.list_consumer_group_offsets(group)
            ends = await consumer.end_offsets(list(offsets)) if offsets else {}
            for partition, committed in offsets.items():
                behind = ends[partition] - max(committed.offset, 0)
                if behind:
                    found[f"{group} {partition.topic}/{partition.partition}"] = behind
        return found


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaAdminClient, AIOKafkaConsumer]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await admin.start()
        await consumer.start()
        yield admin, consumer
    finally:
        await consumer.stop()
        await admin.close()


async def _logged_streams(bootstrap: str) -> dict[str, LoggedStream]:
    found: dict[str, LoggedStream] = {}
    async for record in records(bootstrap, CHAT_CHUNKS.name):
        envelope = decode(CHAT_CHUNKS, record.headers, record.value)
        assert isinstance(envelope.body, ChunkRecord)
        found.setdefault(record.key.decode(), LoggedStream()).take(envelope.body, str(envelope.id))
    return found


async def told_of(bootstrap: str, completion_id: str) -> list[str]:
    """The completion's records in words, those that do not count marked; runs of chunks become one line."""
    stream, lines, run = LoggedStream(), list[str](), list[CompletionChunk]()

    def close_run() -> None:
        if run:
            first, last = run[0], run[-1]
            where = f"attempt {last.attempt} epoch {last.epoch} seq {first.seq}..{last.seq}"
            lines.append(f"    chunks {first.start}..{last.end} {where}")
            run.clear()

    async for record in records(bootstrap, CHAT_CHUNKS.name):
        if record.key.decode() != completion_id:
            continue
        body = decode(CHAT_CHUNKS, record.headers, record.value).body
        assert isinstance(body, ChunkRecord)
        before = stream.state
        counts = stream.take(body, "")
        if isinstance(body, CompletionChunk) and counts and body.epoch == before.epoch:
            if run and run[-1].attempt != body.attempt:
                close_run()
            run.append(body)
            continue
        close_run()
        fields = body.model_dump(exclude={"completion_id", "citations", "message_id", "usage"}, exclude_none=True)
        void = "" if counts else " (does not count)"
        lines.append(f"    {record.offset} at {record.timestamp / 1000:.2f} {type(body).__name__} {fields}{void}")
    close_run()
    return lines


async def _published_usage(bootstrap: str) -> list[dict[str, Any]]:
    """The usage topic's records, each event once: a publication may be repeated under the same id."""
    found = {}
    async for record in records(bootstrap, USAGE_EVENTS.name):
        found[header_map(record.headers)["ce_id"]] = orjson.loads(record.value)
    return list(found.values())


def _by_attempt(bodies: list[dict[str, Any]], twice: list[str]) -> dict[str, dict[int, TokenUsage]]:
    """By completion and attempt; `twice` gets those that were counted more than once."""
    found: dict[str, dict[int, TokenUsage]] = {}
    for body in bodies:
        of, attempt = found.setdefault(body["completion_id"], {}), body["attempt"]
        if attempt in of:
            twice.append(f"usage of {body['completion_id']} attempt {attempt} is counted twice")
        of[attempt] = TokenUsage.model_validate(body, extra="ignore")
    return found

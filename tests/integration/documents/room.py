"""Everything that learns documents, over real Kafka, PostgreSQL, LanceDB and disk; only slowness is staged."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from consumers.documents.claims import Claim, document_prefix
from consumers.documents.job import Read
from consumers.documents.parse.document import ParseFailed
from consumers.documents.passages import PassageSpan, Reading, has_words
from consumers.documents.runner import DocumentJobs
from consumers.documents.subscriber import documents
from consumers.index.subscriber import index
from consumers.index.upkeep import IndexUpkeep
from consumers.index.writer import IndexWriter
from consumers.relay.sweep import relay_forever
from providers.ports import Embedder
from schemas.commands import AddDocument, DeleteDocument
from schemas.envelope import Envelope, decode
from schemas.events import CommandRejected, DocumentDeleted, DocumentFailed, DocumentIndexed, DocumentUploaded
from schemas.ids import new_id
from schemas.records import Body
from schemas.topics import KNOWLEDGE_COMMANDS, KNOWLEDGE_EVENTS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.tail import Records, Tail
from storage.postgres.unit_of_work import Database
from storage.vectors.lance import LanceVectorIndex

DIMENSIONS = 16


class HashEmbedder:
    """An embedder whose vectors depend on the text alone; counts every text, and stops where it is told to."""

    def __init__(self, *, log: Path | None = None, delay_s: float = 0.0) -> None:
        self.counts: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.stop_after = -1
        self._log = log
        self._delay_s = delay_s

    @property
    def model(self) -> str:
        return "hash-16"

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self.stop_after == 0:
            self.gate.clear()
        self.stop_after -= 1
        await self.gate.wait()
        await asyncio.sleep(self._delay_s)
        self.counts.update(texts)
        if self._log is not None:
            with self._log.open("a") as file:
                file.writelines(f"{text}\n" for text in texts)
        rows = [np.frombuffer(hashlib.sha512(text.encode()).digest(), np.uint32)[:DIMENSIONS] for text in texts]
        vectors = np.array(rows, np.float32) - 2**31
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    async def close(self) -> None:
        """Nothing to end."""


async def read_lines(path: Path, _: Claim) -> Reading:
    """A passage a line, ten passages a batch: the shape of a long document without its weight."""
    text = await asyncio.to_thread(path.read_text)
    if not has_words(text):
        raise ParseFailed("empty_document", "The file has no text.")
    passages, at = [], 0
    for line in text.splitlines():
        digest = hashlib.sha256(line.encode()).hexdigest()
        passages.append(PassageSpan(1, at, at + len(line), ("Part", "One"), 3, digest))
        at += len(line) + 1
    return Reading(text, "text/plain", 1, passages)


@dataclass
class Heard:
    """The knowledge events since the test began, by document."""

    by_document: dict[UUID, list[Body]] = field(default_factory=dict)
    by_cause: dict[UUID, list[Body]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, _: object, records: Records) -> None:
        for record in records:
            envelope = decode(KNOWLEDGE_EVENTS, record.headers, record.value)
            self.by_document.setdefault(UUID(envelope.body.key()), []).append(envelope.body)
            if envelope.causation_id is not None:
                self.by_cause.setdefault(envelope.causation_id, []).append(envelope.body)
        self._news.set()

    async def until(self, condition: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while not (found := condition()):
                self._news.clear()
                await self._news.wait()
        return found

    async def answer(self, command: Envelope) -> Body:
        """The first event caused by a command."""
        await self.until(lambda: command.id in self.by_cause)
        return self.by_cause[command.id][0]

    async def end(self, document_id: UUID, *, timeout_s: float = 30.0) -> DocumentIndexed | DocumentFailed:
        """How a document ended."""

        def ended() -> list[Body]:
            known = self.by_document.get(document_id, [])
            return [event for event in known if isinstance(event, DocumentIndexed | DocumentFailed)]

        [event, *_] = await self.until(ended, timeout_s=timeout_s)
        assert isinstance(event, DocumentIndexed | DocumentFailed)
        return event

    async def more(self, document_id: UUID, kind: type[Body], n: int) -> None:
        """Waits for `n` more of a document's events of one kind."""
        wanted = len(self.of(document_id, kind)) + n
        await self.until(lambda: len(self.of(document_id, kind)) >= wanted)

    def of(self, document_id: UUID, kind: type[Body]) -> list[Any]:
        """A document's events of one kind."""
        return [event for event in self.by_document.get(document_id, []) if isinstance(event, kind)]


@dataclass
class Room:
    """The stores, one tenant, and what a test does with them."""

    dsn: str
    bootstrap: str
    folder: Path
    database: Database
    producer: LogProducer
    publisher: OutboxPublisher
    blobs: LocalBlobStore
    vectors: LanceVectorIndex
    heard: Heard
    tenant_id: UUID = field(default_factory=new_id)
    user_id: UUID = field(default_factory=new_id)

    def envelope(self, body: Body) -> Envelope:
        return Envelope(body=body, tenant_id=self.tenant_id, user_id=self.user_id, source="test")

    async def add_command(self, data: bytes, name: str = "a.txt", document_id: UUID | None = None) -> Envelope:
        """The bytes in the blob store, and the command that would add them."""
        document_id = document_id or new_id()
        key = f"{document_prefix(self.tenant_id, document_id)}v1/original"
        stored = await self.blobs.put_bytes(key, data)
        return self.envelope(
            AddDocument(
                document_id=document_id, name=name, blob_key=key, sha256=stored.sha256, size_bytes=stored.size_bytes
            )
        )

    async def send(self, command: Envelope) -> None:
        await self.producer.publish(KNOWLEDGE_COMMANDS, command, timeout_s=10)

    async def upload(self, data: bytes, name: str = "a.txt") -> UUID:
        """Adds a document and waits until it is registered."""
        command = await self.add_command(data, name)
        await self.send(command)
        answer = await self.heard.answer(command)
        assert isinstance(answer, DocumentUploaded), answer
        return answer.document_id

    async def delete(self, document_id: UUID) -> DocumentDeleted | CommandRejected:
        command = self.envelope(DeleteDocument(document_id=document_id))
        await self.send(command)
        answer = await self.heard.answer(command)
        assert isinstance(answer, DocumentDeleted | CommandRejected), answer
        return answer

    async def row(self, sql: str, *args: object) -> dict[str, Any]:
        async with self.database.transaction() as work:
            row = await work.fetchrow(sql, *args)
        assert row is not None, sql
        return dict(row)

    async def version(self, document_id: UUID) -> dict[str, Any]:
        return await self.row("SELECT * FROM document_versions WHERE document_id = $1", document_id)

    async def keys(self, document_id: UUID) -> list[str]:
        prefix = document_prefix(self.tenant_id, document_id)
        return [key.removeprefix(prefix) async for key in self.blobs.list_keys(prefix)]

    def jobs(
        self, embedder: Embedder, *, name: str = "test-0", read: Read | None = read_lines, **options: Any
    ) -> DocumentJobs:
        given: dict[str, Any] = {"lease_s": 1.0, "sweep_s": 0.2, "batch_size": 10} | options
        return DocumentJobs(
            database=self.database,
            publisher=self.publisher,
            blobs=self.blobs,
            vectors=self.vectors,
            embedder=embedder,
            read=read,
            kafka_bootstrap=self.bootstrap,
            slot_name=name,
            **given,
        )

    @asynccontextmanager
    async def learning(self, embedder: Embedder, **options: Any) -> AsyncIterator[DocumentJobs]:
        """Document jobs at work; a bug in them fails the test."""
        errors: list[BaseException] = []
        jobs = self.jobs(embedder, **options)
        await jobs.start(errors.append)
        try:
            yield jobs
        finally:
            await jobs.stop()
        assert errors == []

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Publishes what a worker committed and could not publish any more: needed where one is killed."""
        relay = asyncio.create_task(relay_forever(self.database, self.producer, interval_s=0.2))
        try:
            yield
        finally:
            relay.cancel()
            await asyncio.gather(relay, return_exceptions=True)

    @asynccontextmanager
    async def consuming(self, *, with_index: bool = True) -> AsyncIterator[None]:
        """The groups `documents` and `index` at work; a bug in them fails the test."""
        errors: list[BaseException] = []
        upkeep = IndexUpkeep(database=self.database, vectors=self.vectors)
        subscribers = Subscribers(
            self.bootstrap,
            slot_name="test-documents",
            database=self.database,
            producer=self.producer,
            publisher=self.publisher,
        )
        subscribers.consume(documents(), errors.append)
        if with_index:
            writer = IndexWriter(blobs=self.blobs, vectors=self.vectors, upkeep=upkeep)
            subscribers.consume(index(writer), errors.append)
        await subscribers.start()
        try:
            yield
        finally:
            await subscribers.stop()
        assert errors == []


@asynccontextmanager
async def open_room(dsn: str, bootstrap: str, folder: Path) -> AsyncIterator[Room]:
    """A room over running servers and a migrated database."""
    async with AsyncExitStack() as stack:
        database = Database(dsn)
        stack.push_async_callback(database.close)
        producer = LogProducer(bootstrap, client_id="test")
        await producer.start()
        stack.push_async_callback(producer.stop)
        publisher = OutboxPublisher(database, producer)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        vectors = LanceVectorIndex(str(folder / "vectors"))
        stack.push_async_callback(vectors.close)
        heard = Heard()
        tail = Tail(bootstrap, [KNOWLEDGE_EVENTS], heard.take, client_id="test-knowledge")
        await tail.start()
        stack.push_async_callback(tail.stop)
        blobs = LocalBlobStore(folder / "blobs")
        yield Room(dsn, bootstrap, folder, database, producer, publisher, blobs, vectors, heard)

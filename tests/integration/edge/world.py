"""An edge as its clients see it, over real Kafka and PostgreSQL, with the workers' part played by the test."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import uvicorn

from producers.edge.app import Edge, EdgeLimits, build_app
from producers.edge.session_context import Preview
from providers.catalog import build_chat_models
from providers.tokens import TiktokenCounter
from retrieval.feature_reranker import FeatureReranker
from retrieval.preparing import Contexts
from retrieval.search import EVERY, Found, ScoredPassage, Searcher, SearchMode
from schemas.chunks import AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded
from schemas.envelope import Envelope
from schemas.events import ApiKeyState
from schemas.ids import derived_id
from schemas.topics import CHAT_CHUNKS, IDENTITY_STATE
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.ports import DocumentFilter, PassageView
from storage.postgres.identity import hash_key
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from tests.fakes.embedder import WordHashEmbedder
from tests.fakes.vector_index import MemoryVectorIndex

MODEL_NAMES = ("fast", "local")


@dataclass(frozen=True)
class Person:
    """A user with a key."""

    tenant_id: UUID
    user_id: UUID
    key: str
    key_id: UUID
    role: str = "user"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


def person(tenant_id: UUID | None = None, *, role: str = "user") -> Person:
    """Somebody whom nobody knows yet."""
    return Person(tenant_id or uuid4(), uuid4(), secrets.token_hex(32), uuid4(), role)


async def tell_key(producer: LogProducer, who: Person, **changes: Any) -> None:
    """Their key stands on `identity.state.v1`."""
    body = ApiKeyState(
        key_id=who.key_id,
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        role=who.role,
        hash=hash_key(who.key),
        **changes,
    )
    envelope = Envelope(body=body, tenant_id=who.tenant_id, source="test")
    await producer.publish(IDENTITY_STATE, envelope, timeout_s=5)


async def enrol(database: Database, who: Person) -> None:
    """Tenant, user and key stand in PostgreSQL."""
    async with database.transaction() as work:
        await work.execute("INSERT INTO tenants (id, name) VALUES ($1, $2)", who.tenant_id, f"t {who.tenant_id}")
        await work.execute(
            "INSERT INTO users (id, tenant_id, email, role) VALUES ($1, $2, $3, $4)",
            who.user_id,
            who.tenant_id,
            f"{who.user_id}@example.com",
            who.role,
        )
        await work.execute(
            "INSERT INTO api_keys (id, tenant_id, user_id, hash) VALUES ($1, $2, $3, $4)",
            who.key_id,
            who.tenant_id,
            who.user_id,
            hash_key(who.key),
        )


@dataclass
class FakeSearcher:
    """Finds one passage, and remembers what it was asked."""

    asked: list[tuple[UUID, str, int, str, DocumentFilter, bool]] = field(default_factory=list)

    async def find(
        self,
        tenant_id: UUID,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        documents: DocumentFilter = EVERY,
        rerank: bool = False,
    ) -> Found:
        self.asked.append((tenant_id, query, limit, mode, documents, rerank))
        id_ = derived_id("passage", query)
        passage = PassageView(id_, id_, "doc", 1, f"about {query}", 3, 0, 5 + len(query), ("A", "B"), 0)
        return Found((ScoredPassage(passage, 0.5),), reranker="fake" if rerank else None)


@dataclass
class RunningEdge:
    """One edge, served on a port of its own."""

    edge: Edge
    base_url: str
    blobs: LocalBlobStore
    searcher: FakeSearcher
    vectors: MemoryVectorIndex
    fatal: list[BaseException]
    server: uvicorn.Server

    @asynccontextmanager
    async def client(self, who: Person | None = None) -> AsyncIterator[httpx.AsyncClient]:
        headers = who.headers if who else {}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=20) as client:
            yield client


@asynccontextmanager
async def running_edge(
    bootstrap: str,
    database: Database,
    producer: LogProducer,
    blobs: LocalBlobStore,
    limits: EdgeLimits | None = None,
    *,
    clock_off_s: float = 0.0,
) -> AsyncIterator[RunningEdge]:
    """An edge that has started and answers."""
    fatal: list[BaseException] = []
    searcher, vectors, counter = FakeSearcher(), MemoryVectorIndex(), TiktokenCounter()
    seen = Searcher(vectors, WordHashEmbedder(), PassageVisibility(database), reranker=FeatureReranker())
    answerer = build_chat_models([], counter=counter).default
    edge = build_app(
        bootstrap=bootstrap,
        database=database,
        producer=producer,
        blobs=blobs,
        searcher=searcher,
        preview=Preview(Contexts(database, seen, counter), answerer, counter),
        model_names=MODEL_NAMES,
        on_fatal=fatal.append,
        limits=limits or EdgeLimits(),
        version="1.2.3",
        wall_s=lambda: time.time() + clock_off_s,
    )
    await edge.start()
    config = uvicorn.Config(edge, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    sockets = [config.bind_socket()]
    serving = asyncio.create_task(server.serve(sockets=sockets))
    while not server.started:
        await asyncio.sleep(0.01)
    port = sockets[0].getsockname()[1]
    try:
        yield RunningEdge(edge, f"http://127.0.0.1:{port}", blobs, searcher, vectors, fatal, server)
    finally:
        edge.stop_streams()
        server.should_exit = True
        await serving
        await edge.stop()


class Writer:
    """Plays the completions' worker: writes chunk records of one completion."""

    def __init__(self, producer: LogProducer, who: Person, completion_id: UUID, message_id: UUID) -> None:
        self._producer = producer
        self._who = who
        self.id = completion_id
        self.message_id = message_id
        self.attempt, self.epoch, self.seq, self.end = 0, 0, 0, 0
        self.text = ""

    async def put(self, record: ChunkRecord) -> int:
        envelope = Envelope(body=record, tenant_id=self._who.tenant_id, user_id=self._who.user_id, source="test")
        ack = await self._producer.publish(CHAT_CHUNKS, envelope, timeout_s=5)
        return ack.offset

    async def open(self) -> int:
        self.attempt += 1
        return await self.put(AttemptOpened(completion_id=self.id, attempt=self.attempt))

    async def write(self, text: str, *, restart: bool = False) -> int:
        if restart:
            self.epoch, self.end, self.text = self.attempt, 0, ""
        self.seq += 1
        start, self.end, self.text = self.end, self.end + len(text), self.text + text
        return await self.put(
            CompletionChunk(
                completion_id=self.id,
                attempt=self.attempt,
                epoch=self.epoch,
                seq=self.seq,
                start=start,
                end=self.end,
                text=text,
            )
        )

    async def put_nothing(self) -> int:
        """A record that counts for nobody: a fence that is long past."""
        return await self.put(AttemptOpened(completion_id=self.id, attempt=0))

    async def finish(self, status: str = "complete", **more: Any) -> int:
        return await self.put(
            StreamEnded(
                completion_id=self.id,
                message_id=self.message_id,
                epoch=self.epoch,
                end=self.end,
                status=status,
                **more,
            )
        )


@dataclass(frozen=True)
class Sent:
    """One server-sent event as a client sees it."""

    name: str
    data: Any
    id: str | None


async def events_of(response: httpx.Response) -> AsyncIterator[Sent]:
    """The events of a stream; comments are skipped, as a client does."""
    name, id_ = "message", None
    data: list[str] = []
    async for line in response.aiter_lines():
        if not line:
            if data:
                yield Sent(name, json.loads("\n".join(data)), id_)
            name, data, id_ = "message", [], None
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif line.startswith("id: "):
            id_ = line[4:]


async def eventually(what: Callable[[], Awaitable[object]], *, within_s: float = 10.0) -> None:
    """Returns when `what()` is true."""
    async with asyncio.timeout(within_s):
        while not await what():
            await asyncio.sleep(0.02)


def shown(events: Sequence[Sent]) -> str:
    """The text that a client holds after these events."""
    text = ""
    for event in events:
        if event.name == "reset":
            text = ""
        elif event.name == "delta":
            assert event.data["start"] == len(text), "positions are contiguous"
            text += event.data["text"]
            assert event.data["end"] == len(text)
    return text

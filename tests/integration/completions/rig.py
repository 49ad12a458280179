"""One conversation's worth of Ragline in this process: transcript, workers that can die, a reader of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from consumers.completions.attempt import Tools
from consumers.completions.charges import Meter
from consumers.completions.context import JobContexts
from consumers.completions.flush_ticks import FlushTicks
from consumers.completions.retries import Retries
from consumers.completions.runner import CompletionRunner, Pace
from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from providers.catalog import ModelSpec, build_chat_models, close_chat_models
from providers.embeddings import WordLlamaEmbedder
from providers.ports import Models
from providers.prefill import PrefillMode
from providers.tokens import TiktokenCounter
from ragline.settings import Settings
from ragline.wiring.searching import build_contexts, build_searcher
from retrieval.feature_reranker import FeatureReranker
from retrieval.preparing import Contexts
from schemas.chunks import ChunkRecord, CompletionChunk
from schemas.commands import CreateSession, Generation, PostMessage
from schemas.envelope import Envelope, decode
from schemas.ids import new_id
from schemas.records import Body
from schemas.stream_fold import EMPTY, FoldState, accept
from schemas.topics import CHAT_CHUNKS, CHAT_COMMANDS
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.tail import Records, Tail, TopicPartition
from storage.postgres.unit_of_work import Database
from storage.vectors.lance import LanceVectorIndex

TENANT, USER = new_id(), new_id()
AS_CONFIGURED = Generation()
QUICK = Retries(first_wait_s=0.01, longest_wait_s=2.0)
"""As patient as a test may be."""


class Reader:
    """Folds what the log says of every completion, as any reader must."""

    def __init__(self) -> None:
        self.records: dict[UUID, list[ChunkRecord]] = {}
        self.states: dict[UUID, FoldState] = {}
        self.texts: dict[UUID, str] = {}
        self.resets: dict[UUID, int] = {}
        self._news = asyncio.Event()

    def take(self, _: TopicPartition, records: Records) -> None:
        for record in records:
            body = decode(CHAT_CHUNKS, record.headers, record.value).body
            assert isinstance(body, ChunkRecord)
            id_ = body.completion_id
            self.records.setdefault(id_, []).append(body)
            state = self.states.get(id_, EMPTY)
            after = accept(state, body)
            if after is not state and isinstance(body, CompletionChunk):
                assert body.seq == after.seq
                restarted = after.epoch != state.epoch
                self.resets[id_] = self.resets.get(id_, 0) + restarted
                self.texts[id_] = body.text if restarted else self.texts.get(id_, "") + body.text
            self.states[id_] = after
        self._news.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 12.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def ended(self, completion_id: UUID) -> FoldState:
        await self.until(lambda: self.states.get(completion_id, EMPTY).ended is not None)
        return self.states[completion_id]

    async def has_text(self, completion_id: UUID, n_characters: int) -> None:
        await self.until(lambda: len(self.texts.get(completion_id, "")) >= n_characters)


class WorkerProcess:
    """A worker that can stop in order, die at once, or freeze and come back."""

    def __init__(
        self, rig: Rig, name: str, specs: Sequence[ModelSpec], pace: Pace, retries: Retries, auxiliary: str | None
    ) -> None:
        self.database = Database(rig.dsn)
        self._rig = rig
        self._name = name
        self._specs = specs
        self._pace = pace
        self._retries = retries
        self._auxiliary = auxiliary
        self.failures: list[BaseException] = []
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        stack, rig = self._stack, self._rig
        stack.push_async_callback(self.database.close)
        self.producer = LogProducer(rig.bootstrap, client_id=self._name)
        await self.producer.start()
        stack.push_async_callback(self.producer.stop)
        publisher = OutboxPublisher(self.database, self.producer)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        counter = TiktokenCounter()
        models = build_chat_models(self._specs, counter=counter)
        stack.push_async_callback(close_chat_models, models)
        contexts = rig.contexts(self.database, models, auxiliary=self._auxiliary)
        tools = Tools(
            bootstrap=rig.bootstrap,
            database=self.database,
            producer=self.producer,
            publisher=publisher,
            models=models,
            contexts=JobContexts(self.database, contexts),
            meter=Meter(counter, {"test": (1.0, 2.0)}),
            ticks=FlushTicks(0.02),
            lease_s=self._pace.lease_s,
            retries=self._retries,
        )
        self.runner = CompletionRunner(tools, self._pace, owner=self._name, on_fail=self.failures.append)
        await self.runner.start()

    async def stop(self) -> None:
        await self.runner.stop()
        await self._stack.aclose()

    async def die(self) -> None:
        """Nothing is finished, handed over or said: as kill -9 leaves it, but for what is on the wire."""
        await self.runner._tail.stop()
        tasks = [*self.runner._tasks, *(task for _, task in self.runner._running.values())]
        streams = [a._streaming for a, _ in self.runner._running.values() if a._streaming is not None]
        for task in (*tasks, *streams):
            task.cancel()
        await asyncio.gather(*tasks, *streams, return_exceptions=True)
        await self._stack.aclose()


class Rig:
    """Posts commands as an edge does, and sees what happens."""

    def __init__(self, bootstrap: str, dsn: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.dsn = dsn
        self.reader = Reader()
        self.embedder = WordLlamaEmbedder()
        self.vectors = LanceVectorIndex(str(folder / "vectors"))
        self.database = Database(dsn)
        self.producer = LogProducer(bootstrap, client_id="rig")
        self._stack = AsyncExitStack()
        self._workers: list[WorkerProcess] = []

    async def __aenter__(self) -> Rig:
        stack = self._stack
        stack.push_async_callback(self.database.close)
        stack.push_async_callback(self.vectors.close)
        stack.push_async_callback(self.embedder.close)
        await self.producer.start()
        stack.push_async_callback(self.producer.stop)
        publisher = OutboxPublisher(self.database, self.producer)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        subscribers = Subscribers(
            self.bootstrap,
            slot_name="rig",
            database=self.database,
            producer=self.producer,
            publisher=publisher,
        )
        subscribers.consume(transcript(), lambda error: None)
        await subscribers.start()
        stack.push_async_callback(subscribers.stop)
        tail = Tail(self.bootstrap, [CHAT_CHUNKS], self.reader.take, client_id="rig-reader")
        await tail.start()
        stack.push_async_callback(tail.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def worker(
        self,
        *specs: ModelSpec,
        name: str = "worker-a",
        lease_s: float = 1.5,
        checkpoint_s: float = 0.3,
        slots: int = 20,
        running: int = 50,
        retries: Retries = QUICK,
        auxiliary: str | None = None,
    ) -> AsyncIterator[WorkerProcess]:
        pace = Pace(slots=slots, running=TenantLimit(running), lease_s=lease_s, checkpoint_s=checkpoint_s)
        process = WorkerProcess(self, name, specs, pace, retries, auxiliary)
        await process.start()
        try:
            yield process
        finally:
            if not process.runner._tasks[0].done():
                await process.stop()
            assert process.failures == []

    def contexts(self, database: Database, models: Models, *, auxiliary: str | None = None) -> Contexts:
        """As a worker and an edge are wired."""
        searcher = build_searcher(self.vectors, self.embedder, database, FeatureReranker())
        settings = Settings.model_construct(auxiliary_model=auxiliary)
        return build_contexts(settings, database, searcher, models)

    async def send(self, body: Body, *, tenant_id: UUID = TENANT) -> UUID:
        envelope = Envelope(body=body, tenant_id=tenant_id, user_id=USER, source="rig")
        await self.producer.publish(CHAT_COMMANDS, envelope, timeout_s=10)
        return envelope.id

    async def session(self, *, tenant_id: UUID = TENANT) -> UUID:
        id_ = new_id()
        await self.send(CreateSession(session_id=id_), tenant_id=tenant_id)
        return id_

    async def ask(
        self, session_id: UUID, content: str, *, generation: Generation = AS_CONFIGURED, tenant_id: UUID = TENANT
    ) -> PostMessage:
        body = PostMessage(
            session_id=session_id,
            message_id=new_id(),
            ai_message_id=new_id(),
            completion_id=new_id(),
            content=content,
            generation=generation,
        )
        await self.send(body, tenant_id=tenant_id)
        return body

    async def row(self, sql: str, *args: object) -> asyncpg.Record:
        async with self.database.transaction() as work:
            row = await work.fetchrow(sql, *args)
        assert row is not None
        return row

    async def message(self, id_: UUID) -> asyncpg.Record:
        return await self.row("SELECT * FROM messages WHERE id = $1", id_)

    async def completion(self, id_: UUID) -> asyncpg.Record:
        return await self.row("SELECT * FROM completions WHERE id = $1", id_)

    async def lose_chunks(self) -> None:
        """What retention does: every chunk that stands now is removed from the log."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await consumer.start()
        await admin.start()
        try:
            partitions = [TopicPartition(CHAT_CHUNKS.name, n) for n in range(CHAT_CHUNKS.partitions)]
            ends = await consumer.end_offsets(partitions)
            await admin.delete_records({p: RecordsToDelete(before_offset=end) for p, end in ends.items() if end})
        finally:
            await admin.close()
            await consumer.stop()

    async def usage(self, completion_id: UUID) -> list[asyncpg.Record]:
        async with self.database.transaction() as work:
            return await work.fetch(
                "SELECT convert_from(value, 'utf8')::jsonb AS body FROM outbox WHERE topic = 'usage.events.v1'"
                " AND convert_from(value, 'utf8')::jsonb->>'completion_id' = $1",
                str(completion_id),
            )


def spec(url: str, name: str = "test", *, prefill: PrefillMode = True, **changes: Any) -> ModelSpec:
    """A model of the test's provider, under the same name there."""
    return ModelSpec(name=name, model=f"openai/{name}", api_base=url, api_key="k", prefill=prefill, **changes)

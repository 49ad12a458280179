"""The worker's process: the consumers it was asked for, over one database, one producer, one slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from consumers.completions.attempt import Tools
from consumers.completions.charges import Meter
from consumers.completions.context import JobContexts
from consumers.completions.flush_ticks import FlushTicks
from consumers.completions.retries import Retries
from consumers.completions.runner import CompletionRunner, Pace
from consumers.documents.passages import PassageSize
from consumers.documents.runner import DocumentJobs
from consumers.documents.subscriber import documents
from consumers.index.subscriber import index
from consumers.index.upkeep import IndexUpkeep
from consumers.index.writer import IndexWriter
from consumers.message_search.subscriber import message_search
from consumers.rebuild.other_models import warn_of_other_models
from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from providers.catalog import close_chat_models
from providers.ports import Embedder
from providers.rerankers import LiteLLMReranker
from providers.tokens import TiktokenCounter
from ragline.settings import Settings
from ragline.status import status_page
from ragline.wiring.blobs import build_blobs
from ragline.wiring.connections import OnFail, build_database, until_there
from ragline.wiring.health import watch_consumers, watch_servers
from ragline.wiring.models import (
    build_embedder,
    build_models,
    build_recognizer,
    build_reranker,
    caches_vectors,
    start_embedder,
    start_models,
)
from ragline.wiring.searching import build_contexts, build_searcher
from ragline.wiring.telemetry import telling
from ragline.wiring.vectors import build_vectors
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.ports import BlobStore, VectorIndex
from storage.postgres.leases import Slot
from storage.postgres.unit_of_work import Database

CONSUMERS = ("transcript", "completions", "documents", "index", "message_search")


def _prices(settings: Settings) -> dict[str, tuple[float, float]]:
    return {
        model.name: (model.input_cost_per_million, model.output_cost_per_million)
        for model in settings.models
        if model.input_cost_per_million is not None and model.output_cost_per_million is not None
    }


@dataclass(frozen=True, slots=True)
class _Clients:
    """What the consumers of a process share."""

    database: Database
    producer: LogProducer
    publisher: OutboxPublisher
    slot: Slot
    blobs: BlobStore
    vectors: VectorIndex
    embedder: Embedder


class Worker:
    """The consumers of one process. `on_fail` hears of what should end it."""

    def __init__(self, settings: Settings, names: Sequence[str], on_fail: OnFail) -> None:
        self._settings = settings
        self._names = names or CONSUMERS
        self._on_fail = on_fail
        self._stack = AsyncExitStack()
        self.subscribers: Subscribers

    async def start(self) -> None:
        """Returns when every consumer polls. Waits for servers that are away. Raises: SettingsError."""
        settings, stack = self._settings, self._stack
        await stack.enter_async_context(telling(settings, "worker"))
        status = await stack.enter_async_context(
            status_page(settings.telemetry.metrics_port, settings.telemetry.metrics_host)
        )
        database = build_database(settings, max_connections=16)
        stack.push_async_callback(database.close)
        slot = Slot(database, "worker")
        await until_there(slot.acquire)
        stack.push_async_callback(slot.release)
        producer = LogProducer(settings.kafka_bootstrap, client_id=f"ragline-{slot.name}")
        watch_servers(status, database, producer)
        await until_there(producer.start)
        stack.push_async_callback(producer.stop)
        publisher = OutboxPublisher(database, producer)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        self._watch(stack, slot.watch(), "slot")
        self._watch(stack, producer.watch(), "producer")
        blobs, vectors = build_blobs(settings), build_vectors(settings)
        embedder = build_embedder(settings)
        for close in (blobs.close, vectors.close, embedder.close):
            stack.push_async_callback(close)
        await start_embedder(embedder)
        await until_there(lambda: warn_of_other_models(database, embedder.model))
        clients = _Clients(database, producer, publisher, slot, blobs, vectors, embedder)
        self.subscribers = await self._start_consumers(clients)
        watch_consumers(status, self.subscribers)
        status.started()

    async def stop(self) -> None:
        """Finishes or hands over what is held, in the reverse order."""
        await self._stack.aclose()

    def _watch(self, stack: AsyncExitStack, watching: Awaitable[None], name: str) -> None:
        async def run() -> None:
            await watching

        task = asyncio.create_task(run(), name=name)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._on_fail(error)

        task.add_done_callback(ended)
        stack.callback(task.cancel)

    async def _start_consumers(self, clients: _Clients) -> Subscribers:
        settings, stack = self._settings, self._stack
        subscribers = Subscribers(
            settings.kafka_bootstrap,
            slot_name=clients.slot.name,
            database=clients.database,
            producer=clients.producer,
            publisher=clients.publisher,
            max_records=settings.worker.batch_records,
            session_timeout_ms=settings.worker.session_timeout_ms,
        )
        if "transcript" in self._names:
            subscribers.consume(transcript(TenantLimit(settings.limits.waiting_completions)), self._on_fail)
        if "documents" in self._names:
            await self._start_documents(clients, subscribers)
        if "index" in self._names:
            self._start_index(clients, subscribers)
        if "message_search" in self._names:
            subscribers.consume(message_search(), self._on_fail)
        if "completions" in self._names:
            await self._start_completions(clients)
        await until_there(subscribers.start)
        stack.push_async_callback(subscribers.stop)
        return subscribers

    async def _start_documents(self, clients: _Clients, subscribers: Subscribers) -> None:
        settings, stack = self._settings, self._stack
        subscribers.consume(documents(TenantLimit(settings.limits.waiting_documents)), self._on_fail)
        jobs = DocumentJobs(
            database=clients.database,
            publisher=clients.publisher,
            blobs=clients.blobs,
            vectors=clients.vectors,
            embedder=clients.embedder,
            kafka_bootstrap=settings.kafka_bootstrap,
            slot_name=clients.slot.name,
            slots=settings.worker.document_slots,
            lease_s=settings.worker.lease_s,
            max_attempts=settings.worker.max_attempts,
            size_of=lambda tenant: PassageSize(*settings.passages.of(tenant)),
            recognizer=build_recognizer(settings),
            caches_vectors=caches_vectors(settings),
        )
        await until_there(lambda: jobs.start(self._on_fail))
        stack.push_async_callback(jobs.stop)

    def _start_index(self, clients: _Clients, subscribers: Subscribers) -> None:
        stack = self._stack
        upkeep = IndexUpkeep(database=clients.database, vectors=clients.vectors)
        upkeep.start(self._on_fail)
        stack.push_async_callback(upkeep.stop)
        subscribers.consume(
            index(IndexWriter(blobs=clients.blobs, vectors=clients.vectors, upkeep=upkeep)), self._on_fail
        )

    async def _start_completions(self, clients: _Clients) -> None:
        settings = self._settings
        models = build_models(settings)
        await start_models(models)
        self._stack.push_async_callback(close_chat_models, models)
        tokens = TiktokenCounter()
        await asyncio.to_thread(tokens.count, "warm")
        reranker = build_reranker(settings)
        self._stack.push_async_callback(reranker.close)
        if isinstance(reranker, LiteLLMReranker):
            await reranker.start()
        searcher = build_searcher(clients.vectors, clients.embedder, clients.database, reranker)
        contexts = build_contexts(settings, clients.database, searcher, models)
        tools = Tools(
            bootstrap=settings.kafka_bootstrap,
            database=clients.database,
            producer=clients.producer,
            publisher=clients.publisher,
            models=models,
            contexts=JobContexts(clients.database, contexts),
            meter=Meter(tokens, _prices(settings)),
            ticks=FlushTicks(settings.worker.flush_ms / 1000),
            lease_s=settings.worker.lease_s,
            retries=Retries(max_attempts=settings.worker.max_attempts),
        )
        pace = Pace(
            slots=settings.worker.completion_slots,
            running=TenantLimit(settings.limits.running_completions),
            lease_s=settings.worker.lease_s,
            checkpoint_s=settings.worker.checkpoint_s,
        )
        runner = CompletionRunner(tools, pace, owner=clients.slot.name, on_fail=self._on_fail)
        await until_there(runner.start)
        self._stack.push_async_callback(runner.stop)

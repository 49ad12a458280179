"""The composition root: the only place that constructs clients and puts the rooms together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from consumers.completions.attempt import Tools
from consumers.completions.context import Contexts
from consumers.completions.runner import CompletionRunner, Pace
from consumers.documents.runner import DocumentJobs
from consumers.documents.subscriber import documents
from consumers.index.subscriber import index
from consumers.index.upkeep import IndexUpkeep
from consumers.index.writer import IndexWriter
from consumers.relay.sweep import relay_forever
from consumers.transcript.subscriber import transcript
from producers.edge.app import Edge, EdgeLimits, build_app
from providers.catalog import ModelSpec, build_chat_models, close_chat_models, start_chat_models
from providers.embeddings import WordLlamaEmbedder
from providers.ports import Embedder, Models
from providers.tokens import TiktokenCounter
from ragline import __version__
from ragline.settings import Settings, SettingsError, resolve_secret
from retrieval.search import Searcher
from schemas.errors import Retry
from storage.blobs.local import LocalBlobStore
from storage.blobs.s3 import S3BlobStore
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.log.topic_admin import apply_topics
from storage.ports import BlobStore, VectorIndex
from storage.postgres import migrate
from storage.postgres.identity import ensure_first_tenant
from storage.postgres.leases import Slot
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from storage.vectors.lance import LanceVectorIndex

logger = logging.getLogger(__name__)

CONSUMERS = ("transcript", "completions", "documents", "index")

OnFail = Callable[[BaseException], None]
ResultT = TypeVar("ResultT")


async def until_there(what: Callable[[], Awaitable[ResultT]], *, interval_s: float = 0.5) -> ResultT:
    """Tries again for as long as something is away: processes may start in any order."""
    while True:
        try:
            return await what()
        except Retry as retry:
            logger.warning("waiting: %s", retry)
            await asyncio.sleep(interval_s)


def build_models(settings: Settings) -> Models:
    """The configured chat models, or the offline answerer. Raises: SettingsError."""
    specs = [
        ModelSpec(
            name=model.name,
            model=model.model,
            api_base=model.api_base,
            api_key=resolve_secret(model.api_key),
            prefill=model.prefill,
            context_tokens=model.context_tokens,
            max_output_tokens=model.max_output_tokens,
            timeout_s=model.timeout_s,
            adapter=model.adapter,
        )
        for model in settings.models
    ]
    try:
        return build_chat_models(specs, counter=TiktokenCounter())
    except ValueError as error:
        raise SettingsError(f"setting models: {error}") from None


def build_blobs(settings: Settings) -> BlobStore:
    """A folder, or a bucket for `s3://bucket/prefix`."""
    url = settings.blobs_url
    if not url.startswith("s3://"):
        return LocalBlobStore(Path(url))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3BlobStore(bucket=bucket, prefix=prefix, endpoint_url=settings.s3_endpoint, region=settings.s3_region)


def build_vectors(settings: Settings) -> VectorIndex:
    """LanceDB in a folder or on S3."""
    return LanceVectorIndex(settings.vectors_url)


def build_embedder(settings: Settings) -> Embedder:
    """The offline embedder; others come with their setting. Raises: SettingsError."""
    if settings.embedding_model != "wordllama-256":
        raise SettingsError(f'setting embedding_model: "{settings.embedding_model}" is unknown; known: wordllama-256')
    return WordLlamaEmbedder()


def build_database(settings: Settings, *, max_connections: int = 10) -> Database:
    """A pool that opens when it is needed."""
    return Database(settings.postgres_dsn.get_secret_value(), max_connections=max_connections)


def _prices(settings: Settings) -> dict[str, tuple[float, float]]:
    return {
        model.name: (model.input_cost_per_million, model.output_cost_per_million)
        for model in settings.models
        if model.input_cost_per_million is not None and model.output_cost_per_million is not None
    }


async def prepare(settings: Settings, *, admin_email: str, admin_password: str, api_key: str) -> None:
    """Migrations, topics, the tenant `default`, its admin and the first key. The second time nothing changes."""
    await until_there(lambda: migrate.upgrade(settings.postgres_dsn.get_secret_value()))
    await until_there(lambda: apply_topics(settings.kafka_bootstrap))
    database = build_database(settings, max_connections=2)
    producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-prepare")
    try:
        await until_there(producer.start)
        async with database.transaction() as work:
            records = await ensure_first_tenant(work, email=admin_email, password=admin_password, api_key=api_key)
        await producer.publish_records(records)
    finally:
        await producer.stop()
        await database.close()


class Worker:
    """The consumers of one process. `on_fail` hears of what should end it."""

    def __init__(self, settings: Settings, names: Sequence[str], on_fail: OnFail) -> None:
        self._settings = settings
        self._names = names or CONSUMERS
        self._on_fail = on_fail
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Returns when every consumer polls. Waits for servers that are away. Raises: SettingsError."""
        settings, stack = self._settings, self._stack
        database = build_database(settings, max_connections=16)
        stack.push_async_callback(database.close)
        slot = Slot(database, "worker")
        await until_there(slot.acquire)
        stack.push_async_callback(slot.release)
        producer = LogProducer(settings.kafka_bootstrap, client_id=f"ragline-{slot.name}")
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
        await self._start_consumers(database, producer, publisher, slot, blobs, vectors, embedder)

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

    async def _start_consumers(
        self,
        database: Database,
        producer: LogProducer,
        publisher: OutboxPublisher,
        slot: Slot,
        blobs: BlobStore,
        vectors: VectorIndex,
        embedder: Embedder,
    ) -> None:
        settings, stack = self._settings, self._stack
        subscribers = Subscribers(
            settings.kafka_bootstrap,
            slot_name=slot.name,
            database=database,
            producer=producer,
            publisher=publisher,
            max_records=settings.worker.batch_records,
            session_timeout_ms=settings.worker.session_timeout_ms,
        )
        if "transcript" in self._names:
            subscribers.consume(transcript(), self._on_fail)
        if "documents" in self._names:
            subscribers.consume(documents(), self._on_fail)
            jobs = DocumentJobs(
                database=database,
                publisher=publisher,
                blobs=blobs,
                vectors=vectors,
                embedder=embedder,
                token_counter=TiktokenCounter(),
                kafka_bootstrap=settings.kafka_bootstrap,
                slot_name=slot.name,
                slots=settings.worker.document_slots,
                lease_s=settings.worker.lease_s,
                max_attempts=settings.worker.max_attempts,
            )
            await until_there(lambda: jobs.start(self._on_fail))
            stack.push_async_callback(jobs.stop)
        if "index" in self._names:
            upkeep = IndexUpkeep(database=database, vectors=vectors)
            upkeep.start(self._on_fail)
            stack.push_async_callback(upkeep.stop)
            subscribers.consume(index(IndexWriter(blobs=blobs, vectors=vectors, upkeep=upkeep)), self._on_fail)
        if "completions" in self._names:
            await self._start_completions(database, producer, publisher, slot, vectors, embedder)
        await until_there(subscribers.start)
        stack.push_async_callback(subscribers.stop)

    async def _start_completions(
        self,
        database: Database,
        producer: LogProducer,
        publisher: OutboxPublisher,
        slot: Slot,
        vectors: VectorIndex,
        embedder: Embedder,
    ) -> None:
        settings = self._settings
        models = build_models(settings)
        await start_chat_models(models)
        self._stack.push_async_callback(close_chat_models, models)
        tokens = TiktokenCounter()
        await asyncio.gather(asyncio.to_thread(tokens.count, "warm"), embedder.embed(["warm"]))
        searcher = Searcher(vectors, embedder, PassageVisibility(database))
        tools = Tools(
            bootstrap=settings.kafka_bootstrap,
            database=database,
            producer=producer,
            publisher=publisher,
            models=models,
            contexts=Contexts(database, searcher, tokens),
            tokens=tokens,
            prices=_prices(settings),
            flush_s=settings.worker.flush_ms / 1000,
            lease_s=settings.worker.lease_s,
            max_attempts=settings.worker.max_attempts,
        )
        pace = Pace(settings.worker.completion_slots, settings.worker.lease_s, settings.worker.checkpoint_s)
        runner = CompletionRunner(tools, pace, owner=slot.name, on_fail=self._on_fail)
        await until_there(runner.start)
        self._stack.push_async_callback(runner.stop)


@asynccontextmanager
async def relaying(settings: Settings, on_fail: OnFail) -> AsyncIterator[None]:
    """The relay runs for as long as the block does."""
    database = build_database(settings, max_connections=2)
    producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-relay")
    await until_there(producer.start)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_fail(error)

    tasks = [asyncio.create_task(relay_forever(database, producer)), asyncio.create_task(producer.watch())]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        await database.close()


@asynccontextmanager
async def edge_running(settings: Settings, on_fail: OnFail, stop: asyncio.Task[None]) -> AsyncIterator[Edge | None]:
    """The edge, following the log, for as long as the block runs; None if `stop` came before Kafka did."""
    async with AsyncExitStack() as stack:
        database = build_database(settings)
        stack.push_async_callback(database.close)
        producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-edge")
        blobs, vectors, embedder = build_blobs(settings), build_vectors(settings), build_embedder(settings)
        for close in (producer.stop, blobs.close, vectors.close, embedder.close):
            stack.push_async_callback(close)
        limits = settings.edge
        edge = build_app(
            bootstrap=settings.kafka_bootstrap,
            database=database,
            producer=producer,
            blobs=blobs,
            searcher=Searcher(vectors, embedder, PassageVisibility(database)),
            model_names=list(build_models(settings).by_name),
            on_fatal=on_fail,
            limits=EdgeLimits(
                wait_s=limits.wait_s,
                publish_deadline_s=limits.publish_deadline_s,
                max_upload_bytes=limits.max_upload_bytes,
                ring_bytes=limits.ring_bytes,
            ),
            version=__version__,
        )

        async def start() -> None:
            await asyncio.gather(until_there(producer.start), embedder.embed(["warm"]))
            await until_there(edge.start)

        starting = asyncio.create_task(start())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            yield None
            return
        starting.result()
        stack.push_async_callback(edge.stop)
        yield edge

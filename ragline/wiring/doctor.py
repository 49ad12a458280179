"""What `ragline doctor` asks with: clients that live for one question."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from consumers.relay.lags import GROUPS
from producers.replay.dead_letters import Wanted
from providers.catalog import close_chat_models
from providers.ports import ChatModel, Embedder, Reranker
from providers.rerankers import LiteLLMReranker
from ragline.settings import Settings
from ragline.wiring.blobs import blob_store_at
from ragline.wiring.dead_letters import dead_letter_desk
from ragline.wiring.models import (
    build_embedder,
    build_model,
    build_reranker,
    start_embedder,
    start_models,
)
from ragline.wiring.vectors import build_vectors
from schemas.chunks import AttemptOpened
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS
from storage.log.lag import Lag, LagReader
from storage.log.producer import LogProducer
from storage.ports import BlobStore, VectorIndex
from storage.postgres.unit_of_work import Database

PUBLISH_WITHIN_S = 5.0


@asynccontextmanager
async def asking_postgres(dsn: str) -> AsyncIterator[Database]:
    """A pool that opens when it is asked."""
    database = Database(dsn, max_connections=2)
    try:
        yield database
    finally:
        await database.close()


async def publish_nothing(bootstrap: str) -> float:
    """The broker's stamp (s of Unix time) of a record that counts for no reader: a fence that is long past.

    Raises: Retry if it is not acknowledged by every replica in time.
    """
    producer = LogProducer(bootstrap, client_id="ragline-doctor")
    await producer.start()
    try:
        fence = AttemptOpened(completion_id=new_id(), attempt=0)
        envelope = Envelope(body=fence, tenant_id=new_id(), source="doctor")
        ack = await producer.publish(CHAT_CHUNKS, envelope, timeout_s=PUBLISH_WITHIN_S)
    finally:
        await producer.stop()
    return ack.timestamp / 1000


async def consumer_lags(bootstrap: str) -> list[Lag]:
    """How far each group is behind. Raises: Retry."""
    reader = LagReader(bootstrap, client_id="ragline-doctor")
    await reader.start()
    try:
        return await reader.read(GROUPS)
    finally:
        await reader.stop()


async def count_dead_letters(bootstrap: str, dsn: str) -> int:
    """Dead letters that were neither redriven nor discarded. Raises: Retry."""
    async with dead_letter_desk(bootstrap, dsn, publishes=False) as desk:
        return sum(count.n_open for count in (await desk.stats(Wanted(is_open=True))).values())


@asynccontextmanager
async def blobs_at(settings: Settings, url: str) -> AsyncIterator[BlobStore]:
    """The blob store at the address."""
    store = blob_store_at(settings, url)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def folder_of_its_own(settings: Settings, url: str) -> AsyncIterator[BlobStore]:
    """A blob store below the address, of which nothing stays."""
    url = f"{url.rstrip('/')}/doctor-{new_id().hex}"
    async with blobs_at(settings, url) as store:
        try:
            yield store
        finally:
            if not url.startswith("s3://"):
                shutil.rmtree(Path(url), ignore_errors=True)


@asynccontextmanager
async def vectors_of(settings: Settings) -> AsyncIterator[VectorIndex]:
    """The vector store."""
    vectors = build_vectors(settings)
    try:
        yield vectors
    finally:
        await vectors.close()


@asynccontextmanager
async def model_of(settings: Settings, n: int) -> AsyncIterator[ChatModel]:
    """The n-th configured model, ready. Raises: SettingsError."""
    models = build_model(settings, n)
    try:
        await start_models(models)
        yield models.default
    finally:
        await close_chat_models(models)


def embedding_model(settings: Settings) -> str:
    """The name under which documents are learnt. Raises: SettingsError."""
    return build_embedder(settings).model


@asynccontextmanager
async def embedder_of(settings: Settings) -> AsyncIterator[Embedder]:
    """The embedding model, ready. Raises: SettingsError."""
    embedder = build_embedder(settings)
    try:
        await start_embedder(embedder)
        yield embedder
    finally:
        await embedder.close()


@asynccontextmanager
async def reranker_of(settings: Settings) -> AsyncIterator[Reranker]:
    """The reranker, ready. Raises: SettingsError."""
    reranker = build_reranker(settings)
    try:
        if isinstance(reranker, LiteLLMReranker):
            await reranker.start()
        yield reranker
    finally:
        await reranker.close()

"""The edge's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from producers.edge.app import Edge, EdgeLimits, build_app
from producers.edge.session_context import Preview
from providers.catalog import close_chat_models
from providers.tokens import TiktokenCounter
from ragline import __version__
from ragline.file_limit import streams_that_fit
from ragline.settings import EdgeSettings, Settings
from ragline.wiring.blobs import build_blobs
from ragline.wiring.connections import OnFail, build_database, until_there
from ragline.wiring.models import build_embedder, build_models, build_reranker, start_embedder
from ragline.wiring.searching import build_contexts, build_searcher
from ragline.wiring.telemetry import telling
from ragline.wiring.vectors import build_vectors
from storage.log.producer import LogProducer


@asynccontextmanager
async def edge_running(settings: Settings, on_fail: OnFail, stop: asyncio.Task[None]) -> AsyncIterator[Edge | None]:
    """The edge, following the log, for as long as the block runs; None if `stop` came before Kafka did."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(telling(settings, "edge"))
        database = build_database(settings)
        stack.push_async_callback(database.close)
        producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-edge")
        blobs, vectors, embedder = build_blobs(settings), build_vectors(settings), build_embedder(settings)
        models, reranker = build_models(settings), build_reranker(settings)
        for close in (producer.stop, blobs.close, vectors.close, embedder.close, reranker.close):
            stack.push_async_callback(close)
        stack.push_async_callback(close_chat_models, models)
        searcher = build_searcher(vectors, embedder, database, reranker)
        contexts = build_contexts(settings, database, searcher, models)
        edge = build_app(
            bootstrap=settings.kafka_bootstrap,
            database=database,
            producer=producer,
            blobs=blobs,
            searcher=searcher,
            preview=Preview(contexts, models.default, TiktokenCounter()),
            model_names=list(models.by_name),
            on_fatal=on_fail,
            limits=_limits(settings.edge),
            version=__version__,
        )

        async def start() -> None:
            await asyncio.gather(until_there(producer.start), start_embedder(embedder))
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


def _limits(settings: EdgeSettings) -> EdgeLimits:
    return EdgeLimits(
        wait_s=settings.wait_s,
        publish_deadline_s=settings.publish_deadline_s,
        max_upload_bytes=settings.max_upload_bytes,
        ring_bytes=settings.ring_bytes,
        max_streams=streams_that_fit(settings.max_streams),
    )

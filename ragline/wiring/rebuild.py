"""The stores that a rebuild reads and mends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from consumers.rebuild.vectors import VectorTables
from ragline.settings import Settings
from ragline.wiring.blobs import build_blobs
from ragline.wiring.models import build_embedder, caches_vectors, start_embedder
from ragline.wiring.vectors import build_vectors
from storage.ports import BlobStore, VectorIndex
from storage.postgres.unit_of_work import Database


@dataclass(frozen=True, slots=True)
class Stores:
    """Open for as long as the block runs."""

    database: Database
    blobs: BlobStore
    vectors: VectorIndex
    settings: Settings

    @asynccontextmanager
    async def vector_tables(self) -> AsyncIterator[VectorTables]:
        """With the embedder, which takes a while to load. Raises: SettingsError."""
        embedder = build_embedder(self.settings)
        try:
            await start_embedder(embedder)
            yield VectorTables(self.database, self.vectors, embedder, caches=caches_vectors(self.settings))
        finally:
            await embedder.close()


@asynccontextmanager
async def rebuild_stores(settings: Settings, dsn: str) -> AsyncIterator[Stores]:
    """PostgreSQL, blobs and vectors, by the settings; they are not asked before they are used."""
    async with AsyncExitStack() as stack:
        database = Database(dsn, max_connections=2)
        blobs, vectors = build_blobs(settings), build_vectors(settings)
        for close in (database.close, blobs.close, vectors.close):
            stack.push_async_callback(close)
        yield Stores(database, blobs, vectors, settings)

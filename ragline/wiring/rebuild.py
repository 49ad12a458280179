"""The stores that a rebuild reads and mends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ragline.settings import Settings
from ragline.wiring.stores import build_blobs
from storage.ports import BlobStore
from storage.postgres.unit_of_work import Database


@dataclass(frozen=True, slots=True)
class Stores:
    """Open for as long as the block runs."""

    database: Database
    blobs: BlobStore


@asynccontextmanager
async def rebuild_stores(settings: Settings, dsn: str) -> AsyncIterator[Stores]:
    """PostgreSQL and the blob store, by the settings; they are not asked before they are used."""
    async with AsyncExitStack() as stack:
        database, blobs = Database(dsn, max_connections=2), build_blobs(settings)
        stack.push_async_callback(database.close)
        stack.push_async_callback(blobs.close)
        yield Stores(database, blobs)

"""Passages by vector and by text in LanceDB: one table per tenant and embedding model."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.index import FTS, BTree, IvfPq

from schemas.errors import Retry
from storage.ports import VectorHit, VectorRow
from storage.vectors.segment import index_terms, query_terms

Vectors = npt.NDArray[np.float32]
Leg = Literal["vector", "text"]

MAX_OPEN_TABLES = 64
FLAT_BELOW = 20_000
"""Rows up to which vectors are compared one by one, which finds exactly the nearest."""
KEEP_VERSIONS = timedelta(minutes=5)
"""Readers that began on an older version have so long to end."""
_INDEX_CACHE_BYTES = 256 << 20
_METADATA_CACHE_BYTES = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_HIT = ["passage_id", "document_id", "version"]
_NOT_FOUND = re.compile(r"was not found|Not found", re.IGNORECASE)


class LanceVectorIndex:
    """`VectorIndex` over a folder or an object store (`s3://…`, then with `storage_options`)."""

    def __init__(self, url: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._storage_options = dict(storage_options or {})
        self._connection: lancedb.AsyncConnection | None = None
        self._connecting = asyncio.Lock()
        self._tables: OrderedDict[str, lancedb.AsyncTable] = OrderedDict()

    async def replace_batches(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], Vectors]], *, dimensions: int
    ) -> None:
        """See the port; two commits only for the first batches of a table."""
        batches = [(rows, vectors) for rows, vectors in batches if rows]
        for rows, vectors in batches:
            if vectors.shape != (len(rows), dimensions):
                raise ValueError(f"{len(rows)} rows of {dimensions} dimensions have vectors of shape {vectors.shape}")
        if not batches:
            return
        data = await asyncio.to_thread(_as_arrow, batches, dimensions)
        written = _one_of("batch_id", {row.batch_id for rows, _ in batches for row in rows})
        async with self._failures(table):
            opened = await self._open(table) or await self._create(table, dimensions)
            if await opened.count_rows(written):
                merge = opened.merge_insert("passage_id").when_matched_update_all().when_not_matched_insert_all()
                await merge.when_not_matched_by_source_delete(written).execute(data)
            else:
                await opened.add(data)

    async def search(
        self,
        table: str,
        *,
        vector: Vectors | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[str] | None = None,
    ) -> dict[Leg, list[VectorHit]]:
        """See the port; a vector's score is its cosine similarity, a text's its BM25."""
        hits: dict[Leg, list[VectorHit]] = {}
        if vector is not None:
            hits["vector"] = []
        if text is not None:
            hits["text"] = []
        if not hits or limit < 1 or (document_ids is not None and not document_ids):
            return hits
        where = None if document_ids is None else _one_of("document_id", set(document_ids))
        async with self._failures(table):
            opened = await self._open(table)
            if opened is None:
                return hits
            legs: list[Any] = []
            if vector is not None:
                legs.append(_by_vector(opened, vector, limit, where))
            if text is not None:
                legs.append(_by_text(opened, query_terms(text), limit, where))
            for leg, found in zip(hits, await asyncio.gather(*legs), strict=True):
                hits[leg] = found
        return hits

    async def delete_documents(self, table: str, document_ids: Sequence[str]) -> None:
        """See the port."""
        if not document_ids:
            return
        async with self._failures(table):
            opened = await self._open(table)
            if opened is not None:
                await opened.delete(_one_of("document_id", set(document_ids)))

    async def count(self, table: str) -> int:
        """See the port."""
        async with self._failures(table):
            opened = await self._open(table)
            return 0 if opened is None else int(await opened.count_rows())
        return 0

    async def optimize(self, table: str) -> None:
        """See the port; also builds the vector index once the table is large enough."""
        async with self._failures(table):
            opened = await self._open(table)
            if opened is None:
                return
            indexed = {column for config in await opened.list_indices() for column in config.columns}
            if "vector" not in indexed and await opened.count_rows() >= FLAT_BELOW:
                await opened.create_index("vector", config=IvfPq(distance_type="dot"))
            await opened.optimize(cleanup_older_than=KEEP_VERSIONS)

    async def drop(self, table: str) -> None:
        """See the port."""
        async with self._failures(table):
            self._tables.pop(table, None)
            connection = await self._connect()
            try:
                await connection.drop_table(table)
            except ValueError as error:
                if not _NOT_FOUND.search(str(error)):
                    raise

    async def close(self) -> None:
        """See the port."""
        self._tables.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

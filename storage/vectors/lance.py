"""Passages by vector and by text in LanceDB: one table per tenant and embedding model."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import timedelta
from typing import Any, Literal, TypeVar

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.index import FTS, BTree

from schemas.errors import Retry
from storage.ports import VectorDifference, VectorHit, VectorRow
from storage.vectors.comparing import Stored, as_stored, compared
from storage.vectors.names import table_name
from storage.vectors.nearest import index_vectors, nearest
from storage.vectors.segment import index_terms, query_terms

__all__ = ["LanceVectorIndex", "table_name"]

Vectors = npt.NDArray[np.float32]
Leg = Literal["vector", "text"]
Result = TypeVar("Result")

MAX_OPEN_TABLES = 64
FLAT_BELOW = 20_000
"""Rows up to which vectors are compared one by one, which finds exactly the nearest."""
KEEP_VERSIONS = timedelta(minutes=5)
"""Readers that began on an older version have so long to end."""
_INDEX_CACHE_BYTES = 256 << 20
_METADATA_CACHE_BYTES = 64 << 20
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_GONE = re.compile(r"was not found|Not found", re.IGNORECASE)
_INDEXES = {
    "terms": FTS(base_tokenizer="whitespace", stem=True, remove_stop_words=False),
    "document_id": BTree(),
    "batch_id": BTree(),
}


class LanceVectorIndex:
    """`VectorIndex` over a folder or an object store (`s3://…`, then with `storage_options`)."""

    def __init__(self, url: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._storage_options = dict(storage_options or {})
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._tables: OrderedDict[str, Any] = OrderedDict()
        self._whole: set[str] = set()
        self._measured: set[str] = set()

    async def replace_batches(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], Vectors]], *, dimensions: int
    ) -> None:
        """See the port; only a table's first batches take more than one commit."""
        batches = [(rows, vectors) for rows, vectors in batches if rows]
        for rows, vectors in batches:
            if vectors.shape != (len(rows), dimensions):
                raise ValueError(f"{len(rows)} rows of {dimensions} dimensions have vectors of shape {vectors.shape}")
        if not batches:
            return
        data = await asyncio.to_thread(as_arrow, batches, dimensions)
        written = _one_of("batch_id", {row.batch_id for rows, _ in batches for row in rows})

        async def write(opened: Any) -> bool:
            if await opened.count_rows(written):
                merge = opened.merge_insert("passage_id").when_matched_update_all().when_not_matched_insert_all()
                await merge.when_not_matched_by_source_delete(written).execute(data)
            else:
                await opened.add(data)
            return True

        await self._make_whole(table, dimensions)
        if not await self._with(table, write, absent=False):
            self._whole.discard(table)
            raise Retry(f'vector table "{table}" was removed while it was written')

    async def search(
        self,
        table: str,
        *,
        vector: Vectors | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[str] | None = None,
    ) -> dict[Leg, list[VectorHit]]:
        """See the port; a vector's score is its cosine similarity, a text's its BM25. Raises: Retry.

        Where there is a vector index the similarity is right to 0.02.
        """
        asked: dict[Leg, bool] = {"vector": vector is not None, "text": text is not None}
        legs = [leg for leg, is_asked in asked.items() if is_asked]
        terms = query_terms(text or "")
        where = None if document_ids is None else _one_of("document_id", set(document_ids))

        async def find(opened: Any) -> dict[Leg, list[VectorHit]]:
            searches = []
            if vector is not None:
                searches.append(_by_vector(opened, vector, limit, where))
            if text is not None:
                searches.append(_by_terms(opened, terms, limit, where))
            return dict(zip(legs, await asyncio.gather(*searches), strict=True))

        nothing: dict[Leg, list[VectorHit]] = {leg: [] for leg in legs}
        if not legs or limit < 1 or (document_ids is not None and not document_ids):
            return nothing
        return await self._with(table, find, absent=nothing)

    async def delete_documents(self, table: str, document_ids: Sequence[str]) -> None:
        """See the port. Raises: Retry."""
        if document_ids:
            condition = _one_of("document_id", set(document_ids))
            await self._with(table, lambda opened: opened.delete(condition), absent=None)

    async def delete_batches(self, table: str, batch_ids: Sequence[str]) -> None:
        """See the port. Raises: Retry."""
        if batch_ids:
            condition = _one_of("batch_id", set(batch_ids))
            await self._with(table, lambda opened: opened.delete(condition), absent=None)

    async def batch_sizes(self, table: str) -> dict[str, int]:
        """See the port. Raises: Retry."""

        async def count(opened: Any) -> dict[str, int]:
            found = await opened.query().select(["batch_id"]).to_arrow()
            return {pair["values"]: pair["counts"] for pair in found["batch_id"].value_counts().to_pylist()}

        return await self._with(table, count, absent={})

    async def differences(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], Vectors]]
    ) -> list[VectorDifference]:
        """See the port. Raises: Retry."""
        wanted = [(row, vector) for rows, vectors in batches for row, vector in zip(rows, vectors, strict=True)]
        if not wanted:
            return []
        condition = _one_of("batch_id", {row.batch_id for row, _ in wanted})

        async def read(opened: Any) -> list[Stored]:
            return as_stored(await opened.query().where(condition).to_arrow())

        return compared(wanted, await self._with(table, read, absent=[]))

    async def count(self, table: str) -> int:
        """See the port. Raises: Retry."""
        return int(await self._with(table, lambda opened: opened.count_rows(), absent=0))

    async def optimize(self, table: str) -> None:
        """See the port; builds the vector index once the table is large enough, and measures it. Raises: Retry."""

        async def tidy(opened: Any) -> None:
            n_rows = await opened.count_rows()
            is_measured = table in self._measured and "vector" in await _indexed_columns(opened)
            if n_rows >= FLAT_BELOW and not is_measured:
                await index_vectors(table, opened, n_rows)
                self._measured.add(table)
            await opened.optimize(cleanup_older_than=KEEP_VERSIONS)

        await self._with(table, tidy, absent=None)

    async def drop(self, table: str) -> None:
        """See the port. Raises: Retry."""
        self._forget(table)
        connection = await self._connected()
        try:
            await connection.drop_table(table)
        except (ValueError, RuntimeError, OSError) as error:
            if not _is_gone(error):
                raise _retry(table, error) from error

    async def close(self) -> None:
        """See the port."""
        self._tables.clear()
        self._whole.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _with(self, table: str, work: Callable[[Any], Awaitable[Result]], *, absent: Result) -> Result:
        """What `work` gives for the open table. An open one that is gone meanwhile is looked for once more."""
        for is_last in (False, True):
            opened = await self._opened(table)
            if opened is None:
                return absent
            try:
                return await work(opened)
            except (RuntimeError, OSError) as error:
                self._forget(table)
                if is_last or not _is_gone(error):
                    raise _retry(table, error) from error
        raise AssertionError("unreachable")

    async def _opened(self, table: str) -> Any:
        """The table, or None where there is none."""
        if (opened := self._tables.get(table)) is not None:
            self._tables.move_to_end(table)
            return opened
        connection = await self._connected()
        try:
            opened = await connection.open_table(table)
        except (ValueError, RuntimeError, OSError) as error:
            if _is_gone(error):
                return None
            raise _retry(table, error) from error
        self._keep(table, opened)
        return opened

    async def _make_whole(self, table: str, dimensions: int) -> None:
        """Creates the table, or what a creator that died half way left out."""
        if table in self._whole and table in self._tables:
            return
        connection = await self._connected()
        try:
            opened = await connection.create_table(table, schema=schema(dimensions), exist_ok=True)
            indexed = await _indexed_columns(opened)
            for column, config in _INDEXES.items():
                if column not in indexed:
                    await opened.create_index(column, config=config)
        except (ValueError, RuntimeError, OSError) as error:
            raise _retry(table, error) from error
        self._keep(table, opened)
        self._whole.add(table)

    def _keep(self, table: str, opened: Any) -> None:
        self._tables[table] = opened
        self._tables.move_to_end(table)
        while len(self._tables) > MAX_OPEN_TABLES:
            self._forget(next(iter(self._tables)))

    def _forget(self, table: str) -> None:
        self._tables.pop(table, None)
        self._whole.discard(table)

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._connection is None:
                try:
                    self._connection = await lancedb.connect_async(
                        self._url,
                        read_consistency_interval=timedelta(0),
                        storage_options=self._storage_options or None,
                        session=lancedb.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES),
                    )
                except (ValueError, RuntimeError, OSError) as error:
                    raise Retry(f"the vector store at {self._url} cannot be opened: {error}") from error
            return self._connection


def schema(dimensions: int) -> pa.Schema:
    """The columns of a table; `terms` is the text as `segment.index_terms` cuts it."""
    return pa.schema(
        [
            pa.field("passage_id", pa.string(), nullable=False),
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("version", pa.int32(), nullable=False),
            pa.field("batch_id", pa.string(), nullable=False),
            pa.field("ordinal", pa.int32(), nullable=False),
            pa.field("terms", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False),
        ]
    )


def as_arrow(batches: Sequence[tuple[Sequence[VectorRow], Vectors]], dimensions: int) -> pa.Table:
    """Rows and vectors as one table of `schema(dimensions)`."""
    rows = [row for batch, _ in batches for row in batch]
    vectors = np.concatenate([np.asarray(vectors, np.float32) for _, vectors in batches])
    columns = [
        [row.passage_id for row in rows],
        [row.document_id for row in rows],
        [row.version for row in rows],
        [row.batch_id for row in rows],
        [row.ordinal for row in rows],
        [index_terms(row.text) for row in rows],
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimensions),
    ]
    return pa.Table.from_arrays(
        [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, schema(dimensions), strict=True)
        ],
        schema=schema(dimensions),
    )


async def _by_vector(opened: Any, vector: Vectors, limit: int, where: str | None) -> list[VectorHit]:
    query = nearest(opened, vector)
    if where is not None:
        query = query.where(where).bypass_vector_index()  # exact, and fast over the rows of some documents
    found = await query.select(["passage_id", "_distance"]).limit(limit).to_arrow()
    return _hits(found, [1.0 - distance for distance in found["_distance"].to_pylist()])


async def _by_terms(opened: Any, terms: str, limit: int, where: str | None) -> list[VectorHit]:
    if not terms:
        return []
    query = opened.query().nearest_to_text(terms, columns=["terms"])
    if where is not None:
        query = query.where(where)
    try:
        found = await query.select(["passage_id", "_score"]).limit(limit).to_arrow()
    except (RuntimeError, ValueError) as error:
        if "INVERTED index" in str(error):  # the table is being created, and empty
            return []
        raise
    return _hits(found, found["_score"].to_pylist())


def _hits(found: pa.Table, scores: Sequence[float]) -> list[VectorHit]:
    return [VectorHit(*hit) for hit in zip(found["passage_id"].to_pylist(), scores, strict=True)]


async def _indexed_columns(opened: Any) -> set[str]:
    return {column for config in await opened.list_indices() for column in config.columns}


def _one_of(column: str, values: Set[str]) -> str:
    """A condition in LanceDB's SQL. Raises: ValueError for a value that could leave its quotes."""
    for value in values:
        if not _IDENTIFIER.fullmatch(value):
            raise ValueError(f"{column} {value[:200]!r} is no identifier")
    return f"{column} IN ({', '.join(repr(value) for value in sorted(values))})"


def _is_gone(error: Exception) -> bool:
    return _GONE.search(str(error)) is not None


def _retry(table: str, error: Exception) -> Retry:
    return Retry(f'vector table "{table}" failed: {error}')

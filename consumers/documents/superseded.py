"""Vectors of versions that are not active any more: removed, so that no search is crowded by what it may not show."""

from __future__ import annotations

from uuid import UUID

from consumers.index.store import VersionKey, batch_id
from consumers.index.table_locks import lock_tables
from storage.ports import VectorIndex
from storage.postgres.unit_of_work import Database
from storage.vectors.names import table_name

_AT_ONCE = 16
_BATCHES_AT_ONCE = 500


async def remove_superseded(database: Database, vectors: VectorIndex) -> int:
    """Removes the vectors of every superseded version from the index; how many. Idempotent. Raises: Retry.

    Passages and the batches in the blob store stay: a restore indexes them again. A crash repeats the removal.
    """
    n_removed = 0
    while n := await _remove_some(database, vectors):
        n_removed += n
    return n_removed


async def _remove_some(database: Database, vectors: VectorIndex) -> int:
    async with database.transaction() as work:
        found = await work.fetch(
            "SELECT document_id, version, tenant_id, embedding_model FROM document_versions"
            " WHERE superseded_at IS NOT NULL ORDER BY superseded_at LIMIT $1",
            _AT_ONCE,
        )
        if not found:
            return 0
        keys = [(row["document_id"], row["version"]) for row in found]
        tables = {
            key: table_name(row["tenant_id"], row["embedding_model"]) for key, row in zip(keys, found, strict=True)
        }
        await lock_tables(work, tables.values())
        ids, numbers = [id_ for id_, _ in keys], [number for _, number in keys]
        # Locked after the tables, as the index's writer does; what was restored or deleted meanwhile is left alone.
        rows = await work.fetch(
            "SELECT v.document_id, v.version, b.batch FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
            " JOIN document_versions v USING (document_id, version)"
            " JOIN document_batches b USING (document_id, version)"
            " WHERE v.superseded_at IS NOT NULL ORDER BY 1, 2, 3 FOR UPDATE",
            ids,
            numbers,
        )
        await _remove(vectors, tables, [(row["document_id"], row["version"], row["batch"]) for row in rows])
        await work.execute(
            "WITH done AS (UPDATE document_versions v SET superseded_at = NULL"
            "  FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
            "  WHERE (v.document_id, v.version) = (t.document_id, t.version) AND v.superseded_at IS NOT NULL"
            "  RETURNING v.document_id, v.version)"
            " UPDATE document_batches b SET indexed_at = NULL FROM done"
            " WHERE (b.document_id, b.version) = (done.document_id, done.version)",
            ids,
            numbers,
        )
        return len(found)


async def _remove(vectors: VectorIndex, tables: dict[VersionKey, str], batches: list[tuple[UUID, int, int]]) -> None:
    by_table: dict[str, list[str]] = {}
    for key in batches:
        by_table.setdefault(tables[key[0], key[1]], []).append(batch_id(key))
    for table, ids in by_table.items():
        for start in range(0, len(ids), _BATCHES_AT_ONCE):
            await vectors.delete_batches(table, ids[start : start + _BATCHES_AT_ONCE])

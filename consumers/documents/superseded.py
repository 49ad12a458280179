"""Vectors of versions that are not active any more: removed, so that no search is crowded by what it may not show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from consumers.documents.removals import AT_ONCE, PutOff, of_store, remove_each
from consumers.index.store import VersionKey, batch_id
from consumers.index.table_locks import SOON_S, lock_tables
from storage.ports import VectorIndex
from storage.postgres.unit_of_work import Database
from storage.vectors.names import table_name

_BATCHES_AT_ONCE = 500


async def remove_superseded(database: Database, vectors: VectorIndex, put_off: PutOff[VersionKey] | None = None) -> int:
    """Removes the vectors of every superseded version from the index; how many. Idempotent. Raises: Retry.

    Passages and the batches in the blob store stay: a restore indexes them again. A crash repeats the removal.
    A version whose table fails is put off, and holds up nobody else's.
    """
    return await remove_each(partial(_find, database), partial(_remove, database, vectors), put_off or PutOff())


async def _find(
    database: Database, waiting: Collection[UUID], put_off: Collection[VersionKey]
) -> tuple[UUID, Sequence[VersionKey]] | None:
    async with database.transaction() as work:
        rows = await work.fetch(
            "WITH due AS (SELECT document_id, version, tenant_id, superseded_at FROM document_versions"
            "  WHERE superseded_at IS NOT NULL AND tenant_id <> ALL($1::uuid[])"
            "  AND (document_id, version) NOT IN (SELECT * FROM unnest($2::uuid[], $3::int[]))"
            "  ORDER BY superseded_at LIMIT $4)"
            " SELECT * FROM due WHERE tenant_id = (SELECT tenant_id FROM due ORDER BY superseded_at LIMIT 1)"
            " ORDER BY superseded_at",
            list(waiting),
            [id_ for id_, _ in put_off],
            [number for _, number in put_off],
            AT_ONCE,
        )
    return (rows[0]["tenant_id"], [(row["document_id"], row["version"]) for row in rows]) if rows else None


async def _remove(database: Database, vectors: VectorIndex, keys: Sequence[VersionKey]) -> int:
    """Removes versions of one tenant; what was restored or deleted meanwhile is left alone."""
    async with database.transaction() as work:
        found = await work.fetch(
            "SELECT document_id, version, tenant_id, embedding_model FROM document_versions"
            " JOIN unnest($1::uuid[], $2::int[]) AS t(document_id, version) USING (document_id, version)"
            " WHERE superseded_at IS NOT NULL",
            [id_ for id_, _ in keys],
            [number for _, number in keys],
        )
        ids, numbers = [row["document_id"] for row in found], [row["version"] for row in found]
        tables = {
            (row["document_id"], row["version"]): table_name(row["tenant_id"], row["embedding_model"]) for row in found
        }
        await lock_tables(work, tables.values(), within_s=SOON_S)
        # Locked after the tables, as the index's writer does.
        rows = await work.fetch(
            "SELECT v.document_id, v.version, b.batch FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
            " JOIN document_versions v USING (document_id, version)"
            " JOIN document_batches b USING (document_id, version)"
            " WHERE v.superseded_at IS NOT NULL ORDER BY 1, 2, 3 FOR UPDATE",
            ids,
            numbers,
        )
        with of_store():
            await _delete(vectors, tables, [(row["document_id"], row["version"], row["batch"]) for row in rows])
        return await work.execute(
            "WITH done AS (UPDATE document_versions v SET superseded_at = NULL"
            "  FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
            "  WHERE (v.document_id, v.version) = (t.document_id, t.version) AND v.superseded_at IS NOT NULL"
            "  RETURNING v.document_id, v.version),"
            " batches AS (UPDATE document_batches b SET indexed_at = NULL FROM done"
            "  WHERE (b.document_id, b.version) = (done.document_id, done.version))"
            " SELECT FROM done",
            ids,
            numbers,
        )


async def _delete(vectors: VectorIndex, tables: dict[VersionKey, str], batches: list[tuple[UUID, int, int]]) -> None:
    by_table: dict[str, list[str]] = {}
    for key in batches:
        by_table.setdefault(tables[key[0], key[1]], []).append(batch_id(key))
    for table, ids in by_table.items():
        for start in range(0, len(ids), _BATCHES_AT_ONCE):
            await vectors.delete_batches(table, ids[start : start + _BATCHES_AT_ONCE])

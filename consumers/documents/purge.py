"""What is left of deleted documents: blobs and vectors, removed after the rows and surviving any crash."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from consumers.documents.claims import document_prefix
from consumers.documents.removals import AT_ONCE, PutOff, of_store, remove_each
from consumers.index.table_locks import SOON_S, lock_tables
from storage.blobs.keys import tenant_prefix
from storage.ports import BlobStore, VectorIndex
from storage.postgres.unit_of_work import Database
from storage.vectors.names import table_name

_DUE = (
    "documents d WHERE deleted_at IS NOT NULL AND purged_at IS NULL"
    " AND NOT EXISTS (SELECT FROM document_versions v WHERE v.document_id = d.id AND v.lease_until > now())"
)


async def purge_deleted(
    database: Database, blobs: BlobStore, vectors: VectorIndex, put_off: PutOff[UUID] | None = None
) -> int:
    """Purges every deleted document that no job works on any more; how many. Idempotent. Raises: Retry.

    A document counts as purged only after its blobs and vectors are gone; a crash before that repeats the removal.
    One whose blobs or table fail is put off, and holds up nobody else's.
    """
    return await remove_each(partial(_find, database), partial(_purge, database, blobs, vectors), put_off or PutOff())


async def _find(
    database: Database, waiting: Collection[UUID], put_off: Collection[UUID]
) -> tuple[UUID, Sequence[UUID]] | None:
    async with database.transaction() as work:
        rows = await work.fetch(
            f"WITH next AS (SELECT tenant_id FROM {_DUE} AND tenant_id <> ALL($1::uuid[]) AND id <> ALL($2::uuid[])"  # noqa: S608
            f"  ORDER BY deleted_at LIMIT 1) SELECT id, tenant_id FROM {_DUE}"
            "  AND tenant_id = (SELECT tenant_id FROM next) AND id <> ALL($2::uuid[]) ORDER BY deleted_at LIMIT $3",
            list(waiting),
            list(put_off),
            AT_ONCE,
        )
    return (rows[0]["tenant_id"], [row["id"] for row in rows]) if rows else None


async def _purge(database: Database, blobs: BlobStore, vectors: VectorIndex, ids: Sequence[UUID]) -> int:
    """Purges documents of one tenant, but for those that another process purges just now."""
    async with database.transaction() as work:
        documents = await work.fetch(
            f"SELECT id, tenant_id FROM {_DUE} AND id = ANY($1::uuid[]) FOR UPDATE SKIP LOCKED",  # noqa: S608
            ids,
        )
        mine = [row["id"] for row in documents]
        versions = await work.fetch(
            "SELECT document_id, tenant_id, blob_key, embedding_model FROM document_versions"
            " WHERE document_id = ANY($1::uuid[])",
            mine,
        )
        tables: dict[str, set[str]] = {}
        for row in versions:
            if row["embedding_model"] is not None:
                table = table_name(row["tenant_id"], row["embedding_model"])
                tables.setdefault(table, set()).add(str(row["document_id"]))
        await lock_tables(work, tables, within_s=SOON_S)
        with of_store():
            for table, document_ids in tables.items():
                await vectors.delete_documents(table, sorted(document_ids))
            for row in versions:
                if row["blob_key"].startswith(tenant_prefix(row["tenant_id"])):
                    with contextlib.suppress(ValueError):  # no store takes such a key, so nothing stands there
                        await blobs.delete(row["blob_key"])
            for row in documents:
                await blobs.delete_prefix(document_prefix(row["tenant_id"], row["id"]))
        await work.execute("UPDATE documents SET purged_at = now() WHERE id = ANY($1::uuid[])", mine)
        return len(mine)

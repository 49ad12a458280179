"""What is left of deleted documents: blobs and vectors, removed after the rows and surviving any crash."""

from __future__ import annotations

import contextlib

from consumers.documents.claims import document_prefix
from consumers.index.table_locks import lock_tables
from storage.blobs.keys import tenant_prefix
from storage.ports import BlobStore, VectorIndex
from storage.postgres.unit_of_work import Database
from storage.vectors.names import table_name

_AT_ONCE = 16


async def purge_deleted(database: Database, blobs: BlobStore, vectors: VectorIndex) -> int:
    """Purges every deleted document that no job works on any more; how many. Idempotent. Raises: Retry.

    A document counts as purged only after its blobs and vectors are gone; a crash before that repeats the removal.
    """
    n_purged = 0
    while n := await _purge_some(database, blobs, vectors):
        n_purged += n
    return n_purged


async def _purge_some(database: Database, blobs: BlobStore, vectors: VectorIndex) -> int:
    async with database.transaction() as work:
        documents = await work.fetch(
            "SELECT id, tenant_id FROM documents d WHERE deleted_at IS NOT NULL AND purged_at IS NULL"
            " AND NOT EXISTS (SELECT FROM document_versions v WHERE v.document_id = d.id AND v.lease_until > now())"
            " ORDER BY deleted_at LIMIT $1 FOR UPDATE SKIP LOCKED",
            _AT_ONCE,
        )
        if not documents:
            return 0
        ids = [row["id"] for row in documents]
        versions = await work.fetch(
            "SELECT document_id, tenant_id, blob_key, embedding_model FROM document_versions"
            " WHERE document_id = ANY($1::uuid[])",
            ids,
        )
        tables: dict[str, set[str]] = {}
        for row in versions:
            if row["embedding_model"] is not None:
                table = table_name(row["tenant_id"], row["embedding_model"])
                tables.setdefault(table, set()).add(str(row["document_id"]))
        await lock_tables(work, tables)
        for table, document_ids in tables.items():
            await vectors.delete_documents(table, sorted(document_ids))
        for row in versions:
            if row["blob_key"].startswith(tenant_prefix(row["tenant_id"])):
                with contextlib.suppress(ValueError):  # no store takes such a key, so nothing stands there
                    await blobs.delete(row["blob_key"])
        for row in documents:
            await blobs.delete_prefix(document_prefix(row["tenant_id"], row["id"]))
        await work.execute("UPDATE documents SET purged_at = now() WHERE id = ANY($1::uuid[])", ids)
        return len(ids)

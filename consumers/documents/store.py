"""What the documents load and save: one statement a table for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from consumers.deciding import Fact
from consumers.documents.state import Document, Library
from schemas.commands import AddDocument, DocumentCommand
from schemas.envelope import Envelope
from schemas.events import DocumentDeleted, DocumentUploaded
from schemas.ids import advisory_key
from storage.postgres.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class _Upload:
    """A registration to store; `is_deleted` if the same batch deletes it again."""

    fact: DocumentUploaded
    asked: AddDocument
    command: Envelope
    is_deleted: bool


async def load(work: UnitOfWork, commands: Sequence[Envelope]) -> dict[object, Library]:
    """Locks first what the tenants' libraries are asked about: bytes (one holder a tenant), then documents by id."""
    added = {(c.tenant_id, c.body.sha256) for c in commands if isinstance(c.body, AddDocument)}
    ids = {c.body.document_id for c in commands if isinstance(c.body, DocumentCommand)}
    if added:
        await work.execute(
            "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k",
            sorted(advisory_key("document bytes", *pair) for pair in added),
        )
    documents = await _documents(work, sorted(ids))
    by_bytes = await _by_bytes(work, sorted(added))
    return {
        tenant_id: Library(tenant_id, documents, by_bytes.get(tenant_id, {}))
        for tenant_id in {command.tenant_id for command in commands}
    }


async def _documents(work: UnitOfWork, ids: list[UUID]) -> dict[UUID, Document]:
    """Documents by id whoever owns them: an id stands only once."""
    rows = await work.fetch(
        "SELECT id, tenant_id, name, latest_version, deleted_at FROM documents WHERE id = ANY($1::uuid[])"
        " ORDER BY id FOR UPDATE",
        ids,
    )
    return {
        row["id"]: Document(row["id"], row["tenant_id"], row["name"], row["latest_version"], row["deleted_at"])
        for row in rows
    }


async def _by_bytes(work: UnitOfWork, added: list[tuple[UUID, str]]) -> dict[UUID, dict[str, Document]]:
    if not added:
        return {}
    rows = await work.fetch(
        "SELECT v.tenant_id, v.sha256, d.id, d.name, d.latest_version FROM unnest($1::uuid[], $2::text[])"
        " AS t(tenant_id, sha256) JOIN document_versions v USING (tenant_id, sha256)"
        " JOIN documents d ON d.id = v.document_id WHERE v.status NOT IN ('failed', 'deleted')",
        [tenant_id for tenant_id, _ in added],
        [sha256 for _, sha256 in added],
    )
    found: dict[UUID, dict[str, Document]] = {}
    for row in rows:
        holder = Document(row["id"], row["tenant_id"], row["name"], row["latest_version"])
        found.setdefault(row["tenant_id"], {})[row["sha256"]] = holder
    return found


async def save(work: UnitOfWork, _: dict[object, Library], facts: Sequence[Fact]) -> None:
    """Stores what the facts speak of; deletions first, so that their bytes are free for what is added."""
    deleted = {fact.body.document_id for fact in facts if isinstance(fact.body, DocumentDeleted)}
    uploads = [
        _Upload(fact.body, fact.command.body, fact.command, is_deleted=fact.body.document_id in deleted)
        for fact in facts
        if isinstance(fact.body, DocumentUploaded) and isinstance(fact.command.body, AddDocument)
    ]
    if deleted:
        await _delete(work, sorted(deleted))
    if uploads:
        uploads.sort(key=lambda upload: upload.fact.document_id)
        await _insert_documents(work, uploads)
        await _insert_versions(work, uploads)


async def _delete(work: UnitOfWork, ids: list[UUID]) -> None:
    """Gone for every reader at once; blobs and vectors follow by `purge`."""
    await work.execute("UPDATE documents SET deleted_at = now(), updated_at = now() WHERE id = ANY($1::uuid[])", ids)
    await work.execute(
        "UPDATE document_versions SET status = 'deleted', updated_at = now() WHERE document_id = ANY($1::uuid[])", ids
    )
    await work.execute("DELETE FROM document_batches WHERE document_id = ANY($1::uuid[])", ids)
    await work.execute("DELETE FROM passages WHERE document_id = ANY($1::uuid[])", ids)


async def _insert_documents(work: UnitOfWork, uploads: Sequence[_Upload]) -> None:
    await work.execute(
        "INSERT INTO documents (id, tenant_id, user_id, name, type, tags, created_at, deleted_at)"
        " SELECT id, tenant_id, user_id, name, type, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), created_at,"
        " CASE WHEN is_deleted THEN now() END"
        " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],"
        " $8::bool[]) AS t(id, tenant_id, user_id, name, type, tags, created_at, is_deleted)",
        [upload.fact.document_id for upload in uploads],
        [upload.command.tenant_id for upload in uploads],
        [upload.command.user_id for upload in uploads],
        [upload.fact.name for upload in uploads],
        [upload.fact.type for upload in uploads],
        [orjson.dumps(upload.fact.tags).decode() for upload in uploads],  # lists would nest the array
        [upload.fact.created_at for upload in uploads],
        [upload.is_deleted for upload in uploads],
    )


async def _insert_versions(work: UnitOfWork, uploads: Sequence[_Upload]) -> None:
    await work.execute(
        "INSERT INTO document_versions (document_id, version, tenant_id, user_id, status, requested_by,"
        " correlation_id, traceparent, blob_key, sha256, size_bytes, media_type, created_at)"
        " SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[],"
        " $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::timestamptz[])",
        [upload.fact.document_id for upload in uploads],
        [upload.fact.version for upload in uploads],
        [upload.command.tenant_id for upload in uploads],
        [upload.command.user_id for upload in uploads],
        ["deleted" if upload.is_deleted else "queued" for upload in uploads],
        [upload.command.id for upload in uploads],
        [upload.command.correlation_id or upload.command.id for upload in uploads],
        [upload.command.traceparent for upload in uploads],
        [upload.asked.blob_key for upload in uploads],
        [upload.fact.sha256 for upload in uploads],
        [upload.fact.size_bytes for upload in uploads],
        [upload.fact.media_type for upload in uploads],
        [upload.fact.created_at for upload in uploads],
    )

"""What the documents save: one statement a table for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from consumers.deciding import Fact
from consumers.documents.state import Document, Library, Version
from schemas.commands import AddDocument, ReplaceDocument
from schemas.envelope import Envelope
from schemas.events import DocumentDeleted, DocumentUpdated, DocumentUploaded, RestoreRequested
from storage.postgres.document_attributes import remove_attributes, replace_attributes
from storage.postgres.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class _Upload:
    """A registration to store, and the last `request` for it; `is_deleted` if the same batch deletes it again."""

    fact: DocumentUploaded
    asked: AddDocument | ReplaceDocument
    command: Envelope
    request: int
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class _Restore:
    """A version that is asked for again, as the batch leaves it."""

    version: Version
    command: Envelope


async def save(work: UnitOfWork, libraries: dict[object, Library], facts: Sequence[Fact]) -> None:
    """Stores what the facts speak of; deletions first, so that their bytes are free for what is added."""
    deleted = {fact.body.document_id for fact in facts if isinstance(fact.body, DocumentDeleted)}
    uploads = _uploads(libraries, facts, deleted)
    added = {upload.fact.document_id for upload in uploads if isinstance(upload.asked, AddDocument)}
    changed = {
        fact.body.document_id: libraries[fact.command.tenant_id].documents[fact.body.document_id]
        for fact in facts
        if isinstance(fact.body, DocumentUploaded | DocumentUpdated | RestoreRequested)
        and fact.body.document_id not in deleted | added
    }
    restores = _restores(libraries, facts, deleted)
    if deleted:
        await _delete(work, sorted(deleted))
    if added:
        new = [upload for upload in uploads if isinstance(upload.asked, AddDocument)]
        await _insert_documents(work, new, [libraries[u.command.tenant_id].documents[u.fact.document_id] for u in new])
        living = {upload.fact.document_id for upload in new if not upload.is_deleted}
        await _replace_attributes(work, libraries, living)
    if changed:
        await _update_documents(work, [changed[id_] for id_ in sorted(changed)])
        renamed = {fact.body.document_id for fact in facts if isinstance(fact.body, DocumentUpdated)}
        await _replace_attributes(work, libraries, renamed & changed.keys())
    if uploads:
        await _insert_versions(work, uploads)
    if restores:
        await _restore(work, restores)


def _uploads(libraries: dict[object, Library], facts: Sequence[Fact], deleted: set[UUID]) -> list[_Upload]:
    found = []
    for fact in facts:
        body, asked = fact.body, fact.command.body
        if isinstance(body, DocumentUploaded) and isinstance(asked, AddDocument | ReplaceDocument):
            version = libraries[fact.command.tenant_id].versions[body.document_id, body.version]
            is_deleted = body.document_id in deleted
            found.append(_Upload(body, asked, fact.command, version.request, is_deleted))
    return sorted(found, key=lambda upload: (upload.fact.document_id, upload.fact.version))


def _restores(libraries: dict[object, Library], facts: Sequence[Fact], deleted: set[UUID]) -> list[_Restore]:
    """The last request for each version."""
    found = {
        (fact.body.document_id, fact.body.version): fact.command
        for fact in facts
        if isinstance(fact.body, RestoreRequested) and fact.body.document_id not in deleted
    }
    return [_Restore(libraries[found[key].tenant_id].versions[key], found[key]) for key in sorted(found)]


async def _delete(work: UnitOfWork, ids: list[UUID]) -> None:
    """Gone for every reader at once; blobs and vectors follow by `purge`."""
    await work.execute("UPDATE documents SET deleted_at = now(), updated_at = now() WHERE id = ANY($1::uuid[])", ids)
    await work.execute(
        "UPDATE document_versions SET status = 'deleted', superseded_at = NULL, updated_at = now()"
        " WHERE document_id = ANY($1::uuid[])",
        ids,
    )
    await work.execute("DELETE FROM document_batches WHERE document_id = ANY($1::uuid[])", ids)
    await work.execute("DELETE FROM passages WHERE document_id = ANY($1::uuid[])", ids)
    await remove_attributes(work, ids)


async def _insert_documents(work: UnitOfWork, uploads: Sequence[_Upload], documents: Sequence[Document]) -> None:
    """Those that are new; `documents` are they as the batch leaves them."""
    await work.execute(
        "INSERT INTO documents (id, tenant_id, user_id, name, type, tags, created_at, deleted_at, latest_version,"
        " latest_request, attributes)"
        " SELECT id, tenant_id, user_id, name, type, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), created_at,"
        " CASE WHEN is_deleted THEN now() END, latest_version, latest_request, attributes"
        " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],"
        " $8::bool[], $9::int[], $10::int[], $11::jsonb[])"
        " AS t(id, tenant_id, user_id, name, type, tags, created_at, is_deleted, latest_version, latest_request,"
        " attributes)",
        [upload.fact.document_id for upload in uploads],
        [upload.command.tenant_id for upload in uploads],
        [upload.command.user_id for upload in uploads],
        [document.name for document in documents],
        [document.type for document in documents],
        [orjson.dumps(document.tags).decode() for document in documents],  # lists would nest the array
        [upload.fact.created_at for upload in uploads],
        [upload.is_deleted for upload in uploads],
        [document.latest_version for document in documents],
        [document.latest_request for document in documents],
        [dict(document.attributes) for document in documents],
    )


async def _insert_versions(work: UnitOfWork, uploads: Sequence[_Upload]) -> None:
    await work.execute(
        "INSERT INTO document_versions (document_id, version, tenant_id, user_id, status, requested_by,"
        " correlation_id, traceparent, blob_key, sha256, size_bytes, media_type, created_at, request)"
        " SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[],"
        " $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::timestamptz[], $14::int[])",
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
        [upload.request for upload in uploads],
    )


async def _update_documents(work: UnitOfWork, documents: Sequence[Document]) -> None:
    await work.execute(
        "UPDATE documents d SET name = t.name, type = t.type,"
        " tags = ARRAY(SELECT jsonb_array_elements_text(t.tags::jsonb)), latest_version = t.latest_version,"
        " latest_request = t.latest_request, attributes = t.attributes, updated_at = now()"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::jsonb[])"
        " AS t(id, name, type, tags, latest_version, latest_request, attributes)"
        " WHERE d.id = t.id",
        [document.id for document in documents],
        [document.name for document in documents],
        [document.type for document in documents],
        [orjson.dumps(document.tags).decode() for document in documents],
        [document.latest_version for document in documents],
        [document.latest_request for document in documents],
        [dict(document.attributes) for document in documents],
    )


async def _replace_attributes(work: UnitOfWork, libraries: dict[object, Library], ids: set[UUID]) -> None:
    """What the library has of them; `ids` are of living documents."""
    found = [document for library in libraries.values() for document in library.documents.values()]
    await replace_attributes(work, {one.id: (one.tenant_id, one.attributes) for one in found if one.id in ids})


async def _restore(work: UnitOfWork, restores: Sequence[_Restore]) -> None:
    """Numbers the requests; what is neither in work nor active goes back to work, with its passages and vectors.

    It stands in line from now on. Whoever held it before it failed has lost it.
    """
    columns = (
        [restore.version.document_id for restore in restores],
        [restore.version.number for restore in restores],
        [restore.version.request for restore in restores],
        [restore.command.id for restore in restores],
        [restore.command.correlation_id or restore.command.id for restore in restores],
        [restore.command.traceparent for restore in restores],
    )
    await work.execute(
        "UPDATE document_versions v SET request = t.request FROM unnest($1::uuid[], $2::int[], $3::int[])"
        " AS t(document_id, version, request) WHERE (v.document_id, v.version) = (t.document_id, t.version)",
        *columns[:3],
    )
    await work.execute(
        "WITH again AS (UPDATE document_versions v SET"
        "  status = CASE WHEN v.n_batches > 0 THEN 'embedding' ELSE 'queued' END, n_embedded = 0, error_code = NULL,"
        "  error_message = NULL, attempt = v.attempt + 1, barren_attempts = 0, lease_owner = NULL, lease_until = NULL,"
        "  not_before = now(), started_at = NULL, superseded_at = NULL, requested_by = t.requested_by,"
        "  correlation_id = t.correlation_id, traceparent = t.traceparent, updated_at = now()"
        "  FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::text[])"
        "  AS t(document_id, version, requested_by, correlation_id, traceparent) JOIN documents d"
        "  ON d.id = t.document_id WHERE (v.document_id, v.version) = (t.document_id, t.version)"
        "  AND v.status IN ('indexed', 'failed') AND v.version IS DISTINCT FROM d.active_version"
        "  RETURNING v.document_id, v.version)"
        " UPDATE document_batches b SET embedded_at = NULL, indexed_at = NULL FROM again"
        " WHERE (b.document_id, b.version) = (again.document_id, again.version)",
        *columns[:2],
        *columns[3:],
    )

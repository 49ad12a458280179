"""Documents as their tenant reads them: the progress of the version last asked for, the active version's content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from schemas.events import ErrorInfo
from schemas.http import DocumentProgress, DocumentStatus, DocumentView, Passage, VersionView
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

_SELECT = """
SELECT d.id, d.name, d.type, d.tags, d.attributes, d.active_version, d.created_at,
  greatest(d.updated_at, v.updated_at) AS updated_at,
  v.version, v.status, v.error_code, v.error_message, v.media_type, v.size_bytes, v.sha256, v.n_pages, v.n_passages,
  v.n_tokens, v.n_embedded, v.request
FROM documents d JOIN document_versions v ON v.document_id = d.id AND v.request = d.latest_request
WHERE d.tenant_id = $1 AND d.deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Content:
    """Where the bytes of the version stand that readers see."""

    name: str
    version: int
    media_type: str | None
    blob_key: str


async def document_by_id(work: UnitOfWork, document_id: UUID) -> DocumentView | None:
    """The scope's document."""
    row = await work.fetchrow(f"{_SELECT} AND d.id = $2", work.tenant_id, document_id)
    return _view(row) if row is not None else None


async def progress_of(work: UnitOfWork, document_id: UUID) -> tuple[DocumentProgress, int] | None:
    """How far the scope's document is learnt, and the number of the request that this is about."""
    row = await work.fetchrow(f"{_SELECT} AND d.id = $2", work.tenant_id, document_id)
    return (_progress(row), row["request"]) if row is not None else None


async def list_documents(
    work: UnitOfWork,
    *,
    status: DocumentStatus | None,
    kind: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[DocumentView]:
    """The scope's documents, newest first, those after `after`."""
    rows = await work.fetch(
        f"{_SELECT} AND ($2::text IS NULL OR v.status = $2) AND ($3::text IS NULL OR d.type = $3)"
        " AND ($4::timestamptz IS NULL OR (d.created_at, d.id) < ($4, $5::uuid))"
        " ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
        work.tenant_id,
        status,
        kind,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )
    return [_view(row) for row in rows]


async def content_of(work: UnitOfWork, document_id: UUID, version: int | None = None) -> Content | None:
    """The bytes of that version, or of the active one; while none is active, of the one last asked for."""
    row = await work.fetchrow(
        "SELECT d.name, v.version, v.media_type, v.blob_key FROM documents d"
        " JOIN document_versions v ON v.document_id = d.id AND CASE WHEN $3::int IS NOT NULL THEN v.version = $3"
        "  WHEN d.active_version IS NOT NULL THEN v.version = d.active_version ELSE v.request = d.latest_request END"
        " WHERE d.tenant_id = $1 AND d.id = $2 AND d.deleted_at IS NULL",
        work.tenant_id,
        document_id,
        version,
    )
    return Content(**dict(row)) if row is not None else None


async def list_passages(
    work: UnitOfWork, document_id: UUID, *, version: int | None, after: int, limit: int
) -> Sequence[tuple[int, Passage]] | None:
    """Passages in order with their ordinals, those after `after`; None if there is no such document or version.

    Of the version that `content_of` chooses.
    """
    content = await content_of(work, document_id, version)
    if content is None:
        return None
    rows = await work.fetch(
        "SELECT id, document_id, version, text, page, span_start AS start, span_end AS end, heading_path, ordinal"
        " FROM passages WHERE tenant_id = $1 AND document_id = $2 AND version = $3 AND ordinal > $4"
        " ORDER BY ordinal LIMIT $5",
        work.tenant_id,
        document_id,
        content.version,
        after,
        limit,
    )
    return [(row["ordinal"], Passage(**{k: v for k, v in row.items() if k != "ordinal"})) for row in rows]


async def blob_key_of(work: UnitOfWork, document_id: UUID, version: int) -> str | None:
    """Under which key the version's bytes were registered."""
    key: str | None = await work.fetchval(
        "SELECT blob_key FROM document_versions WHERE tenant_id = $1 AND document_id = $2 AND version = $3",
        work.tenant_id,
        document_id,
        version,
    )
    return key


async def list_versions(
    work: UnitOfWork, document_id: UUID, *, before: int | None, limit: int
) -> Sequence[VersionView]:
    """Versions of the scope's document, newest first, those before `before`; none if there is no such document."""
    rows = await work.fetch(
        f"{_SELECT_VERSION} AND ($3::int IS NULL OR v.version < $3) ORDER BY v.version DESC LIMIT $4",
        work.tenant_id,
        document_id,
        before,
        limit,
    )
    return [_version(row) for row in rows]


async def version_by_number(work: UnitOfWork, document_id: UUID, version: int) -> VersionView | None:
    """One version of the scope's document."""
    row = await work.fetchrow(f"{_SELECT_VERSION} AND v.version = $3", work.tenant_id, document_id, version)
    return _version(row) if row is not None else None


_SELECT_VERSION = """
SELECT v.document_id, v.version, v.status, v.error_code, v.error_message,
  v.version IS NOT DISTINCT FROM d.active_version AS is_active, v.media_type, v.size_bytes, v.sha256, v.n_pages,
  v.n_passages, v.n_tokens, v.target_tokens, v.max_tokens, v.created_at, v.updated_at
FROM documents d JOIN document_versions v ON v.document_id = d.id
WHERE d.tenant_id = $1 AND d.id = $2 AND d.deleted_at IS NULL
"""


def _version(row: asyncpg.Record) -> VersionView:
    fields = {name: value for name, value in row.items() if name not in {"error_code", "error_message"}}
    return VersionView(**fields, error=_error(row))


def _error(row: asyncpg.Record) -> ErrorInfo | None:
    if row["error_code"] is None or row["status"] != "failed":
        return None
    return ErrorInfo(code=row["error_code"], message=row["error_message"] or "")


def _progress(row: asyncpg.Record) -> DocumentProgress:
    return DocumentProgress(
        status=row["status"],
        step=row["status"],
        version=row["version"],
        n_pages=row["n_pages"],
        n_parsed=row["n_pages"],
        n_passages=row["n_passages"],
        n_embedded=row["n_embedded"],
        error=_error(row),
    )


def _view(row: asyncpg.Record) -> DocumentView:
    return DocumentView(
        id=row["id"],
        name=row["name"],
        type=row["type"],
        tags=row["tags"],
        attributes=row["attributes"],
        status=row["status"],
        error=_error(row),
        media_type=row["media_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        n_pages=row["n_pages"],
        n_passages=row["n_passages"],
        n_tokens=row["n_tokens"],
        version=row["version"],
        active_version=row["active_version"],
        progress=_progress(row),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )

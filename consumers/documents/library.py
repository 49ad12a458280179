"""What the documents load: the library as far as a batch of commands asks about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from consumers.documents.state import Document, Library, Version, VersionKey
from schemas.commands import AddDocument, DocumentCommand, ReplaceDocument, RestoreVersion
from schemas.envelope import Envelope
from schemas.ids import advisory_key
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

_VERSION = "v.tenant_id, v.document_id, v.version, v.request, v.sha256, v.status, v.n_batches > 0 AS is_parsed, d.name"


async def load(work: UnitOfWork, commands: Sequence[Envelope]) -> dict[object, Library]:
    """Locks first what the tenants' libraries are asked about: bytes (one holder a tenant), then documents by id."""
    restored = {
        (c.tenant_id, c.body.document_id, c.body.version) for c in commands if isinstance(c.body, RestoreVersion)
    }
    sent = {(c.tenant_id, c.body.sha256) for c in commands if isinstance(c.body, AddDocument | ReplaceDocument)}
    wanted = sorted(sent | {(row["tenant_id"], row["sha256"]) for row in await _versions(work, restored)})
    if wanted:
        await work.execute(
            "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k",
            sorted(advisory_key("document bytes", *pair) for pair in wanted),
        )
    ids = {c.body.document_id for c in commands if isinstance(c.body, DocumentCommand)}
    documents = await _documents(work, sorted(ids))
    rows = [*await _versions(work, restored), *await _holders(work, wanted)]
    return {
        tenant_id: _library(tenant_id, documents, [row for row in rows if row["tenant_id"] == tenant_id])
        for tenant_id in {command.tenant_id for command in commands}
    }


def _library(tenant_id: UUID, documents: dict[UUID, Document], rows: Sequence[asyncpg.Record]) -> Library:
    versions: dict[VersionKey, Version] = {}
    for row in rows:
        version = Version(
            row["document_id"],
            row["name"],
            row["version"],
            row["request"],
            row["sha256"],
            row["status"],
            row["is_parsed"],
        )
        versions[version.key] = version
    by_bytes = {v.sha256: v.key for v in versions.values() if v.status not in {"failed", "deleted"}}
    return Library(tenant_id, documents, versions, by_bytes)


async def _documents(work: UnitOfWork, ids: list[UUID]) -> dict[UUID, Document]:
    """Documents by id whoever owns them: an id stands only once."""
    rows = await work.fetch(
        "SELECT id, tenant_id, name, type, tags, attributes, active_version, latest_version, latest_request, deleted_at"
        " FROM documents WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE",
        ids,
    )
    return {row["id"]: Document(**{**row, "tags": tuple(row["tags"])}) for row in rows}


async def _versions(work: UnitOfWork, named: Iterable[tuple[UUID, UUID, int]]) -> list[asyncpg.Record]:
    """Versions by tenant, document and number."""
    keys = sorted(named)
    if not keys:
        return []
    return await work.fetch(
        f"SELECT {_VERSION} FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS t(tenant_id, document_id, version)"  # noqa: S608
        " JOIN document_versions v USING (tenant_id, document_id, version) JOIN documents d ON d.id = v.document_id",
        [tenant_id for tenant_id, _, _ in keys],
        [document_id for _, document_id, _ in keys],
        [version for _, _, version in keys],
    )


async def _holders(work: UnitOfWork, wanted: Sequence[tuple[UUID, str]]) -> list[asyncpg.Record]:
    """The living versions that have these bytes."""
    if not wanted:
        return []
    return await work.fetch(
        f"SELECT {_VERSION} FROM unnest($1::uuid[], $2::text[]) AS t(tenant_id, sha256)"  # noqa: S608
        " JOIN document_versions v USING (tenant_id, sha256) JOIN documents d ON d.id = v.document_id"
        " WHERE v.status NOT IN ('failed', 'deleted')",
        [tenant_id for tenant_id, _ in wanted],
        [sha256 for _, sha256 in wanted],
    )

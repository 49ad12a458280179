"""Passages as readers see them: PostgreSQL decides what is visible (design §7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from storage.ports import DocumentFilter, PassageView
from storage.postgres.document_attributes import HAVING_ALL, as_text
from storage.postgres.unit_of_work import Database, UnitOfWork

if TYPE_CHECKING:
    import asyncpg

CUSTOM_INSTRUCTIONS = "custom_instructions"
"""The type of documents that are told to the model each time."""
_COLUMNS = (
    "p.id, p.document_id, d.name AS document_name, p.version, p.text, p.page, p.span_start, p.span_end,"
    " p.heading_path, p.ordinal, d.type AS document_type FROM passages p JOIN documents d ON d.id = p.document_id"
)
_MATCHES = (
    " AND ($2::uuid[] IS NULL OR d.id = ANY($2)) AND ($3::text[] IS NULL OR d.type = ANY($3)) AND d.tags @> $4::text[]"
    " AND ($5::timestamptz IS NULL OR d.created_at >= $5) AND ($6::timestamptz IS NULL OR d.created_at < $6)"
    " AND d.type <> ALL($7::text[])"
)
"""A `DocumentFilter` as `_filter_values` gives it, but for the attributes."""
_SEEN = " AND d.tenant_id = $1 AND d.deleted_at IS NULL AND d.active_version = p.version"
_VISIBLE = f"SELECT {_COLUMNS} WHERE p.id = ANY($2::uuid[]) AND p.tenant_id = $1{_SEEN}"
# The passages first: by its guess of how few documents match the planner would read all passages of each.
_VISIBLE_MATCHES = (
    "WITH asked AS MATERIALIZED (SELECT * FROM passages WHERE id = ANY($8::uuid[]) AND tenant_id = $1)"  # noqa: S608
    f" SELECT {_COLUMNS.replace('FROM passages p', 'FROM asked p')} WHERE true{_SEEN}{_MATCHES}"
    " AND d.attributes @> $9::jsonb"
)
_EVERY = DocumentFilter()


class PassageVisibility:
    """What a reader of a tenant may see now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def visible(
        self, tenant_id: UUID, passage_ids: Sequence[UUID], documents: DocumentFilter = _EVERY
    ) -> dict[UUID, PassageView]:
        """Those of the tenant's passages whose version is the active one of a living document that is asked for.

        Raises: Retry.
        """
        ids = list(passage_ids)
        async with self._database.transaction(tenant_id) as work:
            if documents == _EVERY:
                rows = await work.fetch(_VISIBLE, tenant_id, ids)
            else:
                attributes = dict(documents.attributes)
                rows = await work.fetch(_VISIBLE_MATCHES, tenant_id, *_filter_values(documents), ids, attributes)
        return {row["id"]: _view(row) for row in rows}

    async def matching(self, tenant_id: UUID, documents: DocumentFilter, *, at_most: int) -> list[UUID] | None:
        """The tenant's visible documents that are asked for; None if more than `at_most`. Raises: Retry."""
        attributes = documents.attributes
        having, given = "", []
        if attributes:
            having = f" AND d.id IN ({HAVING_ALL})"
            given = [[name for name, _ in attributes], [as_text(value) for _, value in attributes]]
        async with self._database.transaction(tenant_id) as work:
            rows = await work.fetch(
                f"SELECT d.id FROM documents d WHERE d.tenant_id = $1{_MATCHES}{having}"  # noqa: S608 - no input in it
                " AND d.deleted_at IS NULL AND d.active_version IS NOT NULL LIMIT $8",
                tenant_id,
                *_filter_values(documents),
                at_most + 1,
                *given,
            )
        return [row["id"] for row in rows] if len(rows) <= at_most else None

    async def superseded(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        """The indexed versions among the passages' that another version of their document has replaced. Raises: Retry.

        A search that began before such a switch may know nothing of the version that readers see now.
        """
        async with self._database.transaction(tenant_id) as work:
            rows = await work.fetch(
                "SELECT DISTINCT p.document_id, p.version FROM passages p JOIN documents d ON d.id = p.document_id"
                " JOIN document_versions v ON (v.document_id, v.version) = (p.document_id, p.version)"
                " WHERE p.id = ANY($1::uuid[]) AND p.tenant_id = $2 AND d.deleted_at IS NULL"
                " AND v.status = 'indexed' AND v.version <> d.active_version",
                list(passage_ids),
                tenant_id,
            )
        return {(row["document_id"], row["version"]) for row in rows}


def _filter_values(documents: DocumentFilter) -> tuple[object, ...]:
    ids, types = documents.document_ids, documents.types
    return (
        None if ids is None else list(ids),
        None if types is None else list(types),
        list(documents.tags),
        documents.created_after,
        documents.created_before,
        list(documents.not_types),
    )


async def passages_by_id(work: UnitOfWork, passage_ids: Sequence[UUID]) -> list[PassageView]:
    """Passages of the scope's tenant as they were offered once, of any version, in the order asked for.

    For answers that continue: a newer version must not change what their markers stand for. What was deleted
    meanwhile is left out.
    """
    rows = await work.fetch(
        f"SELECT {_COLUMNS} WHERE p.id = ANY($1::uuid[]) AND p.tenant_id = $2 AND d.deleted_at IS NULL",
        list(passage_ids),
        work.tenant_id,
    )
    found = {row["id"]: _view(row) for row in rows}
    return [found[passage_id] for passage_id in passage_ids if passage_id in found]


async def opening_of(work: UnitOfWork, document_id: UUID, *, n_passages: int) -> list[PassageView]:
    """The first passages of a document of the scope's tenant, as readers see it now."""
    rows = await work.fetch(
        f"SELECT {_COLUMNS} WHERE p.document_id = $1 AND p.ordinal < $3 AND p.tenant_id = $2"
        " AND d.deleted_at IS NULL AND d.active_version = p.version ORDER BY p.ordinal",
        document_id,
        work.tenant_id,
        n_passages,
    )
    return [_view(row) for row in rows]


async def instruction_passages(work: UnitOfWork, *, limit: int) -> list[PassageView]:
    """The first passages of the scope's `custom_instructions`, oldest document first, in reading order."""
    rows = await work.fetch(
        f"SELECT {_COLUMNS} WHERE p.tenant_id = $1 AND d.tenant_id = $1 AND d.type = '{CUSTOM_INSTRUCTIONS}'"
        " AND d.deleted_at IS NULL AND d.active_version = p.version ORDER BY d.created_at, d.id, p.ordinal LIMIT $2",
        work.tenant_id,
        limit,
    )
    return [_view(row) for row in rows]


def _view(row: asyncpg.Record) -> PassageView:
    return PassageView(
        id=row["id"],
        document_id=row["document_id"],
        document_name=row["document_name"],
        version=row["version"],
        text=row["text"],
        page=row["page"],
        start=row["span_start"],
        end=row["span_end"],
        heading_path=tuple(row["heading_path"]),
        ordinal=row["ordinal"],
        document_type=row["document_type"],
    )

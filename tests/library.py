"""Documents that are learnt already: rows in PostgreSQL and in an index, without workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from providers.ports import Embedder
from schemas.attributes import Attributes
from schemas.ids import new_id
from storage.ports import VectorIndex, VectorRow
from storage.postgres.document_attributes import replace_attributes
from storage.postgres.unit_of_work import Database
from storage.vectors.names import table_name


async def add_document(
    database: Database,
    index: VectorIndex,
    embedder: Embedder,
    tenant_id: UUID,
    texts: Sequence[str],
    *,
    name: str = "a.txt",
    kind: str = "document",
    tags: Sequence[str] = (),
    attributes: Attributes | None = None,
    created_at: datetime | None = None,
) -> UUID:
    """An indexed document, a passage a text."""
    id_, created_at = new_id(), created_at or datetime.now(UTC)
    passages = [(new_id(), ordinal, text) for ordinal, text in enumerate(texts)]
    async with database.transaction() as work:
        await work.execute(
            "INSERT INTO documents (id, tenant_id, user_id, name, type, tags, active_version, created_at, attributes)"
            " VALUES ($1, $2, $2, $3, $4, $5, 1, $6, $7)",
            id_,
            tenant_id,
            name,
            kind,
            list(tags),
            created_at,
            attributes or {},
        )
        await replace_attributes(work, {id_: (tenant_id, attributes or {})})
        for passage_id, ordinal, text in passages:
            await work.execute(
                "INSERT INTO passages (id, tenant_id, document_id, version, batch, ordinal, text, page, span_start,"
                " span_end, heading_path, n_tokens, content_hash)"
                " VALUES ($1, $2, $3, 1, 0, $4, $5, 1, 0, $6, '{}', 1, '')",
                passage_id,
                tenant_id,
                id_,
                ordinal,
                text,
                len(text),
            )
    rows = [
        VectorRow(str(passage_id), str(id_), 1, f"{id_}:0", ordinal, text) for passage_id, ordinal, text in passages
    ]
    vectors = await embedder.embed(list(texts))
    table = table_name(tenant_id, embedder.model)
    await index.replace_batches(table, [(rows, vectors)], dimensions=embedder.dimensions)
    return id_

"""Documents by their attributes: a row for each, so that an index finds them within a tenant (decision 0012)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from schemas.attributes import AttributeValue
from storage.postgres.unit_of_work import UnitOfWork

HAVING_ALL = (
    "SELECT a.document_id FROM unnest($9::text[], $10::text[]) AS t(name, value)"
    " JOIN document_attributes a ON a.tenant_id = $1 AND a.name = t.name AND a.value = t.value"
    " GROUP BY 1 HAVING count(*) = cardinality($9::text[])"
)
"""Ids of the tenant's ($1) documents with all of these names ($9) and values ($10, as `as_text`)."""


def as_text(value: AttributeValue) -> str:
    """Equal for equal values: 1 and 1.0 are, 1, "1" and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


async def replace_attributes(
    work: UnitOfWork, documents: Mapping[UUID, tuple[UUID, Mapping[str, AttributeValue]]]
) -> None:
    """Makes the given the documents' only ones: tenant and attributes by document id."""
    await remove_attributes(work, list(documents))
    rows = [
        (tenant_id, document_id, name, as_text(value))
        for document_id, (tenant_id, attributes) in documents.items()
        for name, value in attributes.items()
    ]
    if rows:
        await work.execute(
            "INSERT INTO document_attributes (tenant_id, document_id, name, value)"
            " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])",
            *(list(column) for column in zip(*rows, strict=True)),
        )


async def remove_attributes(work: UnitOfWork, document_ids: Sequence[UUID]) -> None:
    """Those documents have none."""
    await work.execute("DELETE FROM document_attributes WHERE document_id = ANY($1::uuid[])", list(document_ids))

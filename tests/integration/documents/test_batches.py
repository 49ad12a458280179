"""A batch of commands leaves what the same commands leave one by one, whatever they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from consumers.documents.subscriber import documents
from schemas.commands import (
    AddDocument,
    DeleteDocument,
    DocumentCommand,
    ReplaceDocument,
    RestoreVersion,
    UpdateDocument,
)
from schemas.envelope import Envelope
from schemas.ids import new_id
from storage.postgres.unit_of_work import Database


def sequence(seed: int) -> list[DocumentCommand]:
    """Commands about two documents and four contents, of which some make no sense."""
    choose = random.Random(seed)
    bodies: list[DocumentCommand] = []
    for _ in range(25):
        document_id, content = UUID(int=choose.randint(1, 2)), choose.randint(1, 4)
        said = {"n": content, "is": content > 2}
        bytes_of: dict[str, Any] = {"blob_key": "k", "sha256": f"{content:064x}", "size_bytes": 1}
        bodies.append(
            choose.choices(
                [
                    AddDocument(document_id=document_id, name="a", tags=("x", "y"), attributes=said, **bytes_of),
                    ReplaceDocument(document_id=document_id, name=choose.choice([None, "b"]), **bytes_of),
                    UpdateDocument(
                        document_id=document_id, name=choose.choice("cd"), tags=(), attributes={"n": 1.5, "is": True}
                    ),
                    RestoreVersion(document_id=document_id, version=choose.randint(1, 3)),
                    DeleteDocument(document_id=document_id),
                ],
                [4, 8, 3, 6, 1],
            )[0]
        )
    return bodies


async def left(database: Database, bodies: Sequence[DocumentCommand], *, at_once: int) -> list[list[dict[str, Any]]]:
    """What stands after the commands; documents are indexed as soon as the first part of the commands is through."""
    tenant, ids = new_id(), {UUID(int=1): new_id(), UUID(int=2): new_id()}
    commands = [
        Envelope(
            body=body.model_copy(update={"document_id": ids[body.document_id]}),
            tenant_id=tenant,
            user_id=tenant,
            source="test",
        )
        for body in bodies
    ]
    handle = documents().handle
    assert handle is not None
    for part in (commands[:12], commands[12:]):
        for start in range(0, len(part), at_once):
            async with database.transaction() as work:
                await handle(work, part[start : start + at_once])
        async with database.transaction() as work:
            await work.execute(_LEARN, tenant)
    number = {id_: position for position, id_ in enumerate(ids.values())}
    async with database.transaction() as work:
        found = [await work.fetch(sql, tenant) for sql in (_DOCUMENTS, _VERSIONS, _ATTRIBUTES)]
    return [
        sorted(({**row, "id": number[row["id"]]} for row in rows), key=lambda row: (row["id"], row.get("version")))
        for rows in found
    ]


_LEARN = (
    "WITH learnt AS (UPDATE document_versions SET n_batches = 1,"
    " status = CASE WHEN version % 3 = 0 THEN 'failed' ELSE 'indexed' END WHERE tenant_id = $1 AND status <> 'deleted')"
    " UPDATE documents SET active_version = 1 WHERE tenant_id = $1 AND active_version IS NULL"
)
_DOCUMENTS = (
    "SELECT id, name, type, tags, attributes, latest_version, latest_request FROM documents"
    " WHERE tenant_id = $1 AND deleted_at IS NULL"
)
_ATTRIBUTES = (
    "SELECT document_id AS id, jsonb_object_agg(name, value::jsonb) AS attributes FROM document_attributes"
    " WHERE tenant_id = $1 GROUP BY 1"
)
_VERSIONS = (
    "SELECT document_id AS id, version, status, sha256, CASE WHEN status <> 'deleted' THEN request END AS request"
    " FROM document_versions WHERE tenant_id = $1"
)


async def test_at_once_or_one_by_one(database: Database) -> None:
    for seed in range(12):
        bodies = sequence(seed)
        one_by_one = await left(database, bodies, at_once=1)
        assert await left(database, bodies, at_once=25) == one_by_one, f"seed {seed}"
        documents_left, versions_left, by_attribute = one_by_one
        assert versions_left, "something stands"
        shown = [{"id": one["id"], "attributes": one["attributes"]} for one in documents_left]
        assert by_attribute == shown, "a search finds it by what it shows"

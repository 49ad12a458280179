"""A tenant at its limit: a restore is refused only if the version goes back to work by it."""

from __future__ import annotations

from uuid import UUID

from consumers.documents.subscriber import documents
from consumers.tenant_limit import TenantLimit
from schemas.commands import AddDocument, ReplaceDocument, RestoreVersion
from schemas.envelope import Envelope
from schemas.events import CommandRejected, DocumentUploaded, RestoreRequested
from schemas.ids import new_id
from schemas.records import Body
from storage.postgres.unit_of_work import Database

TENANT, FIRST, SECOND = new_id(), new_id(), new_id()


def command(body: Body) -> Envelope:
    return Envelope(body=body, tenant_id=TENANT, user_id=TENANT, source="test")


def add(document_id: UUID, content: int) -> Envelope:
    body = AddDocument(document_id=document_id, name="a", blob_key="k", sha256=f"{content:064x}", size_bytes=1)
    return command(body)


def replace(document_id: UUID, content: int) -> Envelope:
    return command(ReplaceDocument(document_id=document_id, blob_key="k", sha256=f"{content:064x}", size_bytes=1))


def restore(document_id: UUID, version: int) -> Envelope:
    return command(RestoreVersion(document_id=document_id, version=version))


async def told(database: Database, *commands: Envelope) -> list[Body]:
    """What follows from a batch where two documents may wait."""
    handle = documents(TenantLimit(2)).handle
    assert handle is not None
    async with database.transaction() as work:
        return [event.body for _, event in await handle(work, commands)]


async def learnt(database: Database, status: str) -> None:
    """What waits ends; the first document's second version is the active one."""
    async with database.transaction() as work:
        await work.execute(
            "UPDATE document_versions SET status = $2, n_batches = 1 WHERE tenant_id = $1 AND status = 'queued'",
            TENANT,
            status,
        )
        await work.execute("UPDATE documents SET active_version = 2 WHERE id = $1", FIRST)


async def test_only_a_restore_that_goes_back_to_work_needs_room(database: Database) -> None:
    await told(database, add(FIRST, 1), replace(FIRST, 2))
    await learnt(database, "indexed")
    full = await told(database, add(SECOND, 3), replace(SECOND, 4))
    assert [type(fact) for fact in full] == [DocumentUploaded, DocumentUploaded]
    active, waiting, by_bytes = restore(FIRST, 2), restore(SECOND, 1), replace(SECOND, 4)
    facts = await told(database, active, waiting, by_bytes, restore(FIRST, 1))
    assert [getattr(fact, "status", None) for fact in facts[:3]] == ["indexed", "queued", "queued"]
    assert isinstance(facts[3], CommandRejected)
    assert (facts[3].code, facts[3].status) == ("too_many_waiting", 429)
    await learnt(database, "failed")
    again = await told(database, restore(SECOND, 1), restore(SECOND, 1), restore(SECOND, 2), restore(FIRST, 1))
    assert [type(fact) for fact in again] == [*[RestoreRequested] * 3, CommandRejected]

"""Versions that wait to be indexed for too long: an accepted document always ends well or says why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumers.documents.checkpoints import index_batch_id
from consumers.index.store import INDEX_FAILED
from schemas.envelope import Envelope
from schemas.events import CommandRejected, DocumentFailed, ErrorInfo
from schemas.topics import KNOWLEDGE_EVENTS
from storage.log.publisher import OutboxPublisher
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord
from storage.postgres.unit_of_work import Database, UnitOfWork

if TYPE_CHECKING:
    import asyncpg

QUIET_S = 3.0
AGAIN_AFTER_S = 300.0
LOST_AFTER_S = 24 * 3600.0
_AT_ONCE = 100


async def settle_overdue(
    database: Database,
    publisher: OutboxPublisher,
    *,
    quiet_s: float = QUIET_S,
    again_after_s: float = AGAIN_AFTER_S,
    lost_after_s: float = LOST_AFTER_S,
) -> int:
    """Looks after versions that are `indexing` without progress; how many it ended. Raises: Retry.

    One whose batch became a dead letter fails (a redrive of the letter revives it). After `again_after_s` its
    commands are left to the relay to publish once more, which is harmless; after `lost_after_s` it fails.
    """
    records: list[OutboxRecord] = []
    async with database.transaction() as work:
        rows = await work.fetch(
            "SELECT document_id, version, tenant_id, user_id, requested_by, correlation_id, traceparent,"
            " extract(epoch FROM now() - updated_at)::float8 AS quiet_s FROM document_versions"
            " WHERE status = 'indexing' AND updated_at < now() - make_interval(secs => $1)"
            " ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED",
            quiet_s,
            _AT_ONCE,
        )
        for row in rows:
            reason = await _reason_to_end(work, row, again_after_s=again_after_s, lost_after_s=lost_after_s)
            if reason is not None:
                records += await _fail(work, row, reason)
    await publisher.publish(records)
    return len(records)


async def _reason_to_end(
    work: UnitOfWork, version: asyncpg.Record, *, again_after_s: float, lost_after_s: float
) -> str | None:
    """Why the version will not be indexed, or None while it still may be."""
    batches = await work.fetch(
        "SELECT blob_key FROM document_batches WHERE document_id = $1 AND version = $2 AND indexed_at IS NULL",
        version["document_id"],
        version["version"],
    )
    commands = [index_batch_id(row["blob_key"]) for row in batches if row["blob_key"] is not None]
    n_dead = await work.fetchval(
        "SELECT count(*) FROM outbox WHERE causation_id = ANY($1::uuid[]) AND type = $2",
        commands,
        CommandRejected.ce_type,
    )
    if n_dead:
        return (
            f"{n_dead} of its batches could not be put into the index; they are kept as dead letters,"
            " and the operators can see why."
        )
    if version["quiet_s"] > lost_after_s:
        return f"{len(batches)} of its batches were not indexed within {lost_after_s / 3600:g} h; upload it again."
    if version["quiet_s"] > again_after_s:
        await outbox.publish_again(work, commands, after_s=again_after_s)
    return None


async def _fail(work: UnitOfWork, version: asyncpg.Record, message: str) -> list[OutboxRecord]:
    await work.execute(
        "UPDATE document_versions SET status = 'failed', error_code = $3, error_message = $4, updated_at = now()"
        " WHERE document_id = $1 AND version = $2",
        version["document_id"],
        version["version"],
        INDEX_FAILED,
        message,
    )
    fact = DocumentFailed(
        document_id=version["document_id"],
        version=version["version"],
        error=ErrorInfo(code=INDEX_FAILED, message=message),
    )
    event = Envelope(
        body=fact,
        tenant_id=version["tenant_id"],
        user_id=version["user_id"],
        source="documents/job",
        time=datetime.now(UTC),
        correlation_id=version["correlation_id"],
        causation_id=version["requested_by"],
        traceparent=version["traceparent"],
    )
    return await outbox.add(work, [(KNOWLEDGE_EVENTS, event)])

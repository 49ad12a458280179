"""Inbox and outbox rows are kept 31 days: a day longer than any log from which a command could be read again.

Then events go to the archive, a day's at a time, so that segments are few. Vectors leave their cache when they were not
used for a time.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from schemas.errors import Retry
from storage.archive import ARCHIVED, ArchivedRecord, archive_lock, write_segment
from storage.ports import BlobStore
from storage.postgres import embedding_cache
from storage.postgres.unit_of_work import Database, UnitOfWork

logger = logging.getLogger(__name__)

INTERVAL_S = 600.0
KEPT = timedelta(days=31)
_BATCH = 5_000
_BATCH_BYTES = 8 << 20
"""Of bodies; a batch ends with the row that goes beyond it."""
_MAY_BE_IDLE = "10min"
"""The segment is written while the transaction waits."""

_DELETE_INBOX = """
DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbox WHERE at < now() - $1::interval LIMIT $2))
"""
_EXPIRED = "created_at < date_trunc('day', now() - $1::interval, 'UTC')"
_TENANTS = f"SELECT DISTINCT tenant_id FROM outbox WHERE {_EXPIRED}"  # noqa: S608 - no input in it
# The oldest rows of a tenant, up to the first that must stay: what is archived is always a prefix of what there is.
_OLDEST = f"""
WITH oldest AS MATERIALIZED (
  SELECT o.id, o.xact_id, o.seq, o.{_EXPIRED} AND u.id IS NULL AS may_go, octet_length(o.value) AS size_bytes
  FROM outbox o LEFT JOIN outbox_unpublished u USING (id)
  WHERE o.tenant_id = $2 ORDER BY o.xact_id, o.seq LIMIT $3
), measured AS (
  SELECT id, bool_and(may_go) OVER one_by_one AS may_go,
    coalesce(sum(size_bytes) OVER (one_by_one ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS n_before
  FROM oldest WINDOW one_by_one AS (ORDER BY xact_id, seq)
)
SELECT o.id, o.xact_id::text AS xact_id, o.seq, o.topic, o.key, o.headers, o.value
FROM measured m JOIN outbox o USING (id) WHERE m.may_go AND m.n_before < $4 ORDER BY o.xact_id, o.seq
"""  # noqa: S608 - no input in it


async def expire_forever(
    database: Database, blobs: BlobStore, *, cache_kept: timedelta, interval_s: float = INTERVAL_S
) -> None:
    """Now and then removes what was kept long enough, beside the sweep. Two at once do no harm."""
    while True:
        try:
            n_rows = await delete_expired(database, blobs) + await trim_embedding_cache(database, kept=cache_kept)
            logger.debug("archived or deleted %d rows that were kept long enough", n_rows)
        except Retry as away:
            logger.warning("retention: %s", away)
        await asyncio.sleep(interval_s)


async def delete_expired(database: Database, blobs: BlobStore, *, kept: timedelta = KEPT) -> int:
    """Removes rows older than `kept` in small transactions, events only once they stand in the archive; how many.

    What was not published stays, and so does what follows it. Raises: Retry.
    """
    n_deleted, n_batch = 0, _BATCH
    while n_batch == _BATCH:
        async with database.transaction() as work:
            n_batch = await work.execute(_DELETE_INBOX, kept, _BATCH)
        n_deleted += n_batch
    async with database.transaction() as work:
        tenants = [row["tenant_id"] for row in await work.fetch(_TENANTS, kept)]
    for tenant_id in tenants:
        n_batch = 1
        while n_batch:
            async with database.transaction() as work:
                n_batch = await _archive_some(work, blobs, tenant_id, kept)
            n_deleted += n_batch
    return n_deleted


async def trim_embedding_cache(database: Database, *, kept: timedelta) -> int:
    """Removes vectors that were not used for so long, in small transactions; how many. Raises: Retry."""
    n_trimmed, n_batch = 0, 1
    while n_batch:
        async with database.transaction() as work:
            n_batch = await embedding_cache.trim(work, kept)
        n_trimmed += n_batch
    return n_trimmed


async def _archive_some(work: UnitOfWork, blobs: BlobStore, tenant_id: UUID, kept: timedelta) -> int:
    """Moves one batch; how many rows. A crash before the commit leaves a segment that is written again."""
    is_mine = await work.fetchval(
        "SELECT pg_try_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', $2, true)",
        archive_lock(tenant_id),
        _MAY_BE_IDLE,
    )
    rows = await work.fetch(_OLDEST, kept, tenant_id, _BATCH, _BATCH_BYTES) if is_mine else []
    for topic in ARCHIVED:
        records = [
            ArchivedRecord((int(row["xact_id"]), row["seq"]), row["id"], row["key"], row["headers"], row["value"])
            for row in rows
            if row["topic"] == topic.name
        ]
        if records:
            await write_segment(blobs, tenant_id, topic.name, records)
    return await work.execute("DELETE FROM outbox WHERE id = ANY($1::uuid[])", [row["id"] for row in rows])

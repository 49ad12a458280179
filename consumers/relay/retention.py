"""Inbox and outbox rows are kept 31 days: a day longer than any log from which a command could be read again."""

from __future__ import annotations

from datetime import timedelta

from storage.postgres.unit_of_work import Database

KEPT = timedelta(days=31)
_BATCH = 5_000

_EXPIRED = (
    ("inbox", "at < now() - $1::interval"),
    ("outbox", "created_at < now() - $1::interval AND id NOT IN (SELECT id FROM outbox_unpublished)"),
)


async def delete_expired(database: Database, *, kept: timedelta = KEPT) -> int:
    """Deletes rows older than `kept` in small transactions; how many. What was not published stays. Raises: Retry."""
    n_deleted = 0
    for table, is_expired in _EXPIRED:
        sql = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {is_expired} LIMIT $2))"  # noqa: S608 - names of ours
        n_batch = _BATCH
        while n_batch == _BATCH:
            async with database.transaction() as work:
                n_batch = await work.execute(sql, kept, _BATCH)
            n_deleted += n_batch
    return n_deleted

"""All events of a tenant on one topic, from the archive and the outbox, staged by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from schemas.errors import Retry
from schemas.topics import Topic
from storage.archive import ArchivedRecord, archive_lock, read_archive
from storage.ports import BlobStore
from storage.postgres.unit_of_work import AWAY, Database, UnitOfWork

if TYPE_CHECKING:
    from storage.postgres.unit_of_work import Connection

_KEYS = 50
"""So many at a time: their records are in memory at once."""
_COLUMNS = "id, xact_id::text AS xact_id, seq, key, headers::text AS headers, value"


class History:
    """A tenant's records of some types of a topic, as of when it was staged; `since` finds what came after."""

    def __init__(self, connection: Connection, tenant_id: UUID, topic: Topic, types: Sequence[str], since: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._topic = topic
        self._types = types
        self._since = since

    async def keys(self) -> AsyncIterator[list[str]]:
        """Every key that has records, in order, some at a time. Raises: Retry."""
        after = ""
        while True:
            try:
                rows = await self._connection.fetch(
                    "SELECT DISTINCT key FROM history WHERE key > $1 ORDER BY key LIMIT $2", after, _KEYS
                )
            except AWAY as error:
                raise Retry(f"PostgreSQL: {error}") from error
            if not rows:
                return
            yield [row["key"] for row in rows]
            after = rows[-1]["key"]

    async def records(self, keys: Sequence[str]) -> list[ArchivedRecord]:
        """What was staged of the keys, in commit order. Raises: Retry."""
        try:
            rows = await self._connection.fetch(
                f"SELECT {_COLUMNS} FROM history WHERE key = ANY($1::text[]) ORDER BY history.xact_id, seq",  # noqa: S608
                list(keys),
            )
        except AWAY as error:
            raise Retry(f"PostgreSQL: {error}") from error
        return [_record(row) for row in rows]

    async def later(self, work: UnitOfWork, keys: Sequence[str]) -> list[ArchivedRecord]:
        """What may have been committed since, as `work` sees it; some of it may have been staged too."""
        rows = await work.fetch(
            f"SELECT {_COLUMNS} FROM outbox WHERE tenant_id = $1 AND xact_id >= $2::text::xid8 AND topic = $3"  # noqa: S608
            " AND key = ANY($4::text[]) AND type = ANY($5::text[]) ORDER BY outbox.xact_id, seq",
            self._tenant_id,
            self._since,
            self._topic.name,
            list(keys),
            list(self._types),
        )
        return [_record(row) for row in rows]


@asynccontextmanager
async def staged_history(
    database: Database, blobs: BlobStore, tenant_id: UUID, topic: Topic, types: Sequence[str]
) -> AsyncIterator[History]:
    """The history for as long as the block runs, on a disk of PostgreSQL's, each record once. Raises: Retry.

    It is no transaction: that would hold up the feeds of all tenants.
    """
    async with database.own_connection(command_timeout_s=None) as connection:
        try:
            await connection.execute("SELECT pg_advisory_lock_shared($1)", archive_lock(tenant_id))
            since = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
            await connection.execute(
                "CREATE TEMP TABLE history (id uuid PRIMARY KEY, xact_id xid8, seq bigint, key text, headers jsonb,"
                " value bytea)"
            )
            async for records in read_archive(blobs, tenant_id, topic.name):
                await _stage(connection, [one for one in records if one.headers["ce_type"] in types])
            await connection.execute(
                "INSERT INTO history SELECT id, xact_id, seq, key, headers, value FROM outbox"
                " WHERE tenant_id = $1 AND topic = $2 AND type = ANY($3::text[]) ON CONFLICT DO NOTHING",
                tenant_id,
                topic.name,
                list(types),
            )
            await connection.execute("SELECT pg_advisory_unlock_shared($1)", archive_lock(tenant_id))
            await connection.execute("CREATE INDEX ON history (key)")
            await connection.execute("ANALYZE history")
        except AWAY as error:
            raise Retry(f"PostgreSQL: {type(error).__name__}: {error}") from error
        yield History(connection, tenant_id, topic, types, since)


async def _stage(connection: Connection, records: Sequence[ArchivedRecord]) -> None:
    await connection.execute(
        "INSERT INTO history SELECT id, xact_id::xid8, seq, key, headers::jsonb, value FROM unnest($1::uuid[],"
        " $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[]) AS t(id, xact_id, seq, key, headers, value)"
        " ON CONFLICT DO NOTHING",
        [record.id for record in records],
        [str(record.position[0]) for record in records],
        [record.position[1] for record in records],
        [record.key for record in records],
        [orjson.dumps(record.headers).decode() for record in records],
        [record.value for record in records],
    )


def _record(row: Any) -> ArchivedRecord:
    position = (int(row["xact_id"]), row["seq"])
    return ArchivedRecord(position, row["id"], row["key"], orjson.loads(row["headers"]), row["value"])

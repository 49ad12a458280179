"""The second wall between tenants: a query that forgot its tenant finds nothing of another's."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest
from sqlmodel import SQLModel

from schemas.ids import new_id
from storage.postgres.unit_of_work import Database

READ_BY_TENANTS = ("sessions", "messages", "completions", "documents", "document_versions", "passages", "outbox",
                   "embedding_cache", "document_attributes")  # fmt: skip
ROWS = {
    "sessions": "user_id, name) VALUES ($2, $1, $2, 'x')",
    "messages": "user_id, session_id, sender, status, content) VALUES ($2, $1, $2, $2, 'user', 'complete', 'x')",
    "completions": "user_id, session_id, message_id, parent_id, queue_no, generation, requested_by, correlation_id)"
    " VALUES ($2, $1, $2, $2, $2, $2, 1, '{}', $2, $2)",
    "documents": "user_id, name) VALUES ($2, $1, $2, 'x')",
    "outbox": "topic, key, type, headers, value) VALUES ($2, $1, 'x', 'x', 'x', '{}', '')",
}


async def fill(database: Database, tenant_id: UUID) -> None:
    async with database.transaction() as work:
        for table, rest in ROWS.items():
            await work.execute(f"INSERT INTO {table} (id, tenant_id, {rest}", tenant_id, new_id())


async def test_a_query_without_a_tenant_finds_only_ones_own(database: Database) -> None:
    tenants = [new_id(), new_id()]
    for tenant in tenants:
        await fill(database, tenant)
    for table in ROWS:
        for tenant in tenants:
            async with database.transaction(tenant) as work:
                rows = await work.fetch(f"SELECT tenant_id FROM {table}")
            assert [row["tenant_id"] for row in rows] == [tenant], table
        async with database.transaction() as work:
            assert await work.fetchval(f"SELECT count(*) FROM {table}") == 2


async def test_every_table_with_a_tenant_has_the_wall_or_is_out_of_reach(database: Database) -> None:
    async with database.transaction() as work:
        walls = await work.fetch(
            "SELECT c.relname AS name, c.relrowsecurity AS is_on,"
            " has_table_privilege('ragline_tenant', c.oid, 'SELECT') AS may_read,"
            " has_table_privilege('ragline_tenant', c.oid, 'INSERT, UPDATE, DELETE') AS may_write"
            " FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
        )
    found = {wall["name"]: wall for wall in walls}
    assert set(SQLModel.metadata.tables) <= set(found)
    assert not any(wall["may_write"] for wall in walls)
    # the words of messages: their index cannot be used behind a policy; the messages themselves are behind one
    assert {name for name, wall in found.items() if wall["may_read"]} == {*READ_BY_TENANTS, "message_words"}
    assert {name for name, wall in found.items() if wall["is_on"]} == set(READ_BY_TENANTS)


@pytest.mark.parametrize("sql", ["DELETE FROM messages", "SELECT hash FROM api_keys", "SELECT key FROM inbox"])
async def test_a_tenants_scope_writes_nothing_and_reads_no_key(database: Database, sql: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(new_id()) as work:
            await work.execute(sql)
    async with database.transaction() as work:
        assert await work.fetchval("SELECT current_user") != "ragline_tenant"

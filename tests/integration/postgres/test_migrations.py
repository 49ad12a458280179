"""Migrations go up, down and up again, and end where `tables.py` says."""

from __future__ import annotations

from uuid import uuid4

import asyncpg

from ragline.dev_stack.embedded import EmbeddedServers
from storage.postgres import migrate


async def test_up_down_and_up_again(servers: EmbeddedServers) -> None:
    name = f"migrations_{uuid4().hex[:8]}"
    stem = servers.postgres_dsn.rpartition("/")[0]
    admin = await asyncpg.connect(f"{stem}/postgres")
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        dsn = f"{stem}/{name}"
        assert await migrate.current_revision(dsn) is None
        await migrate.upgrade(dsn)
        await migrate.upgrade(dsn)
        assert await migrate.current_revision(dsn) == migrate.head_revision()
        assert await migrate.differences(dsn) == []
        await migrate.downgrade(dsn, "base")
        left = await asyncpg.connect(dsn)
        tables = await left.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await left.close()
        assert [row["tablename"] for row in tables] == ["alembic_version"]
        await migrate.upgrade(dsn)
        assert await migrate.differences(dsn) == []
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()

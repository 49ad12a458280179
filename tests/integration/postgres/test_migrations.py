"""Migrations go up, down and up again, and end where `tables.py` says."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.errors import Stop
from storage.postgres import migrate
from tests.databases import drop_database


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
        await drop_database(admin, name)
        await admin.close()


async def test_a_user_who_may_not_create_the_role_is_told_what_to_do(servers: EmbeddedServers) -> None:
    """Whoever connects to this database acts as a user that may do nothing else, nor was given what others made."""
    stem, name = servers.postgres_dsn.rpartition("/")[0], f"modest_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(f"{stem}/postgres")
    await admin.execute(f"CREATE ROLE {name}")
    await admin.execute(f"GRANT {name} TO CURRENT_USER")
    await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
    await admin.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET role = {name}")
    try:
        with pytest.raises(Stop, match=r"ragline_tenant.*CREATEROLE"):
            await migrate.upgrade(f"{stem}/{name}")
    finally:
        await drop_database(admin, name)
        await admin.execute(f"DROP ROLE {name}")
        await admin.close()

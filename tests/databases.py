"""A test's own database, dropped when the test is over."""

from __future__ import annotations

import asyncpg


async def drop_database(admin: asyncpg.Connection, name: str) -> None:
    """Ends what our role still has open in the database and drops it.

    Not WITH (FORCE): that is refused (permission denied to terminate process) while autovacuum looks at the database,
    whose workers belong to no role; the plain command ends these by itself.
    """
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = session_user", name
    )
    await admin.execute(f'DROP DATABASE "{name}"')

"""What a transaction promises beside being one: it holds nobody up for long, and its time is PostgreSQL's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from consumers.index.table_locks import lock_tables, try_lock_to_optimize
from schemas.errors import Retry
from storage.postgres.unit_of_work import Database

IDLE = "SELECT current_setting('idle_in_transaction_session_timeout')"


async def test_a_frozen_process_does_not_hold_what_others_wait_for(database: Database, dsn: str) -> None:
    freezing = Database(dsn, idle_timeout_s=0.3)
    has_locked, thaw = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with freezing.transaction() as work:
            await work.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'x')")
            has_locked.set()
            await thaw.wait()  # the server hears nothing of it
            await work.execute("SELECT 1")

    frozen = asyncio.create_task(freeze())
    await has_locked.wait()
    async with asyncio.timeout(10), database.transaction() as work:
        await work.execute("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE")
        assert await work.fetchval("SELECT count(*) FROM tenants WHERE name = 'x'") == 0
    thaw.set()
    with pytest.raises(Retry):
        await frozen
    await freezing.close()


async def test_who_writes_a_table_of_vectors_may_take_its_time(database: Database) -> None:
    async with database.transaction() as work:
        assert await work.fetchval(IDLE) == "10s"
        await lock_tables(work, ["a", "b"])
        assert await work.fetchval(IDLE) == "10min"
    async with database.transaction() as work:
        assert await work.fetchval(IDLE) == "10s"
        assert await try_lock_to_optimize(work, "a")
        assert await work.fetchval(IDLE) == "10min"


async def test_a_transaction_has_one_time_and_it_is_the_servers(database: Database) -> None:
    async with database.transaction() as work:
        at = await work.now()
        await work.execute("SELECT pg_sleep(0.01)")
        assert at == await work.now() == await work.fetchval("SELECT transaction_timestamp()")
        assert at.tzinfo is not None
        assert abs((at - datetime.now(UTC)).total_seconds()) < 60

"""What a transaction promises beside being one: it holds nobody up for long, and its time is PostgreSQL's."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest

from consumers.index.table_locks import lock_tables, try_lock_to_optimize
from schemas.errors import Retry
from schemas.ids import new_id
from storage.postgres.unit_of_work import AWAY, Database

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


async def end_my_connection(database: Database, pid: int) -> None:
    async with database.transaction() as other:
        await other.execute("SELECT pg_terminate_backend($1)", pid)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("a bug")])
@pytest.mark.parametrize("has_noticed", [True, False])
async def test_what_ends_a_block_is_told_though_the_connection_is_lost(
    database: Database, error: BaseException, *, has_noticed: bool
) -> None:
    """A loop that goes on after Retry would never end if Retry took the place of its cancellation."""

    async def ends() -> None:
        async with database.transaction() as work:
            await end_my_connection(database, await work.fetchval("SELECT pg_backend_pid()"))
            if has_noticed:
                with pytest.raises(AWAY):
                    await work.execute("SELECT 1")
            raise error

    with pytest.raises(type(error)):
        await ends()
    async with database.transaction() as work:
        assert await work.fetchval("SELECT 1") == 1


async def test_an_error_that_is_passed_over_is_no_commit(database: Database) -> None:
    told: list[str] = []

    async def passes_over() -> None:
        async with database.transaction() as work:
            work.after_commit.append(lambda: told.append("committed"))
            await work.execute("INSERT INTO tenants (id, name) VALUES ($1, 'x')", new_id())
            with pytest.raises(Exception, match="division by zero"):
                await work.fetchval("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="committed nothing"):
        await passes_over()
    assert told == []


async def test_cancelled_anywhere_a_transaction_leaves_no_trace(dsn: str) -> None:
    database, chance, committed = Database(dsn, max_connections=3), random.Random(5), set()

    async def one(name: str) -> None:
        def done() -> None:
            committed.add(name)

        async with database.transaction() as work:
            work.after_commit.append(done)
            await work.execute("INSERT INTO tenants (id, name) VALUES ($1, $2)", new_id(), name)
        async with database.transaction(new_id()) as reading:
            await reading.fetchval("SELECT count(*) FROM documents")

    tasks = [asyncio.create_task(one(str(n))) for n in range(200)]
    for task in tasks:
        await asyncio.sleep(chance.random() * 0.004)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ended} <= {asyncio.CancelledError, type(None)}
    for _ in range(6):
        async with database.transaction() as work:
            assert await work.fetchval("SELECT current_user = session_user")
            assert not await work.fetchval("SELECT current_setting('ragline.tenant_id', true)")
            stored = {row["name"] for row in await work.fetch("SELECT name FROM tenants")}
    assert committed
    assert committed <= stored
    await database.close()

"""Whose turn it is: fair between tenants, within each one's limit, found without reading all that waits."""

from __future__ import annotations

import asyncio
from uuid import UUID

from consumers.completions import claims
from consumers.tenant_limit import TenantLimit
from schemas.ids import new_id
from storage.postgres.identity import DEFAULT_TENANT
from storage.postgres.unit_of_work import Database
from tests.integration.completions.rig import Rig, spec
from tests.provider_server import ProviderServer

LIMIT = TenantLimit(50)


async def test_two_workers_keep_a_tenants_limit_together(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=10, first_token_s=0.1)
    async with (
        rig.worker(spec(provider.url), name="worker-a", running=3),
        rig.worker(spec(provider.url), name="worker-b", running=3),
    ):
        asked = [await rig.ask(await rig.session(), f"Question {n}") for n in range(12)]
        for one in asked:
            await rig.reader.ended(one.completion_id)
    assert provider.stats.active_peak == 3


async def test_a_tenant_with_one_question_does_not_wait_behind_another_with_many(
    rig: Rig, provider: ProviderServer
) -> None:
    provider.set(n_tokens=10, first_token_s=0.1)
    async with rig.worker(spec(provider.url), slots=2):
        many = [await rig.ask(await rig.session(), f"One of many {n}") for n in range(30)]
        await rig.reader.ended(many[0].completion_id)
        other = new_id()
        one = await rig.ask(await rig.session(tenant_id=other), "The only one", tenant_id=other)
        await rig.reader.ended(one.completion_id)
        before = await rig.row("SELECT count(*) AS n FROM completions WHERE status = 'complete'")
        assert before["n"] <= 12
        await asyncio.gather(*(rig.reader.ended(asked.completion_id) for asked in many))


async def store_waiting(database: Database, tenant_id: UUID, *, sessions: int, each: int) -> None:
    """Completions that nobody has begun, `each` in a session."""
    async with database.transaction() as work:
        await work.execute(
            "INSERT INTO completions (id, tenant_id, user_id, session_id, message_id, parent_id, queue_no, generation,"
            " requested_by, correlation_id, created_at)"
            " SELECT gen_random_uuid(), $1, $1, s.id, gen_random_uuid(), gen_random_uuid(), n, '{}', $1, $1,"
            "  now() + n * interval '1 ms' FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $2)) s,"
            " generate_series(1, $3) n",
            tenant_id,
            sessions,
            each,
        )


async def claimed(database: Database, limit: int, *, running: TenantLimit = LIMIT) -> list[UUID]:
    """The tenants of the jobs that one claim takes."""
    jobs = await claims.claim(database, owner="a", lease_s=60, limit=limit, running=running, may_take_over=lambda: True)
    return [job.tenant_id for job in jobs]


async def test_turns_go_round_and_limits_are_kept_but_for_the_first_tenant(database: Database) -> None:
    large, small = new_id(), new_id()
    await store_waiting(database, large, sessions=40, each=2)
    await store_waiting(database, small, sessions=3, each=1)
    first = await claimed(database, 6)
    assert (first.count(large), first.count(small)) == (3, 3)
    limited = TenantLimit(5)
    assert (await claimed(database, 50, running=limited)).count(large) == 2
    assert await claimed(database, 50, running=limited) == []
    await store_waiting(database, DEFAULT_TENANT, sessions=20, each=1)
    assert await claimed(database, 50, running=limited) == [DEFAULT_TENANT] * 20


async def test_a_claim_reads_a_bounded_number_of_rows_however_many_wait(database: Database) -> None:
    await store_waiting(database, new_id(), sessions=2_000, each=5)
    assert await read_by_a_claim(database) < 1_000
    for _ in range(4):
        await store_waiting(database, new_id(), sessions=2_000, each=5)
    assert await read_by_a_claim(database) < 2_000


async def read_by_a_claim(database: Database) -> int:
    """Pages that claiming ten jobs touches."""
    async with database.transaction() as work:
        await work.execute("ANALYZE completions")
        await work.execute(f"PREPARE claim(text, float8, int, uuid, int, bool) AS {claims._CLAIM}")
        explained = await work.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim('a', 60, 10, gen_random_uuid(), 50, true)"
        )
        await work.execute("DEALLOCATE claim")
    plan = explained[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])

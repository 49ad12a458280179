"""The last transaction of an answer: what it used is counted once, whoever counts, and a fenced end leaves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from consumers.completions.charges import Charge
from consumers.completions.claims import claim
from consumers.completions.job import Job
from consumers.completions.settle import Fenced, Outcome, record_usage, settle
from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from schemas.commands import CreateSession, PostMessage
from schemas.envelope import Envelope
from schemas.errors import Retry
from schemas.events import TokenUsage
from schemas.ids import new_id
from storage.postgres import outbox
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import eventually

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
USED = TokenUsage(input_tokens=70, output_tokens=30, cost_usd=0.25, estimated=False)
QUERY = TokenUsage(input_tokens=5, output_tokens=1, cost_usd=None, estimated=True)


@pytest.fixture
async def job(database: Database) -> Job:
    """A completion that this attempt holds."""
    session, message = new_id(), new_id()
    handle = transcript().handle
    assert handle is not None
    bodies = [
        CreateSession(session_id=session),
        PostMessage(
            session_id=session, message_id=message, ai_message_id=new_id(), completion_id=new_id(), content="Why?"
        ),
    ]
    for body in bodies:
        command = Envelope(body=body, tenant_id=new_id(), user_id=new_id(), source="test")
        command = replace(command, tenant_id=session, user_id=session)
        async with database.transaction() as work:
            await outbox.add(work, await handle(work, [command]))
    (job,) = await claim(
        database, owner="test", lease_s=60, limit=1, running=TenantLimit(9), may_take_over=lambda: False
    )
    return job


async def row(database: Database, job: Job) -> asyncpg.Record:
    async with database.transaction() as work:
        found = await work.fetchrow(
            "SELECT c.status, c.input_tokens, c.output_tokens, c.cost_usd, c.usage_estimated, s.version,"
            " (SELECT count(*) FROM outbox WHERE type LIKE '%usage_recorded%') AS n_usage"
            " FROM completions c JOIN sessions s ON s.id = c.session_id WHERE c.id = $1",
            job.id,
        )
    assert found is not None
    return found


async def test_what_two_count_at_once_is_counted_once(database: Database, job: Job) -> None:
    answer, query = Charge(job.attempt, "test", USED), Charge(job.attempt, "small", QUERY, "query")
    outcome = Outcome("complete", job.base, "test", finish_reason="stop")

    async def ends() -> None:
        async with database.transaction() as work:
            await settle(work, job, outcome, charges=[answer, query])

    async def waits() -> bool:
        async with database.transaction() as work:
            return bool(await work.fetchval(WAITING))

    async with database.transaction() as other:
        await record_usage(other, job, answer)
        ending = asyncio.create_task(ends())
        await eventually(waits)
    with pytest.raises(Retry):
        await ending
    assert (await row(database, job))["status"] == "in_progress"
    await ends()
    found = await row(database, job)
    assert (found["status"], found["n_usage"]) == ("complete", 2)
    assert (found["input_tokens"], found["output_tokens"], found["cost_usd"]) == (75, 31, 0.25)
    assert found["usage_estimated"]


async def test_a_fenced_end_leaves_nothing(database: Database, job: Job) -> None:
    before = await row(database, job)
    outcome = Outcome("complete", job.base, "test", finish_reason="stop")
    with pytest.raises(Fenced):
        async with database.transaction() as work:
            await settle(work, replace(job, attempt=job.attempt + 1), outcome, charges=[Charge(1, "test", USED)])
    assert dict(await row(database, job)) == dict(before)

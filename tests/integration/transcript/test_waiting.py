"""A tenant's limit of waiting answers, in batches of several sessions and of two workers at once."""

from __future__ import annotations

import asyncio
from uuid import UUID

from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from schemas.commands import CancelCompletion, CreateSession, PostMessage, RenameSession, SessionCommand
from schemas.envelope import Envelope
from schemas.events import CommandRejected, CompletionRequested
from schemas.ids import new_id
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database

TENANT, USER = new_id(), new_id()


def command(body: SessionCommand, tenant_id: UUID = TENANT) -> Envelope:
    return Envelope(body=body, tenant_id=tenant_id, user_id=USER, source="test")


def question(tenant_id: UUID = TENANT) -> list[Envelope]:
    """A session of its own, and a message in it."""
    session_id = new_id()
    asked = PostMessage(
        session_id=session_id, message_id=new_id(), ai_message_id=new_id(), completion_id=new_id(), content="Hello"
    )
    return [command(CreateSession(session_id=session_id), tenant_id), command(asked, tenant_id)]


def asked(n: int, tenant_id: UUID = TENANT) -> list[Envelope]:
    return [envelope for _ in range(n) for envelope in question(tenant_id)]


def counts(outgoing: list[Outgoing]) -> tuple[int, int]:
    """How many answers were asked for, and how many messages were refused."""
    bodies = [event.body for _, event in outgoing]
    refused = [body for body in bodies if isinstance(body, CommandRejected)]
    assert {body.code for body in refused} <= {"too_many_waiting"}
    return sum(isinstance(body, CompletionRequested) for body in bodies), len(refused)


async def take(database: Database, commands: list[Envelope], most: int) -> list[Outgoing]:
    handle = transcript(TenantLimit(most)).handle
    assert handle is not None
    async with database.transaction() as work:
        return await handle(work, commands)


async def test_the_sessions_of_one_batch_share_their_tenants_limit(database: Database) -> None:
    other = new_id()
    outgoing = await take(database, asked(7) + asked(3, other), most=4)
    assert counts([item for item in outgoing if item[1].tenant_id == TENANT]) == (4, 3)
    assert counts([item for item in outgoing if item[1].tenant_id == other]) == (3, 0)
    assert counts(await take(database, asked(1), most=4)) == (0, 1)


async def test_what_a_batch_cancels_makes_room_in_it(database: Database) -> None:
    first = question()
    body = first[1].body
    assert isinstance(body, PostMessage)
    cancel = command(CancelCompletion(session_id=body.session_id, completion_id=body.completion_id))
    outgoing = await take(database, [*first, *asked(1), cancel, *asked(1), *asked(1)], most=2)
    assert counts(outgoing) == (3, 1)


async def test_two_workers_keep_the_limit_together(database: Database) -> None:
    outcomes = await asyncio.gather(*(take(database, asked(3), most=4) for _ in range(4)))
    told = [counts(outgoing) for outgoing in outcomes]
    assert (sum(n for n, _ in told), sum(n for _, n in told)) == (4, 8)


async def test_far_from_the_limit_nobody_waits_for_a_worker_that_hangs(database: Database) -> None:
    """Nor does anybody whose commands ask for no answer, however near it is."""
    handle = transcript(TenantLimit(8)).handle
    assert handle is not None
    async with database.transaction() as hanging:
        await handle(hanging, asked(3))
        async with asyncio.timeout(5):
            assert counts(await take(database, asked(4), most=8)) == (4, 0)
        await handle(hanging, asked(4))
        async with asyncio.timeout(5):
            session_id = new_id()
            quiet = [
                command(CreateSession(session_id=session_id)),
                command(RenameSession(session_id=session_id, name="A name")),
            ]
            assert counts(await take(database, quiet, most=8)) == (0, 0)

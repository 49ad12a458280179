"""One batch or many, the rows are the same: what is decided in memory is what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from consumers.transcript.subscriber import transcript
from schemas.commands import (
    CancelCompletion,
    CreateSession,
    DeleteSession,
    EditMessage,
    PostMessage,
    RegenerateMessage,
    ResumeMessage,
    SessionCommand,
    SetFavorite,
)
from schemas.envelope import Envelope
from schemas.ids import new_id
from storage.postgres.unit_of_work import Database

TENANT, USER, SESSION = new_id(), new_id(), new_id()


async def take(database: Database, batches: Sequence[Sequence[SessionCommand]]) -> list[str]:
    """The kinds of events that the batches led to."""
    handle, told = transcript().handle, list[str]()
    assert handle is not None
    for batch in batches:
        commands = [Envelope(body=body, tenant_id=TENANT, user_id=USER, source="test") for body in batch]
        async with database.transaction() as work:
            outgoing = await handle(work, commands)
        told += [type(event.body).__name__ for _, event in outgoing]
    return told


async def rows(database: Database) -> list[object]:
    """All that stands, but times."""
    async with database.transaction() as work:
        return [
            await work.fetch("SELECT id, name, is_favorite, version, active_leaf_id, deleted_at IS NULL FROM sessions"),
            await work.fetch(
                "SELECT id, parent_id, sender, status, content, coalesce(partial_content, ''), completion_id"
                " FROM messages ORDER BY id"
            ),
            await work.fetch(
                "SELECT id, message_id, parent_id, status, queue_no, checkpoint_end, checkpoint_text, checkpoint_seq,"
                " chunk_ends FROM completions ORDER BY id"
            ),
        ]


def post(content: str, completion_id: UUID, ai_message_id: UUID | None = None) -> PostMessage:
    return PostMessage(
        session_id=SESSION,
        message_id=new_id(),
        ai_message_id=ai_message_id or new_id(),
        completion_id=completion_id,
        content=content,
    )


async def test_one_batch_leaves_the_rows_of_many(database: Database) -> None:
    ids = [new_id() for _ in range(9)]
    first, second = post("one", ids[0]), post("two", ids[3])
    commands: list[SessionCommand] = [
        CreateSession(session_id=SESSION),
        first,
        CancelCompletion(session_id=SESSION, completion_id=ids[0]),
        ResumeMessage(session_id=SESSION, completion_id=ids[1]),
        ResumeMessage(session_id=SESSION, completion_id=ids[8]),
        CancelCompletion(session_id=SESSION, completion_id=ids[1]),
        ResumeMessage(session_id=SESSION, completion_id=ids[2]),
        second,
        EditMessage(
            session_id=SESSION,
            edited_id=first.message_id,
            message_id=ids[4],
            ai_message_id=new_id(),
            completion_id=ids[5],
            content="better",
        ),
        RegenerateMessage(
            session_id=SESSION, regenerated_id=second.ai_message_id, ai_message_id=ids[6], completion_id=ids[7]
        ),
        SetFavorite(session_id=SESSION, is_favorite=True),
    ]
    told = await take(database, [[command] for command in commands])
    one_by_one = await rows(database)
    await clear(database)
    assert await take(database, [commands]) == told
    assert await rows(database) == one_by_one
    assert told.count("CommandRejected") == 1
    await clear(database)
    await take(database, [commands[:4], commands[4:6], commands[6:]])
    assert await rows(database) == one_by_one


async def test_a_kept_text_is_resumed_and_cancelled_and_resumed_in_one_batch(database: Database) -> None:
    """The text was written by an attempt that failed; two completions that never ran hand it on unharmed."""
    ids = [new_id() for _ in range(4)]
    asked = post("one", ids[0])
    await take(database, [[CreateSession(session_id=SESSION), asked]])
    async with database.transaction() as work:
        await work.execute("UPDATE completions SET status = 'failed', checkpoint_text = 'half' WHERE id = $1", ids[0])
        await work.execute(
            "UPDATE messages SET status = 'failed', partial_content = 'half' WHERE id = $1", asked.ai_message_id
        )
    told = await take(
        database,
        [
            [
                ResumeMessage(session_id=SESSION, completion_id=ids[1]),
                CancelCompletion(session_id=SESSION, completion_id=ids[1]),
                ResumeMessage(session_id=SESSION, completion_id=ids[2]),
            ]
        ],
    )
    assert told == ["CompletionRequested", "CompletionCancelled", "StreamEnded", "CompletionRequested"]
    async with database.transaction() as work:
        message = await work.fetchrow("SELECT * FROM messages WHERE id = $1", asked.ai_message_id)
        completion = await work.fetchrow("SELECT * FROM completions WHERE id = $1", ids[2])
    assert message is not None
    assert completion is not None
    assert (message["status"], message["completion_id"], message["partial_content"]) == ("pending", ids[2], "half")
    assert (completion["status"], completion["checkpoint_text"], completion["checkpoint_end"]) == ("pending", "half", 4)
    assert await take(database, [[DeleteSession(session_id=SESSION)]]) == [
        "SessionDeleted",
        "CompletionCancelled",
        "StreamEnded",
    ]


async def clear(database: Database) -> None:
    async with database.transaction() as work:
        await work.execute("TRUNCATE sessions, messages, completions")

"""What the transcript loads and saves: one statement a table for the whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from consumers.deciding import Fact
from consumers.transcript.state import Completion, Message, Session
from schemas.commands import (
    CancelCompletion,
    DeleteSession,
    EditMessage,
    Generation,
    PostMessage,
    RegenerateMessage,
    ResumeMessage,
    SessionCommand,
)
from schemas.envelope import Envelope
from schemas.events import CancelRequested, CompletionCancelled, CompletionRequested, MessagePosted
from storage.postgres.unit_of_work import UnitOfWork

_OPEN = "('pending', 'in_progress', 'cancelling')"


async def load(work: UnitOfWork, commands: Sequence[Envelope]) -> dict[object, Session]:
    """Locks the sessions (in order of id) and reads what the commands name.

    Open completions are locked and read only where a command may end them, so that cancel and claim exclude each
    other; elsewhere they are counted.
    """
    bodies = [command.body for command in commands if isinstance(command.body, SessionCommand)]
    ids = sorted({body.session_id for body in bodies})
    rows = await work.fetch("SELECT * FROM sessions WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE", ids)
    if not rows:
        return {}
    ending = {body.session_id for body in bodies if isinstance(body, CancelCompletion | DeleteSession)}
    named = [body.completion_id for body in bodies if isinstance(body, CancelCompletion)]
    completions = await _completions(work, sorted(ending), named)
    n_open = await _n_open(work, [row["id"] for row in rows])
    resumed = {body.session_id for body in bodies if isinstance(body, ResumeMessage)}
    leaves = [row["active_leaf_id"] for row in rows if row["id"] in resumed and row["active_leaf_id"]]
    messages = await _messages(work, [*leaves, *_named_messages(bodies)])
    documents = await _documents(work, commands)
    return {
        row["id"]: Session(
            id=row["id"],
            tenant_id=row["tenant_id"],
            user_id=row["user_id"],
            created_at=row["created_at"],
            name=row["name"],
            profile_id=row["profile_id"],
            is_favorite=row["is_favorite"],
            version=row["version"],
            active_leaf_id=row["active_leaf_id"],
            deleted_at=row["deleted_at"],
            n_open=n_open.get(row["id"], 0),
            completions=completions.get(row["id"], {}),
            messages=messages.get(row["id"], {}),
            documents=documents.get(row["tenant_id"], frozenset()),
        )
        for row in rows
    }


def _named_messages(bodies: Iterable[SessionCommand]) -> Iterable[UUID]:
    for body in bodies:
        match body:
            case PostMessage() if body.parent_id is not None:
                yield body.parent_id
            case EditMessage():
                yield body.edited_id
            case RegenerateMessage():
                yield body.regenerated_id


async def _n_open(work: UnitOfWork, sessions: list[UUID]) -> dict[UUID, int]:
    rows = await work.fetch(
        f"SELECT session_id, count(*) AS n FROM completions WHERE session_id = ANY($1::uuid[]) AND status IN {_OPEN}"  # noqa: S608
        " GROUP BY session_id",
        sessions,
    )
    return {row["session_id"]: row["n"] for row in rows}


async def _completions(work: UnitOfWork, ending: list[UUID], named: list[UUID]) -> dict[UUID, dict[UUID, Completion]]:
    """Those that a command may end or names, locked in order of id; as they are once the lock is held."""
    if not ending:
        return {}
    rows = await work.fetch(
        "SELECT id, session_id, message_id, status, checkpoint_epoch, checkpoint_end, checkpoint_text, queue_no"  # noqa: S608
        f" FROM completions WHERE session_id = ANY($1::uuid[]) AND (status IN {_OPEN} OR id = ANY($2::uuid[]))"
        " ORDER BY id FOR UPDATE",
        ending,
        named,
    )
    found: dict[UUID, dict[UUID, Completion]] = {}
    for row in sorted(rows, key=lambda row: int(row["queue_no"])):
        found.setdefault(row["session_id"], {})[row["id"]] = Completion(
            id=row["id"],
            message_id=row["message_id"],
            status=row["status"],
            epoch=row["checkpoint_epoch"],
            end=row["checkpoint_end"],
            text=row["checkpoint_text"],
        )
    return found


async def _messages(work: UnitOfWork, ids: list[UUID]) -> dict[UUID, dict[UUID, Message]]:
    if not ids:
        return {}
    rows = await work.fetch(
        "SELECT m.id, m.session_id, m.parent_id, m.sender, m.status, m.completion_id, c.generation,"
        " coalesce(m.partial_content, '') AS partial"
        " FROM messages m LEFT JOIN completions c ON c.id = m.completion_id WHERE m.id = ANY($1::uuid[])",
        ids,
    )
    found: dict[UUID, dict[UUID, Message]] = {}
    for row in rows:
        found.setdefault(row["session_id"], {})[row["id"]] = Message(
            id=row["id"],
            parent_id=row["parent_id"],
            sender=row["sender"],
            status=row["status"],
            completion_id=row["completion_id"],
            partial_content=row["partial"],
            generation=Generation.model_validate(row["generation"] or {}, extra="ignore"),
        )
    return found


async def _documents(work: UnitOfWork, commands: Sequence[Envelope]) -> dict[UUID, frozenset[UUID]]:
    named = {
        id_
        for command in commands
        for id_ in getattr(getattr(command.body, "generation", None), "document_ids", None) or ()
    }
    if not named:
        return {}
    rows = await work.fetch(
        "SELECT tenant_id, array_agg(id) AS ids FROM documents WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL"
        " GROUP BY tenant_id",
        list(named),
    )
    return {row["tenant_id"]: frozenset(row["ids"]) for row in rows}


async def save(work: UnitOfWork, states: dict[object, Session], facts: Sequence[Fact]) -> None:
    """Stores the sessions as they are now, and the rows that the facts speak of."""
    if not facts:
        return
    changed = {getattr(fact.body, "session_id", None) for fact in facts}
    sessions = sorted((session for id_, session in states.items() if id_ in changed), key=lambda session: session.id)
    asked = [(fact.body, fact.command) for fact in facts if isinstance(fact.body, CompletionRequested)]
    await work.execute(_SAVE, *_session_columns(sessions), *_message_columns(facts), *_completion_columns(asked))
    await _reopen(work, [body for body, command in asked if isinstance(command.body, ResumeMessage)])
    await _cancel_queued(work, [fact for fact in facts if isinstance(fact.body, CompletionCancelled)])
    await _cancel_running(work, [fact for fact in facts if isinstance(fact.body, CancelRequested)])


# One round trip for the rows of three tables. A completion with a prefix starts from {text = kept prefix, epoch 0,
# seq 1} (design §6, Resume) in the context that the prefix was written in, so that its markers mean what they meant;
# its message stood before this statement, which sees no row of its own.
_SAVE = """
WITH saved AS (
  INSERT INTO sessions (id, tenant_id, user_id, name, profile_id, is_favorite, version, active_leaf_id, created_at,
    deleted_at)
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::bool[], $7::bigint[],
    $8::uuid[], $9::timestamptz[], $10::timestamptz[])
  ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, is_favorite = EXCLUDED.is_favorite,
    version = EXCLUDED.version, active_leaf_id = EXCLUDED.active_leaf_id, deleted_at = EXCLUDED.deleted_at,
    updated_at = now()
), posted AS (
  INSERT INTO messages (id, tenant_id, user_id, session_id, parent_id, sender, status, content, completion_id,
    created_at)
  SELECT * FROM unnest($11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::uuid[], $16::text[], $17::text[],
    $18::text[], $19::uuid[], $20::timestamptz[])
)
INSERT INTO completions (id, tenant_id, user_id, session_id, message_id, parent_id, queue_no, generation,
  traceparent, requested_by, correlation_id, created_at, checkpoint_end, checkpoint_text, checkpoint_seq, chunk_ends,
  context)
SELECT t.*, coalesce(m.partial_content, ''), least(t.prefix_end, 1),
  CASE WHEN t.prefix_end > 0 THEN jsonb_build_array(t.prefix_end) ELSE '[]' END,
  (SELECT c.context FROM completions c WHERE c.id = m.completion_id)
FROM unnest($21::uuid[], $22::uuid[], $23::uuid[], $24::uuid[], $25::uuid[], $26::uuid[], $27::bigint[],
  $28::jsonb[], $29::text[], $30::uuid[], $31::uuid[], $32::timestamptz[], $33::bigint[])
  AS t(id, tenant_id, user_id, session_id, message_id, parent_id, queue_no, generation, traceparent, requested_by,
    correlation_id, created_at, prefix_end)
LEFT JOIN messages m ON m.id = t.message_id AND t.prefix_end > 0
"""


def _session_columns(rows: Sequence[Session]) -> list[list[object]]:
    return [
        [row.id for row in rows],
        [row.tenant_id for row in rows],
        [row.user_id for row in rows],
        [row.name for row in rows],
        [row.profile_id for row in rows],
        [row.is_favorite for row in rows],
        [row.version for row in rows],
        [row.active_leaf_id for row in rows],
        [row.created_at for row in rows],
        [row.deleted_at for row in rows],
    ]


def _message_columns(facts: Sequence[Fact]) -> list[list[object]]:
    """The turns that are new: a resumed answer's message stands already."""
    rows = [
        (fact.body, fact.command)
        for fact in facts
        if isinstance(fact.body, MessagePosted | CompletionRequested)
        and not isinstance(fact.command.body, ResumeMessage)
    ]
    is_users = [isinstance(body, MessagePosted) for body, _ in rows]
    return [
        [body.message_id for body, _ in rows],
        [command.tenant_id for _, command in rows],
        [command.user_id for _, command in rows],
        [body.session_id for body, _ in rows],
        [body.parent_id for body, _ in rows],
        ["user" if users else "ai" for users in is_users],
        ["complete" if users else "pending" for users in is_users],
        [body.content if isinstance(body, MessagePosted) else "" for body, _ in rows],
        [body.completion_id if isinstance(body, CompletionRequested) else None for body, _ in rows],
        [body.created_at for body, _ in rows],
    ]


def _completion_columns(rows: Sequence[tuple[CompletionRequested, Envelope]]) -> list[list[object]]:
    return [
        [body.completion_id for body, _ in rows],
        [command.tenant_id for _, command in rows],
        [command.user_id for _, command in rows],
        [body.session_id for body, _ in rows],
        [body.message_id for body, _ in rows],
        [body.parent_id for body, _ in rows],
        [body.session_version for body, _ in rows],
        [body.generation.model_dump(mode="json") for body, _ in rows],
        [command.traceparent for _, command in rows],
        [command.id for _, command in rows],
        [command.correlation_id or command.id for _, command in rows],
        [body.created_at for body, _ in rows],
        [body.prefix_end for body, _ in rows],
    ]


async def _reopen(work: UnitOfWork, rows: Sequence[CompletionRequested]) -> None:
    """A resumed message gets its newest completion; its partial text stays where it is."""
    newest = {body.message_id: body.completion_id for body in rows}
    if not newest:
        return
    await work.execute(
        "UPDATE messages m SET completion_id = t.completion_id, status = 'pending', error_code = NULL,"
        " error_message = NULL, updated_at = now()"
        " FROM unnest($1::uuid[], $2::uuid[]) AS t(id, completion_id) WHERE m.id = t.id",
        list(newest),
        list(newest.values()),
    )


async def _cancel_queued(work: UnitOfWork, facts: Sequence[Fact]) -> None:
    """A message that was resumed in the same batch belongs to another completion already."""
    if not facts:
        return
    ids = [getattr(fact.body, "completion_id", None) for fact in facts]
    await work.execute(
        "UPDATE completions SET status = 'cancelled', finished_at = now() WHERE id = ANY($1::uuid[])", ids
    )
    await work.execute(
        "UPDATE messages m SET status = 'cancelled', partial_content = c.checkpoint_text, updated_at = now()"
        " FROM completions c WHERE c.id = ANY($1::uuid[]) AND m.id = c.message_id AND m.completion_id = c.id",
        ids,
    )


async def _cancel_running(work: UnitOfWork, facts: Sequence[Fact]) -> None:
    rows = [
        (fact.body.completion_id, fact.command.id)
        for fact in facts
        if isinstance(fact.body, CancelRequested) and fact.body.status == "cancelling"
    ]
    if rows:
        await work.execute(
            "UPDATE completions c SET status = 'cancelling', cancelled_by = t.command_id"
            " FROM unnest($1::uuid[], $2::uuid[]) AS t(id, command_id) WHERE c.id = t.id AND c.status = 'in_progress'",
            [id_ for id_, _ in rows],
            [command_id for _, command_id in rows],
        )

"""The live rows of conversations: loaded to be compared, written where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from consumers.message_search.store import index_messages
from consumers.rebuild.conversation import Conversation, Difference, MessageColumns, SessionColumns
from storage.postgres.unit_of_work import UnitOfWork

_OPEN = "('pending', 'in_progress', 'cancelling')"
_MESSAGE = (
    "id, tenant_id, user_id, session_id, parent_id, sender, status, created_at, content, partial_content, error_code,"
    " error_message, citations, completion_id, model, usage"
)


@dataclass(slots=True)
class Live:
    """What stands of one session. `open` are its completions that have not ended."""

    session: SessionColumns | None = None
    messages: dict[UUID, MessageColumns] = field(default_factory=dict)
    open: set[UUID] = field(default_factory=set)


async def tenants(work: UnitOfWork) -> list[UUID]:
    """Every tenant."""
    return [row["id"] for row in await work.fetch("SELECT id FROM tenants ORDER BY id")]


async def snapshot(work: UnitOfWork) -> None:
    """All that this transaction reads is of one moment; it writes nothing. Must come first."""
    await work.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def lock_session(work: UnitOfWork, session_id: UUID) -> None:
    """Nobody else may write the session for the rest of this transaction."""
    await work.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session_id)


async def load(work: UnitOfWork, ids: Sequence[UUID]) -> dict[UUID, Live]:
    """What stands of each of the sessions."""
    found = {id_: Live() for id_ in ids}
    for row in await work.fetch(
        "SELECT id, tenant_id, user_id, name, profile_id, created_at, version, is_favorite, active_leaf_id,"
        " deleted_at IS NOT NULL AS is_deleted FROM sessions WHERE id = ANY($1::uuid[])",
        list(ids),
    ):
        found[row["id"]].session = SessionColumns(**row)
    for row in await work.fetch(f"SELECT {_MESSAGE} FROM messages WHERE session_id = ANY($1::uuid[])", list(ids)):  # noqa: S608
        found[row["session_id"]].messages[row["id"]] = _message(row)
    for row in await work.fetch(
        f"SELECT id, session_id FROM completions WHERE session_id = ANY($1::uuid[]) AND status IN {_OPEN}",  # noqa: S608
        list(ids),
    ):
        found[row["session_id"]].open.add(row["id"])
    return found


def _message(row: Any) -> MessageColumns:
    return MessageColumns(**{**row, "partial_content": row["partial_content"] or ""})


async def unheard_sessions(work: UnitOfWork, tenant_id: UUID, known: Iterable[str]) -> list[UUID]:
    """The tenant's sessions that are not among `known`."""
    rows = await work.fetch(
        "SELECT id FROM sessions WHERE tenant_id = $1 AND NOT id = ANY($2::uuid[]) ORDER BY id", tenant_id, list(known)
    )
    return [row["id"] for row in rows]


async def mend(work: UnitOfWork, shadow: Conversation, found: Sequence[Difference]) -> None:
    """Makes the rows that differ those of the shadow, and the words by which its messages are found."""
    session = shadow.session
    if any(one.table == "sessions" for one in found):
        await work.execute(
            _SESSION,
            session.id,
            session.tenant_id,
            session.user_id,
            session.name,
            session.profile_id,
            session.created_at,
            session.version,
            session.is_favorite,
            session.active_leaf_id,
            shadow.deleted_at,
        )
    messages = [one for one in found if one.table == "messages"]
    await work.execute("DELETE FROM messages WHERE id = ANY($1::uuid[])", [m.id for m in messages if m.kind == "extra"])
    written = [one.id for one in messages if one.kind != "extra"]
    for id_ in written:
        await _write_message(work, shadow.messages[id_])
    await work.execute("DELETE FROM message_words WHERE message_id = ANY($1::uuid[])", [one.id for one in messages])
    await index_messages(work, written)


async def _write_message(work: UnitOfWork, message: MessageColumns) -> None:
    is_partial = message.status in {"failed", "cancelled"}
    await work.execute(
        _MEND_MESSAGE,
        message.id,
        message.tenant_id,
        message.user_id,
        message.session_id,
        message.parent_id,
        message.sender,
        message.status,
        message.created_at,
        message.content,
        message.partial_content if is_partial else None,
        message.error_code,
        message.error_message,
        message.citations,
        message.completion_id,
        message.model,
        message.usage,
    )


_SESSION = """
INSERT INTO sessions (id, tenant_id, user_id, name, profile_id, created_at, version, is_favorite, active_leaf_id,
  deleted_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, user_id = EXCLUDED.user_id, name = EXCLUDED.name,
  profile_id = EXCLUDED.profile_id, created_at = EXCLUDED.created_at, version = EXCLUDED.version,
  is_favorite = EXCLUDED.is_favorite, active_leaf_id = EXCLUDED.active_leaf_id, updated_at = now(),
  deleted_at = CASE WHEN EXCLUDED.deleted_at IS NULL THEN NULL ELSE coalesce(sessions.deleted_at, EXCLUDED.deleted_at)
    END
"""
_MEND_MESSAGE = f"""
INSERT INTO messages ({_MESSAGE})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, user_id = EXCLUDED.user_id,
  session_id = EXCLUDED.session_id, parent_id = EXCLUDED.parent_id, sender = EXCLUDED.sender,
  status = EXCLUDED.status, created_at = EXCLUDED.created_at, content = EXCLUDED.content,
  partial_content = EXCLUDED.partial_content, error_code = EXCLUDED.error_code,
  error_message = EXCLUDED.error_message, citations = EXCLUDED.citations, completion_id = EXCLUDED.completion_id,
  model = EXCLUDED.model, usage = EXCLUDED.usage, updated_at = now()
"""  # noqa: S608 - no input in it

"""Messages as their users read them: the active path of a session, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from producers.edge.caller import Principal
from schemas.http import MessageView
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

_PATH = """
WITH RECURSIVE path AS (
  SELECT id, parent_id, 0 AS depth FROM messages WHERE id = $2 AND session_id = $1
  UNION ALL
  SELECT m.id, m.parent_id, p.depth + 1 FROM messages m JOIN path p ON m.id = p.parent_id WHERE m.session_id = $1
), numbered AS (SELECT id, (max(depth) OVER ()) - depth AS position FROM path)
SELECT m.id, m.session_id, m.parent_id, m.sender, m.status, m.content, m.partial_content, m.error_code,
  m.error_message, m.citations, m.completion_id, m.model, m.usage, m.created_at, n.position, c.context,
  c.status AS completion_status, c.checkpoint_text, c.model AS completion_model
FROM numbered n JOIN messages m USING (id) LEFT JOIN completions c ON c.id = m.completion_id
WHERE n.position > $3 ORDER BY n.position LIMIT $4
"""


async def active_path(
    work: UnitOfWork, who: Principal, session_id: UUID, *, after: int, limit: int
) -> Sequence[tuple[int, MessageView]] | None:
    """Messages with their positions from the first, those after `after`; None if `who` may not read the session."""
    session = await work.fetchrow(
        "SELECT active_leaf_id FROM sessions"
        " WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL AND ($3::uuid IS NULL OR user_id = $3)",
        session_id,
        who.tenant_id,
        who.reads_only,
    )
    if session is None:
        return None
    if session["active_leaf_id"] is None:
        return []
    rows = await work.fetch(_PATH, session_id, session["active_leaf_id"], after, limit)
    return [(row["position"], _view(row)) for row in rows]


async def session_of_message(work: UnitOfWork, who: Principal, message_id: UUID) -> UUID | None:
    """Which living session of `who` the message stands in."""
    found: UUID | None = await work.fetchval(
        "SELECT s.id FROM messages m JOIN sessions s ON s.id = m.session_id"
        " WHERE m.id = $1 AND s.tenant_id = $2 AND s.user_id = $3 AND s.deleted_at IS NULL",
        message_id,
        who.tenant_id,
        who.user_id,
    )
    return found


def _view(row: asyncpg.Record) -> MessageView:
    is_open = row["completion_status"] in {"pending", "in_progress", "cancelling"}
    return MessageView(
        id=row["id"],
        session_id=row["session_id"],
        parent_id=row["parent_id"],
        sender=row["sender"],
        status=row["status"],
        content=row["content"],
        partial_content=row["checkpoint_text"] if is_open else row["partial_content"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        context=row["context"],
        citations=row["citations"],
        completion_id=row["completion_id"],
        model=row["model"] or row["completion_model"],
        usage=row["usage"],
        created_at=row["created_at"],
    )

"""A conversation, and the library of its tenant, as the next answer needs them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from storage.ports import PassageView
from storage.postgres.passages import instruction_passages
from storage.postgres.unit_of_work import UnitOfWork

MAX_INSTRUCTION_PASSAGES = 200

_PATH = """
WITH RECURSIVE path AS (
  SELECT m.id, m.parent_id, m.sender, m.status, m.content, m.partial_content, 0 AS depth
  FROM messages m WHERE m.id = $1 AND m.session_id = $2
  UNION ALL
  SELECT m.id, m.parent_id, m.sender, m.status, m.content, m.partial_content, p.depth + 1
  FROM messages m JOIN path p ON m.id = p.parent_id WHERE p.depth + 1 < $3
)
SELECT sender, status, content, partial_content FROM path ORDER BY depth DESC
"""
_LIBRARY = """
SELECT
  EXISTS (SELECT 1 FROM documents WHERE tenant_id = $1 AND deleted_at IS NULL AND active_version IS NOT NULL)
    AS has_passages,
  EXISTS (SELECT 1 FROM documents WHERE tenant_id = $1 AND type = 'custom_instructions' AND deleted_at IS NULL
    AND active_version IS NOT NULL) AS has_instructions
"""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A message on a path; `content` may be the partial text of an answer that did not end well, or empty."""

    sender: str
    content: str
    status: str


@dataclass(frozen=True, slots=True)
class Library:
    """Whether a search can find anything, and the instructions of the tenant's own."""

    has_passages: bool
    instructions: tuple[PassageView, ...]


async def path_to(work: UnitOfWork, session_id: UUID, message_id: UUID, *, limit: int) -> list[StoredTurn]:
    """The last `limit` messages of the path that ends at `message_id`, oldest first; none if it is gone."""
    rows = await work.fetch(_PATH, message_id, session_id, limit)
    return [StoredTurn(row["sender"], row["content"] or row["partial_content"] or "", row["status"]) for row in rows]


async def library_of(work: UnitOfWork) -> Library:
    """What the scope's tenant has to answer from."""
    row = await work.fetchrow(_LIBRARY, work.tenant_id)
    assert row is not None  # noqa: S101 - for the type checker: the query has no FROM
    instructions = await instruction_passages(work, limit=MAX_INSTRUCTION_PASSAGES) if row["has_instructions"] else ()
    return Library(row["has_passages"], tuple(instructions))


async def leaf_of(work: UnitOfWork, session_id: UUID, *, user_id: UUID) -> tuple[UUID | None] | None:
    """The newest message of the active path (None in a new session), in a tuple; None if it is no session of theirs."""
    row = await work.fetchrow(
        "SELECT active_leaf_id FROM sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3 AND deleted_at IS NULL",
        session_id,
        work.tenant_id,
        user_id,
    )
    return (row["active_leaf_id"],) if row is not None else None

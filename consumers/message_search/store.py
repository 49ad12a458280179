"""What message search saves: the words of messages of living sessions."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from storage.postgres.unit_of_work import UnitOfWork

AT_ONCE = 20
"""Messages of a statement: the words of 100,000 characters take up to half a second, a statement has 30 s."""

# Who was slower to store what it has read of a message must not put older words over newer ones.
_INDEX = """
INSERT INTO message_words (message_id, tenant_id, words, updated_at)
SELECT m.id, m.tenant_id, message_words(m.user_id, m.content, m.partial_content), m.updated_at
FROM messages m JOIN sessions s ON s.id = m.session_id AND s.deleted_at IS NULL
WHERE m.id = ANY($1::uuid[]) AND coalesce(nullif(m.content, ''), m.partial_content, '') <> ''
ORDER BY m.id
ON CONFLICT (message_id) DO UPDATE SET words = EXCLUDED.words, updated_at = EXCLUDED.updated_at
WHERE message_words.updated_at <= EXCLUDED.updated_at
"""


async def index_messages(work: UnitOfWork, ids: Collection[UUID]) -> None:
    """Stores the words of those that have text."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), AT_ONCE):
        await work.execute(_INDEX, ordered[start : start + AT_ONCE])


async def forget_sessions(work: UnitOfWork, ids: Collection[UUID]) -> None:
    """Deletes the words of sessions that are deleted."""
    if ids:
        await work.execute(
            "DELETE FROM message_words w USING messages m WHERE m.session_id = ANY($1::uuid[]) AND w.message_id = m.id",
            list(ids),
        )

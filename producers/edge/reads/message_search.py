"""Messages by their words: of one user's own living sessions, best first (PostgreSQL full text)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from producers.edge.caller import Principal
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

MAX_RANKED = 1_000
"""Of more messages with the words, the newest are ranked: a search reads no more than these."""

_UNFINISHED = re.compile(r"'[^']{2,}'$")

# `search_text` is that of migration 0006; what stands joined in a query is a phrase.
_WORDS = """
SELECT phraseto_tsquery('simple', search_text(part))::text AS words
FROM unnest($1::text[]) WITH ORDINALITY AS t(part, n) ORDER BY n
"""
_FOUND = """
WITH hits AS MATERIALIZED (
  SELECT message_id FROM message_words WHERE words @@ $1::text::tsquery AND tenant_id = $3
), found AS (
  SELECT m.id FROM hits JOIN messages m ON m.id = hits.message_id JOIN sessions s ON s.id = m.session_id
  WHERE m.tenant_id = $3 AND m.user_id = $4 AND s.deleted_at IS NULL
  ORDER BY m.created_at DESC, m.id DESC LIMIT $8
), ranked AS (
  SELECT found.id, ts_rank(w.words, $2::text::tsquery, 1) AS rank
  FROM found JOIN message_words w ON w.message_id = found.id
), page AS (
  SELECT * FROM ranked WHERE $5::float4 IS NULL OR (rank, id) < ($5, $6::uuid) ORDER BY rank DESC, id DESC LIMIT $7
)
SELECT m.id, m.session_id, s.name AS session_name, m.sender, m.status, m.created_at, page.rank,
  left(coalesce(nullif(m.content, ''), m.partial_content), 100000) AS text
FROM page JOIN messages m ON m.id = page.id JOIN sessions s ON s.id = m.session_id ORDER BY page.rank DESC, m.id DESC
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands among those that were found: the better first, then the newer."""

    rank: float
    id: UUID


async def query_words(work: UnitOfWork, query: str) -> list[str]:
    """What is looked for, a tsquery in its text form each: all must be there. The last word may be unfinished."""
    rows = await work.fetch(_WORDS, query.split())
    found = [row["words"] for row in rows if row["words"]]
    if found and _UNFINISHED.search(found[-1]):
        found[-1] += ":*"
    return found


async def find_messages(
    work: UnitOfWork, who: Principal, words: Sequence[str], *, after: Place | None, limit: int
) -> list[asyncpg.Record]:
    """The user's messages with all of the words, those after `after`; also an admin's search is of the own alone.

    Every message's words are indexed together with its user's id, so that the search reads nobody else's.
    """
    return await work.fetch(_FOUND, *_arguments(who, words, after, limit))


def _arguments(who: Principal, words: Sequence[str], after: Place | None, limit: int) -> list[object]:
    wanted = " & ".join(f"({part})" for part in words)
    return [
        f"'{who.user_id}' & {wanted}",
        wanted,
        who.tenant_id,
        who.user_id,
        after.rank if after else None,
        after.id if after else None,
        limit,
        MAX_RANKED,
    ]

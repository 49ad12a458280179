"""Search in one's own conversations: words in, messages with snippets out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from producers.edge.caller import Asking
from producers.edge.cursors import DEFAULT_LIMIT, Cursor, Limit, clamped, decode_cursor, encode_cursor, invalid_cursor
from producers.edge.reads.bounded import Reads
from producers.edge.reads.message_search import Place, find_messages, query_words
from producers.edge.responses import json_response
from producers.edge.snippets import snippet_of, words_pattern
from schemas.http import Filled, FoundMessage, Page, TextSpan
from schemas.ids import derived_id
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

KIND = "found messages"
MAX_QUERY_CHARS = 1_000

Words = Annotated[Filled, Query(max_length=MAX_QUERY_CHARS, description="Words; the last may be unfinished.")]


class MessageSearchRoutes:
    """`/messages/search`."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def add_to(self, router: APIRouter) -> None:
        """Declares the route."""
        router.add_api_route("/messages/search", self.search, methods=["GET"], response_model=Page[FoundMessage])

    async def search(self, caller: Asking, q: Words, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Response:
        """Find your messages, and answers to you, by all of the words; best first."""
        who, size = caller.principal, clamped(limit)
        scope = derived_id("message search", who.tenant_id, who.user_id, q)
        after = _after(scope, cursor)

        async def read(work: UnitOfWork) -> tuple[Sequence[str], Sequence[asyncpg.Record]]:
            words = await query_words(work, q)
            return words, await find_messages(work, who, words, after=after, limit=size + 1) if words else []

        words, rows = await self._reads(who.tenant_id, read)
        items = await asyncio.to_thread(_views, words, rows[:size])
        last = items[-1] if len(rows) > size else None
        next_cursor = encode_cursor(KIND, scope, last.rank, last.id) if last is not None else None
        return json_response(Page[FoundMessage](items=items, next_cursor=next_cursor))


def _views(words: Sequence[str], rows: Sequence[asyncpg.Record]) -> list[FoundMessage]:
    pattern = words_pattern(words)
    found = []
    for row in rows:
        fields = dict(row)
        snippet, spans = snippet_of(fields.pop("text"), pattern)
        highlights = [TextSpan(start=start, end=end) for start, end in spans]
        found.append(FoundMessage(**fields, snippet=snippet, highlights=highlights))
    return found


def _after(scope: UUID, cursor: str | None) -> Place | None:
    """Raises: Reject 400 for what is no cursor of this search."""
    if cursor is None:
        return None
    match decode_cursor(KIND, scope, cursor):
        case [float() as rank, str() as id_] if 0 <= rank <= 1:
            try:
                return Place(rank, UUID(id_))
            except ValueError:
                pass
    raise invalid_cursor()

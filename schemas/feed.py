"""The tenant's feed over HTTP (design §8): CloudEvents 1.0 in structured JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from schemas.http import ResponseBody
from schemas.topics import CHAT_EVENTS, KNOWLEDGE_EVENTS, USAGE_EVENTS, Topic

PUBLIC_TOPICS: tuple[Topic, ...] = (CHAT_EVENTS, KNOWLEDGE_EVENTS, USAGE_EVENTS)
"""What a tenant may read of its own; commands, chunks and identity stay inside."""

PUBLIC_TYPES: tuple[str, ...] = tuple(sorted({name for topic in PUBLIC_TOPICS for name in topic.kept}))


class FeedEvent(ResponseBody):
    """One event. `id` is unique for ever: whoever reads an event twice sees the same id."""

    specversion: Literal["1.0"]
    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"]
    tenantid: UUID
    userid: UUID | None = None
    correlationid: UUID
    causationid: UUID | None = None
    data: dict[str, Any]


class FeedPage(ResponseBody):
    """A part of the feed. `next_cursor` is never null: the feed goes on."""

    items: list[FeedEvent]
    next_cursor: str

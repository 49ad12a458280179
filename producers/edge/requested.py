"""Completions that were asked for a moment ago, as this edge's tail of the events has seen: they begin empty."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from producers.edge.bounded_map import BoundedMap
from producers.edge.event_tail import EventTail
from schemas.envelope import decode_body
from schemas.errors import DeadLetter
from schemas.events import CompletionRequested, SessionDeleted
from schemas.topics import CHAT_EVENTS

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 20_000
FRESH_S = 60.0
"""An event that is told later than this is told again: what it began may have a long past."""


class _Body(msgspec.Struct):
    """The part of a CompletionRequested that a stream begins with."""

    session_id: UUID
    completion_id: UUID
    message_id: UUID
    created_at: datetime
    prefix_end: int = 0


@dataclass(frozen=True, slots=True)
class Requested:
    """A completion that begins with no text."""

    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    message_id: UUID
    created_s: float  # Unix time


class RequestedCompletions:
    """What was requested lately, by completion id; bounded."""

    def __init__(self, events: EventTail) -> None:
        self._requested: BoundedMap[UUID, Requested] = BoundedMap(MAX_REMEMBERED)
        self._deleted: BoundedMap[UUID, None] = BoundedMap(MAX_REMEMBERED)
        self._awaited: dict[UUID, list[asyncio.Future[None]]] = {}
        self._decode = msgspec.json.Decoder(_Body).decode
        for record, hear in ((CompletionRequested, self._on_requested), (SessionDeleted, self._on_deleted)):
            for kind in CHAT_EVENTS.read_as(record):
                events.on_type(kind, hear)

    def get(self, completion_id: UUID) -> Requested | None:
        """The completion, if it was requested lately, empty, in a session that lives."""
        found = self._requested.get(completion_id)
        return None if found is None or self.is_deleted(found.session_id) else found

    def is_deleted(self, session_id: UUID) -> bool:
        """Whether the session was deleted lately."""
        return session_id in self._deleted

    async def until_requested(self, completion_id: UUID, *, timeout_s: float) -> None:
        """Returns when the completion is requested, or the time is over."""
        waiting = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(completion_id, []).append(waiting)
        try:
            await asyncio.wait([waiting], timeout=timeout_s)
        finally:
            waiters = self._awaited[completion_id]
            waiters.remove(waiting)
            if not waiters:
                del self._awaited[completion_id]

    def _on_requested(self, headers: dict[str, bytes], value: bytes, told_s: float) -> None:
        try:
            if (kind := headers["ce_type"].decode()) != CompletionRequested.ce_type:
                value = decode_body(CHAT_EVENTS, kind, value).encode()
            body = self._decode(value)
            tenant, user = UUID(headers["ce_tenantid"].decode()), UUID(headers["ce_userid"].decode())
        except (DeadLetter, msgspec.MsgspecError, KeyError, ValueError) as error:
            logger.warning("a CompletionRequested was not understood: %s", error)
            return
        created_s = body.created_at.timestamp()
        if body.prefix_end == 0 and told_s - created_s < FRESH_S:
            entry = Requested(tenant, user, body.session_id, body.message_id, created_s)
            self._requested.put(body.completion_id, entry)
        for waiting in self._awaited.get(body.completion_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def _on_deleted(self, headers: dict[str, bytes], _: bytes, __: float) -> None:
        try:
            self._deleted.put(UUID(headers["ce_subject"].decode()), None)
        except (KeyError, ValueError) as error:
            logger.warning("a SessionDeleted was not understood: %s", error)

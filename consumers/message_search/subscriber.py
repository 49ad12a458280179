"""Message search: keeps the words of every message with text beside it, after the fact: no post waits for it."""

from __future__ import annotations

from collections.abc import Sequence

from consumers.message_search.store import forget_sessions, index_messages
from schemas.envelope import Envelope
from schemas.events import CompletionEnded, MessagePosted, SessionDeleted
from schemas.topics import CHAT_EVENTS
from storage.log.batch_runner import Subscription
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import UnitOfWork

_NEVER_STOPS = 1.0
"""The share of dead letters: junk among the events is kept, and stops nobody."""


async def handle(work: UnitOfWork, events: Sequence[Envelope]) -> list[Outgoing]:
    """The words of what was posted or has ended are those of its row as it is now; so any order of events will do."""
    bodies = [event.body for event in events]
    await index_messages(
        work, {body.message_id for body in bodies if isinstance(body, MessagePosted | CompletionEnded)}
    )
    await forget_sessions(work, {body.session_id for body in bodies if isinstance(body, SessionDeleted)})
    return []


def message_search() -> Subscription:
    """The subscription of group `message_search` to the chat events."""
    return Subscription(
        CHAT_EVENTS, "message_search", handle, rejects_to=CHAT_EVENTS, dead_share=_NEVER_STOPS, may_wait=True
    )

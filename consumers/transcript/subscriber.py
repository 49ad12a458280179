"""Transcript: the only writer of sessions. One batch = one transaction."""

from __future__ import annotations

from consumers.deciding import Deciding
from consumers.tenant_limit import TenantLimit, WaitingLimit
from consumers.transcript.decide import decide, evolve
from consumers.transcript.state import Session
from consumers.transcript.store import load, save
from schemas.chunks import ChunkRecord
from schemas.commands import EditMessage, PostMessage, RegenerateMessage, ResumeMessage
from schemas.envelope import Envelope
from schemas.events import CompletionCancelled, CompletionRequested
from schemas.records import Body
from schemas.topics import CHAT_CHUNKS, CHAT_COMMANDS, CHAT_EVENTS, Topic
from storage.log.batch_runner import Subscription

WAITING = TenantLimit(1000)


def session_of(command: Envelope) -> object:
    """The session that a chat command belongs to."""
    return getattr(command.body, "session_id", None)


def topic_of(body: Body) -> Topic:
    """Stream records go to the chunks, all other facts to the events."""
    return CHAT_CHUNKS if isinstance(body, ChunkRecord) else CHAT_EVENTS


def asks_for_an_answer(_: Session | None, fact: Body) -> bool:
    """Whether one more answer waits by the fact."""
    return isinstance(fact, CompletionRequested)


def transcript(waiting: TenantLimit = WAITING) -> Subscription:
    """The subscription of group `transcript` to the chat commands; so many of a tenant's answers may wait."""
    rules = Deciding[Session](
        source="transcript",
        key_of=session_of,
        load=load,
        decide=decide,
        evolve=evolve,
        save=save,
        topic_of=topic_of,
        waiting=WaitingLimit(
            waiting,
            what="answers",
            waiting="completions WHERE status = 'pending'",
            asked_by=(PostMessage, EditMessage, RegenerateMessage, ResumeMessage),
            enters=asks_for_an_answer,
            left=CompletionCancelled,
        ),
    )
    return Subscription(CHAT_COMMANDS, "transcript", rules.handle, rejects_to=CHAT_EVENTS)

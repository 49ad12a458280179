"""Documents: the only writer of what a tenant's library holds. One batch = one transaction."""

from __future__ import annotations

from consumers.deciding import Deciding
from consumers.documents.decide import decide, enters_work, evolve
from consumers.documents.library import load
from consumers.documents.state import Library
from consumers.documents.store import save
from consumers.tenant_limit import TenantLimit, WaitingLimit
from schemas.commands import AddDocument, ReplaceDocument, RestoreVersion
from schemas.envelope import Envelope
from schemas.records import Body
from schemas.topics import KNOWLEDGE_COMMANDS, KNOWLEDGE_EVENTS, Topic
from storage.log.batch_runner import Subscription

WAITING = TenantLimit(1000)


def tenant_of(command: Envelope) -> object:
    """The tenant whose library the command is about."""
    return command.tenant_id


def topic_of(_: Body) -> Topic:
    """Every fact is a knowledge event."""
    return KNOWLEDGE_EVENTS


def documents(waiting: TenantLimit = WAITING) -> Subscription:
    """The subscription of group `documents` to the knowledge commands; so many of a tenant may wait."""
    rules = Deciding[Library](
        source="documents",
        key_of=tenant_of,
        load=load,
        decide=decide,
        evolve=evolve,
        save=save,
        topic_of=topic_of,
        waiting=WaitingLimit(
            waiting,
            what="documents",
            waiting="document_versions WHERE status IN ('queued', 'parsing', 'embedding', 'indexing')",
            asked_by=(AddDocument, ReplaceDocument, RestoreVersion),
            enters=enters_work,
        ),
    )
    return Subscription(KNOWLEDGE_COMMANDS, "documents", rules.handle, rejects_to=KNOWLEDGE_EVENTS)

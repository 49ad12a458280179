"""What a session's rows must be, by its events alone. Pure: same events, same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from schemas.envelope import Envelope
from schemas.events import (
    CancelRequested,
    CompletionCancelled,
    CompletionCompleted,
    CompletionEnded,
    CompletionFailed,
    CompletionRequested,
    FavoriteSet,
    MessagePosted,
    SessionCreated,
    SessionDeleted,
    SessionEvent,
    SessionRenamed,
)


class IncompleteHistory(Exception):  # noqa: N818 - reads as the fact it is
    """The events do not reach from the session's first version to its last."""


class Busy(Exception):  # noqa: N818 - reads as the fact it is
    """An answer of the session is being written."""


@dataclass(frozen=True, slots=True)
class SessionColumns:
    """What events say of a row of `sessions`; not its `updated_at`, nor exactly when it was deleted."""

    id: UUID
    tenant_id: UUID
    user_id: UUID | None
    name: str | None
    profile_id: UUID | None
    created_at: datetime
    version: int
    is_favorite: bool = False
    active_leaf_id: UUID | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class MessageColumns:
    """What events say of a row of `messages`: all but its `updated_at`. No partial text is an empty one."""

    id: UUID
    tenant_id: UUID
    user_id: UUID | None
    session_id: UUID
    parent_id: UUID | None
    sender: str
    status: str
    created_at: datetime
    content: str = ""
    partial_content: str = ""
    error_code: str | None = None
    error_message: str | None = None
    citations: list[dict[str, Any]] = field(default_factory=list)
    completion_id: UUID | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class Conversation:
    """A session with its messages. `open` are the completions that have not ended."""

    session: SessionColumns
    messages: dict[UUID, MessageColumns] = field(default_factory=dict)
    open: set[UUID] = field(default_factory=set)
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One live row that is not as the events say; `columns` are those of a changed one."""

    session_id: UUID
    table: Literal["sessions", "messages"]
    id: UUID
    kind: Literal["missing", "extra", "changed"]
    columns: tuple[str, ...] = ()


def fold(events: Iterable[Envelope]) -> Conversation:
    """The rows that follow from a session's events, whatever their order and however often each is given.

    Order is by `session_version`: a transaction that waited for the session may have begun first.
    Raises: IncompleteHistory.
    """
    known = {event.body.session_version: event for event in events if isinstance(event.body, SessionEvent)}
    missing = next((version for version in range(1, max(known, default=1) + 1) if version not in known), None)
    if missing is not None:
        raise IncompleteHistory(f"no event of version {missing}")
    first = known[1]
    if not isinstance(first.body, SessionCreated):
        raise IncompleteHistory(f"its first event is {first.body.ce_type}")
    session = SessionColumns(
        id=first.body.session_id,
        tenant_id=first.tenant_id,
        user_id=first.user_id,
        name=first.body.name,
        profile_id=first.body.profile_id,
        created_at=first.body.created_at,
        version=max(known),
    )
    found = Conversation(session)
    for version in range(2, len(known) + 1):
        _apply(found, known[version])
    return found


def _apply(found: Conversation, event: Envelope) -> None:
    """One event further."""
    session = found.session
    match body := event.body:
        case SessionRenamed():
            found.session = replace(session, name=body.name)
        case FavoriteSet():
            found.session = replace(session, is_favorite=body.is_favorite)
        case SessionDeleted():
            found.session, found.deleted_at = replace(session, is_deleted=True), event.time
        case MessagePosted():
            found.messages[body.message_id] = _message(
                event, body, sender="user", status="complete", content=body.content
            )
            found.session = replace(session, active_leaf_id=body.message_id)
        case CompletionRequested():
            asked = found.messages.get(body.message_id) or _message(event, body, sender="ai", status="pending")
            found.messages[body.message_id] = replace(
                asked, status="pending", completion_id=body.completion_id, error_code=None, error_message=None
            )
            found.session = replace(session, active_leaf_id=body.message_id)
            found.open.add(body.completion_id)
        case CompletionEnded():
            _end(found, body)
        case CancelRequested():
            pass
        case _:
            raise IncompleteHistory(f"{body.ce_type} is not known here")


def _message(event: Envelope, body: MessagePosted | CompletionRequested, **columns: Any) -> MessageColumns:
    return MessageColumns(
        id=body.message_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        session_id=body.session_id,
        parent_id=body.parent_id,
        created_at=body.created_at,
        **columns,
    )


def _end(found: Conversation, body: CompletionEnded) -> None:
    """A terminal. One that was never claimed (attempt 0) only cancels; in a deleted session nothing is written."""
    found.open.discard(body.completion_id)
    message = found.messages.get(body.message_id)
    if message is None:
        raise IncompleteHistory(f"completion {body.completion_id} ended a message that was never asked for")
    if found.session.is_deleted:
        return
    if isinstance(body, CompletionCancelled) and body.attempt == 0:
        ended = replace(message, status="cancelled", partial_content=body.partial_content)
    else:
        ended = replace(message, **_columns_of(body))
    found.messages[message.id] = ended


def _columns_of(body: CompletionEnded) -> dict[str, Any]:
    """What a completion that ran leaves in its message."""
    columns: dict[str, Any] = {
        "content": "",
        "partial_content": "",
        "citations": [],
        "error_code": None,
        "error_message": None,
        "model": body.model,
        "usage": body.usage.model_dump(mode="json") if body.usage else None,
    }
    match body:
        case CompletionCompleted():
            citations = [citation.model_dump(mode="json") for citation in body.citations]
            return columns | {"status": "complete", "content": body.content, "citations": citations}
        case CompletionFailed():
            error = {"error_code": body.error.code, "error_message": body.error.message}
            return columns | {"status": "failed", "partial_content": body.partial_content} | error
        case CompletionCancelled():
            return columns | {"status": "cancelled", "partial_content": body.partial_content}
    raise IncompleteHistory(f"{body.ce_type} is not known here")


def differences(
    shadow: Conversation, session: SessionColumns | None, messages: Mapping[UUID, MessageColumns]
) -> Iterator[Difference]:
    """Every live row that is not as in `shadow`. Messages of a deleted session are read by nobody."""
    session_id = shadow.session.id
    if session is None:
        yield Difference(session_id, "sessions", session_id, "missing")
    elif columns := _changed(shadow.session, session):
        yield Difference(session_id, "sessions", session_id, "changed", columns)
    if shadow.session.is_deleted:
        return
    for id_, message in shadow.messages.items():
        if id_ not in messages:
            yield Difference(session_id, "messages", id_, "missing")
        elif columns := _changed(message, messages[id_]):
            yield Difference(session_id, "messages", id_, "changed", columns)
    for id_ in messages.keys() - shadow.messages.keys():
        yield Difference(session_id, "messages", id_, "extra")


def _changed(shadow: SessionColumns | MessageColumns, live: SessionColumns | MessageColumns) -> tuple[str, ...]:
    return tuple(one.name for one in fields(shadow) if getattr(shadow, one.name) != getattr(live, one.name))

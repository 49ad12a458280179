"""The transcript's rules: which facts follow from one command. Pure and synchronous."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from consumers.transcript.state import Completion, Message, Session
from schemas.chunks import StreamEnded
from schemas.commands import (
    CancelCompletion,
    CreateSession,
    DeleteSession,
    EditMessage,
    Generation,
    IfBusy,
    PostMessage,
    RegenerateMessage,
    RenameSession,
    ResumeMessage,
    SetFavorite,
)
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import (
    CancelRequested,
    CompletionCancelled,
    CompletionRequested,
    FavoriteSet,
    MessagePosted,
    SessionCreated,
    SessionDeleted,
    SessionRenamed,
)
from schemas.records import Body

MAX_QUEUED = 100
AUTOMATIC_NAME_CHARS = 60

SESSION_NOT_FOUND = Reject("session_not_found", 404, "there is no such session")
COMPLETION_NOT_FOUND = Reject("completion_not_found", 404, "there is no such completion")


@dataclass(slots=True)
class _Facts:
    """Numbers the facts of one command: each has the session's next version."""

    version: int

    def next(self) -> int:
        self.version += 1
        return self.version


def decide(session: Session | None, command: Envelope, now: datetime) -> list[Body]:
    """Facts that follow from one command, in order. Pure: same input, same facts.

    Raises: Reject(code, status) when the command cannot take effect; nothing else.
    """
    body = command.body
    if isinstance(body, CreateSession):
        return _create(session, body, now)
    if (
        session is None
        or session.deleted_at is not None
        or (session.tenant_id, session.user_id) != (command.tenant_id, command.user_id)
    ):
        raise SESSION_NOT_FOUND
    facts = _Facts(session.version)
    match body:
        case RenameSession():
            return [SessionRenamed(session_id=session.id, session_version=facts.next(), name=body.name)]
        case SetFavorite():
            return [FavoriteSet(session_id=session.id, session_version=facts.next(), is_favorite=body.is_favorite)]
        case DeleteSession():
            return [
                SessionDeleted(session_id=session.id, session_version=facts.next()),
                *(fact for open_ in session.open_completions for fact in _cancel(session, open_, facts)),
            ]
        case PostMessage():
            return _post(session, body, facts, now)
        case EditMessage():
            return _edit(session, body, facts, now)
        case RegenerateMessage():
            return _regenerate(session, body, facts, now)
        case ResumeMessage():
            return _resume(session, body, facts, now)
        case CancelCompletion():
            return _cancel(session, _completion(session, body.completion_id), facts)
    raise TypeError(f"the transcript has no rule for {body.ce_type}")


def _create(session: Session | None, body: CreateSession, now: datetime) -> list[Body]:
    if session is not None:
        raise Reject("session_exists", 409, "a session with this id exists", field="session_id")
    _check_profile(body.profile_id)
    return [
        SessionCreated(
            session_id=body.session_id, session_version=1, name=body.name, profile_id=body.profile_id, created_at=now
        )
    ]


def _post(session: Session, body: PostMessage, facts: _Facts, now: datetime) -> list[Body]:
    _check_busy(session, body.if_busy)
    _check_generation(session, body.generation)
    parent_id = session.active_leaf_id
    if body.parent_id is not None:
        parent_id = _message(session, body.parent_id, field="parent_id", sender="ai").id
    found: list[Body] = []
    if session.name is None:
        name = automatic_name(body.content)
        found.append(SessionRenamed(session_id=session.id, session_version=facts.next(), name=name, automatic=True))
    posted = MessagePosted(
        session_id=session.id,
        session_version=facts.next(),
        message_id=body.message_id,
        parent_id=parent_id,
        content=body.content,
        created_at=now,
    )
    return [*found, posted, _requested(session, body, body.message_id, facts, now)]


def _edit(session: Session, body: EditMessage, facts: _Facts, now: datetime) -> list[Body]:
    edited = _message(session, body.edited_id, field="message_id", sender="user")
    _check_busy(session, body.if_busy)
    _check_generation(session, body.generation)
    posted = MessagePosted(
        session_id=session.id,
        session_version=facts.next(),
        message_id=body.message_id,
        parent_id=edited.parent_id,
        edited_id=edited.id,
        content=body.content,
        created_at=now,
    )
    return [posted, _requested(session, body, body.message_id, facts, now)]


def _regenerate(session: Session, body: RegenerateMessage, facts: _Facts, now: datetime) -> list[Body]:
    regenerated = _message(session, body.regenerated_id, field="message_id", sender="ai")
    _check_busy(session, body.if_busy)
    _check_generation(session, body.generation)
    if regenerated.parent_id is None:
        raise Reject("message_not_found", 404, "this message answers nothing", field="message_id")
    return [_requested(session, body, regenerated.parent_id, facts, now)]


def _resume(session: Session, body: ResumeMessage, facts: _Facts, now: datetime) -> list[Body]:
    leaf = session.messages.get(session.active_leaf_id) if session.active_leaf_id else None
    if leaf is None or leaf.sender != "ai" or leaf.parent_id is None:
        raise Reject("nothing_to_resume", 409, "the session has no answer to resume")
    if leaf.status == "complete":
        raise Reject("already_complete", 409, "the newest answer is complete")
    if leaf.status in {"pending", "in_progress"}:
        raise Reject(
            "already_running",
            202,
            "the newest answer is being written",
            completion_id=str(leaf.completion_id),
            message_id=str(leaf.id),
        )
    return [
        CompletionRequested(
            session_id=session.id,
            session_version=facts.next(),
            completion_id=body.completion_id,
            message_id=leaf.id,
            parent_id=leaf.parent_id,
            generation=leaf.generation,
            prefix_end=len(leaf.partial_content),
            created_at=now,
        )
    ]


def _requested(
    session: Session,
    body: PostMessage | EditMessage | RegenerateMessage,
    parent_id: UUID,
    facts: _Facts,
    now: datetime,
) -> CompletionRequested:
    return CompletionRequested(
        session_id=session.id,
        session_version=facts.next(),
        completion_id=body.completion_id,
        message_id=body.ai_message_id,
        parent_id=parent_id,
        generation=body.generation,
        created_at=now,
    )


def _cancel(session: Session, completion: Completion, facts: _Facts) -> list[Body]:
    """A queued one ends here; a running one is ended by its holder; a terminal one stays as it is."""
    if completion.status != "pending":
        status = "cancelling" if completion.is_open else completion.status
        return [
            CancelRequested(
                session_id=session.id, session_version=facts.next(), completion_id=completion.id, status=status
            )
        ]
    return [
        CompletionCancelled(
            session_id=session.id,
            session_version=facts.next(),
            completion_id=completion.id,
            message_id=completion.message_id,
            attempt=0,
            partial_content=completion.text,
        ),
        StreamEnded(
            completion_id=completion.id,
            message_id=completion.message_id,
            epoch=completion.epoch,
            end=completion.end,
            status="cancelled",
        ),
    ]


def _completion(session: Session, completion_id: UUID) -> Completion:
    try:
        return session.completions[completion_id]
    except KeyError:
        raise COMPLETION_NOT_FOUND from None


def _message(session: Session, message_id: UUID, *, field: str, sender: str) -> Message:
    message = session.messages.get(message_id)
    if message is None:
        raise Reject("message_not_found", 404, f"there is no message {message_id} in this session", field=field)
    if message.sender != sender:
        raise Reject("wrong_sender", 422, f"message {message_id} is not one of sender {sender!r}", field=field)
    return message


def _check_busy(session: Session, if_busy: IfBusy) -> None:
    n_open = session.n_open
    if n_open and if_busy == "reject":
        raise Reject("session_busy", 409, "the session is writing an answer", field="if_busy")
    if n_open >= MAX_QUEUED:
        raise Reject("queue_full", 429, f"the session has {n_open} answers to write; at most {MAX_QUEUED} may wait")


def _check_generation(session: Session, generation: Generation) -> None:
    _check_profile(generation.profile_id)
    unknown = [id_ for id_ in generation.document_ids or () if id_ not in session.documents]
    if unknown:
        raise Reject("document_not_found", 404, f"there is no document {unknown[0]}", field="document_ids")


def _check_profile(profile_id: UUID | None) -> None:
    if profile_id is not None:
        raise Reject("profile_not_found", 404, f"there is no profile {profile_id}", field="profile_id")


def automatic_name(content: str) -> str:
    """The first words of a message, at most 60 characters."""
    line = " ".join(content[: 4 * AUTOMATIC_NAME_CHARS].split())
    if len(line) <= AUTOMATIC_NAME_CHARS:
        return line
    head, _, _ = line[: AUTOMATIC_NAME_CHARS - 1].rpartition(" ")
    return (head or line[: AUTOMATIC_NAME_CHARS - 1]) + "…"


def evolve(session: Session | None, fact: Body, command: Envelope) -> Session:
    """The session after one fact."""
    if isinstance(fact, SessionCreated):
        if command.user_id is None:
            raise TypeError("a session has a user")
        return Session(
            id=fact.session_id,
            tenant_id=command.tenant_id,
            user_id=command.user_id,
            created_at=fact.created_at,
            name=fact.name,
            profile_id=fact.profile_id,
            version=fact.session_version,
        )
    if session is None:
        raise TypeError(f"{fact.ce_type} without a session")
    if isinstance(fact, StreamEnded):
        return session
    return _evolved(session, fact, command.time)


def _evolved(session: Session, fact: Body, at: datetime) -> Session:
    version = session.version + 1
    match fact:
        case SessionRenamed():
            return replace(session, version=version, name=fact.name)
        case FavoriteSet():
            return replace(session, version=version, is_favorite=fact.is_favorite)
        case SessionDeleted():
            return replace(session, version=version, deleted_at=at)
        case MessagePosted():
            message = Message(fact.message_id, fact.parent_id, "user", "complete")
            return replace(
                session, version=version, messages={**session.messages, message.id: message}, active_leaf_id=message.id
            )
        case CompletionRequested():
            return replace(_requested_by(session, fact), version=version)
        case CancelRequested():
            completion = replace(session.completions[fact.completion_id], status=fact.status)
            return replace(session, version=version, completions={**session.completions, completion.id: completion})
        case CompletionCancelled():
            return replace(_cancelled_by(session, fact), version=version)
    raise TypeError(f"the transcript does not know {fact.ce_type}")


def _requested_by(session: Session, fact: CompletionRequested) -> Session:
    """A new answer, or a resumed one with the text that it has."""
    resumed = session.messages.get(fact.message_id)
    text = resumed.partial_content if resumed is not None else ""
    asked = fact.generation
    message = Message(fact.message_id, fact.parent_id, "ai", "pending", fact.completion_id, text, asked)
    completion = Completion(fact.completion_id, fact.message_id, "pending", end=fact.prefix_end, text=text)
    return replace(
        session,
        messages={**session.messages, message.id: message},
        n_open=session.n_open + 1,
        completions={**session.completions, completion.id: completion},
        active_leaf_id=message.id,
    )


def _cancelled_by(session: Session, fact: CompletionCancelled) -> Session:
    """One that waited has ended: its message may be resumed by a later command of the same batch."""
    completion = replace(session.completions[fact.completion_id], status="cancelled")
    messages, message = session.messages, session.messages.get(fact.message_id)
    if message is not None:
        ended = replace(message, status="cancelled", partial_content=fact.partial_content)
        messages = {**messages, message.id: ended}
    return replace(
        session,
        messages=messages,
        n_open=session.n_open - 1,
        completions={**session.completions, completion.id: completion},
    )

"""Any conversation: its rows follow from its events, whatever order the events come in and however often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from consumers.rebuild.conversation import (
    Conversation,
    IncompleteHistory,
    MessageColumns,
    SessionColumns,
    differences,
    fold,
)
from schemas.envelope import Envelope
from schemas.events import (
    CompletionCancelled,
    CompletionCompleted,
    CompletionFailed,
    CompletionRequested,
    ErrorInfo,
    MessagePosted,
    SessionCreated,
    SessionDeleted,
    SessionEvent,
    SessionRenamed,
    TerminalStatus,
)
from schemas.records import Body
from tests.unit.consumers.transcript.stored_conversation import NOW, Rows
from tests.unit.consumers.transcript.test_conversations import SESSION, TENANT, USER, Conversations


class ToldRows(Rows):
    """The rows, and every event that told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Envelope] = []

    def apply(self, fact: Body, command: Envelope) -> None:
        super().apply(fact, command)
        if isinstance(fact, SessionEvent):
            self.told.append(command.caused(fact, source="transcript", time=NOW))

    def settle(self, completion_id: UUID, status: TerminalStatus, more: str) -> None:
        row = self.completions[completion_id]
        text = "" if self.is_deleted else row.text + more
        super().settle(completion_id, status, more)
        shared = {
            "session_id": SESSION,
            "session_version": self.version,
            "completion_id": completion_id,
            "message_id": row.message_id,
            "attempt": 1,
            "model": "test",
        }
        event: SessionEvent
        match row.status:
            case "complete":
                event = CompletionCompleted(**shared, content=text, citations=(), finish_reason="stop")
            case "failed":
                event = CompletionFailed(**shared, partial_content=text, error=ErrorInfo(code="x", message="y"))
            case _:
                event = CompletionCancelled(**shared, partial_content=text)
        self.told.append(Envelope(body=event, tenant_id=TENANT, user_id=USER, source="completions"))


class FoldedConversations(Conversations):
    """The same conversations; after every step the events alone must say what stands."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: ToldRows = ToldRows()

    @invariant()
    def the_events_say_what_stands(self) -> None:
        told = self.rows.told
        if not told:
            return
        shuffled = [*told, *told[::3]]
        Random(len(told)).shuffle(shuffled)
        shadow = fold(shuffled)
        assert shadow == fold(told)
        assert shadow.open == self.rows.open.keys()
        session = shadow.session
        assert (session.name, session.is_favorite, session.version, session.active_leaf_id, session.is_deleted) == (
            self.rows.name,
            self.rows.is_favorite,
            self.rows.version,
            self.rows.leaf_id,
            self.rows.is_deleted,
        )
        if session.is_deleted:
            return
        assert {id_: shown(message) for id_, message in shadow.messages.items()} == {
            id_: (row.parent_id, row.sender, row.status.replace("in_progress", "pending"), row.completion_id, row.text)
            for id_, row in self.rows.messages.items()
        }


def shown(message: MessageColumns) -> tuple[object, ...]:
    return (message.parent_id, message.sender, message.status, message.completion_id, message.partial_content)


def test_the_rows_of_any_conversation_follow_from_its_events() -> None:
    pace = settings(derandomize=True, max_examples=30, stateful_step_count=40, deadline=None)
    FoldedConversations.reached.clear()
    run_state_machine_as_test(FoldedConversations, settings=pace)
    assert {MessagePosted, CompletionRequested, CompletionCancelled} <= FoldedConversations.reached


def events(*bodies: Body) -> Sequence[Envelope]:
    return [Envelope(body=body, tenant_id=TENANT, user_id=USER, source="test", time=NOW) for body in bodies]


CREATED = SessionCreated(session_id=SESSION, session_version=1, name="a", profile_id=None, created_at=NOW)


@pytest.mark.parametrize(
    "bodies",
    [
        (),
        (SessionRenamed(session_id=SESSION, session_version=1, name="b"),),
        (SessionRenamed(session_id=SESSION, session_version=2, name="b"),),
        (CREATED, SessionRenamed(session_id=SESSION, session_version=3, name="b")),
        (
            CREATED,
            CompletionCancelled(
                session_id=SESSION,
                session_version=2,
                completion_id=UUID(int=5),
                message_id=UUID(int=6),
                attempt=1,
                partial_content="",
            ),
        ),
    ],
)
def test_what_is_missing_is_said_and_never_guessed(bodies: Sequence[Body]) -> None:
    with pytest.raises(IncompleteHistory):
        fold(events(*bodies))


def test_each_kind_of_difference_is_found() -> None:
    session = fold(events(CREATED)).session
    kept, changed, lost, unheard = (message(n) for n in range(4))
    shadow = Conversation(session, {m.id: m for m in (kept, changed, lost)})
    live = {m.id: m for m in (kept, replace(changed, content="!", status="failed"), unheard)}
    assert [(one.kind, one.id, one.columns) for one in differences(shadow, replace(session, version=7), live)] == [
        ("changed", SESSION, ("version",)),
        ("changed", changed.id, ("status", "content")),
        ("missing", lost.id, ()),
        ("extra", unheard.id, ()),
    ]
    assert [one.kind for one in differences(shadow, None, shadow.messages)] == ["missing"]
    deleted = fold(events(CREATED, SessionDeleted(session_id=SESSION, session_version=2)))
    assert not list(differences(deleted, replace(session, version=2, is_deleted=True), live))
    assert isinstance(deleted.session, SessionColumns)
    assert deleted.deleted_at == NOW


def message(n: int) -> MessageColumns:
    return MessageColumns(
        id=UUID(int=100 + n),
        tenant_id=TENANT,
        user_id=USER,
        session_id=SESSION,
        parent_id=None,
        sender="user",
        status="complete",
        created_at=NOW,
        content="Hi",
    )

"""The transcript's rules, one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.transcript.decide import MAX_QUEUED, automatic_name, decide, evolve
from consumers.transcript.state import Completion, Message, Session
from schemas.chunks import StreamEnded
from schemas.commands import (
    CancelCompletion,
    CreateSession,
    DeleteSession,
    EditMessage,
    Generation,
    PostMessage,
    RegenerateMessage,
    RenameSession,
    ResumeMessage,
)
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import (
    CancelRequested,
    CompletionCancelled,
    CompletionRequested,
    MessagePosted,
    SessionDeleted,
    SessionEvent,
    SessionRenamed,
)
from schemas.ids import new_id
from schemas.records import Body

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TENANT, USER, SESSION = new_id(), new_id(), new_id()


def envelope(body: Body, *, tenant: UUID = TENANT, user: UUID = USER) -> Envelope:
    return Envelope(body=body, tenant_id=tenant, user_id=user, source="test")


def post(content: str = "Hello there", **changes: Any) -> PostMessage:
    ids = {"message_id": new_id(), "ai_message_id": new_id(), "completion_id": new_id()}
    return PostMessage.model_validate({"session_id": SESSION, "content": content, **ids, **changes})


def run(session: Session | None, body: Body) -> tuple[Session, list[Body]]:
    command = envelope(body)
    facts = decide(session, command, NOW)
    for fact in facts:
        session = evolve(session, fact, command)
    assert session is not None
    return session, facts


@pytest.fixture
def session() -> Session:
    return run(None, CreateSession(session_id=SESSION))[0]


def rejected(session: Session | None, body: Body, **who: UUID) -> Reject:
    with pytest.raises(Reject) as error:
        decide(session, envelope(body, **who), NOW)
    return error.value


def test_a_session_is_created_once(session: Session) -> None:
    assert session.version == 1
    assert rejected(session, CreateSession(session_id=SESSION)).code == "session_exists"


def test_a_post_names_the_session_and_asks_for_an_answer(session: Session) -> None:
    body = post("  What is\na trace?  ")
    after, facts = run(session, body)
    assert [type(fact) for fact in facts] == [SessionRenamed, MessagePosted, CompletionRequested]
    assert after.name == "What is a trace?"
    assert after.active_leaf_id == body.ai_message_id
    assert [fact.session_version for fact in facts if isinstance(fact, SessionEvent)] == [2, 3, 4]
    again, facts = run(after, post())
    assert [type(fact) for fact in facts] == [MessagePosted, CompletionRequested]
    assert isinstance(facts[0], MessagePosted)
    assert facts[0].parent_id == body.ai_message_id
    assert len(again.open_completions) == 2


def test_what_is_foreign_or_deleted_does_not_exist(session: Session) -> None:
    gone, _ = run(session, DeleteSession(session_id=SESSION))
    bodies: list[Body] = [post(), RenameSession(session_id=SESSION, name="x"), DeleteSession(session_id=SESSION)]
    for body in bodies:
        assert rejected(None, body).status == 404
        assert rejected(session, body, tenant=new_id()).code == "session_not_found"
        assert rejected(session, body, user=new_id()).code == "session_not_found"
        assert rejected(gone, body).code == "session_not_found"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"parent_id": str(new_id())}, "message_not_found", "parent_id"),
        ({"generation": Generation(document_ids=(new_id(),))}, "document_not_found", "document_ids"),
        ({"generation": Generation(profile_id=new_id())}, "profile_not_found", "profile_id"),
    ],
)
def test_unknown_ids_are_named(session: Session, change: dict[str, Any], code: str, field: str) -> None:
    reject = rejected(session, post(**change))
    assert (reject.code, reject.status, reject.field) == (code, 404, field)


def test_busy_queues_or_rejects_as_asked_and_the_queue_is_bounded(session: Session) -> None:
    busy, _ = run(session, post())
    assert rejected(busy, post(if_busy="reject")).code == "session_busy"
    for _ in range(MAX_QUEUED - 1):
        busy, _ = run(busy, post())
    full = rejected(busy, post())
    assert (full.code, full.status) == ("queue_full", 429)


def test_cancel_ends_a_queued_completion_here_and_asks_the_holder_of_a_running_one(session: Session) -> None:
    body = post()
    busy, _ = run(session, body)
    cancel = CancelCompletion(session_id=SESSION, completion_id=body.completion_id)
    after, facts = run(busy, cancel)
    assert [type(fact) for fact in facts] == [CompletionCancelled, StreamEnded]
    assert not after.open_completions
    again = decide(after, envelope(cancel), NOW)
    assert isinstance(again[0], CancelRequested)
    assert again[0].status == "cancelled"
    running = replace(busy, completions={body.completion_id: Completion(body.completion_id, new_id(), "in_progress")})
    asked = decide(running, envelope(cancel), NOW)
    assert [type(fact) for fact in asked] == [CancelRequested]
    assert isinstance(asked[0], CancelRequested)
    assert asked[0].status == "cancelling"
    unknown = CancelCompletion(session_id=SESSION, completion_id=new_id())
    assert rejected(busy, unknown).code == "completion_not_found"


def test_delete_ends_everything_open(session: Session) -> None:
    first, second = post(), post()
    busy, _ = run(run(session, first)[0], second)
    first_running = Completion(first.completion_id, first.ai_message_id, "in_progress")
    busy = replace(busy, completions={**busy.completions, first.completion_id: first_running})
    after, facts = run(busy, DeleteSession(session_id=SESSION))
    assert [type(fact) for fact in facts] == [SessionDeleted, CancelRequested, CompletionCancelled, StreamEnded]
    assert after.deleted_at is not None
    assert [completion.status for completion in after.open_completions] == ["cancelling"]


def test_edit_is_a_sibling_and_regenerate_another_answer(session: Session) -> None:
    body = post()
    asked, _ = run(session, body)
    edit = EditMessage(
        session_id=SESSION,
        edited_id=body.message_id,
        message_id=new_id(),
        ai_message_id=new_id(),
        completion_id=new_id(),
        content="Better",
    )
    edited, facts = run(asked, edit)
    assert isinstance(facts[0], MessagePosted)
    assert (facts[0].parent_id, facts[0].edited_id) == (None, body.message_id)
    assert edited.active_leaf_id == edit.ai_message_id
    regenerate = RegenerateMessage(
        session_id=SESSION, regenerated_id=body.ai_message_id, ai_message_id=new_id(), completion_id=new_id()
    )
    _, facts = run(edited, regenerate)
    assert isinstance(facts[0], CompletionRequested)
    assert facts[0].parent_id == body.message_id
    wrong = regenerate.model_copy(update={"regenerated_id": body.message_id})
    assert rejected(edited, wrong).code == "wrong_sender"


def test_resume_continues_what_failed_and_only_that(session: Session) -> None:
    resume = ResumeMessage(session_id=SESSION, completion_id=new_id())
    assert rejected(session, resume).code == "nothing_to_resume"
    body = post()
    asked, _ = run(session, body)
    running = rejected(asked, resume)
    assert (running.status, running.extra["completion_id"]) == (202, str(body.completion_id))
    failed = Message(body.ai_message_id, body.message_id, "ai", "failed", body.completion_id, "Half an ans")
    broken = replace(asked, messages={failed.id: failed}, completions={})
    _, facts = run(broken, resume)
    assert isinstance(facts[0], CompletionRequested)
    assert (facts[0].prefix_end, facts[0].message_id) == (11, body.ai_message_id)
    whole = replace(broken, messages={failed.id: replace(failed, status="complete")})
    assert rejected(whole, resume).code == "already_complete"


@given(st.text(max_size=1000))
def test_an_automatic_name_is_short_and_one_line(content: str) -> None:
    name = automatic_name(content)
    assert len(name) <= 60
    assert "\n" not in name

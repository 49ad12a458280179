"""Any conversation: whatever is asked, in whatever order and batches, and however answers end, the rules hold.

Every command is decided twice, on what `evolve` has kept since the batch began, and on what the rows say: a command
must not fare differently for having been read together with others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumers.transcript.decide import MAX_QUEUED, decide, evolve
from consumers.transcript.state import Session
from schemas.chunks import StreamEnded
from schemas.commands import (
    CancelCompletion,
    CreateSession,
    DeleteSession,
    EditMessage,
    IfBusy,
    PostMessage,
    RegenerateMessage,
    RenameSession,
    ResumeMessage,
    SessionCommand,
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
    SessionEvent,
    SessionRenamed,
    TerminalStatus,
)
from schemas.ids import new_id
from schemas.records import Body
from tests.unit.consumers.transcript.stored_conversation import NOW, OPEN, Rows

TENANT, USER, SESSION = UUID(int=1), UUID(int=2), UUID(int=3)
NOBODYS = UUID(int=9)

FACTS = {
    SessionCreated,
    SessionRenamed,
    FavoriteSet,
    SessionDeleted,
    MessagePosted,
    CompletionRequested,
    CancelRequested,
    CompletionCancelled,
    StreamEnded,
}
NOBODY = 7
NTH = st.integers(0, NOBODY)
BUSY = st.sampled_from(["queue", "queue", "reject"])


def newest(ids: Iterable[UUID], nth: int) -> UUID:
    return [*[*ids][::-1][:NOBODY], *[NOBODYS] * (NOBODY + 1)][nth]


def decided(session: Session | None, command: Envelope) -> list[Body] | tuple[object, ...]:
    """The facts, or what the caller is told instead."""
    try:
        facts = decide(session, command, NOW)
    except Reject as reject:
        return (reject.code, reject.status, reject.detail, reject.field, reject.extra)
    assert facts, "every command has an effect or is rejected"
    return facts


class Conversations(RuleBasedStateMachine):
    """One session, its commands, its workers. `reached`: what has followed from commands in any run."""

    reached: ClassVar[set[type[Body]]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()
        self.session: Session | None = None
        self.over: dict[UUID, str] = {}
        self.ended: list[UUID] = []

    def send(self, body: SessionCommand, *, user: UUID = USER, tenant: UUID = TENANT) -> object:
        """The facts of one command, or (code, status, …)."""
        command = Envelope(body=body, tenant_id=tenant, user_id=user, source="test")
        found = decided(self.session, command)
        assert found == decided(self.rows.loaded(), command), "a batch decides as one command after another does"
        if isinstance(found, list):
            assert isinstance(body, CreateSession) or not self.rows.is_deleted, "nothing follows a deletion"
            for fact in found:
                self.reached.add(type(fact))
                self.session = evolve(self.session, fact, command)
                self.rows.apply(fact, command)
                assert isinstance(fact, SessionEvent | StreamEnded)
            self.ended += [fact.completion_id for fact in found if isinstance(fact, StreamEnded)]
        return found

    def begin_batch(self) -> None:
        """What was committed is loaded anew."""
        self.session = self.rows.loaded()

    def message(self, nth: int) -> UUID:
        """The newest but `nth`, or one that nobody has."""
        return newest(self.rows.messages, nth)

    def completion(self, nth: int) -> UUID:
        """The newest but `nth`, or one that nobody has."""
        return newest(self.rows.completions, nth)

    @initialize()
    def create(self) -> None:
        assert self.send(RenameSession(session_id=SESSION, name="x")) == self.no_session
        assert self.send(ResumeMessage(session_id=SESSION, completion_id=new_id())) == self.no_session
        self.send(CreateSession(session_id=SESSION))
        found = self.send(ResumeMessage(session_id=SESSION, completion_id=new_id()))
        assert found == ("nothing_to_resume", 409, "the session has no answer to resume", None, {})
        self.post("reject")

    @property
    def no_session(self) -> tuple[object, ...]:
        return ("session_not_found", 404, "there is no such session", None, {})

    @rule(nth=NTH, is_favorite=st.booleans())
    def on_the_side(self, nth: int, *, is_favorite: bool) -> None:
        self.send(RenameSession(session_id=SESSION, name="Plans"))
        self.send(SetFavorite(session_id=SESSION, is_favorite=is_favorite))
        again = self.send(CreateSession(session_id=SESSION))
        assert isinstance(again, tuple)
        assert again[:2] == ("session_exists", 409)
        cancel = CancelCompletion(session_id=SESSION, completion_id=self.completion(nth))
        for body in (DeleteSession(session_id=SESSION), cancel, self.edit_of(self.message(nth))):
            assert self.send(body, user=NOBODYS) == self.send(body, tenant=NOBODYS) == self.no_session

    @rule(busy=BUSY)
    def post(self, busy: IfBusy) -> None:
        before, n_open = self.rows.leaf_id, len(self.rows.open)
        body = PostMessage(session_id=SESSION, content="Hello there", if_busy=busy, **self.new_ids())
        found = self.send(body)
        if isinstance(found, list):
            assert self.rows.messages[body.message_id].parent_id == before
            assert not n_open or busy == "queue"
        elif not self.rows.is_deleted:
            assert n_open
            assert found[0:1] == (("session_busy" if busy == "reject" else "queue_full"),)  # type: ignore[index]

    @rule(nth=NTH)
    def post_under(self, nth: int) -> None:
        parent = self.message(nth)
        found = self.send(PostMessage(session_id=SESSION, content="Or", parent_id=parent, **self.new_ids()))
        self.assert_taken_iff_of(found, parent, "ai")

    @rule(nth=NTH)
    def edit(self, nth: int) -> None:
        body = self.edit_of(self.message(nth))
        found = self.send(body)
        self.assert_taken_iff_of(found, body.edited_id, "user")
        if isinstance(found, list):
            old, new = self.rows.messages[body.edited_id], self.rows.messages[body.message_id]
            assert (new.parent_id, new.sender) == (old.parent_id, old.sender), "siblings under one parent"
            assert body.edited_id not in self.rows.path()

    @rule(nth=NTH, busy=BUSY)
    def regenerate(self, nth: int, busy: IfBusy) -> None:
        old = self.message(nth)
        ids = {name: id_ for name, id_ in self.new_ids().items() if name != "message_id"}
        body = RegenerateMessage(session_id=SESSION, regenerated_id=old, if_busy=busy, **ids)
        if isinstance(self.send(body), list):
            assert self.rows.leaf_id == body.ai_message_id
            assert self.rows.messages[body.ai_message_id].parent_id == self.rows.messages[old].parent_id

    @rule()
    def resume(self) -> None:
        leaf = self.rows.messages[self.rows.leaf_id] if self.rows.leaf_id else None
        status, kept = (leaf.status, leaf.text) if leaf else ("none", "")
        running = str(leaf.completion_id) if leaf else ""
        found = self.send(ResumeMessage(session_id=SESSION, completion_id=new_id()))
        if isinstance(found, list):
            assert status in {"failed", "cancelled"}
            (requested,) = found
            assert isinstance(requested, CompletionRequested)
            assert (requested.message_id, requested.prefix_end) == (self.rows.leaf_id, len(kept))
        elif not self.rows.is_deleted:
            assert isinstance(found, tuple)
            told = {"none": ("nothing_to_resume", 409), "complete": ("already_complete", 409)}
            assert found[:2] == told.get(status, ("already_running", 202))
            if found[1] == 202:
                assert found[4] == {"completion_id": running, "message_id": str(self.rows.leaf_id)}
                assert UUID(running) in self.rows.open

    @rule(nth=NTH)
    def cancel(self, nth: int) -> None:
        id_ = self.completion(nth)
        found = self.send(CancelCompletion(session_id=SESSION, completion_id=id_))
        if isinstance(found, list):
            assert self.rows.completions[id_].status != "pending"
            n_ended = [type(fact) for fact in found if not isinstance(fact, SessionEvent)]
            assert (n_ended == [StreamEnded]) == any(isinstance(fact, CompletionCancelled) for fact in found)

    @precondition(lambda self: len(self.rows.completions) > 5)
    @rule()
    def delete(self) -> None:
        if isinstance(self.send(DeleteSession(session_id=SESSION)), list):
            assert {row.status for row in self.rows.open.values()} <= {"cancelling"}

    @precondition(lambda self: not self.rows.is_deleted and len(self.rows.completions) > 8)
    @rule()
    def flood(self) -> None:
        while isinstance(self.send(PostMessage(session_id=SESSION, content="More", **self.new_ids())), list):
            pass
        assert len(self.rows.open) == MAX_QUEUED

    @rule()
    def next_batch(self) -> None:
        self.begin_batch()

    @precondition(lambda self: self.rows.open)
    @rule()
    def claim(self) -> None:
        self.rows.claim()
        self.begin_batch()

    @precondition(lambda self: self.rows.open)
    @rule(status=st.sampled_from(["failed", "cancelled", "complete"]), more=st.sampled_from(["", "text", "🦊"]))
    def settle(self, status: TerminalStatus, more: str) -> None:
        self.rows.claim()
        (id_,) = self.running
        self.rows.settle(id_, status, more)
        self.ended.append(id_)
        self.begin_batch()

    @property
    def running(self) -> list[UUID]:
        return [id_ for id_, row in self.rows.open.items() if row.status != "pending"]

    @invariant()
    def one_completion_runs(self) -> None:
        assert len(self.running) <= 1
        assert len(self.rows.open) <= MAX_QUEUED

    @invariant()
    def the_active_path_leads_from_an_answer_to_the_root(self) -> None:
        path = [self.rows.messages[id_] for id_ in self.rows.path()]
        assert [row.sender for row in path] == ["ai", "user"] * (len(path) // 2)

    @invariant()
    def a_message_is_as_its_completion(self) -> None:
        for row in self.rows.messages.values():
            if row.completion_id is not None:
                status = self.rows.completions[row.completion_id].status
                assert row.status == ("in_progress" if status == "cancelling" else status)

    @invariant()
    def a_terminal_is_final_and_told_once(self) -> None:
        over = {id_: row.status for id_, row in self.rows.completions.items() if row.status not in OPEN}
        assert self.over.items() <= over.items()
        self.over = over
        assert sorted(self.ended) == sorted(over)

    @invariant()
    def what_is_kept_of_the_session_is_what_the_rows_say(self) -> None:
        kept, loaded = self.session, self.rows.loaded()
        assert kept is None or loaded is None or kept.n_open == loaded.n_open

    def assert_taken_iff_of(self, found: object, id_: UUID, sender: str) -> None:
        row = self.rows.messages.get(id_)
        if isinstance(found, list):
            assert row is not None
            assert row.sender == sender
            assert any(isinstance(fact, MessagePosted) for fact in found)
        elif not self.rows.is_deleted:
            assert isinstance(found, tuple)
            refused = "queue_full" if row and row.sender == sender else "wrong_sender" if row else "message_not_found"
            assert found[0] in {refused, "queue_full"}

    def edit_of(self, id_: UUID) -> EditMessage:
        return EditMessage(session_id=SESSION, edited_id=id_, content="Better", **self.new_ids())

    def new_ids(self) -> dict[str, UUID]:
        return {name: new_id() for name in ("message_id", "ai_message_id", "completion_id")}


def test_any_conversation() -> None:
    pace = settings(derandomize=True, max_examples=200, stateful_step_count=40, deadline=None)
    Conversations.reached.clear()
    run_state_machine_as_test(Conversations, settings=pace)
    assert Conversations.reached == FACTS

"""What stands in the rows of one session, by the facts alone: the reference for what `evolve` keeps of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from consumers.transcript.state import Completion, Message, Session
from schemas.chunks import StreamEnded
from schemas.envelope import Envelope
from schemas.events import (
    CancelRequested,
    CompletionCancelled,
    CompletionRequested,
    FavoriteSet,
    MessagePosted,
    MessageStatus,
    SessionCreated,
    SessionDeleted,
    SessionEvent,
    SessionRenamed,
    TerminalStatus,
)
from schemas.records import Body

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OPEN = {"pending", "in_progress", "cancelling"}


@dataclass
class MessageRow:
    parent_id: UUID | None
    sender: str
    status: MessageStatus
    completion_id: UUID | None = None
    text: str = ""


@dataclass
class CompletionRow:
    message_id: UUID
    status: str
    text: str = ""


@dataclass
class Rows:
    """Sessions, messages and completions as `save` and the completions' final transaction leave them."""

    owner: tuple[UUID, UUID, UUID] | None = None
    name: str | None = None
    is_favorite: bool = False
    version: int = 0
    leaf_id: UUID | None = None
    is_deleted: bool = False
    messages: dict[UUID, MessageRow] = field(default_factory=dict)
    completions: dict[UUID, CompletionRow] = field(default_factory=dict)

    def loaded(self) -> Session | None:
        """As `load` hands it to `decide`; it knows all messages and completions, not only those that are named."""
        if self.owner is None:
            return None
        id_, tenant_id, user_id = self.owner
        return Session(
            id=id_,
            tenant_id=tenant_id,
            user_id=user_id,
            created_at=NOW,
            name=self.name,
            is_favorite=self.is_favorite,
            version=self.version,
            active_leaf_id=self.leaf_id,
            deleted_at=NOW if self.is_deleted else None,
            n_open=len(self.open),
            completions={
                id_: Completion(id_, row.message_id, row.status, end=len(row.text), text=row.text)  # type: ignore[arg-type]
                for id_, row in self.completions.items()
            },
            messages={
                id_: Message(id_, row.parent_id, row.sender, row.status, row.completion_id, row.text)
                for id_, row in self.messages.items()
            },
        )

    @property
    def open(self) -> dict[UUID, CompletionRow]:
        """In the order in which they were requested."""
        return {id_: row for id_, row in self.completions.items() if row.status in OPEN}

    def path(self) -> list[UUID]:
        """From the active leaf to the root."""
        found: list[UUID] = []
        at = self.leaf_id
        while at is not None:
            assert at not in found, "the active path is a circle"
            found.append(at)
            at = self.messages[at].parent_id
        return found

    def apply(self, fact: Body, command: Envelope) -> None:
        """Stores one fact. A terminal is final: nothing may change a completion that is over."""
        if isinstance(fact, SessionEvent):
            assert fact.session_version == self.version + 1, "versions are contiguous"
            self.version = fact.session_version
        match fact:
            case SessionCreated():
                assert self.owner is None
                assert command.user_id is not None
                self.owner = (fact.session_id, command.tenant_id, command.user_id)
                self.name = fact.name
            case SessionRenamed():
                self.name = fact.name
            case FavoriteSet():
                self.is_favorite = fact.is_favorite
            case SessionDeleted():
                self.is_deleted = True
            case MessagePosted():
                assert fact.message_id not in self.messages
                self.messages[fact.message_id] = MessageRow(fact.parent_id, "user", "complete")
                self.leaf_id = fact.message_id
            case CompletionRequested():
                self._request(fact)
            case CancelRequested():
                self._cancel_running(fact)
            case CompletionCancelled():
                row = self.completions[fact.completion_id]
                assert row.status == "pending", "only what waits is ended without its holder"
                assert (fact.message_id, fact.partial_content) == (row.message_id, row.text)
                self._end(fact.completion_id, "cancelled", row.text)
            case StreamEnded():
                row = self.completions[fact.completion_id]
                assert (fact.status, fact.epoch, fact.end) == (row.status, 0, len(row.text))

    def _request(self, fact: CompletionRequested) -> None:
        assert fact.completion_id not in self.completions
        message = self.messages.setdefault(fact.message_id, MessageRow(fact.parent_id, "ai", "pending"))
        assert message.completion_id not in self.open, "a message has one completion at a time"
        assert message.status != "complete", "what is complete is not written again"
        assert (message.parent_id, len(message.text)) == (fact.parent_id, fact.prefix_end)
        message.status, message.completion_id = "pending", fact.completion_id
        self.completions[fact.completion_id] = CompletionRow(fact.message_id, "pending", message.text)
        self.leaf_id = fact.message_id

    def _cancel_running(self, fact: CancelRequested) -> None:
        row = self.completions[fact.completion_id]
        assert fact.status == ("cancelling" if row.status in OPEN else row.status)
        assert row.status != "pending", "what waits is ended at once"
        row.status = fact.status

    def claim(self) -> None:
        """A worker takes the head of the queue, unless it is taken."""
        id_, row = next(iter(self.open.items()))
        if row.status == "pending":
            row.status = "in_progress"
            self.messages[row.message_id].status = "in_progress"
            assert self.messages[row.message_id].completion_id == id_

    def settle(self, completion_id: UUID, status: TerminalStatus, more: str) -> None:
        """The holder ends what it runs; the row decides (design §6, Cancel)."""
        row = self.completions[completion_id]
        ends = "cancelled" if row.status == "cancelling" or self.is_deleted else status
        self._end(completion_id, ends, "" if self.is_deleted else row.text + more)
        self.version += 1

    def _end(self, completion_id: UUID, status: TerminalStatus, text: str) -> None:
        row = self.completions[completion_id]
        row.status, row.text = status, text
        message = self.messages[row.message_id]
        if message.completion_id == completion_id:
            message.status, message.text = status, "" if status == "complete" else text

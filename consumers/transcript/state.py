"""What `decide` knows of a session: enough for one batch of commands, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from schemas.commands import Generation
from schemas.events import CompletionStatus, MessageStatus


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion of the session that a command may end or names: of a session to delete every open one.

    `epoch`, `end` and `text` are its checkpoint, complete for a completion that was never claimed.
    """

    id: UUID
    message_id: UUID
    status: CompletionStatus
    epoch: int = 0
    end: int = 0
    text: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it can still change."""
        return self.status in {"pending", "in_progress", "cancelling"}


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a command names, or the active leaf; `generation` is how its answer was asked for."""

    id: UUID
    parent_id: UUID | None
    sender: str
    status: MessageStatus
    completion_id: UUID | None = None
    partial_content: str = ""
    generation: Generation = field(default_factory=Generation)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as of the last command decided. `documents` are those of the tenant that commands name.

    `n_open` counts all completions that can still change, `completions` holds those that commands speak of.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    created_at: datetime
    name: str | None = None
    profile_id: UUID | None = None
    is_favorite: bool = False
    version: int = 0
    active_leaf_id: UUID | None = None
    deleted_at: datetime | None = None
    n_open: int = 0
    completions: Mapping[UUID, Completion] = field(default_factory=dict)
    messages: Mapping[UUID, Message] = field(default_factory=dict)
    documents: frozenset[UUID] = frozenset()

    @property
    def open_completions(self) -> list[Completion]:
        """Of those known, in the order in which they were requested."""
        return [completion for completion in self.completions.values() if completion.is_open]

"""Records of `chat.chunks.v1`: what one completion's stream is made of (design §6)."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from schemas.events import Citation, ErrorInfo, TerminalStatus, TokenUsage
from schemas.records import Body


class ChunkRecord(Body):
    """A record of one completion; all of them stand in one partition, whose order is the truth."""

    completion_id: UUID

    def key(self) -> str:
        """The completion's id."""
        return str(self.completion_id)


class AttemptOpened(ChunkRecord):
    """Fences: from here on only this or a higher attempt writes."""

    ce_type: ClassVar[str] = "ragline.chat.attempt_opened.v1"
    attempt: int


class CompletionChunk(ChunkRecord):
    """Text at `[start, end)` code points of `epoch`; `seq` counts from 1 over all attempts and epochs.

    A restart opens the epoch that has its attempt's number, so that no two attempts ever open the same.
    """

    ce_type: ClassVar[str] = "ragline.chat.completion_chunk.v1"
    attempt: int = Field(ge=0)
    epoch: int = Field(ge=0)
    seq: int = Field(ge=1, le=1_000_000)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    text: str


class AttemptFinished(ChunkRecord):
    """The provider ended the answer itself at `end`; a taker commits without calling it again."""

    ce_type: ClassVar[str] = "ragline.chat.attempt_finished.v1"
    attempt: int
    epoch: int
    end: int
    finish_reason: str
    usage: TokenUsage


class StreamEnded(ChunkRecord):
    """The completion is terminal; written through the outbox, in the transaction that made it so."""

    ce_type: ClassVar[str] = "ragline.chat.stream_ended.v1"
    epoch: int
    end: int
    status: TerminalStatus
    message_id: UUID
    model: str | None = None
    finish_reason: str | None = None
    citations: tuple[Citation, ...] = ()
    usage: TokenUsage | None = None
    error: ErrorInfo | None = None

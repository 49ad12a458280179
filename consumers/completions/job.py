"""A claimed completion: what a taker knows before it opens its attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.chunks import AttemptFinished
from schemas.commands import Generation
from schemas.stream_fold import FoldState


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint: the fold's whole state, its text, and the next offset to read (None: from `created_at` - 60 s)."""

    state: FoldState
    text: str
    offset: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt's right to write a completion, for as long as its lease is renewed.

    `status` is `in_progress` or `cancelling`. `barren_attempts` counts this attempt and those right before it that
    brought no new text. `attempt_start` is where the checkpoint's attempt began to write. `model` answers: it took the
    last call, or is the fallback that will take the next; None before the first.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    message_id: UUID
    parent_id: UUID
    status: str
    attempt: int
    barren_attempts: int
    attempt_start: int
    generation: Generation
    model: str | None
    context: dict[str, Any] | None
    base: Base
    created_at: datetime
    requested_by: UUID
    correlation_id: UUID
    cancelled_by: UUID | None
    traceparent: str | None

    @property
    def is_first(self) -> bool:
        """Nobody can have written before: there is nothing to fold."""
        return self.attempt == 1


def base_from_row(row: Any) -> Base:
    """The checkpoint that stands in a completion's row."""
    finished = row["checkpoint_finished"]
    state = FoldState(
        attempt=row["checkpoint_attempt"],
        epoch=row["checkpoint_epoch"],
        end=row["checkpoint_end"],
        seq=row["checkpoint_seq"],
        chunk_ends=tuple(row["chunk_ends"]),
        finished=AttemptFinished.model_validate(finished, extra="ignore") if finished else None,
    )
    return Base(state, row["checkpoint_text"], row["checkpoint_offset"])


def job_from_row(row: Any) -> Job:
    """A claimed row."""
    return Job(
        id=row["id"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        parent_id=row["parent_id"],
        status=row["status"],
        attempt=row["attempt"],
        barren_attempts=row["barren_attempts"],
        attempt_start=row["attempt_start"],
        generation=Generation.model_validate(row["generation"], extra="ignore"),
        model=row["model"],
        context=row["context"],
        base=base_from_row(row),
        created_at=row["created_at"],
        requested_by=row["requested_by"],
        correlation_id=row["correlation_id"],
        cancelled_by=row["cancelled_by"],
        traceparent=row["traceparent"],
    )

"""Completions as their users read them, and as a stream begins with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from producers.edge.caller import Principal
from producers.edge.channel import Base, Owner
from producers.edge.frames import Ending
from schemas.chunks import AttemptFinished
from schemas.events import Citation, ErrorInfo, TokenUsage
from schemas.http import CompletionView
from schemas.stream_fold import FoldState
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

TERMINAL = frozenset({"complete", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class StreamStart:
    """What the row says: the checkpoint to go on from, or, with `ending`, the whole text.

    `attempt` is the newest that was claimed; it may be ahead of the checkpoint's.
    """

    owner: Owner
    base: Base
    attempt: int
    offset: int | None
    created_s: float
    ending: Ending | None


_SELECT = """
SELECT c.*, m.content AS message_content, m.citations AS message_citations
FROM completions c JOIN sessions s ON s.id = c.session_id JOIN messages m ON m.id = c.message_id
WHERE c.id = $1 AND c.tenant_id = $2 AND s.deleted_at IS NULL AND ($3::uuid IS NULL OR c.user_id = $3)
"""


async def completion_by_id(work: UnitOfWork, who: Principal, completion_id: UUID) -> CompletionView | None:
    """The completion, if its session lives and `who` may read it."""
    row = await work.fetchrow(_SELECT, completion_id, who.tenant_id, who.reads_only)
    if row is None:
        return None
    return CompletionView(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        status=row["status"],
        content=_text(row),
        citations=list(_citations(row)),
        model=row["model"],
        finish_reason=row["finish_reason"],
        usage=_usage(row),
        error=_error(row),
        stream_url=f"/api/v1/completions/{row['id']}/stream",
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


async def stream_start(
    work: UnitOfWork, tenant_id: UUID, completion_id: UUID, *, user_id: UUID | None
) -> StreamStart | None:
    """Where a stream of the completion begins; None if there is none, or its session is gone.

    `user_id` None: whoever in the tenant it belongs to.
    """
    row = await work.fetchrow(_SELECT, completion_id, tenant_id, user_id)
    if row is None:
        return None
    finished = row["checkpoint_finished"]
    is_terminal = row["status"] in TERMINAL
    state = FoldState(
        attempt=row["checkpoint_attempt"],
        epoch=row["checkpoint_epoch"],
        end=row["checkpoint_end"],
        seq=row["checkpoint_seq"],
        chunk_ends=tuple(row["chunk_ends"]),
        finished=AttemptFinished.model_validate(finished, extra="ignore") if finished and not is_terminal else None,
    )
    return StreamStart(
        owner=Owner(row["tenant_id"], row["user_id"], row["session_id"], row["message_id"]),
        base=Base(state, _text(row)),
        attempt=row["attempt"],
        offset=row["checkpoint_offset"],
        created_s=row["created_at"].timestamp(),
        ending=_ending(row) if is_terminal else None,
    )


async def session_of_completion(work: UnitOfWork, who: Principal, completion_id: UUID) -> UUID | None:
    """Which living session of `who` the completion belongs to."""
    found: UUID | None = await work.fetchval(
        "SELECT s.id FROM completions c JOIN sessions s ON s.id = c.session_id"
        " WHERE c.id = $1 AND s.tenant_id = $2 AND s.user_id = $3 AND s.deleted_at IS NULL",
        completion_id,
        who.tenant_id,
        who.user_id,
    )
    return found


def _text(row: asyncpg.Record) -> str:
    """A whole answer stands in its message alone, any other in its checkpoint."""
    text: str = row["message_content"] if row["status"] == "complete" else row["checkpoint_text"]
    return text


def _citations(row: asyncpg.Record) -> tuple[Citation, ...]:
    if row["status"] != "complete":
        return ()
    return tuple(Citation.model_validate(citation, extra="ignore") for citation in row["message_citations"])


def _usage(row: asyncpg.Record) -> TokenUsage | None:
    if row["input_tokens"] + row["output_tokens"] == 0:
        return None
    return TokenUsage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=row["cost_usd"],
        estimated=row["usage_estimated"],
    )


def _error(row: asyncpg.Record) -> ErrorInfo | None:
    if row["error_code"] is None:
        return None
    return ErrorInfo(code=row["error_code"], message=row["error_message"] or "")


def _ending(row: asyncpg.Record) -> Ending:
    return Ending(
        completion_id=row["id"],
        message_id=row["message_id"],
        epoch=row["checkpoint_epoch"],
        end=row["checkpoint_end"],
        status=row["status"],
        model=row["model"],
        finish_reason=row["finish_reason"],
        citations=_citations(row),
        usage=_usage(row),
        error=_error(row),
    )

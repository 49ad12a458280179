"""Sessions as their users read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from producers.edge.caller import Principal
from schemas.http import SessionView
from storage.postgres.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import asyncpg

_COLUMNS = "id, user_id, name, profile_id, is_favorite, created_at, updated_at"


async def session_by_id(work: UnitOfWork, who: Principal, session_id: UUID) -> SessionView | None:
    """The session, if it lives and `who` may read it."""
    row = await work.fetchrow(
        f"SELECT {_COLUMNS} FROM sessions"  # noqa: S608
        " WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL AND ($3::uuid IS NULL OR user_id = $3)",
        session_id,
        who.tenant_id,
        who.reads_only,
    )
    return _view(row) if row is not None else None


async def list_sessions(
    work: UnitOfWork,
    who: Principal,
    *,
    user_id: UUID,
    favorite: bool | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[SessionView]:
    """A user's sessions, newest first, those after `after`."""
    rows = await work.fetch(
        f"SELECT {_COLUMNS} FROM sessions"  # noqa: S608
        " WHERE tenant_id = $1 AND user_id = $2 AND deleted_at IS NULL AND ($3::bool IS NULL OR is_favorite = $3)"
        " AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))"
        " ORDER BY created_at DESC, id DESC LIMIT $6",
        who.tenant_id,
        user_id,
        favorite,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )
    return [_view(row) for row in rows]


def _view(row: asyncpg.Record) -> SessionView:
    return SessionView(**dict(row))

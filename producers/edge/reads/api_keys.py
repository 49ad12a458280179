"""Keys that the edge's own state does not know."""

from __future__ import annotations

from schemas.events import ApiKeyState
from storage.postgres.unit_of_work import UnitOfWork


async def key_by_hash(work: UnitOfWork, hashed: str) -> ApiKeyState | None:
    """The key that has this hash, unless it was revoked."""
    row = await work.fetchrow(
        "SELECT k.id, k.tenant_id, k.user_id, u.role, k.hash, k.scopes, k.expires_at FROM api_keys k"
        " JOIN users u ON u.id = k.user_id WHERE k.hash = $1 AND k.revoked_at IS NULL",
        hashed,
    )
    if row is None:
        return None
    return ApiKeyState(
        key_id=row["id"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        role=row["role"],
        hash=row["hash"],
        scopes=tuple(row["scopes"]),
        expires_at=row["expires_at"],
    )

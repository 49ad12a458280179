"""Tenants, users and API keys; every change is told on `identity.state.v1` through the outbox."""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID

from schemas.envelope import Envelope
from schemas.events import ApiKeyState, UserState
from schemas.ids import derived_id
from schemas.topics import IDENTITY_STATE
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord
from storage.postgres.unit_of_work import UnitOfWork

DEFAULT_TENANT = derived_id("tenant", "default")
"""The tenant of the first key: it has no limits."""
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


def hash_key(key: str) -> str:
    """SHA-256 (hex) of an API key: keys are random, so no salt and no slow hash are needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def hash_password(password: str) -> str:
    """`scrypt$<salt>$<hash>`, hex (RFC 7914; n = 2^14, r = 8, p = 1)."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT).hex()}"


async def ensure_first_tenant(work: UnitOfWork, *, email: str, password: str, api_key: str) -> list[OutboxRecord]:
    """The tenant, its admin and its first key stand; nothing changes the second time. Publish what is returned."""
    tenant_id = DEFAULT_TENANT
    await work.execute("INSERT INTO tenants (id, name) VALUES ($1, 'default') ON CONFLICT DO NOTHING", tenant_id)
    user_id = derived_id("user", tenant_id, email)
    created = await work.execute(
        "INSERT INTO users (id, tenant_id, email, role, password_hash) VALUES ($1, $2, $3, 'admin', $4)"
        " ON CONFLICT DO NOTHING",
        user_id,
        tenant_id,
        email,
        hash_password(password),
    )
    if not created:
        user_id = await work.fetchval("SELECT id FROM users WHERE email = $1", email)
    return await _ensure_key(work, tenant_id, user_id, email, hash_key(api_key))


async def _ensure_key(work: UnitOfWork, tenant_id: UUID, user_id: UUID, email: str, hashed: str) -> list[OutboxRecord]:
    key_id = derived_id("key", hashed)
    created = await work.execute(
        "INSERT INTO api_keys (id, tenant_id, user_id, hash, name) VALUES ($1, $2, $3, $4, 'first key')"
        " ON CONFLICT DO NOTHING",
        key_id,
        tenant_id,
        user_id,
        hashed,
    )
    if not created:
        return []
    user = UserState(user_id=user_id, tenant_id=tenant_id, email=email, role="admin")
    key = ApiKeyState(key_id=key_id, tenant_id=tenant_id, user_id=user_id, role="admin", hash=hashed)
    envelopes = [Envelope(body=body, tenant_id=tenant_id, source="identity") for body in (user, key)]
    return await outbox.add(work, [(IDENTITY_STATE, envelope) for envelope in envelopes])

"""API keys: hashed, and looked up in the state that `identity.state.v1` tells (design §5.1)."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from uuid import UUID

from producers.edge.bounded_map import BoundedMap
from producers.edge.caller import Principal
from producers.edge.problems import unauthorized
from producers.edge.reads.api_keys import key_by_hash
from producers.edge.reads.bounded import Reads
from schemas.events import ApiKeyState

_BEARER = re.compile(rb"[Bb]earer ([0-9a-f]{64})")

UNKNOWN_FOR_S = 5.0
"""How long a key that nobody has is not asked for again."""
LOOKED_UP_FOR_S = 30.0
"""How long a key is good that PostgreSQL knows and the log has not told yet."""


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    expires_at: float | None  # Unix time


@dataclass(frozen=True, slots=True)
class _LookedUp:
    known: _Known | None
    until: float  # monotonic


class KeyRing:
    """Every living key by its hash, as `identity.state.v1` has told so far."""

    def __init__(self) -> None:
        self._by_hash: dict[str, _Known] = {}
        self._hash_of: dict[UUID, str] = {}
        self._gone: BoundedMap[UUID, None] = BoundedMap(10_000)

    def __len__(self) -> int:
        return len(self._by_hash)

    def set(self, state: ApiKeyState) -> None:
        """The key's newest state."""
        self._forget(state.key_id)
        self._gone.discard(state.key_id)
        self._hash_of[state.key_id] = state.hash
        self._by_hash[state.hash] = _known(state)

    def remove(self, key_id: UUID) -> None:
        """The key is gone."""
        self._forget(key_id)
        self._gone.put(key_id, None)

    def get(self, hashed: str) -> _Known | None:
        """The key that has this hash."""
        return self._by_hash.get(hashed)

    def is_gone(self, key_id: UUID) -> bool:
        """Whether the log has said that the key is gone."""
        return key_id in self._gone

    def _forget(self, key_id: UUID) -> None:
        hashed = self._hash_of.pop(key_id, None)
        if hashed is not None:
            self._by_hash.pop(hashed, None)


class Authenticator:
    """Tells who a key belongs to."""

    def __init__(self, ring: KeyRing, reads: Reads) -> None:
        self._ring = ring
        self._reads = reads
        self._looked_up: BoundedMap[str, _LookedUp] = BoundedMap(10_000)

    def known(self, authorization: bytes | None) -> Principal | None:
        """Who it is, without asking anybody; None: `look_up` must say. Raises: Reject 401."""
        hashed = _hash_of(authorization)
        known = self._ring.get(hashed)
        return None if known is None else _living(known)

    async def look_up(self, authorization: bytes | None) -> Principal:
        """Who it is, by PostgreSQL. Raises: Reject 401; Unavailable."""
        hashed = _hash_of(authorization)
        found = self._looked_up.get(hashed)
        if found is None or found.until < time.monotonic():
            state = await self._reads(None, lambda work: key_by_hash(work, hashed))
            lives_s = UNKNOWN_FOR_S if state is None else LOOKED_UP_FOR_S
            found = _LookedUp(None if state is None else _known(state), time.monotonic() + lives_s)
            self._looked_up.put(hashed, found)
        if found.known is None or self._ring.is_gone(found.known.principal.key_id):
            raise unauthorized()
        return _living(found.known)


def _hash_of(authorization: bytes | None) -> str:
    match = _BEARER.fullmatch(authorization) if authorization is not None else None
    if match is None:
        raise unauthorized()
    return hashlib.sha256(match[1]).hexdigest()


def _known(state: ApiKeyState) -> _Known:
    principal = Principal(state.tenant_id, state.user_id, state.role, state.key_id)
    return _Known(principal, state.expires_at.timestamp() if state.expires_at is not None else None)


def _living(known: _Known) -> Principal:
    if known.expires_at is not None and known.expires_at <= time.time():
        raise unauthorized()
    return known.principal

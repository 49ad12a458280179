"""Identifiers: UUIDv7 for what is new, UUIDv5 for what must be the same again (RFC 9562)."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID, uuid5

import orjson
import uuid_utils

NAMESPACE = UUID("6f1d3c1e-52a5-5a0e-9a55-7a2f0c9b6d10")
"""Root of every derived id; changing it breaks idempotency with what was accepted before."""


def new_id() -> UUID:
    """A UUIDv7: unique, and sortable by time of creation."""
    return UUID(int=uuid_utils.uuid7().int)


def new_id_text() -> str:
    """As `new_id`, in its text form: for records by the thousand."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: object) -> UUID:
    """The UUIDv5 over `parts`; equal parts give equal ids, on every machine."""
    return uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))


def canonical_hash(body: Any) -> str:
    """SHA-256 (hex) of `body` as JSON with sorted keys and no white space."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()


def advisory_key(*parts: object) -> int:
    """A signed 64-bit key for PostgreSQL's advisory locks, from the same derivation."""
    return int.from_bytes(derived_id(*parts).bytes[:8], "big", signed=True)

"""What `decide` knows of a tenant's documents: those that commands name, and who holds their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Document:
    """A document as of the last command decided."""

    id: UUID
    tenant_id: UUID
    name: str
    latest_version: int = 1
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """The documents of one tenant. `by_bytes`: SHA-256 → the living document that has these bytes.

    A tenant is one aggregate here, because the same bytes may stand only once in it.
    """

    tenant_id: UUID
    documents: Mapping[UUID, Document] = field(default_factory=dict)
    by_bytes: Mapping[str, Document] = field(default_factory=dict)

"""What `decide` knows of a tenant's documents: those that commands name, and who holds their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from schemas.attributes import AttributeValue

VersionKey = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Document:
    """A document as of the last command decided; `latest_request` counts what was asked of it."""

    id: UUID
    tenant_id: UUID
    name: str
    type: str = "document"
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    active_version: int | None = None
    latest_version: int = 1
    latest_request: int = 1
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a document and the last request for it. `is_parsed` if its passages stand."""

    document_id: UUID
    document_name: str
    number: int
    request: int
    sha256: str
    status: str = "queued"
    is_parsed: bool = False

    @property
    def key(self) -> VersionKey:
        """Which version it is, among all."""
        return self.document_id, self.number


@dataclass(frozen=True, slots=True)
class Library:
    """The documents of one tenant. `by_bytes`: SHA-256 → the version of a living document that has these bytes.

    A tenant is one aggregate here, because the same bytes may stand only once in it.
    """

    tenant_id: UUID
    documents: Mapping[UUID, Document] = field(default_factory=dict)
    versions: Mapping[VersionKey, Version] = field(default_factory=dict)
    by_bytes: Mapping[str, VersionKey] = field(default_factory=dict)

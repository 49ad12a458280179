"""Every table. SQLModel defines them and serves reads; hot writes are `unnest` statements in the stores."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, Identity, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlmodel import Field, SQLModel

from storage.postgres.columns import Xid8, default_of, inserted_at, timestamp

OPEN_STATUSES = ("pending", "in_progress", "cancelling")


class TenantRow(SQLModel, table=True):
    """An organisation; all data has one."""

    __tablename__ = "tenants"
    id: UUID = Field(primary_key=True)
    name: str = Field(unique=True)
    created_at: datetime = inserted_at()


class UserRow(SQLModel, table=True):
    """A person in a tenant."""

    __tablename__ = "users"
    id: UUID = Field(primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenants.id", index=True)
    email: str = Field(unique=True)
    full_name: str | None = None
    role: str = default_of("user")
    password_hash: str | None = None
    created_at: datetime = inserted_at()


class ApiKeyRow(SQLModel, table=True):
    """A key's hash and reach; the key itself is nowhere stored."""

    __tablename__ = "api_keys"
    id: UUID = Field(primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenants.id", index=True)
    user_id: UUID = Field(foreign_key="users.id")
    hash: str = Field(unique=True)
    name: str = default_of("")
    scopes: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"))
    expires_at: datetime | None = Field(default=None, sa_column=timestamp())
    revoked_at: datetime | None = Field(default=None, sa_column=timestamp())
    created_at: datetime = inserted_at()


class SessionRow(SQLModel, table=True):
    """A chat. `active_leaf_id` is the newest message of the active path; `version` counts its events."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(
            "sessions_by_user", "tenant_id", "user_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")
        ),
    )
    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    user_id: UUID
    name: str | None = None
    profile_id: UUID | None = None
    is_favorite: bool = default_of(False)
    version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    active_leaf_id: UUID | None = None
    created_at: datetime = inserted_at()
    updated_at: datetime = inserted_at()
    deleted_at: datetime | None = Field(default=None, sa_column=timestamp())


class MessageRow(SQLModel, table=True):
    """One turn. An `ai` message exists from the post on and is filled by its completion."""

    __tablename__ = "messages"
    __table_args__ = (Index("messages_by_session", "session_id", "id"), Index("messages_by_parent", "parent_id"))
    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    parent_id: UUID | None = None
    sender: str
    status: str
    content: str = default_of("")
    partial_content: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    citations: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSONB, nullable=False, server_default="[]")
    )
    completion_id: UUID | None = None
    model: str | None = None
    usage: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    created_at: datetime = inserted_at()
    updated_at: datetime = inserted_at()


class MessageWordsRow(SQLModel, table=True):
    """The words of a message with text, as of its `updated_at`, and its user's id as one more of them."""

    __tablename__ = "message_words"
    __table_args__ = (
        Index("message_words_words", "words", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512}),
    )
    message_id: UUID = Field(primary_key=True)
    tenant_id: UUID
    words: str = Field(sa_column=Column(TSVECTOR, nullable=False))
    updated_at: datetime = Field(sa_column=timestamp(nullable=False))


class CompletionRow(SQLModel, table=True):
    """One run that fills an `ai` message: its lease, its context and the checkpoint of its stream.

    `checkpoint_*` is the fold's whole state with its text, as of `checkpoint_offset` (the next offset to
    read; null: fold from `created_at` - 60 s); `attempt_start` is where the checkpoint's attempt began to write.
    The token columns are sums over the attempts. `queue_no` orders the completions of a session.
    """

    __tablename__ = "completions"
    __table_args__ = (
        Index(
            "completions_one_running_per_session",
            "session_id",
            unique=True,
            postgresql_where=text("status IN ('in_progress', 'cancelling')"),
        ),
        Index(
            "completions_open",
            "session_id",
            "queue_no",
            postgresql_where=text("status IN ('pending', 'in_progress', 'cancelling')"),
        ),
        Index("completions_waiting", "tenant_id", "created_at", postgresql_where=text("status = 'pending'")),
    )
    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    message_id: UUID
    parent_id: UUID
    status: str = default_of("pending")
    queue_no: int = Field(sa_column=Column(BigInteger, nullable=False))
    generation: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    traceparent: str | None = None
    requested_by: UUID
    correlation_id: UUID
    cancelled_by: UUID | None = None
    context: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    model: str | None = None
    attempt: int = default_of(0)
    barren_attempts: int = default_of(0)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=timestamp())
    not_before: datetime | None = Field(default=None, sa_column=timestamp())
    checkpoint_attempt: int = default_of(0)
    checkpoint_epoch: int = default_of(0)
    checkpoint_end: int = default_of(0)
    checkpoint_seq: int = default_of(0)
    chunk_ends: list[int] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False, server_default="[]"))
    checkpoint_text: str = default_of("")
    checkpoint_finished: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    checkpoint_offset: int | None = Field(default=None, sa_column=Column(BigInteger))
    attempt_start: int = default_of(0)
    input_tokens: int = default_of(0)
    output_tokens: int = default_of(0)
    cost_usd: float | None = None
    usage_estimated: bool = default_of(False)
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime = inserted_at()
    finished_at: datetime | None = Field(default=None, sa_column=timestamp())


class InboxRow(SQLModel, table=True):
    """A command that took effect; `command_id` tells another body under the same key apart.

    `refused_time` is the time of a command that was refused for now and may be sent again under its key.
    """

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_age", "at", postgresql_using="brin"),)
    consumer: str = Field(primary_key=True)
    key: UUID = Field(primary_key=True)
    command_id: UUID
    at: datetime = inserted_at()
    refused_time: datetime | None = Field(default=None, sa_column=timestamp())


class OutboxRow(SQLModel, table=True):
    """A record exactly as it will stand on its topic. Kept 31 days."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_age", "created_at", postgresql_using="brin"),
        Index("outbox_by_cause", "causation_id"),
        Index("outbox_feed", "tenant_id", "xact_id", "seq"),
    )
    id: UUID = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    xact_id: int = Field(sa_column=Column(Xid8, nullable=False, server_default=text("pg_current_xact_id()")))
    tenant_id: UUID
    causation_id: UUID | None = None
    topic: str
    key: str
    type: str
    headers: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = inserted_at()
    issued_again_at: datetime | None = Field(default=None, sa_column=timestamp())


class UnpublishedRow(SQLModel, table=True):
    """An outbox record that the broker is not known to have: apart, for a mark must not rewrite the wide row."""

    __tablename__ = "outbox_unpublished"
    id: UUID = Field(primary_key=True)
    created_at: datetime = inserted_at()


class DocumentRow(SQLModel, table=True):
    """A document of a tenant. Search sees `active_version` only; `latest_version` is the highest number given.

    `latest_request` counts uploads and restores: the version with this `request` is the one last asked for.
    A deleted one is purged once its blobs and vectors are gone too.
    """

    __tablename__ = "documents"
    __table_args__ = (
        Index("documents_by_tenant", "tenant_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("documents_by_type", "tenant_id", "type", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "documents_to_purge", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL AND purged_at IS NULL")
        ),
    )
    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    user_id: UUID
    name: str
    type: str = default_of("document")
    tags: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"))
    attributes: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSONB, nullable=False, server_default="{}")
    )
    active_version: int | None = None
    latest_version: int = default_of(1)
    latest_request: int = default_of(1)
    created_at: datetime = inserted_at()
    updated_at: datetime = inserted_at()
    deleted_at: datetime | None = Field(default=None, sa_column=timestamp())
    purged_at: datetime | None = Field(default=None, sa_column=timestamp())


class DocumentAttributeRow(SQLModel, table=True):
    """An attribute of a living document, by which a search finds it; `value` is its JSON."""

    __tablename__ = "document_attributes"
    __table_args__ = (Index("document_attributes_by_value", "tenant_id", "name", "value", "document_id"),)
    document_id: UUID = Field(primary_key=True)
    name: str = Field(primary_key=True)
    tenant_id: UUID
    value: str


class DocumentVersionRow(SQLModel, table=True):
    """The bytes of a document at one time, and how far they are learnt; also the leased job that learns them.

    Of those indexed the highest `request` is active; any other has `superseded_at` until its vectors are removed.
    """

    __tablename__ = "document_versions"
    __table_args__ = (
        Index(
            "document_versions_same_bytes",
            "tenant_id",
            "sha256",
            unique=True,
            postgresql_where=text("status NOT IN ('failed', 'deleted')"),
        ),
        Index(
            "document_versions_open",
            "tenant_id",
            "created_at",
            postgresql_where=text("status IN ('queued', 'parsing', 'embedding', 'indexing')"),
        ),
        Index("document_versions_superseded", "superseded_at", postgresql_where=text("superseded_at IS NOT NULL")),
    )
    document_id: UUID = Field(primary_key=True, foreign_key="documents.id")
    version: int = Field(primary_key=True)
    tenant_id: UUID
    user_id: UUID
    request: int = default_of(1)
    status: str = default_of("queued")
    error_code: str | None = None
    error_message: str | None = None
    requested_by: UUID
    correlation_id: UUID
    traceparent: str | None = None
    blob_key: str
    sha256: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    media_type: str | None = None
    embedding_model: str | None = None
    n_pages: int = default_of(0)
    n_passages: int = default_of(0)
    n_tokens: int = default_of(0)
    target_tokens: int | None = None
    max_tokens: int | None = None
    n_batches: int = default_of(0)
    n_embedded: int = default_of(0)
    attempt: int = default_of(0)
    barren_attempts: int = default_of(0)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=timestamp())
    not_before: datetime | None = Field(default=None, sa_column=timestamp())
    started_at: datetime | None = Field(default=None, sa_column=timestamp())
    superseded_at: datetime | None = Field(default=None, sa_column=timestamp())
    created_at: datetime = inserted_at()
    updated_at: datetime = inserted_at()


class PassageRow(SQLModel, table=True):
    """A piece of a version's text at `[span_start, span_end)` code points; `page` counts from 1."""

    __tablename__ = "passages"
    __table_args__ = (Index("passages_of_version", "document_id", "version", "ordinal", unique=True),)
    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    document_id: UUID
    version: int
    batch: int
    ordinal: int
    text: str
    page: int | None = None
    span_start: int
    span_end: int
    heading_path: list[str] = Field(
        default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}")
    )
    n_tokens: int
    content_hash: str


class DocumentBatchRow(SQLModel, table=True):
    """A checkpointed batch: embedded once, indexed once."""

    __tablename__ = "document_batches"
    document_id: UUID = Field(primary_key=True)
    version: int = Field(primary_key=True)
    batch: int = Field(primary_key=True)
    tenant_id: UUID
    n_rows: int
    blob_key: str | None = None
    embedded_at: datetime | None = Field(default=None, sa_column=timestamp())
    indexed_at: datetime | None = Field(default=None, sa_column=timestamp())


class DeadLetterActionRow(SQLModel, table=True):
    """What was done with a dead letter, by whom and when: `partition` and `offset` are those in `<topic>.dlq`."""

    __tablename__ = "dead_letter_actions"
    topic: str = Field(primary_key=True)
    partition: int = Field(primary_key=True)
    offset: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    action: str = Field(primary_key=True)
    by: str
    at: datetime = inserted_at()
    record_id: str | None = None
    tenant_id: UUID | None = None


class EmbeddingCacheRow(SQLModel, table=True):
    """A vector (float32, little-endian) by the SHA-256 of its text, and the day of its last use."""

    __tablename__ = "embedding_cache"
    __table_args__ = (Index("embedding_cache_used", "used_on"),)
    tenant_id: UUID = Field(primary_key=True)
    model: str = Field(primary_key=True)
    content_hash: bytes = Field(primary_key=True)
    vector: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    used_on: date = Field(sa_column=Column(Date, nullable=False, server_default=text("CURRENT_DATE")))

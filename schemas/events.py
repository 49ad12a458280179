"""Events: past tense, facts that followed from a command or from work."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.attributes import Attributes
from schemas.commands import Generation
from schemas.records import Body

TerminalStatus = Literal["complete", "failed", "cancelled"]
CompletionStatus = Literal["pending", "in_progress", "cancelling", "complete", "failed", "cancelled"]
MessageStatus = Literal["pending", "in_progress", "complete", "failed", "cancelled"]


class ErrorInfo(Body):
    """Why something ended badly: `code` is stable, `message` is a sentence for a person."""

    code: str
    message: str


class Citation(Body):
    """A quote that stands in a document at `[start, end)` code points of its text; `page` counts from 1."""

    document_id: UUID
    version: int
    page: int | None
    start: int
    end: int
    quote: str


class TokenUsage(Body):
    """Tokens of one answer over all its attempts; `cost_usd` is None where no price is known."""

    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None
    estimated: bool = False


class SessionEvent(Body):
    """A fact of one session; projections ignore an older `session_version`."""

    session_id: UUID
    session_version: int

    def key(self) -> str:
        """The session's id."""
        return str(self.session_id)


class SessionCreated(SessionEvent):
    """A chat was opened."""

    ce_type: ClassVar[str] = "ragline.chat.session_created.v1"
    name: str | None
    profile_id: UUID | None
    created_at: datetime


class SessionRenamed(SessionEvent):
    """A chat got a name; `automatic` when it came from its first message."""

    ce_type: ClassVar[str] = "ragline.chat.session_renamed.v1"
    name: str
    automatic: bool = False


class FavoriteSet(SessionEvent):
    """A chat was marked or unmarked as favourite."""

    ce_type: ClassVar[str] = "ragline.chat.favorite_set.v1"
    is_favorite: bool


class SessionDeleted(SessionEvent):
    """A chat was deleted."""

    ce_type: ClassVar[str] = "ragline.chat.session_deleted.v1"


class MessagePosted(SessionEvent):
    """A user's turn stands in the session."""

    ce_type: ClassVar[str] = "ragline.chat.message_posted.v1"
    message_id: UUID
    parent_id: UUID | None
    edited_id: UUID | None = None
    content: str
    created_at: datetime


class CompletionRequested(SessionEvent):
    """An answer is to be written into the ai message `message_id`; `prefix_end` code points of it stand already."""

    ce_type: ClassVar[str] = "ragline.chat.completion_requested.v1"
    completion_id: UUID
    message_id: UUID
    parent_id: UUID
    generation: Generation
    prefix_end: int = 0
    created_at: datetime


class CancelRequested(SessionEvent):
    """A cancel was decided: `status` is what the completion is now (a terminal one stays as it was)."""

    ce_type: ClassVar[str] = "ragline.chat.cancel_requested.v1"
    completion_id: UUID
    status: CompletionStatus


class CompletionEnded(SessionEvent):
    """What the three terminal events share."""

    completion_id: UUID
    message_id: UUID
    attempt: int
    model: str | None = None
    usage: TokenUsage | None = None


class CompletionCompleted(CompletionEnded):
    """The whole answer."""

    ce_type: ClassVar[str] = "ragline.chat.completion_completed.v1"
    content: str
    citations: tuple[Citation, ...]
    finish_reason: str


class CompletionFailed(CompletionEnded):
    """The answer could not be finished; what was written is kept."""

    ce_type: ClassVar[str] = "ragline.chat.completion_failed.v1"
    partial_content: str
    error: ErrorInfo


class CompletionCancelled(CompletionEnded):
    """The answer was cancelled; what was written is kept."""

    ce_type: ClassVar[str] = "ragline.chat.completion_cancelled.v1"
    partial_content: str


class CommandRejected(Body):
    """A command had no effect. `causationid` of the envelope names the command."""

    ce_type: ClassVar[str] = "ragline.command.rejected.v1"
    subject: str
    command_type: str
    code: str
    status: int = Field(ge=200, le=599)
    detail: str
    field: str | None = None
    extra: dict[str, str | int] = Field(default_factory=dict)

    def key(self) -> str:
        """The subject of the command: its session's or document's id."""
        return self.subject


class DocumentEvent(Body):
    """A fact of one version of a document."""

    document_id: UUID
    version: int

    def key(self) -> str:
        """The document's id."""
        return str(self.document_id)


class DocumentUploaded(DocumentEvent):
    """The version is registered and queued. `request` numbers what was asked of the document: the last one wins."""

    ce_type: ClassVar[str] = "ragline.knowledge.document_uploaded.v1"
    name: str
    type: str
    media_type: str | None
    size_bytes: int
    sha256: str
    tags: tuple[str, ...] = ()
    attributes: Attributes = Field(default_factory=dict)
    created_at: datetime
    request: int = 1


class DocumentUpdated(Body):
    """The document has this name, type, tags and attributes now, whatever its version."""

    ce_type: ClassVar[str] = "ragline.knowledge.document_updated.v1"
    document_id: UUID
    name: str
    type: str
    tags: tuple[str, ...]
    attributes: Attributes = Field(default_factory=dict)

    def key(self) -> str:
        """The document's id."""
        return str(self.document_id)


class RestoreRequested(DocumentEvent):
    """An earlier version was asked for again: `status` is what it is now, `indexed` if it is the active one.

    Any other becomes active as soon as it is indexed. `request` is as in DocumentUploaded.
    """

    ce_type: ClassVar[str] = "ragline.knowledge.restore_requested.v1"
    request: int
    status: Literal["queued", "parsing", "embedding", "indexing", "indexed"]


class DocumentParsing(DocumentEvent):
    """It is being read: `n_parsed` of `n_pages` pages so far; 0 of 0 where there are none, or they are not counted yet.

    Told of what takes longer than a second. `eta_s` estimates the seconds until it is read.
    """

    ce_type: ClassVar[str] = "ragline.knowledge.document_parsing.v1"
    n_parsed: int = 0
    n_pages: int = 0
    eta_s: float | None = None


class DocumentParsed(DocumentEvent):
    """Its text and passages are known."""

    ce_type: ClassVar[str] = "ragline.knowledge.document_parsed.v1"
    media_type: str
    n_pages: int
    n_passages: int
    n_tokens: int


class PassagesEmbedded(DocumentEvent):
    """`n_embedded` of its passages have vectors that outlive the worker."""

    ce_type: ClassVar[str] = "ragline.knowledge.passages_embedded.v1"
    n_embedded: int
    n_passages: int
    eta_s: float | None = None


class DocumentIndexed(DocumentEvent):
    """The version is learnt. `is_active`: search finds it from now on, and no other version of the document.

    False where a later request was faster.
    """

    ce_type: ClassVar[str] = "ragline.knowledge.document_indexed.v1"
    n_pages: int
    n_passages: int
    n_tokens: int
    is_active: bool = True


class DocumentFailed(DocumentEvent):
    """The version will not be learnt; `error` says why. An earlier one that is active stays so."""

    ce_type: ClassVar[str] = "ragline.knowledge.document_failed.v1"
    error: ErrorInfo


class DocumentDeleted(DocumentEvent):
    """The document is gone for every reader."""

    ce_type: ClassVar[str] = "ragline.knowledge.document_deleted.v1"


class UsageRecorded(Body):
    """Tokens of one call to a model, counted once; `estimated` where the attempt could not say itself.

    An attempt has one for its answer, and one for the query if the auxiliary model wrote that.
    """

    ce_type: ClassVar[str] = "ragline.usage.usage_recorded.v1"
    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    completion_id: UUID
    attempt: int
    purpose: Literal["answer", "query"] = "answer"
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    estimated: bool

    def key(self) -> str:
        """The tenant's id."""
        return str(self.tenant_id)


class ApiKeyState(Body):
    """A key's full state. `hash` is the SHA-256 (hex) of the key; the key itself is nowhere stored."""

    ce_type: ClassVar[str] = "ragline.identity.api_key.v1"
    key_id: UUID
    tenant_id: UUID
    user_id: UUID
    role: Literal["user", "admin", "operator"]
    hash: str
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None

    def key(self) -> str:
        """`key:<id>`."""
        return f"key:{self.key_id}"


class UserState(Body):
    """A user's full state."""

    ce_type: ClassVar[str] = "ragline.identity.user.v1"
    user_id: UUID
    tenant_id: UUID
    email: str
    role: Literal["user", "admin", "operator"]

    def key(self) -> str:
        """`user:<id>`."""
        return f"user:{self.user_id}"

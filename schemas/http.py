"""Bodies of the HTTP API (design §8): what clients send, and what they are given.

Requests are read strictly (no number from a string) and refuse unknown fields; every text in them is free of
U+0000 and of lone surrogates, which neither PostgreSQL nor UTF-8 can hold.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.attributes import Attributes, SentAttributes
from schemas.events import Citation, CompletionStatus, ErrorInfo, MessageStatus, TokenUsage
from schemas.moments import Moment
from schemas.records import may_gain_fields
from schemas.texts import refuse_blank, refuse_hiding, refuse_nul

MAX_CONTENT_CHARS = 100_000
MAX_NAME_CHARS = 200
MAX_DOCUMENT_IDS = 1_000
MAX_TAGS = 50

ItemT = TypeVar("ItemT")

DocumentStatus = Literal["queued", "parsing", "embedding", "indexing", "indexed", "failed"]
SearchMode = Literal["hybrid", "vector", "text"]


Text = Annotated[str, AfterValidator(refuse_nul)]
_FILLED = AfterValidator(lambda text: refuse_blank(refuse_nul(text)))  # after the length: its message says characters
Filled = Annotated[str, _FILLED]
Content = Annotated[str, Field(max_length=MAX_CONTENT_CHARS), _FILLED]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS), _FILLED]
DocumentName = Annotated[str, Field(max_length=500), _FILLED, AfterValidator(refuse_hiding)]
Tags = Annotated[list[Annotated[str, Field(max_length=100), _FILLED]], Field(max_length=MAX_TAGS)]
DocumentType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$")]


class RequestBody(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ResponseBody(BaseModel):
    """What a client is given. Clients ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=may_gain_fields)


class NewSession(RequestBody):
    """Opens a chat; without a name it is named by the first words of its first message."""

    name: Name | None = None
    profile_id: UUID | None = None


class SessionName(RequestBody):
    """Another name for a chat."""

    name: Name


class SessionFavorite(RequestBody):
    """Whether a chat is a favourite."""

    is_favorite: bool


class AnswerOptions(RequestBody):
    """How an answer is to be written; what is absent is the profile's or the model's own."""

    model: Name | None = None
    profile_id: UUID | None = None
    document_ids: Annotated[list[UUID], Field(max_length=MAX_DOCUMENT_IDS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    if_busy: Literal["queue", "reject"] = "queue"


class NewMessage(AnswerOptions):
    """A user's turn, 1 to 100,000 characters (code points)."""

    content: Content
    parent_id: UUID | None = None


class MessageEdit(AnswerOptions):
    """Another wording of an earlier user message; it is answered anew, beside the old one."""

    content: Content


class NewDocument(RequestBody):
    """A document given as text."""

    text: Filled | None = None
    url: Text | None = None
    name: DocumentName | None = None
    type: DocumentType = "document"
    tags: Tags = Field(default_factory=list)
    attributes: SentAttributes = Field(default_factory=dict)


class DocumentChange(RequestBody):
    """What is to be another of a document: text (a new version), name, type, tags, attributes; what is absent stays."""

    text: Filled | None = None
    name: DocumentName | None = None
    type: DocumentType | None = None
    tags: Tags | None = None
    attributes: SentAttributes | None = None


class NewVersion(DocumentChange):
    """A new version as text, or the number of an earlier one to restore."""

    restore: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class SearchFilters(RequestBody):
    """Which documents are searched: those that meet all that is given; all of the tenant's if nothing is.

    Of `types` a document has one, of `tags` and `attributes` all; it was created at `created_after` or later, before
    `created_before`.
    """

    document_ids: Annotated[list[UUID], Field(max_length=MAX_DOCUMENT_IDS)] | None = None
    types: Annotated[list[DocumentType], Field(max_length=MAX_TAGS)] | None = None
    tags: Tags = Field(default_factory=list)
    attributes: SentAttributes = Field(default_factory=dict)
    created_after: Moment | None = None
    created_before: Moment | None = None


class SearchRequest(RequestBody):
    """A question to the tenant's documents."""

    query: Annotated[str, Field(max_length=10_000), _FILLED]
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    filters: SearchFilters = SearchFilters()
    mode: SearchMode = "hybrid"
    rerank: bool = False


class Page(ResponseBody, Generic[ItemT]):
    """A part of a list; `next_cursor` is null at its end."""

    items: list[ItemT]
    next_cursor: str | None = None


class Accepted(ResponseBody):
    """The command is safe in the log and will take effect; its effect was not awaited to the end."""

    id: UUID
    status: Literal["accepted"] = "accepted"


class SessionView(ResponseBody):
    """A chat."""

    id: UUID
    user_id: UUID
    name: str | None
    profile_id: UUID | None
    is_favorite: bool
    created_at: datetime
    updated_at: datetime


class MessageView(ResponseBody):
    """One turn. `partial_content` is what stands of an answer that is not complete."""

    id: UUID
    session_id: UUID
    parent_id: UUID | None = None
    sender: Literal["user", "ai"]
    status: MessageStatus | Literal["accepted"]
    content: str
    partial_content: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    context: dict[str, Any] | None = None
    citations: list[Citation] = Field(default_factory=list)
    completion_id: UUID | None = None
    model: str | None = None
    usage: TokenUsage | None = None
    created_at: datetime


class TextSpan(ResponseBody):
    """Code points `[start, end)` of a text."""

    start: int
    end: int


class FoundMessage(ResponseBody):
    """A message with all of the words. `snippet` is a piece of its text; `highlights` are the words in the snippet."""

    id: UUID
    session_id: UUID
    session_name: str | None
    sender: Literal["user", "ai"]
    status: MessageStatus
    snippet: str
    highlights: list[TextSpan]
    rank: float
    created_at: datetime


class CompletionRef(ResponseBody):
    """The run that writes the `ai` message `message_id` (null if that is not known yet), and where to read it."""

    id: UUID
    message_id: UUID | None
    status: CompletionStatus | Literal["accepted"]
    stream_url: str


class PostedMessage(ResponseBody):
    """The user's message as it stands, and the run that answers it."""

    message: MessageView
    completion: CompletionRef


class RequestedCompletion(ResponseBody):
    """A run that was asked for without a new user message."""

    completion: CompletionRef


class CompletionView(ResponseBody):
    """One run; `content` is what is written of it so far, or in the end."""

    id: UUID
    session_id: UUID
    message_id: UUID
    status: CompletionStatus
    content: str
    citations: list[Citation] = Field(default_factory=list)
    model: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    error: ErrorInfo | None = None
    stream_url: str
    created_at: datetime
    finished_at: datetime | None = None


class CompletionState(ResponseBody):
    """What a cancel has led to."""

    id: UUID
    status: CompletionStatus | Literal["accepted"]


class DocumentProgress(ResponseBody):
    """How far the version that was last asked for is learnt. `eta_s` estimates the seconds of its step."""

    status: DocumentStatus | Literal["accepted", "deleted"]
    step: str
    version: int = 1
    n_pages: int = 0
    n_parsed: int = 0
    n_passages: int = 0
    n_embedded: int = 0
    eta_s: float | None = None
    error: ErrorInfo | None = None


class DocumentView(ResponseBody):
    """A document; `version` is the one last asked for, `active_version` the one that readers and search see.

    `status`, `error`, sizes and counts are those of `version`.
    """

    id: UUID
    name: str
    type: str
    tags: list[str]
    attributes: Attributes = Field(default_factory=dict)
    status: DocumentStatus | Literal["accepted"]
    error: ErrorInfo | None = None
    media_type: str | None = None
    size_bytes: int
    sha256: str
    n_pages: int = 0
    n_passages: int = 0
    n_tokens: int = 0
    version: int = 1
    active_version: int | None = None
    progress: DocumentProgress
    created_at: datetime
    updated_at: datetime


class VersionView(ResponseBody):
    """The bytes of a document at one time, and how far they are learnt; `is_active` if readers and search see them.

    `target_tokens` and `max_tokens` are the size for which its passages were cut, null before they were.
    """

    document_id: UUID
    version: int
    status: DocumentStatus
    error: ErrorInfo | None = None
    is_active: bool
    media_type: str | None = None
    size_bytes: int
    sha256: str
    n_pages: int = 0
    n_passages: int = 0
    n_tokens: int = 0
    target_tokens: int | None = None
    max_tokens: int | None = None
    created_at: datetime
    updated_at: datetime


class Passage(ResponseBody):
    """A piece of a document at `[start, end)` code points of its text; `page` counts from 1."""

    id: UUID
    document_id: UUID
    version: int
    text: str
    page: int | None
    start: int
    end: int
    heading_path: list[str]


class FoundPassage(Passage):
    """A passage and how well it answers; scores compare only within one answer."""

    score: float


class SearchResults(ResponseBody):
    """Best first; no two passages say the same. `reranked`: by whom, null if nobody was asked or could."""

    items: list[FoundPassage]
    reranked: str | None = None


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; `field` and `limit` say what to mend."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | None = None
    limit: int | None = None


class Readiness(ResponseBody):
    """Whether this edge can publish, consume and read; each part says `ok` or what is missing."""

    status: Literal["ready", "unavailable"]
    checks: dict[str, str]


class Health(ResponseBody):
    """A summary for people."""

    status: Literal["ready", "unavailable"]
    version: str
    checks: dict[str, str]
    n_streams: int

"""Commands: imperative, accepted by the edge, decided by exactly one consumer."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.attributes import Attributes
from schemas.records import Body

IfBusy = Literal["queue", "reject"]


class SessionCommand(Body):
    """A command of one session; the session's commands take effect in log order."""

    session_id: UUID

    def key(self) -> str:
        """The session's id."""
        return str(self.session_id)


class CreateSession(SessionCommand):
    """Opens a chat."""

    ce_type: ClassVar[str] = "ragline.chat.create_session.v1"
    name: str | None = None
    profile_id: UUID | None = None


class RenameSession(SessionCommand):
    """Gives a chat another name."""

    ce_type: ClassVar[str] = "ragline.chat.rename_session.v1"
    name: str


class SetFavorite(SessionCommand):
    """Marks or unmarks a chat as favourite."""

    ce_type: ClassVar[str] = "ragline.chat.set_favorite.v1"
    is_favorite: bool


class DeleteSession(SessionCommand):
    """Deletes a chat and ends what runs in it."""

    ce_type: ClassVar[str] = "ragline.chat.delete_session.v1"


class Generation(Body):
    """How an answer is to be written; absent values are the profile's or the model's own."""

    model: str | None = None
    profile_id: UUID | None = None
    document_ids: tuple[UUID, ...] | None = None
    temperature: float | None = None
    max_tokens: int | None = None


class PostMessage(SessionCommand):
    """A user's turn and the request to answer it."""

    ce_type: ClassVar[str] = "ragline.chat.post_message.v1"
    message_id: UUID
    ai_message_id: UUID
    completion_id: UUID
    content: str
    parent_id: UUID | None = None
    generation: Generation = Generation()
    if_busy: IfBusy = "queue"


class EditMessage(SessionCommand):
    """A new wording of an earlier user message: a sibling under the same parent, answered anew."""

    ce_type: ClassVar[str] = "ragline.chat.edit_message.v1"
    edited_id: UUID
    message_id: UUID
    ai_message_id: UUID
    completion_id: UUID
    content: str
    generation: Generation = Generation()
    if_busy: IfBusy = "queue"


class RegenerateMessage(SessionCommand):
    """Another answer beside an earlier one, under the same user message."""

    ce_type: ClassVar[str] = "ragline.chat.regenerate_message.v1"
    regenerated_id: UUID
    ai_message_id: UUID
    completion_id: UUID
    generation: Generation = Generation()
    if_busy: IfBusy = "queue"


class ResumeMessage(SessionCommand):
    """Continues the newest answer of the active path after it failed or was cancelled."""

    ce_type: ClassVar[str] = "ragline.chat.resume_message.v1"
    completion_id: UUID


class CancelCompletion(SessionCommand):
    """Ends a completion; its partial text is kept."""

    ce_type: ClassVar[str] = "ragline.chat.cancel_completion.v1"
    completion_id: UUID


class DocumentCommand(Body):
    """A command of one document."""

    document_id: UUID

    def key(self) -> str:
        """The document's id."""
        return str(self.document_id)


class AddDocument(DocumentCommand):
    """A document whose bytes are already in the blob store."""

    ce_type: ClassVar[str] = "ragline.knowledge.add_document.v1"
    name: str
    type: str = "document"
    tags: tuple[str, ...] = ()
    attributes: Attributes = Field(default_factory=dict)
    media_type: str | None = None
    blob_key: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class ReplaceDocument(DocumentCommand):
    """New bytes, already in the blob store, for a document that stands; what is None stays as it is."""

    ce_type: ClassVar[str] = "ragline.knowledge.replace_document.v1"
    name: str | None = None
    type: str | None = None
    tags: tuple[str, ...] | None = None
    attributes: Attributes | None = None
    media_type: str | None = None
    blob_key: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class UpdateDocument(DocumentCommand):
    """Another name, type, tags or attributes; what is None stays as it is."""

    ce_type: ClassVar[str] = "ragline.knowledge.update_document.v1"
    name: str | None = None
    type: str | None = None
    tags: tuple[str, ...] | None = None
    attributes: Attributes | None = None


class RestoreVersion(DocumentCommand):
    """Makes an earlier version the one that readers see."""

    ce_type: ClassVar[str] = "ragline.knowledge.restore_version.v1"
    version: int = Field(ge=1)


class DeleteDocument(DocumentCommand):
    """Removes a document: its rows, vectors and blobs."""

    ce_type: ClassVar[str] = "ragline.knowledge.delete_document.v1"


class IndexBatch(Body):
    """One batch of embedded passages, by blob reference, for the writer of `table`."""

    ce_type: ClassVar[str] = "ragline.knowledge.index_batch.v1"
    tenant_id: UUID
    document_id: UUID
    version: int
    batch: int = Field(ge=0)
    n_batches: int = Field(ge=1)
    n_rows: int = Field(ge=0)
    table: str
    blob_key: str

    def key(self) -> str:
        """The tenant's id."""
        return str(self.tenant_id)


ChatCommand = (
    CreateSession
    | RenameSession
    | SetFavorite
    | DeleteSession
    | PostMessage
    | EditMessage
    | RegenerateMessage
    | ResumeMessage
    | CancelCompletion
)
KnowledgeCommand = AddDocument | ReplaceDocument | UpdateDocument | RestoreVersion | DeleteDocument

"""The documents' rules: which facts follow from one command. Pure and synchronous."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from consumers.documents.state import Document, Library
from schemas.commands import AddDocument, DeleteDocument
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import DocumentDeleted, DocumentUploaded
from schemas.records import Body


def decide(library: Library | None, command: Envelope, now: datetime) -> list[Body]:
    """Facts that follow from one command, in order. Pure: same input, same facts.

    Raises: Reject(code, status) when the command cannot take effect; nothing else.
    """
    library = library or Library(command.tenant_id)
    match command.body:
        case AddDocument() as body:
            return [_add(library, body, now)]
        case DeleteDocument() as body:
            return [_delete(library, body)]
    raise TypeError(f"the documents have no rule for {command.body.ce_type}")


def _add(library: Library, body: AddDocument, now: datetime) -> DocumentUploaded:
    if body.document_id in library.documents:
        raise Reject("document_exists", 409, "a document with this id exists", field="document_id")
    twin = library.by_bytes.get(body.sha256)
    if twin is not None:
        raise Reject(
            "duplicate_document",
            409,
            f'the document "{twin.name}" ({twin.id}) has the same bytes',
            document_id=str(twin.id),
        )
    return DocumentUploaded(
        document_id=body.document_id,
        version=1,
        name=body.name,
        type=body.type,
        media_type=body.media_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256,
        tags=body.tags,
        created_at=now,
    )


def _delete(library: Library, body: DeleteDocument) -> DocumentDeleted:
    document = library.documents.get(body.document_id)
    if document is None or document.tenant_id != library.tenant_id or document.deleted_at is not None:
        raise Reject("document_not_found", 404, "there is no such document")
    return DocumentDeleted(document_id=document.id, version=document.latest_version)


def evolve(library: Library | None, fact: Body, command: Envelope) -> Library:
    """The library after one more fact."""
    library = library or Library(command.tenant_id)
    match fact:
        case DocumentUploaded():
            document = Document(fact.document_id, command.tenant_id, fact.name)
            return replace(
                library,
                documents={**library.documents, document.id: document},
                by_bytes={**library.by_bytes, fact.sha256: document},
            )
        case DocumentDeleted():
            document = replace(library.documents[fact.document_id], deleted_at=command.time)
            return replace(
                library,
                documents={**library.documents, document.id: document},
                by_bytes={sha: twin for sha, twin in library.by_bytes.items() if twin.id != document.id},
            )
    raise TypeError(f"no state follows from {fact.ce_type}")

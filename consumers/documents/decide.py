"""The documents' rules: which facts follow from one command. Pure and synchronous."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from consumers.documents.state import Document, Library, Version
from schemas.commands import AddDocument, DeleteDocument, ReplaceDocument, RestoreVersion, UpdateDocument
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import DocumentDeleted, DocumentUpdated, DocumentUploaded, RestoreRequested
from schemas.records import Body

_AT_REST = {"indexed", "failed"}


def decide(library: Library | None, command: Envelope, now: datetime) -> list[Body]:
    """Facts that follow from one command, in order. Pure: same input, same facts.

    Raises: Reject(code, status) when the command cannot take effect; nothing else.
    """
    library = library or Library(command.tenant_id)
    match command.body:
        case AddDocument() as body:
            return [_add(library, body, now)]
        case ReplaceDocument() as body:
            return _replace(library, body, now)
        case UpdateDocument() as body:
            document = _living(library, body.document_id)
            return [_updated(document, body)]
        case RestoreVersion() as body:
            return [_restore(library, body)]
        case DeleteDocument() as body:
            document = _living(library, body.document_id)
            return [DocumentDeleted(document_id=document.id, version=document.latest_version)]
    raise TypeError(f"the documents have no rule for {command.body.ce_type}")


def _add(library: Library, body: AddDocument, now: datetime) -> DocumentUploaded:
    if body.document_id in library.documents:
        raise Reject("document_exists", 409, "a document with this id exists", field="document_id")
    twin = _holder(library, body.sha256)
    if twin is not None:
        raise _duplicate(twin)
    return DocumentUploaded(
        document_id=body.document_id,
        version=1,
        name=body.name,
        type=body.type,
        media_type=body.media_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256,
        tags=body.tags,
        attributes=body.attributes,
        created_at=now,
    )


def _replace(library: Library, body: ReplaceDocument, now: datetime) -> list[Body]:
    """A new version; the bytes of an earlier one restore that one."""
    document = _living(library, body.document_id)
    updated = _updated(document, body)
    changes: list[Body] = [] if _as_updated(document) == updated else [updated]
    twin = _holder(library, body.sha256)
    if twin is not None:
        if twin.document_id != document.id or twin.request == document.latest_request:
            raise _duplicate(twin)
        return [*changes, _requested(document, twin)]
    return [
        *changes,
        DocumentUploaded(
            document_id=document.id,
            version=document.latest_version + 1,
            name=updated.name,
            type=updated.type,
            media_type=body.media_type,
            size_bytes=body.size_bytes,
            sha256=body.sha256,
            tags=updated.tags,
            attributes=updated.attributes,
            created_at=now,
            request=document.latest_request + 1,
        ),
    ]


def _restore(library: Library, body: RestoreVersion) -> RestoreRequested:
    document = _living(library, body.document_id)
    version = library.versions.get((document.id, body.version))
    if version is None:
        raise Reject("version_not_found", 404, f"the document has no version {body.version}", field="restore")
    twin = _holder(library, version.sha256)
    if twin is not None and twin.key != version.key:
        raise _duplicate(twin)  # it had failed, and its bytes were sent again since
    return _requested(document, version)


def _requested(document: Document, version: Version) -> RestoreRequested:
    """What is in work goes on; what is not goes back to work, from where its passages and vectors stand."""
    status = version.status
    if status in _AT_REST and version.number != document.active_version:
        status = "embedding" if version.is_parsed else "queued"
    return RestoreRequested.model_validate(
        {
            "document_id": document.id,
            "version": version.number,
            "request": document.latest_request + 1,
            "status": status,
        }
    )


def enters_work(library: Library | None, fact: Body) -> bool:
    """Whether one more version is in work by the fact; `library` is the one before it.

    A restore of what is active, or in work already, adds nothing.
    """
    if isinstance(fact, RestoreRequested):
        before = library.versions[fact.document_id, fact.version].status if library else fact.status
        return before in _AT_REST and fact.status not in _AT_REST
    return isinstance(fact, DocumentUploaded)


def _living(library: Library, document_id: UUID) -> Document:
    document = library.documents.get(document_id)
    if document is None or document.tenant_id != library.tenant_id or document.deleted_at is not None:
        raise Reject("document_not_found", 404, "there is no such document")
    return document


def _holder(library: Library, sha256: str) -> Version | None:
    key = library.by_bytes.get(sha256)
    return None if key is None else library.versions[key]


def _duplicate(twin: Version) -> Reject:
    return Reject(
        "duplicate_document",
        409,
        f'version {twin.number} of the document "{twin.document_name}" ({twin.document_id}) has the same bytes',
        document_id=str(twin.document_id),
        version=twin.number,
    )


def _updated(document: Document, body: ReplaceDocument | UpdateDocument) -> DocumentUpdated:
    return DocumentUpdated(
        document_id=document.id,
        name=document.name if body.name is None else body.name,
        type=document.type if body.type is None else body.type,
        tags=document.tags if body.tags is None else body.tags,
        attributes=dict(document.attributes) if body.attributes is None else body.attributes,
    )


def _as_updated(document: Document) -> DocumentUpdated:
    return DocumentUpdated(
        document_id=document.id,
        name=document.name,
        type=document.type,
        tags=document.tags,
        attributes=dict(document.attributes),
    )


def evolve(library: Library | None, fact: Body, command: Envelope) -> Library:
    """The library after one more fact."""
    library = library or Library(command.tenant_id)
    match fact:
        case DocumentUploaded():
            document = library.documents.get(fact.document_id) or Document(
                fact.document_id, command.tenant_id, fact.name, fact.type, fact.tags, fact.attributes
            )
            document = replace(document, latest_version=fact.version, latest_request=fact.request)
            version = Version(document.id, document.name, fact.version, fact.request, fact.sha256)
            return _with(library, document, version)
        case DocumentUpdated():
            named = replace(
                library.documents[fact.document_id],
                name=fact.name,
                type=fact.type,
                tags=fact.tags,
                attributes=fact.attributes,
            )
            return replace(library, documents={**library.documents, named.id: named})
        case RestoreRequested():
            document = replace(library.documents[fact.document_id], latest_request=fact.request)
            version = library.versions[fact.document_id, fact.version]
            return _with(library, document, replace(version, request=fact.request, status=fact.status))
        case DocumentDeleted():
            document = replace(library.documents[fact.document_id], deleted_at=command.time)
            return replace(
                library,
                documents={**library.documents, document.id: document},
                by_bytes={sha: key for sha, key in library.by_bytes.items() if key[0] != document.id},
            )
    raise TypeError(f"no state follows from {fact.ce_type}")


def _with(library: Library, document: Document, version: Version) -> Library:
    return replace(
        library,
        documents={**library.documents, document.id: document},
        versions={**library.versions, version.key: version},
        by_bytes={**library.by_bytes, version.sha256: version.key},
    )

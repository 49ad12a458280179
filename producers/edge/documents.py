"""Documents: add, list, read, delete, and what is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from producers.edge.caller import Asking, Caller
from producers.edge.cursors import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    after_time,
    clamped,
    encode_cursor,
    invalid_cursor,
    numbers,
)
from producers.edge.document_events import DocumentEvents
from producers.edge.effects import Effects, Identity
from producers.edge.openapi import ref
from producers.edge.problems import Unavailable, not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.documents import Content, content_of, document_by_id, list_documents, list_passages
from producers.edge.requests import path_id, preference
from producers.edge.responses import AsgiResponse, json_response, no_content
from producers.edge.uploads import Uploads
from schemas.commands import DeleteDocument
from schemas.errors import Retry
from schemas.events import DocumentDeleted
from schemas.http import Accepted, DocumentStatus, DocumentView, NewDocument, Page, Passage, Text
from schemas.topics import KNOWLEDGE_COMMANDS
from storage.ports import BlobNotFound, BlobStore

Version = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Of an earlier version, or one in work; else of the active one.")
]
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "name": {"type": "string"},
        "type": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "attributes": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    },
}
DOWNLOAD_URL_HOLDS_S = 300
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}},
    302: {"description": "To the store itself, where the setting `s3_public_endpoint` says that clients reach it."},
}
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


class DocumentRoutes:
    """`/documents`. They belong to the tenant."""

    def __init__(
        self,
        effects: Effects,
        reads: Reads,
        blobs: BlobStore,
        uploads: Uploads,
        events: DocumentEvents,
        *,
        wait_s: float,
    ) -> None:
        self._effects = effects
        self._reads = reads
        self._blobs = blobs
        self._uploads = uploads
        self._events = events
        self._wait_s = wait_s

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes."""
        add = router.add_api_route
        taken = {"multipart/form-data": {"schema": FORM}, "application/json": {"schema": ref(NewDocument)}}
        add(
            "/documents",
            self.create,
            methods=["POST"],
            status_code=202,
            response_model=DocumentView,
            openapi_extra={"requestBody": {"required": True, "content": taken}},
        )
        add("/documents", self.browse, methods=["GET"], response_model=Page[DocumentView])
        one = "/documents/{document_id}"
        add(one, self.get, methods=["GET"], response_model=DocumentView)
        add(one, self.delete, methods=["DELETE"], status_code=204, responses={202: {"model": Accepted}})
        add(f"{one}/passages", self.passages, methods=["GET"], response_model=Page[Passage])
        add(f"{one}/content", self.content, methods=["GET"], response_class=Response, responses=_BINARY)
        add(f"{one}/events", self.events, methods=["GET"], response_class=Response, responses=_EVENTS)

    async def create(self, request: Request, caller: Asking) -> Response:
        """Add a document: a form with `file`, or JSON with `text` and `name`."""
        view, wanted = await self._uploads.add(request.receive, caller)
        return json_response(view, 202, preference_applied=wanted.applied)

    async def browse(
        self,
        caller: Asking,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        status: Annotated[DocumentStatus | None, Query(description="Only those that are so far.")] = None,
        kind: Annotated[Text | None, Query(alias="type", description="Only those of a type.")] = None,
    ) -> Response:
        """List the documents, newest first."""
        tenant_id = caller.principal.tenant_id
        after, size = after_time("documents", tenant_id, cursor), clamped(limit)
        found = await self._reads(
            tenant_id,
            lambda work: list_documents(work, status=status, kind=kind, after=after, limit=size + 1),
        )
        last = found[size - 1] if len(found) > size else None
        next_cursor = encode_cursor("documents", tenant_id, last.created_at.isoformat(), last.id) if last else None
        return json_response(Page[DocumentView](items=list(found[:size]), next_cursor=next_cursor))

    async def get(self, caller: Asking, document_id: str) -> Response:
        """Read a document and how far it is learnt."""
        id_ = path_id(document_id, "document")
        found = await self._reads(caller.principal.tenant_id, lambda work: document_by_id(work, id_))
        if found is None:
            raise not_found("document")
        return json_response(found)

    async def delete(self, caller: Asking, document_id: str) -> Response:
        """Delete a document with all that was learnt from it."""
        wanted = preference(caller.headers, self._wait_s)
        body = DeleteDocument(document_id=path_id(document_id, "document"))
        command = self._effects.command(caller, body, Identity.of(caller), None)
        found = await self._effects.perform(KNOWLEDGE_COMMANDS, command, DocumentDeleted, wait_s=wanted.wait_s)
        if not found:
            return json_response(Accepted(id=body.document_id), 202, preference_applied=wanted.applied)
        return no_content()

    async def passages(
        self,
        caller: Asking,
        document_id: str,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        version: Version = None,
    ) -> Response:
        """List a document's passages in order; a list goes on in the version that it began with."""
        id_, size, after = path_id(document_id, "document"), clamped(limit), -1
        if cursor is not None:
            of, after = numbers("passages", id_, cursor, n=2)
            if version not in {None, of}:
                raise invalid_cursor()
            version = of
        found = await self._reads(
            caller.principal.tenant_id,
            lambda work: list_passages(work, id_, version=version, after=after, limit=size + 1),
        )
        if found is None:
            raise not_found("document" if version is None else "version")
        items = [passage for _, passage in found[:size]]
        last = found[size - 1] if len(found) > size else None
        next_cursor = encode_cursor("passages", id_, last[1].version, last[0]) if last else None
        return json_response(Page[Passage](items=items, next_cursor=next_cursor))

    async def content(
        self,
        caller: Asking,
        document_id: str,
        as_: Annotated[Literal["original", "text"], Query(alias="as", description="The bytes, or their text.")] = (
            "original"
        ),
        version: Version = None,
    ) -> Response:
        """Download a document as it was sent, or the text that was found in it."""
        id_ = path_id(document_id, "document")
        found = await self._reads(caller.principal.tenant_id, lambda work: content_of(work, id_, version))
        if found is None:
            raise not_found("document" if version is None else "version")
        return await self._download(caller, id_, found, as_text=as_ == "text")

    async def events(self, request: Request, caller: Asking, document_id: str) -> Response:
        """Follow how a document is learnt, as server-sent events: its state first, then every step to the end."""
        id_ = path_id(document_id, "document")
        following = await self._events.begin(caller.principal.tenant_id, id_)
        return AsgiResponse(following.serve)

    async def _download(self, caller: Caller, document_id: UUID, content: Content, *, as_text: bool) -> Response:
        key, kind, name = content.blob_key, content.media_type or "application/octet-stream", content.name
        if as_text:
            folder = f"tenants/{caller.principal.tenant_id}/documents/{document_id}/v{content.version}"
            key, kind, name = f"{folder}/text.txt", "text/plain; charset=utf-8", f"{name}.txt"
        disposition = _disposition(name)
        try:
            size = await self._blobs.size(key)
            url = await self._blobs.download_url(
                key, media_type=kind, disposition=disposition, expires_s=DOWNLOAD_URL_HOLDS_S
            )
        except BlobNotFound:
            raise not_found("content") from None
        except Retry as retry:
            raise Unavailable("storage_unavailable", "the blob store is away; repeat the request") from retry
        if url is not None:
            return RedirectResponse(url, 302, headers={"cache-control": "no-store"})
        headers = {
            "content-length": str(size),
            "content-disposition": disposition,
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox; default-src 'none'",
        }
        return StreamingResponse(self._pieces(key), headers=headers, media_type=kind)

    async def _pieces(self, key: str) -> AsyncIterator[bytes]:
        async for piece in self._blobs.read(key):
            yield piece


def _disposition(name: str) -> str:
    """Always a download, under a name that no header breaks at (RFC 6266, RFC 8187)."""
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\%;' else "_" for char in name)
    return f"attachment; filename=\"{plain[:200]}\"; filename*=UTF-8''{quote(name[:200], safe='')}"

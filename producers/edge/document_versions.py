"""Versions of a document: replace, restore, list; and what is another of it without new bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from producers.edge.caller import Asking, Caller
from producers.edge.cursors import DEFAULT_LIMIT, Cursor, Limit, after_position, clamped, encode_cursor
from producers.edge.documents import FORM
from producers.edge.effects import Effects, Identity
from producers.edge.openapi import ref
from producers.edge.problems import Unavailable, not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.documents import document_by_id, list_versions, version_by_number
from producers.edge.requests import media_type, path_id, preference, read_json
from producers.edge.responses import json_response
from producers.edge.uploads import Uploads, no_document
from schemas.commands import DocumentCommand, RestoreVersion, UpdateDocument
from schemas.errors import Reject
from schemas.events import DocumentUpdated, DocumentUploaded, RestoreRequested
from schemas.http import Accepted, DocumentChange, DocumentView, NewVersion, Page, VersionView
from schemas.records import Body
from schemas.topics import KNOWLEDGE_COMMANDS
from storage.postgres.unit_of_work import UnitOfWork


class DocumentVersionRoutes:
    """`PUT /documents/{id}` and `/documents/{id}/versions`."""

    def __init__(self, effects: Effects, reads: Reads, uploads: Uploads, *, wait_s: float) -> None:
        self._effects = effects
        self._reads = reads
        self._uploads = uploads
        self._wait_s = wait_s

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes."""
        one = "/documents/{document_id}"
        for path, route, method, model in (
            (one, self.change, "PUT", DocumentChange),
            (f"{one}/versions", self.create, "POST", NewVersion),
        ):
            taken = {"multipart/form-data": {"schema": FORM}, "application/json": {"schema": ref(model)}}
            router.add_api_route(
                path,
                route,
                methods=[method],
                status_code=202,
                response_model=VersionView | Accepted,
                responses={200: {"model": DocumentView}} if method == "PUT" else None,
                openapi_extra={"requestBody": {"required": True, "content": taken}},
            )
        router.add_api_route(f"{one}/versions", self.browse, methods=["GET"], response_model=Page[VersionView])

    async def change(self, request: Request, caller: Asking, document_id: str) -> Response:
        """Replace a document by new bytes (a form with `file`, or `text`), or change name, type, tags or attributes.

        The version that readers see stays until the new one is learnt. All else changes at once.
        """
        return await self._take(request, caller, path_id(document_id, "document"), DocumentChange)

    async def create(self, request: Request, caller: Asking, document_id: str) -> Response:
        """Add a version (a form with `file`, or `text`), or `restore` an earlier one by its number."""
        return await self._take(request, caller, path_id(document_id, "document"), NewVersion)

    async def browse(
        self, caller: Asking, document_id: str, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response:
        """List a document's versions, newest first."""
        id_, size = path_id(document_id, "document"), clamped(limit)
        before = None if cursor is None else after_position("versions", id_, cursor)
        found = await self._reads(
            caller.principal.tenant_id, lambda work: list_versions(work, id_, before=before, limit=size + 1)
        )
        if not found and before is None:
            raise not_found("document")
        next_cursor = encode_cursor("versions", id_, found[size - 1].version) if len(found) > size else None
        return json_response(Page[VersionView](items=list(found[:size]), next_cursor=next_cursor))

    async def _take(self, request: Request, caller: Caller, id_: UUID, model: type[DocumentChange]) -> Response:
        kind = media_type(caller.headers)
        if kind == "multipart/form-data":
            return await self._version(caller, id_, await self._uploads.replace(request.receive, caller, id_, None))
        if kind != "application/json":
            raise no_document()
        limit = self._uploads.max_json_bytes
        sent = await read_json(request.receive, caller.headers, model, limit_bytes=limit)
        if isinstance(sent, NewVersion) and sent.restore is not None:
            if sent.model_fields_set != {"restore"}:
                raise Reject("invalid_field", 422, "restore: takes no other field beside it", field="restore")
            command = RestoreVersion(document_id=id_, version=sent.restore)
            return await self._version(caller, id_, await self._perform(caller, command, sent, RestoreRequested))
        if sent.text is not None:
            return await self._version(caller, id_, await self._uploads.replace(request.receive, caller, id_, sent))
        if model is not DocumentChange:
            raise Reject("missing_field", 422, "send a file, a text, or the version to restore", field="text")
        return await self._update(caller, id_, sent)

    async def _update(self, caller: Caller, id_: UUID, sent: DocumentChange) -> Response:
        if sent.name is None and sent.type is None and sent.tags is None and sent.attributes is None:
            raise Reject("missing_field", 422, "send a file, a text, or a name, type, tags or attributes", field="text")
        tags = None if sent.tags is None else tuple(sent.tags)
        command = UpdateDocument(document_id=id_, name=sent.name, type=sent.type, tags=tags, attributes=sent.attributes)
        if await self._perform(caller, command, sent, DocumentUpdated) is None:
            return self._answer(caller, Accepted(id=id_))
        return self._answer(caller, await self._after_effect(caller, id_, lambda work: document_by_id(work, id_)), 200)

    async def _version(self, caller: Caller, id_: UUID, event: Body | None) -> Response:
        """The version that the request has led to, as it stands now."""
        if not isinstance(event, DocumentUploaded | RestoreRequested):
            return self._answer(caller, Accepted(id=id_))
        number = event.version
        found = await self._after_effect(caller, id_, lambda work: version_by_number(work, id_, number))
        return self._answer(caller, found)

    async def _perform(
        self, caller: Caller, command: DocumentCommand, sent: DocumentChange, awaited: type[Body]
    ) -> Body | None:
        wanted = preference(caller.headers, self._wait_s)
        envelope = self._effects.command(caller, command, Identity.of(caller), sent)
        found = await self._effects.perform(KNOWLEDGE_COMMANDS, envelope, awaited, wait_s=wanted.wait_s)
        return found.get(awaited.ce_type)

    async def _after_effect(
        self, caller: Caller, id_: UUID, query: Callable[[UnitOfWork], Awaitable[BaseModel | None]]
    ) -> BaseModel:
        """What stands now. The effect is certain, even if it cannot be read or is deleted again by now."""
        try:
            found = await self._reads(caller.principal.tenant_id, query)
        except Unavailable:
            found = None
        return found or Accepted(id=id_)

    def _answer(self, caller: Caller, body: BaseModel, status: int = 202) -> Response:
        applied = preference(caller.headers, self._wait_s).applied
        return json_response(body, 202 if isinstance(body, Accepted) else status, preference_applied=applied)

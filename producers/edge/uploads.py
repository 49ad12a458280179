"""A document's bytes into the blob store, then its command: never whole in memory, nothing left of what is refused."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

import orjson
from pydantic import ValidationError

from producers.edge.asgi import Receive
from producers.edge.caller import Caller
from producers.edge.effects import Effect, Effects, Identity
from producers.edge.multipart import FORM_OVERHEAD_BYTES, UploadForm
from producers.edge.problems import Unavailable
from producers.edge.reads.bounded import Reads
from producers.edge.reads.documents import blob_key_of
from producers.edge.requests import (
    Preference,
    body_chunks,
    check_content_length,
    invalid_field,
    media_type,
    preference,
    read_json,
)
from schemas.commands import AddDocument, ReplaceDocument
from schemas.errors import Reject, Retry
from schemas.events import DocumentUploaded, RestoreRequested
from schemas.http import DocumentChange, DocumentProgress, DocumentView, NewDocument
from schemas.ids import new_id
from schemas.topics import KNOWLEDGE_COMMANDS
from storage.ports import BlobStore, StorageFull, StoredBlob

logger = logging.getLogger(__name__)

MAX_JSON_BYTES = 8 * 1024 * 1024
FOLLOWED_FOR_S = 600.0
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}(?:\s*;.{0,100})?")
_SUFFIX_TYPES = {".md": "text/markdown", ".markdown": "text/markdown", ".html": "text/html", ".htm": "text/html"}


Sent = TypeVar("Sent", NewDocument, DocumentChange)
Registered = DocumentUploaded | RestoreRequested


@dataclass(frozen=True, slots=True)
class _Stored(Generic[Sent]):
    """What was sent, and where its bytes are now; `filename` is the file's own name."""

    sent: Sent
    filename: str | None
    media_type: str | None
    blob: StoredBlob


class Uploads:
    """Takes documents as forms or as JSON."""

    def __init__(
        self, effects: Effects, reads: Reads, blobs: BlobStore, *, wait_s: float, max_upload_bytes: int
    ) -> None:
        self._effects = effects
        self._reads = reads
        self._blobs = blobs
        self._wait_s = wait_s
        self._max_upload_bytes = max_upload_bytes
        self._followed: set[asyncio.Task[Registered | None]] = set()

    @property
    def max_json_bytes(self) -> int:
        """How long a document may be that is given as JSON."""
        return min(MAX_JSON_BYTES, self._max_upload_bytes)

    async def add(self, receive: Receive, caller: Caller) -> tuple[DocumentView, Preference]:
        """Stores and registers; as registered, or with status `accepted` if the wait ran out.

        Raises: Reject 400, 409 for bytes that the tenant has already, 413, 415, 422, 507; Unavailable; Disconnected.
        """
        identity, wanted = Identity.of(caller), preference(caller.headers, self._wait_s)
        document_id = identity.new("document")
        # A repeated request must not replace bytes that are registered: under a key each try has its own blob.
        suffix = "" if identity.idempotency_id is None else f"-{new_id().hex}"
        key = f"tenants/{caller.principal.tenant_id}/documents/{document_id}/v1/original{suffix}"
        with _storage_errors():
            stored = await self._store(receive, caller, key)
        body = AddDocument(
            document_id=document_id,
            name=stored.sent.name or _base_name(stored.filename or "") or "untitled",
            type=stored.sent.type,
            tags=tuple(stored.sent.tags),
            attributes=stored.sent.attributes,
            media_type=stored.media_type,
            blob_key=key,
            sha256=stored.blob.sha256,
            size_bytes=stored.blob.size_bytes,
        )
        event = await self._register(caller, body, identity, wanted)
        return _view(body, event), wanted

    async def replace(
        self, receive: Receive, caller: Caller, document_id: UUID, sent: DocumentChange | None
    ) -> Registered | None:
        """Stores and registers a new version: `sent`, which has a text, or else a form with a file.

        What followed, or None if the wait ran out: RestoreRequested if an earlier version has these bytes. Raises: as
        `add`; Reject 404.
        """
        identity, wanted = Identity.of(caller), preference(caller.headers, self._wait_s)
        key = f"tenants/{caller.principal.tenant_id}/documents/{document_id}/uploads/{new_id().hex}"
        with _storage_errors():
            if sent is None:
                stored = await self._store_form(receive, caller, key, DocumentChange)
            else:
                stored = await self._store_text(sent, key)
        body = ReplaceDocument(
            document_id=document_id,
            name=stored.sent.name,
            type=stored.sent.type,
            tags=None if stored.sent.tags is None else tuple(stored.sent.tags),
            attributes=stored.sent.attributes,
            media_type=stored.media_type,
            blob_key=key,
            sha256=stored.blob.sha256,
            size_bytes=stored.blob.size_bytes,
        )
        return await self._register(caller, body, identity, wanted)

    async def stop(self) -> None:
        """Follows nothing any more."""
        for task in self._followed:
            task.cancel()
        await asyncio.gather(*self._followed, return_exceptions=True)

    async def _register(
        self, caller: Caller, body: AddDocument | ReplaceDocument, identity: Identity, wanted: Preference
    ) -> Registered | None:
        told = body.model_dump(mode="json", exclude={"blob_key", "document_id"})
        command = self._effects.command(caller, body, identity, told)
        with ExitStack() as stack:
            effect = stack.enter_context(self._effects.listening(command))
            await self._effects.publish(KNOWLEDGE_COMMANDS, command)
            task = asyncio.create_task(self._follow(stack.pop_all(), effect, caller.principal.tenant_id, body))
        self._followed.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=wanted.wait_s)
        return task.result() if task.done() else None

    async def _follow(
        self, listening: ExitStack, effect: Effect, tenant_id: UUID, body: AddDocument | ReplaceDocument
    ) -> Registered | None:
        """Waits for what follows, longer than its client may; bytes that were not registered are removed."""
        with listening:
            try:
                event = await effect.first(DocumentUploaded, RestoreRequested, wait_s=FOLLOWED_FOR_S)
            except Reject as reject:
                if reject.code != "dead_lettered":
                    await self._remove(body.blob_key)
                raise
        if isinstance(event, RestoreRequested):
            await self._remove(body.blob_key)
            return event
        if not isinstance(event, DocumentUploaded):
            return None
        if not body.blob_key.endswith("/original"):
            await self._remove_if_not_registered(tenant_id, body, event.version)
        return event

    async def _remove_if_not_registered(
        self, tenant_id: UUID, body: AddDocument | ReplaceDocument, version: int
    ) -> None:
        try:
            registered = await self._reads(tenant_id, lambda work: blob_key_of(work, body.document_id, version))
        except Unavailable:
            return  # left to the document's deletion, which removes all below its folder
        if registered is not None and registered != body.blob_key:
            await self._remove(body.blob_key)

    async def _remove(self, key: str) -> None:
        try:
            await self._blobs.delete(key)
        except Retry as retry:
            logger.warning("blob %s was not removed: %s", key, retry)

    def _ended(self, task: asyncio.Task[Registered | None]) -> None:
        self._followed.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Reject):
            logger.error("an upload was not followed to its end", exc_info=error)

    async def _store(self, receive: Receive, caller: Caller, key: str) -> _Stored[NewDocument]:
        kind = media_type(caller.headers)
        if kind == "multipart/form-data":
            return await self._store_form(receive, caller, key, NewDocument)
        if kind != "application/json":
            raise no_document()
        sent = await read_json(receive, caller.headers, NewDocument, limit_bytes=self.max_json_bytes)
        if sent.url is not None:
            raise Reject("url_not_supported", 422, "documents cannot be fetched from a url yet; send text", field="url")
        if sent.text is None:
            raise Reject("missing_field", 422, "text: field required", field="text")
        if sent.name is None:
            raise Reject("missing_field", 422, "name: field required", field="name")
        return await self._store_text(sent, key)

    async def _store_form(self, receive: Receive, caller: Caller, key: str, model: type[Sent]) -> _Stored[Sent]:
        check_content_length(caller.headers, self._max_upload_bytes + FORM_OVERHEAD_BYTES)
        chunks = body_chunks(receive)
        form = UploadForm(chunks, caller.headers[b"content-type"], limit_bytes=self._max_upload_bytes)
        await form.open_file()
        _fields(form, model)  # what is wrong already is said before the file is read
        blob = await self._blobs.put(key, form.file_bytes())
        try:
            await form.finish()
            sent = _fields(form, model)
        except BaseException:
            await asyncio.shield(self._remove(key))
            raise
        declared = form.media_type
        known = declared if declared is not None and _MEDIA_TYPE.fullmatch(declared) else None
        return _Stored(sent, form.filename, known, blob)

    async def _store_text(self, sent: Sent, key: str) -> _Stored[Sent]:
        """Stores the text; without a name its type is left to that of its document, which is not known here."""
        kind = None
        if sent.name is not None:
            suffix = sent.name[sent.name.rfind(".") :].lower() if "." in sent.name else ""
            kind = _SUFFIX_TYPES.get(suffix, "text/plain")
        blob = await self._blobs.put(key, _once((sent.text or "").encode()))
        return _Stored(sent, None, kind, blob)


def no_document() -> Reject:
    """415: what was sent is neither a form nor JSON."""
    detail = "send multipart/form-data with the field file, or application/json"
    return Reject("unsupported_media_type", 415, detail)


@contextmanager
def _storage_errors() -> Iterator[None]:
    """What the blob store cannot do, as an answer."""
    try:
        yield
    except StorageFull as full:
        detail = "the blob store is full and nothing was kept; repeat the request when its operators have made room"
        raise Reject("storage_full", 507, detail) from full
    except Retry as retry:
        raise Unavailable("storage_unavailable", "the blob store is away; repeat the request") from retry


def _fields(form: UploadForm, model: type[Sent]) -> Sent:
    """The form's small fields so far. Raises: Reject 422."""
    values: dict[str, object] = {}
    for name, given in form.fields.items():
        if name == "tags":
            values[name] = [tag.strip() for value in given for tag in value.split(",") if tag.strip()]
        elif name in {"text", "url"}:
            raise Reject("unknown_field", 422, f'there is no field "{name}" in a form with a file', field=name)
        elif len(given) > 1:
            raise Reject("invalid_field", 422, f"{name}: may stand once", field=name)
        elif name == "attributes":
            values[name] = _json_object(given[0], name)
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise invalid_field(first["loc"], first["type"], first["msg"], first.get("ctx", {})) from None


def _json_object(text: str, name: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        raise Reject("invalid_field", 422, f'{name}: a JSON object, as {{"year": 2026}}', field=name) from None


def _base_name(filename: str) -> str:
    """The last part of a path as any system writes it, without control characters, at most 500 characters."""
    last = re.split(r"[/\\]", filename)[-1]
    return "".join(char for char in last if char.isprintable()).strip()[:500]


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _view(body: AddDocument, event: Registered | None) -> DocumentView:
    at = event.created_at if isinstance(event, DocumentUploaded) else datetime.now(UTC)
    status = "queued" if event is not None else "accepted"
    return DocumentView(
        id=body.document_id,
        name=body.name,
        type=body.type,
        tags=list(body.tags),
        attributes=body.attributes,
        status=status,
        media_type=body.media_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256,
        progress=DocumentProgress(status=status, step=status),
        created_at=at,
        updated_at=at,
    )

"""Files on their way to being searchable."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ValidationError

from ragline.client.connection import Connection
from ragline.client.errors import ClientError, RefusedError, WrongUseError
from schemas.http import DocumentProgress, DocumentView, Page

_RETRY_AFTER_S = 5.0
_LAST_ANSWER_S = 6.0
"""Cancelled, an upload waits so long for the answer to what is on its way: an edge answers within five seconds."""
_ASKED_AGAIN, _ASKED_AGAIN_S = 12, 0.5
"""What was accepted and has no effect yet is asked for again so often."""
_NO_HEADER = re.compile("[\x00-\x1f\x7f]")
_TERMINAL = {"indexed", "failed", "deleted"}

ViewT = TypeVar("ViewT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one file: the document's status, or `refused`, or `cancelled`.

    `is_new` is False where it was there already, `is_tried_again` where it had failed then.
    """

    path: Path
    document_id: UUID | None
    status: str
    is_new: bool
    n_pages: int = 0
    n_passages: int = 0
    error: str | None = None
    is_tried_again: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the document is there, or on its way if nobody waited."""
        return self.status not in {"failed", "refused", "deleted", "cancelled"}


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files, with folders replaced by what they hold (hidden files apart). Raises: WrongUseError."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = list(_files_below(path))
            if not inside:
                raise WrongUseError(f"folder {path} holds no file; name another")
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            why = "is neither a file nor a folder" if path.exists() else "does not exist; look at its name"
            raise WrongUseError(f"{path} {why}")
    for path in found:
        if not os.access(path, os.R_OK):
            raise WrongUseError(f"file {path} cannot be read; look at its permissions")
    return list(found)


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    if (place := folder.resolve()) in above:
        return  # a link to a folder that it is in
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise WrongUseError(f"folder {folder} cannot be read: {error.strerror}; look at its permissions") from error
    for path in inside:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path, above | {place})
        elif path.is_file():
            yield path


@dataclass(frozen=True, slots=True)
class _Sent:
    """The document that has the bytes, and which version of it where that was there already."""

    document_id: UUID
    is_new: bool = True
    version: int | None = None
    is_tried_again: bool = False


async def upload(
    connection: Connection,
    path: Path,
    *,
    wait: bool,
    tell: Callable[[DocumentProgress], None],
    begun: Callable[[_Sent], None] = lambda _: None,
) -> Uploaded:
    """Sends one file and waits until it is indexed or has failed. Raises: UnreachableError."""
    return await _upload(
        connection, path, lambda: _send(connection, lambda: _form(path)), wait=wait, tell=tell, begun=begun
    )


async def upload_text(connection: Connection, text: str, *, name: str, tags: Sequence[str] = ()) -> Uploaded:
    """As `upload`, for text at hand."""
    body = {"json": {"text": text, "name": name, "tags": list(tags)}}

    async def send() -> _Sent:
        return await _send(connection, lambda: body)

    return await _upload(connection, Path(name), send, wait=True, tell=lambda _: None, begun=lambda _: None)


async def _upload(
    connection: Connection,
    path: Path,
    send: Callable[[], Awaitable[_Sent]],
    *,
    wait: bool,
    tell: Callable[[DocumentProgress], None],
    begun: Callable[[_Sent], None],
) -> Uploaded:
    try:
        sent = await _answered(send, begun)
    except RefusedError as error:
        return Uploaded(path, None, "refused", is_new=False, error=str(error))
    try:
        if wait:
            await _until_done(connection, sent.document_id, tell)
        document = await connection.get(f"/api/v1/documents/{sent.document_id}", DocumentView)
    except RefusedError as error:
        if error.status == 404 and not wait:  # accepted, and not yet applied
            return Uploaded(path, sent.document_id, "accepted", sent.is_new)
        return Uploaded(path, sent.document_id, "failed", sent.is_new, error=str(error))
    if sent.version not in {None, document.version}:
        why = f"an earlier version of the document {document.id} has these bytes; restore its version {sent.version}"
        return Uploaded(path, document.id, "refused", is_new=False, error=why)
    return Uploaded(
        path,
        document.id,
        document.status,
        sent.is_new,
        document.n_pages,
        document.n_passages,
        document.error.message if document.error is not None else None,
        sent.is_tried_again,
    )


async def _answered(send: Callable[[], Awaitable[_Sent]], begun: Callable[[_Sent], None]) -> _Sent:
    """What is sent. `begun` hears of it though the caller was cancelled meanwhile: it may be learnt already."""
    sending = asyncio.ensure_future(send())
    try:
        sent = await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait({sending}, timeout=_LAST_ANSWER_S)
        sending.cancel()
        for late in await asyncio.gather(sending, return_exceptions=True):
            if isinstance(late, _Sent):
                begun(late)
        raise
    begun(sent)
    return sent


async def _send(connection: Connection, body: Callable[[], dict[str, Any]]) -> _Sent:
    """Sends the bytes. Raises: RefusedError."""
    try:
        return _Sent((await _posted(connection, "/api/v1/documents", _Id, body)).id)
    except RefusedError as error:
        there = _duplicate_of(error)
        if there is None:
            raise
        return there


class _Failed:
    """The documents that have failed, by their bytes."""

    def __init__(self, found: Mapping[tuple[int, str], DocumentView]) -> None:
        self._found = found

    @classmethod
    async def of(cls, connection: Connection) -> _Failed:
        """Those of the library. Raises: RefusedError; UnreachableError."""
        found: dict[tuple[int, str], DocumentView] = {}
        cursor = ""
        while True:
            page = await connection.get(f"/api/v1/documents?status=failed&limit=200{cursor}", Page[DocumentView])
            found |= {(document.size_bytes, document.sha256): document for document in page.items}
            if page.next_cursor is None:
                return cls(found)
            cursor = f"&cursor={quote(page.next_cursor)}"

    async def try_again(self, connection: Connection, path: Path) -> _Sent | None:
        """The one with the file's bytes goes back to work; None if there is none, or it is another's by now."""
        document = await asyncio.to_thread(self._like, path)
        if document is None:
            return None
        versions = f"/api/v1/documents/{document.id}/versions"
        restore, key = {"json": {"restore": document.version}}, str(uuid.uuid4())
        try:
            for _ in range(_ASKED_AGAIN):
                restored = await _posted(connection, versions, _Restored, lambda: restore, key=key)
                if restored.version is not None:
                    break
                await asyncio.sleep(_ASKED_AGAIN_S)  # until it has taken effect, its progress is that of its failure
        except RefusedError:
            return None
        return _Sent(document.id, is_new=False, is_tried_again=True)

    def _like(self, path: Path) -> DocumentView | None:
        try:
            size = path.stat().st_size
            if all(size != known for known, _ in self._found):
                return None
            with path.open("rb") as file:
                return self._found.get((size, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError:
            return None  # sending it says why


class _Id(BaseModel):
    id: UUID


class _Restored(BaseModel):
    """A version, or none where the request was accepted and has had no effect yet."""

    version: int | None = None


async def _posted(
    connection: Connection, path: str, view: type[ViewT], body: Callable[[], dict[str, Any]], *, key: str | None = None
) -> ViewT:
    """The answer; while more wait than may, the same request is sent again. Raises: RefusedError."""
    key = key or str(uuid.uuid4())
    while True:
        try:
            return await connection.post(path, view, key=key, body=body)
        except RefusedError as error:
            if error.code != "too_many_waiting":
                raise
            await asyncio.sleep(float(str(error.members.get("retry_after_s", _RETRY_AFTER_S))))


async def upload_all(
    connection: Connection,
    paths: Sequence[Path],
    *,
    wait: bool,
    tell: Callable[[Path, DocumentProgress], None],
    done: Callable[[Uploaded], None],
    n_at_once: int = 4,
) -> list[Uploaded]:
    """Sends the files, a few at once; the results stand in the files' order. What has failed before is tried again.

    Cancelled, it sends no more, deletes what it sent that is not learnt yet, and returns what became of each.
    """
    free = asyncio.Semaphore(n_at_once)
    begun: dict[Path, _Sent] = {}
    failed = await _Failed.of(connection)

    async def send(path: Path) -> _Sent:
        return await failed.try_again(connection, path) or await _send(connection, lambda: _form(path))

    async def one(path: Path) -> Uploaded:
        def keep(sent: _Sent) -> None:
            begun[path] = sent

        async with free:
            result = await _upload(
                connection, path, lambda: send(path), wait=wait, tell=lambda told: tell(path, told), begun=keep
            )
        done(result)
        return result

    tasks = [asyncio.create_task(one(path)) for path in paths]
    try:
        return list(await asyncio.gather(*tasks))
    except asyncio.CancelledError:
        return [
            await _taken_back(connection, path, begun.get(path)) if task.cancelled() else task.result()
            for path, task in zip(paths, tasks, strict=True)
        ]
    finally:
        for task in tasks:
            task.cancel()


async def _taken_back(connection: Connection, path: Path, sent: _Sent | None) -> Uploaded:
    """What was there before stays."""
    if sent is None:
        return Uploaded(path, None, "cancelled", is_new=False)
    try:
        if sent.is_new:
            await connection.delete(f"/api/v1/documents/{sent.document_id}")
    except ClientError as error:  # the others are still to be taken back
        return Uploaded(path, sent.document_id, "cancelled", sent.is_new, error=f"it was not deleted: {error}")
    return Uploaded(path, sent.document_id, "cancelled", sent.is_new)


async def _until_done(connection: Connection, document_id: UUID, tell: Callable[[DocumentProgress], None]) -> None:
    async for event in connection.events(f"/api/v1/documents/{document_id}/events"):
        try:
            progress = DocumentProgress.model_validate(json.loads(event.data), extra="ignore")
        except (ValueError, ValidationError):
            continue  # an event that is not about progress
        tell(progress)
        if progress.status in _TERMINAL:
            return


def _form(path: Path) -> dict[str, Any]:
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY), "rb")  # by number: aiohttp stumbles over names that are no UTF-8
    except OSError as error:
        raise RefusedError(0, "", f"the file cannot be read: {error.strerror}") from error
    form = aiohttp.FormData(quote_fields=False)
    name = _NO_HEADER.sub("", path.name).encode("utf-8", "replace").decode()
    form.add_field("file", file, filename=name or "untitled", content_type="application/octet-stream")
    return {"data": form}


def _duplicate_of(error: RefusedError) -> _Sent | None:
    """The document that has these bytes, and which version of it."""
    if error.status != 409:
        return None
    version = error.members.get("version")
    try:
        document_id = UUID(str(error.members["document_id"]))
    except (KeyError, ValueError):
        return None
    return _Sent(document_id, is_new=False, version=version if isinstance(version, int) else None)

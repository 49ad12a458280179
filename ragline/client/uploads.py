"""Files on their way to being searchable."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
from pydantic import ValidationError

from ragline.client.connection import Connection
from ragline.client.errors import RefusedError, WrongUseError
from schemas.http import DocumentProgress, DocumentView

_RETRY_AFTER_S = 5.0
_TERMINAL = {"indexed", "failed", "deleted"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one file: the document's status, or `refused`. `is_new` is False where it was there already."""

    path: Path
    document_id: UUID | None
    status: str
    is_new: bool
    n_pages: int = 0
    n_passages: int = 0
    error: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether the document is there, or on its way if nobody waited."""
        return self.status not in {"failed", "refused", "deleted"}


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


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path)
        elif path.is_file():
            yield path


async def upload(
    connection: Connection, path: Path, *, wait: bool, tell: Callable[[DocumentProgress], None]
) -> Uploaded:
    """Sends one file and waits until it is indexed or has failed. Raises: UnreachableError."""
    return await _upload(connection, path, lambda: _form(path), wait=wait, tell=tell)


async def upload_text(connection: Connection, text: str, *, name: str, tags: Sequence[str] = ()) -> Uploaded:
    """As `upload`, for text at hand."""
    body = {"json": {"text": text, "name": name, "tags": list(tags)}}
    return await _upload(connection, Path(name), lambda: body, wait=True, tell=lambda _: None)


async def _upload(
    connection: Connection,
    path: Path,
    body: Callable[[], dict[str, Any]],
    *,
    wait: bool,
    tell: Callable[[DocumentProgress], None],
) -> Uploaded:
    is_new, version = True, None
    try:
        document_id = await _accepted(connection, body)
    except RefusedError as error:
        duplicate = _duplicate_of(error)
        if duplicate is None:
            return Uploaded(path, None, "refused", is_new=False, error=str(error))
        (document_id, version), is_new = duplicate, False
    try:
        if wait:
            await _until_done(connection, document_id, tell)
        document = await connection.get(f"/api/v1/documents/{document_id}", DocumentView)
    except RefusedError as error:
        if error.status == 404 and not wait:  # accepted, and not yet applied
            return Uploaded(path, document_id, "accepted", is_new)
        return Uploaded(path, document_id, "failed", is_new, error=str(error))
    if version not in {None, document.version}:
        why = f"an earlier version of the document {document_id} has these bytes; restore its version {version}"
        return Uploaded(path, document_id, "refused", is_new=False, error=why)
    return Uploaded(
        path,
        document_id,
        document.status,
        is_new,
        document.n_pages,
        document.n_passages,
        document.error.message if document.error is not None else None,
    )


async def _accepted(connection: Connection, body: Callable[[], dict[str, Any]]) -> UUID:
    """The document's id; while more wait than may, the same request is sent again. Raises: RefusedError."""
    key = str(uuid.uuid4())
    while True:
        try:
            return (await connection.post("/api/v1/documents", DocumentView, key=key, body=body)).id
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
    """Sends the files, a few at once; the results stand in the files' order."""
    free = asyncio.Semaphore(n_at_once)

    async def one(path: Path) -> Uploaded:
        async with free:
            result = await upload(connection, path, wait=wait, tell=lambda progress: tell(path, progress))
            done(result)
            return result

    tasks = [asyncio.create_task(one(path)) for path in paths]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


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
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", path.open("rb"), filename=path.name, content_type="application/octet-stream")
    return {"data": form}


def _duplicate_of(error: RefusedError) -> tuple[UUID, int | None] | None:
    """The document that has these bytes, and which version of it."""
    if error.status != 409:
        return None
    version = error.members.get("version")
    try:
        return UUID(str(error.members["document_id"])), version if isinstance(version, int) else None
    except (KeyError, ValueError):
        return None

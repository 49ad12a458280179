"""Blobs in a folder of the local disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from schemas.errors import Retry
from storage.blobs.keys import checked_folder, checked_key, checked_start
from storage.ports import BlobNotFound, StorageFull, StoredBlob

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PIECE_BYTES = 1 << 20
STALE_AFTER_S = 86_400.0
"""A write that has not ended after a day belongs to a process that is dead."""

_BLOB = "~"
"""Ends a blob's file name, so that the keys `a` and `a/b` can both exist; no key contains it."""
_INCOMING = "~incoming"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, the user's share of it, or what a file may have."""


class LocalBlobStore:
    """`BlobStore` in a folder; several processes of one machine may share it.

    A blob survives a power cut once `put` has returned: file and folder are synced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._swept = False

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> StoredBlob:
        """See the port."""
        target = self._path(key)
        upload = await self._begun()
        try:
            pending: list[bytes] = []
            n_pending = 0
            async for chunk in chunks:
                pending.append(chunk)
                n_pending += len(chunk)
                if n_pending >= PIECE_BYTES:
                    await _in_thread(upload.write, pending)
                    pending, n_pending = [], 0
            await _in_thread(upload.write, pending)
            await _in_thread(upload.publish, target)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(upload.discard))
            raise
        return StoredBlob(key=key, size_bytes=upload.size_bytes, sha256=upload.hash.hexdigest())

    async def put_bytes(self, key: str, data: bytes) -> StoredBlob:
        """See the port."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        return await self.put(key, once())

    async def put_if_absent(self, key: str, data: bytes) -> bool:
        """See the port."""
        target = self._path(key)
        upload = await self._begun()
        try:
            await _in_thread(upload.write, [data])
            return await _in_thread(upload.publish, target, only_if_absent=True)
        finally:
            await asyncio.shield(asyncio.to_thread(upload.discard))

    async def download_url(self, key: str, *, media_type: str, disposition: str, expires_s: int) -> str | None:
        """None: see the port."""
        return None

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See the port."""
        left = None if end is None else max(0, end - start)
        with await _in_thread(_open, self._path(key), key) as file:
            await _in_thread(file.seek, start)
            while left is None or left > 0:
                piece = await _in_thread(file.read, PIECE_BYTES if left is None else min(PIECE_BYTES, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    async def read_bytes(self, key: str) -> bytes:
        """See the port."""
        return await _in_thread(_read_whole, self._path(key), key)

    async def size(self, key: str) -> int:
        """See the port."""
        path = self._path(key)
        try:
            return (await _in_thread(path.stat)).st_size
        except FileNotFoundError as error:
            raise _not_found(key) from error

    async def delete(self, key: str) -> None:
        """See the port."""
        await _in_thread(self._delete, self._path(key))

    async def delete_prefix(self, prefix: str) -> int:
        """See the port."""
        checked_folder(prefix)
        n_removed = 0
        async for key in self.list_keys(prefix):
            await _in_thread(self._delete, self._path(key))
            n_removed += 1
        return n_removed

    async def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """See the port."""
        folder, _, _ = checked_start(prefix).rpartition("/")
        waiting = [f"{folder}/" if folder else ""]
        while waiting:
            entry = waiting.pop()
            if entry and not entry.endswith("/"):
                yield entry
                continue
            names = await _in_thread(_entries, self._root / entry)
            below = [entry + name for name in names]
            waiting += [key for key in reversed(below) if key.startswith(prefix)]

    async def close(self) -> None:
        """See the port."""

    def _path(self, key: str) -> Path:
        return self._root / (checked_key(key) + _BLOB)

    async def _begun(self) -> _Upload:
        """A task that is cancelled while its file is opened leaves none behind."""
        beginning = asyncio.ensure_future(_in_thread(self._begin))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with contextlib.suppress(Retry, StorageFull):  # then there is none
                await asyncio.to_thread((await beginning).discard)
            raise

    def _begin(self) -> _Upload:
        self._incoming.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            _sweep(self._incoming)
        return _Upload(self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}")

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        folder = path.parent
        with contextlib.suppress(OSError):  # a folder that is not empty stays, one that is gone is fine
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


class _Upload:
    """A file that is not a blob yet. Its lock lets `discard` wait for a write that a cancelled task left behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb", buffering=0)
        self._lock = threading.Lock()
        self.hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunks: list[bytes]) -> None:
        with self._lock:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[self._file.write(view) :]
                self.hash.update(chunk)
                self.size_bytes += len(chunk)

    def publish(self, target: Path, *, only_if_absent: bool = False) -> bool:
        """Holds after: it is the blob, on disk; False, where something stands and shall stay."""
        with self._lock:
            os.fsync(self._file.fileno())
            self._file.close()
            for attempt in range(10):
                try:
                    made = _make_folders(target.parent)
                    if not only_if_absent:
                        self._path.replace(target)
                    elif not _linked(target, self._path):
                        return False
                    break
                except (FileNotFoundError, FileExistsError) as error:  # the folder was empty, and removed meanwhile
                    if attempt == 9:
                        raise Retry(f"the blob store's folder {target.parent} keeps vanishing") from error
            for folder in {target.parent, *made}:
                _sync_folder(folder)
            return True

    def discard(self) -> None:
        with self._lock:
            self._file.close()
            self._path.unlink(missing_ok=True)


async def _in_thread(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Runs file work off the loop. Raises: Retry for what the disk or its rights refuse; StorageFull."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"the disk of the blob store is full; free some space ({error})") from error
        raise Retry(f"the blob store's disk failed ({error})") from error


def _not_found(key: str) -> BlobNotFound:
    return BlobNotFound(f'no blob stands at "{key}"')


def _open(path: Path, key: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise _not_found(key) from error


def _read_whole(path: Path, key: str) -> bytes:
    with _open(path, key) as file:
        return file.read()


def _entries(folder: Path) -> list[str]:
    """Names below a folder, so sorted that the keys come out sorted; folders end with `/`."""
    names = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_BLOB):
                names.append(entry.name.removesuffix(_BLOB))
            elif not entry.name.startswith(_BLOB):
                names.append(entry.name + "/")
    return sorted(names)


def _linked(target: Path, source: Path) -> bool:
    """A second name for the file, which the system gives to one of several at once."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    return True


def _make_folders(folder: Path) -> list[Path]:
    """Makes `folder`; the folders whose entries this changed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [path.parent for path in missing]


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # removed with its last blob meanwhile
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(incoming: Path) -> None:
    """Removes what dead processes left behind."""
    oldest = time.time() - STALE_AFTER_S
    for path in incoming.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()

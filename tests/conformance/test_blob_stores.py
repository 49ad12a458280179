"""One suite over every adapter of `BlobStore`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Retry
from storage.blobs.keys import checked_key
from storage.blobs.local import LocalBlobStore
from storage.blobs.s3 import S3BlobStore
from storage.ports import BlobNotFound, BlobStore
from tests.s3_server import BUCKET, S3Server

MIB = 1 << 20


@pytest.fixture(params=["local", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> AsyncIterator[BlobStore]:
    made: BlobStore
    if request.param == "local":
        made = LocalBlobStore(tmp_path / "blobs")
    else:
        made = S3BlobStore(bucket=BUCKET, prefix=uuid.uuid4().hex, endpoint_url=s3.endpoint, region="us-east-1")
    yield made
    await made.close()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def keys(store: BlobStore, prefix: str = "") -> list[str]:
    return [key async for key in store.list_keys(prefix)]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("chunks", [[], [b""], [b"one"], [b"a" * 10, b"", b"b" * 10], [os.urandom(MIB + 7)] * 3])
async def test_what_was_put_is_read(store: BlobStore, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    stored = await store.put("tenant/doc/1/source", stream(*chunks))
    assert (stored.key, stored.size_bytes, stored.sha256) == (
        "tenant/doc/1/source",
        len(whole),
        hashlib.sha256(whole).hexdigest(),
    )
    assert await store.read_bytes("tenant/doc/1/source") == whole
    assert await store.size("tenant/doc/1/source") == len(whole)
    pieces = [piece async for piece in store.read("tenant/doc/1/source")]
    assert b"".join(pieces) == whole
    assert all(0 < len(piece) <= MIB for piece in pieces)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 5), (3, None), (3, 3), (5, 2), (8, 100), (10, None), (50, None), (50, 60), (0, 0), (0, None)]
)
async def test_a_range(store: BlobStore, start: int, end: int | None) -> None:
    await store.put_bytes("k", b"0123456789")
    assert b"".join([piece async for piece in store.read("k", start=start, end=end)]) == b"0123456789"[start:end]


async def test_put_replaces(store: BlobStore) -> None:
    await store.put_bytes("k", b"a longer first text")
    await store.put_bytes("k", b"second")
    assert await store.read_bytes("k") == b"second"


async def test_a_reader_keeps_what_it_opened(store: BlobStore) -> None:
    await store.put_bytes("k", b"a" * (3 * MIB))
    reader = store.read("k")
    first = await anext(reader)
    await store.put_bytes("k", b"b" * (3 * MIB))
    rest = b"".join([piece async for piece in reader])
    assert first + rest == b"a" * (3 * MIB)


async def test_absent_blobs(store: BlobStore) -> None:
    with pytest.raises(BlobNotFound, match="no/such"):
        await store.read_bytes("no/such")
    with pytest.raises(BlobNotFound):
        await anext(store.read("no/such"))
    with pytest.raises(BlobNotFound):
        await anext(store.read("no/such", start=4, end=2))
    with pytest.raises(BlobNotFound):
        await store.size("no/such")
    await store.delete("no/such")
    assert await store.delete_prefix("no/") == 0
    assert await keys(store) == []


async def test_a_broken_source_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 * MIB)
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await store.put("k", broken())
    with pytest.raises(BlobNotFound):
        await store.size("k")
    assert await keys(store) == []
    assert files(tmp_path) == []


async def test_a_broken_source_keeps_what_was_there(store: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise ValueError("too large")

    await store.put_bytes("k", b"old")
    with pytest.raises(ValueError, match="too large"):
        await store.put("k", broken())
    assert await store.read_bytes("k") == b"old"


async def test_a_cancelled_put_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    is_running = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * MIB
            is_running.set()

    put = asyncio.create_task(store.put("k", endless()))
    await is_running.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await keys(store) == []
    assert files(tmp_path) == []


async def test_a_put_that_is_cancelled_while_its_file_is_opened_leaves_none(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    for _ in range(20):
        put = asyncio.create_task(store.put_bytes("k", b"x"))
        await asyncio.sleep(0)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
    assert files(tmp_path) == []


async def test_listing_and_deleting_below_a_prefix(store: BlobStore) -> None:
    names = ["t1/d1/a", "t1/d1/b.x", "t1/d1-x", "t1/d1.y", "t1/d10/a", "t1/d2/a", "t2/d1/a", "t1/D/a", "t1/.h"]
    for name in names:
        await store.put_bytes(name, name.encode())
    assert await keys(store) == sorted(names)
    for prefix in ("t1/", "t1/d1", "t1/d1/", "t1/d", "t", "t1/d1/a", "t9/", "t1/d1/b."):
        assert await keys(store, prefix) == sorted(name for name in names if name.startswith(prefix)), prefix
    assert await store.delete_prefix("t1/d1/") == 2
    assert await keys(store, "t1/d1") == ["t1/d1-x", "t1/d1.y", "t1/d10/a"]
    await store.delete("t2/d1/a")
    assert await keys(store, "t2/") == []
    assert await store.delete_prefix("t1/") == 6
    assert await keys(store) == []


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "ä", "a b", "a\\b", "a\x00", "a\n", "~incoming/x", "a~",
     "x" * 300, "a/" * 600 + "a"],
)  # fmt: skip
async def test_bad_keys_are_refused(store: BlobStore, key: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        await store.put_bytes(key, b"x")
    with pytest.raises(ValueError, match="not valid"):
        await store.read_bytes(key)
    with pytest.raises(ValueError, match="not valid"):
        await store.delete(key)


async def test_a_prefix_is_a_folder(store: BlobStore) -> None:
    for prefix in ("", "a", "../", "/", "a//"):
        with pytest.raises(ValueError, match=r"prefix|not valid"):
            await store.delete_prefix(prefix)


async def test_many_writers_of_one_key_leave_one_whole_blob(store: BlobStore) -> None:
    texts = [bytes([65 + i]) * (MIB + i) for i in range(8)]
    await asyncio.gather(*(store.put("a/b/k", stream(text)) for text in texts))
    assert await store.read_bytes("a/b/k") in texts


async def test_put_if_absent(store: BlobStore, tmp_path: Path) -> None:
    assert await store.put_if_absent("a/k", b"first")
    assert not await store.put_if_absent("a/k", b"second")
    assert await store.read_bytes("a/k") == b"first"
    await store.delete("a/k")
    assert await store.put_if_absent("a/k", b"third")
    assert await store.read_bytes("a/k") == b"third"
    assert await keys(store) == ["a/k"]
    assert len(files(tmp_path)) <= 1, "what lost leaves no file"


async def test_puts_beside_deletes_of_the_same_folder(store: BlobStore) -> None:
    async def churn(name: str) -> None:
        for _ in range(30):
            await store.put_bytes(f"t/d/{name}", b"x")
            await store.delete(f"t/d/{name}")

    await asyncio.gather(*(churn(name) for name in "abcd"))
    assert await keys(store) == []


@given(st.text(max_size=30))
def test_a_key_stays_below_its_root(key: str) -> None:
    try:
        checked = checked_key(key)
    except ValueError:
        return
    path = Path("/blobs") / checked
    assert str(path) == f"/blobs/{key}"
    assert os.path.normpath(path) == str(path)


async def test_one_key_may_begin_another(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)  # an S3 server over a file system cannot do this; S3 can
    for name in ("t/d/a", "t/d", "t/d/a/b", "t"):
        await store.put_bytes(name, name.encode())
    assert await keys(store) == ["t", "t/d", "t/d/a", "t/d/a/b"]
    assert await store.delete_prefix("t/d/") == 2
    assert await store.read_bytes("t/d") == b"t/d"
    assert await keys(store) == ["t", "t/d"]


async def test_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = LocalBlobStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Retry, match="full"):
        await store.put_bytes("k", b"x")
    assert files(tmp_path) == []


async def test_another_process_sees_it_and_stale_uploads_go(tmp_path: Path) -> None:
    incoming = tmp_path / "~incoming"
    incoming.mkdir()
    for name, age_s in (("old", 100_000), ("young", 1_000)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    await LocalBlobStore(tmp_path).put_bytes("a/k", b"x")
    assert [path.name for path in files(incoming)] == ["young"]
    assert await LocalBlobStore(tmp_path).read_bytes("a/k") == b"x"
    assert await keys(LocalBlobStore(tmp_path)) == ["a/k"]

"""What the S3 adapter sends, and what it makes of a store that is slow, busy or silent."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from ragline.settings import Settings
from ragline.wiring.vectors import build_vectors
from schemas.errors import Retry
from storage.blobs.s3 import S3BlobStore
from tests.s3_front import S3Front, s3_front
from tests.s3_server import BUCKET, S3Server

MIB = 1 << 20
PART = 5 * MIB
"""The smallest that S3 takes."""


@pytest.fixture
def front(s3: S3Server) -> Iterator[S3Front]:
    with s3_front(s3) as running:
        yield running


def at(endpoint: str, **options: Any) -> S3BlobStore:
    """A store in a folder of its own."""
    return S3BlobStore(
        bucket=BUCKET, prefix=uuid.uuid4().hex, endpoint_url=endpoint, region="us-east-1", part_bytes=PART, **options
    )


@pytest.fixture
async def store(front: S3Front) -> AsyncIterator[S3BlobStore]:
    made = at(front.endpoint)
    yield made
    await made.close()


async def stream(n_mib: int) -> AsyncIterator[bytes]:
    for number in range(n_mib):
        yield bytes([number]) * MIB


async def test_a_large_blob_goes_in_parts_and_comes_in_pieces(s3: S3Server) -> None:
    direct = at(s3.endpoint)
    await direct.put_bytes("warm", b"x")
    n_mib = 32
    tracemalloc.start()
    try:
        stored = await direct.put("large", stream(n_mib))
        assert stored.size_bytes == n_mib * MIB
        assert tracemalloc.get_traced_memory()[1] < 4 * PART
        tracemalloc.reset_peak()
        n_read = 0
        async for piece in direct.read("large"):
            assert piece[0] == n_read // MIB
            n_read += len(piece)
        assert n_read == n_mib * MIB
        assert tracemalloc.get_traced_memory()[1] < PART
    finally:
        tracemalloc.stop()
        await direct.close()


async def test_nothing_is_sent_that_compatible_stores_lack(store: S3BlobStore, front: S3Front) -> None:
    await store.put("large", stream(11))
    await store.put_bytes("small", b"x")
    assert await store.put_if_absent("once", b"x")
    assert await store.read_bytes("small") == b"x"
    sent = [(one.method, parse_qs(one.query, keep_blank_values=True)) for one in front.seen]
    assert [query["partNumber"] for method, query in sent if method == "PUT" and query] == [["1"], ["2"], ["3"]]
    assert sum(method == "POST" and "uploads" in query for method, query in sent) == 1
    assert max(one.size for one in front.seen) == PART
    for one in front.seen:
        extra = [name for name in one.headers if "checksum" in name or name in {"x-amz-trailer", "content-encoding"}]
        assert not extra, (one.method, one.path)


async def test_a_broken_upload_in_parts_is_given_back(store: S3BlobStore, front: S3Front) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in stream(6):
            yield piece
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await store.put("large", broken())
    assert front.seen[-1].method == "DELETE"
    assert "uploadId" in front.seen[-1].query


async def test_a_busy_store_is_tried_again(store: S3BlobStore, front: S3Front) -> None:
    front.n_busy = 2
    await store.put_bytes("k", b"x")
    assert len(front.seen) == 3


async def test_a_silent_store_is_given_up(front: S3Front) -> None:
    front.is_silent = True
    store = at(front.endpoint, silent_for_s=0.2)
    with pytest.raises(Retry, match=r"imed? ?out"):
        await store.put_bytes("k", b"x")
    assert len(front.seen) == 3
    await store.close()


async def test_vectors_on_a_busy_store_are_for_later(front: S3Front) -> None:
    vectors = build_vectors(Settings(vectors=f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_endpoint=front.endpoint))
    front.n_busy = 1_000
    with pytest.raises(Retry, match="cannot be opened"):
        await vectors.count("table")
    front.n_busy = 0
    assert await vectors.count("table") == 0
    await vectors.close()


async def test_a_download_by_address_holds_for_its_time_and_for_what_was_signed(s3: S3Server) -> None:
    store = at(s3.endpoint, public_endpoint_url=s3.endpoint)
    disposition = "attachment; filename=\"a.html\"; filename*=UTF-8''a.html"
    try:
        await store.put_bytes("k", b"<script>")
        url = await store.download_url("k", media_type="text/html", disposition=disposition, expires_s=2)
        until = time.monotonic() + 20
        assert url is not None
        assert parse_qs(urlsplit(url).query)["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        async with httpx.AsyncClient() as client:
            got = await client.get(url)
            assert (got.status_code, got.content) == (200, b"<script>")
            assert (got.headers["content-disposition"], got.headers["content-type"]) == (disposition, "text/html")
            for changed in (
                url.replace("attachment", "inline"),
                url.replace("/k?", "/other?"),
                url.replace("=2&", "=9&"),
            ):
                assert changed != url
                assert (await client.get(changed)).status_code == 403
            while (await client.get(url)).status_code == 200:
                assert time.monotonic() < until, "it holds for ever"
                await asyncio.sleep(0.1)
            assert (await client.get(url)).status_code == 403
    finally:
        await store.close()


async def test_without_a_public_endpoint_there_is_no_address(store: S3BlobStore) -> None:
    assert await store.download_url("k", media_type="a/b", disposition="attachment", expires_s=2) is None

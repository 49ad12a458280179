"""Blobs in a bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aioboto3
import aiohttp
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from schemas.errors import Retry
from storage.blobs.keys import checked_folder, checked_key, checked_start
from storage.ports import BlobNotFound, StoredBlob

PIECE_BYTES = 1 << 20
PART_BYTES = 16 << 20
"""S3 takes 10,000 parts of at least 5 MiB: blobs up to 156 GiB."""

DELETES_AT_ONCE = 32

CONNECT_WITHIN_S = 5.0
SILENT_FOR_S = 20.0
"""So long a store may say nothing in the middle of a request, before it is tried again."""
TRIES = 3

_AWAY = (ClientError, BotoCoreError, aiohttp.ClientError, OSError, asyncio.TimeoutError)
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_STANDS = frozenset({"412", "PreconditionFailed"})
_BEYOND_THE_END = frozenset({"416", "InvalidRange"})


class S3BlobStore:
    """`BlobStore` in a bucket, below `prefix`. Credentials come from where boto3 looks for them.

    Checksums beyond those that the protocol demands are neither sent nor asked for: most compatible stores lack them.
    `public_endpoint_url` is where clients reach the store; without it no address is given for a download.
    """

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
        region: str | None = None,
        part_bytes: int = PART_BYTES,
        silent_for_s: float = SILENT_FOR_S,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._public_endpoint_url = public_endpoint_url
        self._region = region
        self._part_bytes = part_bytes
        self._silent_for_s = silent_for_s
        self._open = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._signing_client: Any = None

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> StoredBlob:
        """See the port; up to one part in one request, else as a multipart upload."""
        name = self._name(key)
        digest = hashlib.sha256()
        size_bytes = 0
        part = bytearray()
        upload: _Multipart | None = None
        client = await self._connected()
        try:
            async for chunk in chunks:
                digest.update(chunk)
                size_bytes += len(chunk)
                part += chunk
                while len(part) >= self._part_bytes:
                    upload = upload or await self._begin(client, name)
                    with memoryview(part) as view:
                        full = bytes(view[: self._part_bytes])
                    del part[: self._part_bytes]
                    await upload.send(full)
            if upload is None:
                with self._failures(key):
                    await client.put_object(Bucket=self._bucket, Key=name, Body=bytes(part))
            else:
                if part:
                    await upload.send(bytes(part))
                await upload.complete()
        except BaseException:
            if upload is not None:
                await asyncio.shield(upload.abort())
            raise
        return StoredBlob(key=key, size_bytes=size_bytes, sha256=digest.hexdigest())

    async def put_bytes(self, key: str, data: bytes) -> StoredBlob:
        """See the port."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        return await self.put(key, once())

    async def put_if_absent(self, key: str, data: bytes) -> bool:
        """See the port."""
        client = await self._connected()
        with self._failures(key):
            try:
                await client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) in _STANDS:
                    return False
                raise
        return True

    async def download_url(self, key: str, *, media_type: str, disposition: str, expires_s: int) -> str | None:
        """See the port; the address is signed for the public endpoint, which is not asked."""
        if self._public_endpoint_url is None:
            return None
        async with self._opening:
            if self._signing_client is None:
                self._signing_client = await self._client_of(self._public_endpoint_url)
        wanted = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "ResponseContentType": media_type,
            "ResponseContentDisposition": disposition,
        }
        with self._failures(key):
            url = await self._signing_client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=expires_s)
        return str(url)

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See the port."""
        if end is not None and end <= start:
            await self.size(key)
            return
        client = await self._connected()
        wanted = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        with self._failures(key):
            try:
                answer = await client.get_object(Bucket=self._bucket, Key=self._name(key), **wanted)
            except ClientError as error:
                if _code(error) in _BEYOND_THE_END:
                    return
                raise
        body = answer["Body"]
        try:
            while True:
                with self._failures(key):
                    piece = await body.read(PIECE_BYTES)
                if not piece:
                    return
                yield piece
        finally:
            body.close()  # gives the connection back, or cuts it if there is more to come

    async def read_bytes(self, key: str) -> bytes:
        """See the port."""
        return b"".join([piece async for piece in self.read(key)])

    async def size(self, key: str) -> int:
        """See the port."""
        client = await self._connected()
        with self._failures(key):
            head = await client.head_object(Bucket=self._bucket, Key=self._name(key))
        return int(head["ContentLength"])

    async def delete(self, key: str) -> None:
        """See the port."""
        client = await self._connected()
        with contextlib.suppress(BlobNotFound), self._failures(key):
            await client.delete_object(Bucket=self._bucket, Key=self._name(key))

    async def delete_prefix(self, prefix: str) -> int:
        """See the port. One by one: the bulk request demands a checksum that compatible stores refuse."""
        n_removed = 0
        batch: list[str] = []
        async for key in self.list_keys(checked_folder(prefix)):
            batch.append(key)
            if len(batch) == DELETES_AT_ONCE:
                await asyncio.gather(*map(self.delete, batch))
                n_removed += len(batch)
                batch = []
        await asyncio.gather(*map(self.delete, batch))
        return n_removed + len(batch)

    async def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """See the port."""
        client = await self._connected()
        wanted = self._prefix + checked_start(prefix)
        token: dict[str, str] = {}
        while True:
            with self._failures(prefix):
                page = await client.list_objects_v2(Bucket=self._bucket, Prefix=wanted, **token)
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        """See the port."""
        self._client = self._signing_client = None
        await self._open.aclose()

    async def _begin(self, client: Any, name: str) -> _Multipart:
        with self._failures(name):
            answer = await client.create_multipart_upload(Bucket=self._bucket, Key=name)
        return _Multipart(client, {"Bucket": self._bucket, "Key": name, "UploadId": answer["UploadId"]})

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _failures(self, key: str) -> _Failures:
        return _Failures(f'"{key}" in bucket {self._bucket}')

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._client_of(self._endpoint_url)
            return self._client

    async def _client_of(self, endpoint_url: str | None) -> Any:
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": TRIES},
            connect_timeout=CONNECT_WITHIN_S,
            read_timeout=self._silent_for_s,
            max_pool_connections=50,
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        client = aioboto3.Session().client("s3", endpoint_url=endpoint_url, region_name=self._region, config=config)
        with self._failures(""):
            return await self._open.enter_async_context(client)


class _Multipart:
    """An upload in parts; nothing is readable before it is complete."""

    def __init__(self, client: Any, upload: dict[str, str]) -> None:
        self._client = client
        self._upload = upload
        self._parts: list[dict[str, object]] = []
        self._failures = _Failures(f'"{upload["Key"]}" in bucket {upload["Bucket"]}')

    async def send(self, data: bytes) -> None:
        number = len(self._parts) + 1
        with self._failures:
            answer = await self._client.upload_part(**self._upload, PartNumber=number, Body=data)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def complete(self) -> None:
        with self._failures:
            await self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": self._parts})

    async def abort(self) -> None:
        """Gives the parts back; a store that is away drops them by its life-cycle rule."""
        with contextlib.suppress(*_AWAY):
            await self._client.abort_multipart_upload(**self._upload)


class _Failures(contextlib.AbstractContextManager[None]):
    """Turns the client's errors into the port's."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ClientError) and _code(error) in _ABSENT:
            raise BlobNotFound(f"no blob stands at {self._what}") from error
        if isinstance(error, _AWAY):
            raise Retry(f"the blob store failed for {self._what}: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))

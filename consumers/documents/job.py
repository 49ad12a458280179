"""One attempt to learn a version: parse → passages → batches of vectors, each step checkpointed."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consumers.documents.checkpoints import Checkpoints
from consumers.documents.claims import Claim, LeaseLost
from consumers.documents.downloads import temporary_folder
from consumers.documents.parse.document import OVER_LIMITS, ParseFailed
from consumers.documents.passages import Reading
from consumers.documents.vectors import PassageVectors
from providers.ports import ProviderError
from schemas.errors import Retry
from storage.blobs.keys import tenant_prefix
from storage.ports import BlobNotFound, BlobStore
from telemetry.metrics import INGEST_STEP_SECONDS
from telemetry.tracing import CURRENT, begin

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

Read = Callable[[Path, Claim], Awaitable[Reading]]
"""Reads the version's bytes from a file; there are words in them. Raises: ParseFailed."""

_PARSE, _EMBED = INGEST_STEP_SECONDS.labels("parse"), INGEST_STEP_SECONDS.labels("embed")

RETRY_S = 5.0
LONGEST_RETRY_S = 60.0
GIVE_UP_S = 24 * 3600.0
"""What is away is waited for so long after the first attempt; then the document says so."""
TURN_S = 10.0
"""A document that is embedded for so long gives way at its next checkpoint, if others wait."""
STORE_PATIENCE_S, STORE_AGAIN_S = 60.0, 0.5
"""What is embedded waits so long for PostgreSQL to be stored; it is tried again so often."""
BATCH_SIZE = 128
_ENCODED_AT_ONCE = 1 << 18
A_WHILE_S = 0.25
TELL_S = 1.0
"""How often the pages that are read are told."""


@dataclass(frozen=True, slots=True)
class Release:
    """How a lease is given up: who goes on may begin after `after_s`; a barren attempt counts against the file.

    `is_heavy`: it takes more than a light place has.
    """

    after_s: float = 0.0
    is_barren: bool = False
    is_heavy: bool = False


class _Failed(Exception):  # noqa: N818 - reads as the fact it is
    """The version cannot be learnt."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _IsHeavy(Exception):  # noqa: N818 - reads as the fact it is
    """The version cannot be read within the limits of a light place."""


class _GivesWay(Exception):  # noqa: N818 - reads as the fact it is
    """Others wait, and everything done so far is checkpointed."""


class Job:
    """Learns versions. Holds nothing between attempts: what is done stands in PostgreSQL and the blob store."""

    def __init__(
        self,
        *,
        checkpoints: Checkpoints,
        blobs: BlobStore,
        vectors: PassageVectors,
        read: Read,
        pages_read: Callable[[Path], tuple[int, int]],
        must_give_way: Callable[[Claim], Awaitable[bool]],
        max_attempts: int,
        batch_size: int = BATCH_SIZE,
        turn_s: float = TURN_S,
    ) -> None:
        self._checkpoints = checkpoints
        self._blobs = blobs
        self._vectors = vectors
        self._read = read
        self._pages_read = pages_read
        self._must_give_way = must_give_way
        self._max_attempts = max_attempts
        self._batch_size = batch_size
        self._turn_s = turn_s

    async def run(self, claim: Claim) -> Release | None:
        """Goes on from the last checkpoint until the version is `indexing` or `failed`: None.

        Otherwise says how the lease is to be given up. Raises: whatever else the document provokes.
        """
        CURRENT.set(claim.traceparent)
        with _step("documents learn", claim) as learning:
            return await self._ended(learning)

    async def _ended(self, claim: Claim) -> Release | None:
        try:
            try:
                await self._learn(claim)
            except _Failed as failed:
                await self._checkpoints.failed(claim, failed.code, failed.message)
            except Retry as retry:
                if claim.age_s < GIVE_UP_S:
                    raise
                message = f"It could not be learnt within {GIVE_UP_S / 3600:g} h, the last time because of: {retry}."
                await self._checkpoints.failed(claim, "unavailable", message)
        except _GivesWay:
            return Release()
        except _IsHeavy:
            return Release(is_heavy=True)
        except LeaseLost:
            await self._leave_nothing(claim)
            return Release()
        except Retry as retry:
            after_s = retry.after_s or min(LONGEST_RETRY_S, max(RETRY_S, claim.age_s / 20))
            logger.warning("document %s waits %.0f s: %s", claim.document_id, after_s, retry)
            return Release(after_s=after_s)
        return None

    async def _learn(self, claim: Claim) -> None:
        if claim.barren_attempts > self._max_attempts:
            raise _Failed(
                "attempts_exhausted",
                f"{self._max_attempts} attempts to read this file ended without progress; it may crash what reads it.",
            )
        if claim.status == "parsing":
            await self._parse(claim)
        elif claim.embedding_model != self._vectors.model:
            await self._checkpoints.reset(claim, model=self._vectors.model)
        with _step("documents embed", claim) as embedding:
            await self._embed(embedding)

    async def _parse(self, claim: Claim) -> None:
        """Text to the blob store, then passages, batches and counters in one transaction."""
        async with self._downloaded(claim) as path:
            telling = asyncio.create_task(self._tell_pages(claim, path))
            try:
                with _PARSE.time(), _step("documents parse", claim):
                    reading = await self._read_in_turn(path, claim)
            except ParseFailed as failed:
                if claim.is_light and failed.code in OVER_LIMITS:
                    raise _IsHeavy from failed
                raise _Failed(failed.code, failed.message) from failed
            finally:
                telling.cancel()
                await asyncio.wait({telling})
        await self._blobs.put(f"{claim.prefix}text.txt", _utf8(reading.text))
        await self._checkpoints.parsed(claim, reading, model=self._vectors.model, batch_size=self._batch_size)

    async def _read_in_turn(self, path: Path, claim: Claim) -> Reading:
        """In a light place it is heavy, too, if it takes a while and its tenant keeps another from every place."""

        async def read() -> Reading:
            return await self._read(path, claim)

        reading = asyncio.create_task(read())
        try:
            while claim.is_light and not (await asyncio.wait({reading}, timeout=A_WHILE_S))[0]:
                if await self._must_give_way(claim):
                    raise _IsHeavy
            return await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _tell_pages(self, claim: Claim, path: Path) -> None:
        """Until cancelled. What cannot be told is told the next time, or by whoever has the lease."""
        began, told = time.monotonic(), None
        while True:
            await asyncio.sleep(TELL_S)
            n_parsed, n_pages = now = self._pages_read(path)
            if now == told:
                continue
            eta_s = (time.monotonic() - began) / n_parsed * (n_pages - n_parsed) if n_parsed else None
            try:
                await self._checkpoints.parsing(claim, n_parsed=n_parsed, n_pages=n_pages, eta_s=eta_s)
            except (Retry, LeaseLost) as error:
                logger.info("document %s: its progress was not told: %r", claim.document_id, error)
            else:
                told = now

    async def _embed(self, claim: Claim) -> None:
        """Embeds the missing batches in order; while one is stored, the next is embedded."""
        progress = await self._checkpoints.progress(claim)
        started, n_done = time.monotonic(), 0

        def vectors_of(batch: int) -> asyncio.Task[Vectors]:
            return asyncio.create_task(self._vectors_of(claim, batch, progress.stored.get(batch)))

        ahead = [vectors_of(batch) for batch in progress.missing[:1]]
        try:
            for number, batch in enumerate(progress.missing):
                vectors = await ahead.pop()
                ahead += [vectors_of(following) for following in progress.missing[number + 1 : number + 2]]
                key = f"{claim.prefix}batch-{batch}.{claim.attempt}.npy"
                await self._blobs.put_bytes(key, _npy(vectors))
                n_done += len(vectors)
                n_left = progress.n_passages - progress.n_embedded - n_done
                eta_s = round((time.monotonic() - started) / n_done * n_left, 1)
                await self._checkpoint(claim, batch, n_rows=len(vectors), blob_key=key, eta_s=eta_s)
                if ahead and time.monotonic() - started > self._turn_s and await self._checkpoints.others_wait():
                    await asyncio.gather(*ahead, return_exceptions=True)  # what is asked for is paid for: it is cached
                    raise _GivesWay
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _checkpoint(self, claim: Claim, batch: int, *, n_rows: int, blob_key: str, eta_s: float) -> None:
        """While PostgreSQL is away the vectors wait for it: they may have been paid for, and nobody else can claim."""
        until = time.monotonic() + STORE_PATIENCE_S
        while True:
            try:
                return await self._checkpoints.embedded(
                    claim, batch, n_rows=n_rows, blob_key=blob_key, model=self._vectors.model, eta_s=eta_s
                )
            except Retry as retry:
                if time.monotonic() > until:
                    raise
                logger.warning("document %s, batch %d is not stored yet: %s", claim.document_id, batch, retry)
            await asyncio.sleep(STORE_AGAIN_S)

    async def _vectors_of(self, claim: Claim, batch: int, stored: str | None) -> Vectors:
        """The batch's vectors: those at `stored` if they are whole, which is what spares a restore the embedder."""
        texts = await self._checkpoints.texts(claim, batch)
        if not texts:
            raise LeaseLost  # deleted meanwhile: a batch has passages
        if stored is not None and (vectors := await self._stored(stored)) is not None:
            if vectors.shape == (len(texts), self._vectors.dimensions):
                return vectors
            logger.warning("blob %s has vectors of shape %s for %d passages", stored, vectors.shape, len(texts))
        try:
            with _EMBED.time():
                return await self._vectors.of(claim.tenant_id, texts)
        except ProviderError as error:
            if error.retryable:
                raise Retry(f"the embedding model: {error.code}", after_s=error.retry_after_s) from error
            raise _Failed("embedding_failed", f"Its passages could not be embedded: {error.detail}") from error

    async def _stored(self, key: str) -> Vectors | None:
        try:
            vectors: Vectors = np.load(io.BytesIO(await self._blobs.read_bytes(key)), allow_pickle=False)
        except (BlobNotFound, ValueError, EOFError) as error:
            logger.warning("the vectors at %s are embedded again: %r", key, error)
            return None
        return vectors

    @asynccontextmanager
    async def _downloaded(self, claim: Claim) -> AsyncIterator[Path]:
        """The version's bytes as a file of their own, checked against their hash; gone after the block."""
        if not claim.blob_key.startswith(tenant_prefix(claim.tenant_id)):
            raise _Failed("blob_missing", "Its bytes are not among those of its tenant; upload it again.")
        with temporary_folder() as folder:
            path = Path(folder) / "original"
            hashed = hashlib.sha256()
            try:
                with path.open("wb") as file:
                    async for piece in self._blobs.read(claim.blob_key):
                        hashed.update(piece)
                        await asyncio.to_thread(file.write, piece)
            except BlobNotFound:
                raise _Failed("blob_missing", "Its bytes are gone from the blob store; upload it again.") from None
            except OSError as error:
                raise Retry(f"the temporary folder {folder} cannot be written: {error}") from error
            if hashed.hexdigest() != claim.sha256:
                raise _Failed("blob_corrupt", "Its bytes are not the ones that were uploaded; upload it again.")
            yield path

    async def _leave_nothing(self, claim: Claim) -> None:
        """What this attempt wrote after its document was deleted would be found by nobody: it goes too."""
        if await self._checkpoints.is_deleted(claim):
            await self._blobs.delete_prefix(claim.prefix)


@contextmanager
def _step(name: str, claim: Claim) -> Iterator[Claim]:
    """A step of the document's trace; what the block tells of the claim it is given belongs to the step."""
    span = None if claim.traceparent is None else begin(name, parent=claim.traceparent, kind="consumer")
    if span is None:
        yield claim
        return
    error: str | None = "interrupted"
    try:
        yield replace(claim, traceparent=span.traceparent)
        error = None
    except Exception as failed:
        error = type(failed).__name__
        raise
    finally:
        span.end({"ragline.document_id": str(claim.document_id), "ragline.attempt": claim.attempt}, error=error)


async def _utf8(text: str) -> AsyncIterator[bytes]:
    for start in range(0, len(text), _ENCODED_AT_ONCE):
        yield text[start : start + _ENCODED_AT_ONCE].encode()


def _npy(vectors: Vectors) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()

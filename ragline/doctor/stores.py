"""Blobs and vectors: something is written, read and removed; and many try to be the first to write one key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from ragline.doctor.findings import Finding, Patient
from ragline.wiring.doctor import folder_of_its_own, vectors_of
from schemas.errors import Retry
from schemas.ids import new_id
from storage.ports import BlobStore, StorageFull, VectorRow

BLOBS_REMEDY = (
    "Set RAGLINE_BLOBS to a folder, or to s3://bucket/prefix with RAGLINE_S3_ENDPOINT, AWS_ACCESS_KEY_ID and"
    " AWS_SECRET_ACCESS_KEY."
)
VECTORS_REMEDY = BLOBS_REMEDY.replace("BLOBS", "VECTORS")
_FULL = "Free some space where the store is."
_NO_CONDITION = (
    "Use a store with conditional writes (PUT with If-None-Match: *), as Amazon S3 has them: without, two writers of"
    " LanceDB overwrite each other."
)
WRITERS = 16
ROUNDS = 3
CLEAN_UP_WITHIN_S = 5.0
_BYTES = 64 * 1024


async def blobs(patient: Patient) -> AsyncGenerator[Finding, None]:
    """The blob store. Raises: Retry if it does not answer."""
    url = patient.settings.blobs_url
    async with folder_of_its_own(patient.settings, url) as store:
        yield await _written("blobs", url, store)
        yield await _race("blobs.race", store)


async def vectors(patient: Patient) -> AsyncGenerator[Finding, None]:
    """The vector store. Raises: Retry if it does not answer."""
    url, table = patient.settings.vectors_url, f"doctor_{new_id().hex}"
    row = VectorRow("doctor", "doctor", 1, "doctor", 0, "the doctor was here")
    async with vectors_of(patient.settings) as index:
        try:
            await index.replace_batches(table, [([row], np.ones((1, 1), np.float32))], dimensions=1)
            found = await index.search(table, vector=None, text="doctor", limit=1)
        finally:
            async with asyncio.timeout(CLEAN_UP_WITHIN_S):
                await index.drop(table)
    if found["text"]:
        yield Finding("vectors", "ok", f"{url}: a table was written, searched and dropped")
    else:
        yield Finding("vectors", "wrong", f"{url}: what was written to a table is not found in it", VECTORS_REMEDY)
    async with folder_of_its_own(patient.settings, url) as store:
        yield await _race("vectors.race", store)


async def _written(name: str, url: str, store: BlobStore) -> Finding:
    """64 KiB are written, read and removed again."""
    key, data = new_id().hex, np.random.default_rng().bytes(_BYTES)
    try:
        try:
            await store.put_bytes(key, data)
            is_same = await store.read_bytes(key) == data
        finally:
            await _removed(store, key)
    except StorageFull as full:
        return Finding(name, "wrong", str(full), _FULL)
    if not is_same:
        return Finding(name, "wrong", f"{url}: what was read is not what was written", BLOBS_REMEDY)
    return Finding(name, "ok", f"{url}: a blob was written, read and removed")


async def _race(name: str, store: BlobStore) -> Finding:
    """Exactly one of several that write a key at once may be told that it was the first, and its bytes must stand."""
    for _ in range(ROUNDS):
        key = new_id().hex
        try:
            tries = [store.put_if_absent(key, b"%d" % number) for number in range(WRITERS)]
            told = await asyncio.gather(*tries, return_exceptions=True)
            refused = [one for one in told if isinstance(one, BaseException)]
            if refused and not isinstance(refused[0], Retry):
                raise refused[0]
            winners = [number for number, won in enumerate(told) if won is True]
            if refused:
                lost = str(refused[0])
            elif len(winners) != 1:
                lost = f"{len(winners)} of {WRITERS} writers of one key were told that they were the first"
            elif await store.read_bytes(key) != b"%d" % winners[0]:
                lost = "where one writer was told that it was the first, another's bytes stand"
            else:
                continue
            return Finding(name, "wrong", lost, _NO_CONDITION)
        finally:
            await _removed(store, key)
    return Finding(name, "ok", f"{ROUNDS} times, one of {WRITERS} writers of one key was the first")


async def _removed(store: BlobStore, key: str) -> None:
    async with asyncio.timeout(CLEAN_UP_WITHIN_S):
        await store.delete(key)

"""The writer of the vector tables: batches of embedded passages, by blob reference, become searchable."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from consumers.index.store import (
    INDEX_FAILED,
    BatchKey,
    batch_key,
    due_batches,
    load_rows,
    mark_failed,
    mark_indexed,
    version_key,
)
from consumers.index.table_locks import SOON_S, lock_to_add
from consumers.index.upkeep import IndexUpkeep
from schemas.commands import IndexBatch
from schemas.envelope import Envelope
from schemas.events import DocumentFailed, DocumentIndexed, ErrorInfo
from schemas.records import Body
from schemas.topics import KNOWLEDGE_EVENTS
from storage.ports import BlobNotFound, BlobStore, VectorIndex, VectorRow
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import UnitOfWork
from storage.vectors.names import table_name
from telemetry.metrics import INGEST_DOCUMENTS, INGEST_STEP_SECONDS

Vectors = npt.NDArray[np.float32]

_INDEX = INGEST_STEP_SECONDS.labels("index")

BATCHES_PER_COMMIT = 64
"""At most so many batches are in memory at once (of 128 passages: 8 MB at 256 dimensions)."""


class _UnusableBatch(Exception):  # noqa: N818 - reads as the fact it is
    """What the blob store has for a batch cannot be indexed."""


class IndexWriter:
    """Handles a batch of IndexBatch commands inside the runner's transaction, so that redelivery is harmless.

    The table is written before the transaction commits: if that fails, the same rows are written again.
    """

    def __init__(self, *, blobs: BlobStore, vectors: VectorIndex, upkeep: IndexUpkeep) -> None:
        self._blobs = blobs
        self._vectors = vectors
        self._upkeep = upkeep

    async def handle(self, work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
        """Indexes what is due, a commit a table; DocumentIndexed for every version that is complete by it.

        A batch without usable vectors ends its document with DocumentFailed. Raises: Retry; Busy if
        somebody removes from a table, and that takes long.
        """
        named = [(command.body, command) for command in commands if isinstance(command.body, IndexBatch)]
        await lock_to_add(work, (body.table for body, _ in named), within_s=SOON_S)
        batches = await due_batches(work, [body for body, _ in named])
        due = {
            batch_key(body): (body, command)
            for body, command in named
            if (batch := batches.get(batch_key(body))) is not None
            and body.blob_key == batch.blob_key
            and body.table == table_name(body.tenant_id, batch.embedding_model)
        }
        tables: dict[str, list[BatchKey]] = {}
        for key, (body, _) in due.items():
            tables.setdefault(body.table, []).append(key)
        outgoing: list[Outgoing] = []
        for table, keys in tables.items():
            for start in range(0, len(keys), BATCHES_PER_COMMIT):
                some = [due[key] for key in keys[start : start + BATCHES_PER_COMMIT]]
                with _INDEX.time():
                    outgoing += await self._index(work, table, some)
        work.after_commit.append(lambda: _count_ended(outgoing))
        return outgoing

    async def _index(
        self, work: UnitOfWork, table: str, batches: Sequence[tuple[IndexBatch, Envelope]]
    ) -> list[Outgoing]:
        rows = await load_rows(work, [batch_key(body) for body, _ in batches])
        loaded = await asyncio.gather(*(self._load(body, rows[batch_key(body)]) for body, _ in batches))
        outgoing: list[Outgoing] = []
        failed = set()
        for (body, command), vectors in zip(batches, loaded, strict=True):
            if isinstance(vectors, _UnusableBatch) and version_key(body) not in failed:
                failed.add(version_key(body))
                await mark_failed(work, version_key(body), str(vectors))
                outgoing.append(_event(command, _failure(body, str(vectors))))
        usable = [
            (body, command, vectors)
            for (body, command), vectors in zip(batches, loaded, strict=True)
            if not isinstance(vectors, _UnusableBatch) and version_key(body) not in failed
        ]
        if not usable:
            return outgoing
        await self._vectors.replace_batches(
            table,
            [(rows[batch_key(body)], vectors) for body, _, vectors in usable],
            dimensions=usable[0][2].shape[1],
        )
        n_rows = sum(len(vectors) for _, _, vectors in usable)
        work.after_commit.append(lambda: self._upkeep.committed(table, n_rows))
        causes = {version_key(body): command for body, command, _ in usable}
        for done in await mark_indexed(work, [body for body, _, _ in usable]):
            fact = DocumentIndexed(
                document_id=done.document_id,
                version=done.version,
                n_pages=done.n_pages,
                n_passages=done.n_passages,
                n_tokens=done.n_tokens,
                is_active=done.is_active,
            )
            outgoing.append(_event(causes[done.document_id, done.version], fact))
        return outgoing

    async def _load(self, body: IndexBatch, rows: Sequence[VectorRow]) -> Vectors | _UnusableBatch:
        """The batch's vectors, one a row; what is wrong with them is returned, not raised."""
        name = f"batch {body.batch} of version {body.version}"
        try:
            data = await self._blobs.read_bytes(body.blob_key)
            vectors: Vectors = np.load(io.BytesIO(data), allow_pickle=False)
        except BlobNotFound:
            return _UnusableBatch(f"The vectors of {name} are gone from the blob store; upload the document again.")
        except (ValueError, EOFError, OSError) as error:
            return _UnusableBatch(f"The vectors of {name} cannot be read ({error}); upload the document again.")
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(rows):
            return _UnusableBatch(
                f"The vectors of {name} are {vectors.shape} {vectors.dtype} for {len(rows)} passages;"
                " upload the document again."
            )
        return vectors


def _count_ended(outgoing: Sequence[Outgoing]) -> None:
    for _, event in outgoing:
        INGEST_DOCUMENTS.labels("indexed" if isinstance(event.body, DocumentIndexed) else "failed").inc()


def _event(command: Envelope, fact: Body) -> Outgoing:
    return KNOWLEDGE_EVENTS, command.caused(fact, source="index", time=datetime.now(UTC))


def _failure(body: IndexBatch, message: str) -> DocumentFailed:
    return DocumentFailed(
        document_id=body.document_id, version=body.version, error=ErrorInfo(code=INDEX_FAILED, message=message)
    )

"""What a job has done, stored so that nobody does it again: one fenced transaction a step, with its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from consumers.documents.claims import FENCE, Claim, LeaseLost, others_wait
from consumers.documents.passages import Reading
from consumers.documents.vectors import PassageText
from consumers.index.store import batch_id
from consumers.index.table_locks import lock_tables
from schemas.commands import IndexBatch
from schemas.events import DocumentFailed, DocumentParsed, DocumentParsing, ErrorInfo, PassagesEmbedded
from schemas.ids import derived_id
from schemas.topics import KNOWLEDGE_EVENTS, KNOWLEDGE_INDEX
from storage.log.publisher import OutboxPublisher
from storage.ports import VectorIndex
from storage.postgres import outbox
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from storage.vectors.names import table_name
from telemetry.metrics import INGEST_DOCUMENTS, INGEST_PASSAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROWS_PER_STATEMENT = 1000
_REMOVED_AT_ONCE = 500
_NOT_DONE = "UPDATE document_batches SET embedded_at = NULL, indexed_at = NULL"
_OF_VERSION = "WHERE document_id = $1 AND version = $2"
_HEADING_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the embedding is: passages with vectors, of all; `missing` are the batches still to do, in order.

    `stored` says where the vectors of a missing batch stand from an earlier time.
    """

    n_embedded: int
    n_passages: int
    n_batches: int
    missing: tuple[int, ...]
    stored: Mapping[int, str]


def parsed_id(claim: Claim) -> UUID:
    """The id of the version's DocumentParsed, which its batches follow from."""
    return derived_id("document_parsed", claim.document_id, claim.version)


def index_batch_id(blob_key: str) -> UUID:
    """The id of the command that indexes the vectors at `blob_key`."""
    return derived_id("index_batch", blob_key)


def passage_id(document_id: UUID, version: int, ordinal: int) -> UUID:
    """The id of a passage: the same however often its version is parsed."""
    return derived_id(document_id, version, ordinal)


class Checkpoints:
    """Fenced writes of one process's jobs. Each raises LeaseLost if the claim does not hold any more, and Retry."""

    def __init__(self, database: Database, publisher: OutboxPublisher, vectors: VectorIndex) -> None:
        self._database = database
        self._publisher = publisher
        self._vectors = vectors

    async def parsing(self, claim: Claim, *, n_parsed: int, n_pages: int, eta_s: float | None) -> None:
        """DocumentParsing: how far the reading is."""
        async with self._fenced(claim, "n_pages = n_pages") as (_, outgoing):
            fact = DocumentParsing(
                document_id=claim.document_id,
                version=claim.version,
                n_parsed=n_parsed,
                n_pages=n_pages,
                eta_s=None if eta_s is None else round(eta_s, 1),
            )
            outgoing.append((KNOWLEDGE_EVENTS, claim.caused(fact, now=datetime.now(UTC), by=claim.requested_by)))

    async def parsed(self, claim: Claim, reading: Reading, *, model: str, batch_size: int) -> None:
        """Passages, batches, counters and DocumentParsed, in one transaction; what stood there is replaced."""
        n_passages, n_tokens = len(reading.passages), sum(passage.n_tokens for passage in reading.passages)
        async with self._fenced(
            claim,
            "status = 'embedding', media_type = $4, embedding_model = $5, n_pages = $6, n_passages = $7,"
            " n_tokens = $8, n_batches = $9, target_tokens = $10, max_tokens = $11, n_embedded = 0,"
            " barren_attempts = 0",
            reading.media_type,
            model,
            reading.n_pages,
            n_passages,
            n_tokens,
            -(-n_passages // batch_size),
            reading.size.target_tokens,
            reading.size.max_tokens,
        ) as (work, outgoing):
            await _insert_passages(work, claim, reading, batch_size)
            await _insert_batches(work, claim, n_passages, batch_size)
            fact = DocumentParsed(
                document_id=claim.document_id,
                version=claim.version,
                media_type=reading.media_type,
                n_pages=reading.n_pages,
                n_passages=n_passages,
                n_tokens=n_tokens,
            )
            event = claim.caused(fact, now=datetime.now(UTC), by=claim.requested_by, id=parsed_id(claim))
            outgoing.append((KNOWLEDGE_EVENTS, event))

    async def reset(self, claim: Claim, *, model: str) -> None:
        """Every batch is to be embedded anew, because the embedding model is another one now.

        The old model's table has no row of the version any more: from now on nobody knows to look there.
        """
        # First no batch counts as indexed: were this cut off below, the old model too would begin anew.
        async with self._fenced(claim, "n_embedded = 0") as (work, _):
            await work.execute(f"{_NOT_DONE} {_OF_VERSION}", claim.document_id, claim.version)
        old = [] if claim.embedding_model is None else [table_name(claim.tenant_id, claim.embedding_model)]
        async with self._fenced(claim, "embedding_model = $4", model, tables=old) as (work, _):
            rows = await work.fetch(
                f"{_NOT_DONE}, blob_key = NULL {_OF_VERSION} RETURNING batch", claim.document_id, claim.version
            )
            ids = [batch_id((claim.document_id, claim.version, row["batch"])) for row in rows]
            for table in old:
                for start in range(0, len(ids), _REMOVED_AT_ONCE):
                    await self._vectors.delete_batches(table, ids[start : start + _REMOVED_AT_ONCE])

    async def progress(self, claim: Claim) -> Progress:
        """What is still to be embedded."""
        async with self._database.transaction() as work:
            rows = await work.fetch(
                "SELECT batch, n_rows, blob_key, embedded_at IS NOT NULL AS is_embedded FROM document_batches"
                " WHERE document_id = $1 AND version = $2 ORDER BY batch",
                claim.document_id,
                claim.version,
            )
        if not rows:
            raise LeaseLost  # deleted meanwhile: a parsed version has batches
        return Progress(
            n_embedded=sum(row["n_rows"] for row in rows if row["is_embedded"]),
            n_passages=sum(row["n_rows"] for row in rows),
            n_batches=len(rows),
            missing=tuple(row["batch"] for row in rows if not row["is_embedded"]),
            stored={row["batch"]: row["blob_key"] for row in rows if row["blob_key"] and not row["is_embedded"]},
        )

    async def is_deleted(self, claim: Claim) -> bool:
        """Whether the version was deleted while it was learnt."""
        async with self._database.transaction() as work:
            status = await work.fetchval(
                "SELECT status FROM document_versions WHERE document_id = $1 AND version = $2",
                claim.document_id,
                claim.version,
            )
        return bool(status == "deleted")

    async def others_wait(self) -> bool:
        """Whether another version could be learnt instead."""
        return await others_wait(self._database)

    async def texts(self, claim: Claim, batch: int) -> list[PassageText]:
        """The passages of a batch, in order."""
        async with self._database.transaction() as work:
            rows = await work.fetch(
                "SELECT text, content_hash FROM passages WHERE document_id = $1 AND version = $2 AND batch = $3"
                " ORDER BY ordinal",
                claim.document_id,
                claim.version,
                batch,
            )
        return [PassageText(row["text"], row["content_hash"]) for row in rows]

    async def embedded(
        self, claim: Claim, batch: int, *, n_rows: int, blob_key: str, model: str, eta_s: float | None
    ) -> None:
        """One batch has vectors at `blob_key`: PassagesEmbedded, and the command to index it.

        With the last one the job's part is over: the version is `indexing` and its lease ends.
        """
        async with self._fenced(
            claim,
            "n_embedded = n_embedded + $4, barren_attempts = 0, (status, lease_until) = (SELECT"
            " CASE WHEN bool_and(b.embedded_at IS NOT NULL OR b.batch = $5) THEN 'indexing' ELSE status END,"
            " CASE WHEN bool_and(b.embedded_at IS NOT NULL OR b.batch = $5) THEN NULL ELSE lease_until END"
            " FROM document_batches b WHERE b.document_id = $1 AND b.version = $2)",
            n_rows,
            batch,
        ) as (work, outgoing):
            row = await work.fetchrow(
                "UPDATE document_batches b SET embedded_at = now(), blob_key = $4 FROM document_versions v"
                " WHERE (b.document_id, b.version, b.batch) = ($1, $2, $3)"
                " AND (v.document_id, v.version) = (b.document_id, b.version) AND b.embedded_at IS NULL"
                " RETURNING v.n_embedded, v.n_passages, v.n_batches",
                claim.document_id,
                claim.version,
                batch,
                blob_key,
            )
            if row is None:
                raise LeaseLost
            progress = _Embedded(batch, n_rows, blob_key, model, row["n_embedded"], row["n_passages"], row["n_batches"])
            outgoing.extend(_facts_of(claim, progress, eta_s))
        INGEST_PASSAGES.inc(n_rows)

    async def failed(self, claim: Claim, code: str, message: str) -> None:
        """The version ends: `failed`, and DocumentFailed says why, once."""
        async with self._fenced(
            claim, "status = 'failed', error_code = $4, error_message = $5, lease_until = NULL", code, message
        ) as (_, outgoing):
            fact = DocumentFailed(
                document_id=claim.document_id, version=claim.version, error=ErrorInfo(code=code, message=message)
            )
            outgoing.append((KNOWLEDGE_EVENTS, claim.caused(fact, now=datetime.now(UTC), by=claim.requested_by)))
        INGEST_DOCUMENTS.labels("failed").inc()

    @asynccontextmanager
    async def _fenced(
        self, claim: Claim, changes: str, *args: object, tables: Sequence[str] = ()
    ) -> AsyncIterator[tuple[UnitOfWork, list[Outgoing]]]:
        """Changes the version first, which locks it; then the block; then what is outgoing, published after commit.

        Vector tables that the block writes are locked before the version, as the index's writer does.
        """
        outgoing: list[Outgoing] = []
        async with self._database.transaction() as work:
            if tables:
                await lock_tables(work, tables)
            n_rows = await work.execute(
                f"UPDATE document_versions SET {changes}, updated_at = now() WHERE {FENCE}",  # noqa: S608
                *claim.fence,
                *args,
            )
            if n_rows == 0:
                raise LeaseLost
            yield work, outgoing
            records = await outbox.add(work, outgoing)
        await self._publisher.publish(records)


@dataclass(frozen=True, slots=True)
class _Embedded:
    """A batch that has its vectors, and the version's counters with it."""

    batch: int
    n_rows: int
    blob_key: str
    model: str
    n_embedded: int
    n_passages: int
    n_batches: int


def _facts_of(claim: Claim, batch: _Embedded, eta_s: float | None) -> list[Outgoing]:
    done = PassagesEmbedded(
        document_id=claim.document_id,
        version=claim.version,
        n_embedded=batch.n_embedded,
        n_passages=batch.n_passages,
        eta_s=eta_s,
    )
    command = IndexBatch(
        tenant_id=claim.tenant_id,
        document_id=claim.document_id,
        version=claim.version,
        batch=batch.batch,
        n_batches=batch.n_batches,
        n_rows=batch.n_rows,
        table=table_name(claim.tenant_id, batch.model),
        blob_key=batch.blob_key,
    )
    now, cause = datetime.now(UTC), parsed_id(claim)
    return [
        (KNOWLEDGE_EVENTS, claim.caused(done, now=now, by=cause)),
        (KNOWLEDGE_INDEX, claim.caused(command, now=now, by=cause, id=index_batch_id(batch.blob_key))),
    ]


async def _insert_passages(work: UnitOfWork, claim: Claim, reading: Reading, batch_size: int) -> None:
    await work.execute("DELETE FROM passages WHERE document_id = $1 AND version = $2", claim.document_id, claim.version)
    for start in range(0, len(reading.passages), _ROWS_PER_STATEMENT):
        rows = reading.passages[start : start + _ROWS_PER_STATEMENT]
        ordinals = range(start, start + len(rows))
        await work.execute(
            "INSERT INTO passages (id, tenant_id, document_id, version, batch, ordinal, text, page, span_start,"
            " span_end, heading_path, n_tokens, content_hash)"
            " SELECT id, $1, $2, $3, ordinal / $4, ordinal, text, page, span_start, span_end,"
            " string_to_array(heading_path, $5), n_tokens, content_hash"
            " FROM unnest($6::uuid[], $7::int[], $8::text[], $9::int[], $10::int[], $11::int[], $12::text[],"
            " $13::int[], $14::text[])"
            " AS t(id, ordinal, text, page, span_start, span_end, heading_path, n_tokens, content_hash)",
            claim.tenant_id,
            claim.document_id,
            claim.version,
            batch_size,
            _HEADING_SEPARATOR,
            [passage_id(claim.document_id, claim.version, ordinal) for ordinal in ordinals],
            list(ordinals),
            [reading.text[row.start : row.end] for row in rows],
            [row.page for row in rows],
            [row.start for row in rows],
            [row.end for row in rows],
            [_HEADING_SEPARATOR.join(row.heading_path) for row in rows],
            [row.n_tokens for row in rows],
            [row.content_hash for row in rows],
        )


async def _insert_batches(work: UnitOfWork, claim: Claim, n_passages: int, batch_size: int) -> None:
    await work.execute(
        "DELETE FROM document_batches WHERE document_id = $1 AND version = $2", claim.document_id, claim.version
    )
    starts = range(0, n_passages, batch_size)
    await work.execute(
        "INSERT INTO document_batches (document_id, version, batch, tenant_id, n_rows)"
        " SELECT $1, $2, batch, $3, n_rows FROM unnest($4::int[], $5::int[]) AS t(batch, n_rows)",
        claim.document_id,
        claim.version,
        claim.tenant_id,
        list(range(len(starts))),
        [min(batch_size, n_passages - start) for start in starts],
    )

"""What the index loads and saves: which batches are due, their passages, and how their versions end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from schemas.commands import IndexBatch
from storage.ports import VectorRow
from storage.postgres.unit_of_work import UnitOfWork

VersionKey = tuple[UUID, int]
BatchKey = tuple[UUID, int, int]

INDEX_FAILED = "index_failed"
"""The one failure that an operator's redrive may still turn into success."""


@dataclass(frozen=True, slots=True)
class IndexedVersion:
    """A version whose last batch was just indexed; `is_active` if it is what readers see from now on."""

    document_id: UUID
    version: int
    n_pages: int
    n_passages: int
    n_tokens: int
    is_active: bool


def version_key(batch: IndexBatch) -> VersionKey:
    """The version that a batch belongs to."""
    return batch.document_id, batch.version


def batch_key(batch: IndexBatch) -> BatchKey:
    """A batch, whatever command names it."""
    return batch.document_id, batch.version, batch.batch


def batch_id(key: BatchKey) -> str:
    """A batch's name in the vector table."""
    document_id, version, batch = key
    return f"{document_id}.{version}.{batch}"


@dataclass(frozen=True, slots=True)
class DueBatch:
    """A batch that is embedded and not indexed yet: under which model, and where its vectors stand."""

    embedding_model: str
    blob_key: str


async def due_batches(work: UnitOfWork, batches: Sequence[IndexBatch]) -> dict[BatchKey, DueBatch]:
    """Locks documents, then versions; batches that are still to be indexed.

    A deleted version has none left; a failed one only if it failed here, so that a redrive takes effect. A batch that
    is to be embedded again is not due: indexed by an older command it would be left waiting for its own.
    """
    keys = sorted({version_key(batch) for batch in batches})
    await work.execute(
        "SELECT FROM documents WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        sorted({document_id for document_id, _ in keys}),
    )
    versions = await work.fetch(
        "SELECT v.document_id, v.version, v.embedding_model FROM unnest($1::uuid[], $2::int[])"
        " AS t(document_id, version) JOIN document_versions v USING (document_id, version)"
        " WHERE v.status IN ('embedding', 'indexing') OR (v.status = 'failed' AND v.error_code = $3 AND NOT EXISTS ("
        "  SELECT FROM document_versions twin WHERE twin.tenant_id = v.tenant_id AND twin.sha256 = v.sha256"
        "  AND twin.status NOT IN ('failed', 'deleted')))"
        " ORDER BY v.document_id, v.version FOR UPDATE OF v",
        [document_id for document_id, _ in keys],
        [version for _, version in keys],
        INDEX_FAILED,
    )
    models = {(row["document_id"], row["version"]): row["embedding_model"] for row in versions}
    asked = sorted({batch_key(batch) for batch in batches if version_key(batch) in models})
    rows = await work.fetch(
        "SELECT b.document_id, b.version, b.batch, b.blob_key FROM unnest($1::uuid[], $2::int[], $3::int[])"
        " AS t(document_id, version, batch) JOIN document_batches b USING (document_id, version, batch)"
        " WHERE b.indexed_at IS NULL AND b.embedded_at IS NOT NULL",
        *_columns(asked),
    )
    return {
        (row["document_id"], row["version"], row["batch"]): DueBatch(
            models[row["document_id"], row["version"]], row["blob_key"]
        )
        for row in rows
    }


async def load_rows(work: UnitOfWork, keys: Sequence[BatchKey]) -> dict[BatchKey, list[VectorRow]]:
    """The passages of the batches, in order, as rows of the vector table."""
    ids = {key: batch_id(key) for key in keys}
    rows = await work.fetch(
        "SELECT p.id, p.document_id, p.version, p.batch, p.ordinal, p.text FROM unnest($1::uuid[], $2::int[],"
        " $3::int[]) AS t(document_id, version, batch) JOIN passages p USING (document_id, version, batch)"
        " ORDER BY p.document_id, p.version, p.ordinal",
        *_columns(sorted(ids)),
    )
    found: dict[BatchKey, list[VectorRow]] = {key: [] for key in ids}
    for row in rows:
        key = (row["document_id"], row["version"], row["batch"])
        found[key].append(
            VectorRow(str(row["id"]), str(row["document_id"]), row["version"], ids[key], row["ordinal"], row["text"])
        )
    return found


async def mark_indexed(work: UnitOfWork, batches: Sequence[IndexBatch]) -> list[IndexedVersion]:
    """Notes the batches as indexed; versions that are now complete become the active ones of their documents."""
    await work.execute(
        "UPDATE document_batches b SET indexed_at = now() FROM unnest($1::uuid[], $2::int[], $3::int[])"
        " AS t(document_id, version, batch)"
        " WHERE (b.document_id, b.version, b.batch) = (t.document_id, t.version, t.batch)",
        *_columns(sorted({batch_key(batch) for batch in batches})),
    )
    keys = sorted({version_key(batch) for batch in batches})
    rows = await work.fetch(
        "UPDATE document_versions v SET updated_at = now(), error_code = NULL, error_message = NULL,"
        " barren_attempts = 0, status = (SELECT CASE WHEN bool_and(b.indexed_at IS NOT NULL) THEN 'indexed'"
        "  WHEN bool_and(b.embedded_at IS NOT NULL) THEN 'indexing' ELSE 'embedding' END"
        "  FROM document_batches b WHERE (b.document_id, b.version) = (v.document_id, v.version))"
        " FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
        " WHERE (v.document_id, v.version) = (t.document_id, t.version)"
        " RETURNING v.document_id, v.version, v.status, v.n_pages, v.n_passages, v.n_tokens",
        [document_id for document_id, _ in keys],
        [version for _, version in keys],
    )
    complete = [row for row in rows if row["status"] == "indexed"]
    active = await _activate(work, [(row["document_id"], row["version"]) for row in complete])
    return [
        IndexedVersion(
            row["document_id"],
            row["version"],
            row["n_pages"],
            row["n_passages"],
            row["n_tokens"],
            is_active=(row["document_id"], row["version"]) in active,
        )
        for row in complete
    ]


async def _activate(work: UnitOfWork, keys: Sequence[VersionKey]) -> set[VersionKey]:
    """The switch: one row a document, atomic for every reader; those that are active by it.

    Of the indexed versions the one that was asked for last wins; the vectors of the others are to be removed.
    """
    if not keys:
        return set()
    columns = [document_id for document_id, _ in keys], [version for _, version in keys]
    rows = await work.fetch(
        "UPDATE documents d SET active_version = next.version, updated_at = now() FROM ("
        "  SELECT DISTINCT ON (v.document_id) v.document_id, v.version, v.request"
        "  FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)"
        "  JOIN document_versions v USING (document_id, version) ORDER BY v.document_id, v.request DESC) next"
        " WHERE d.id = next.document_id AND d.deleted_at IS NULL AND NOT EXISTS ("
        "  SELECT FROM document_versions active WHERE active.document_id = d.id AND active.version = d.active_version"
        "  AND active.request > next.request) RETURNING d.id, d.active_version",
        *columns,
    )
    await work.execute(
        "UPDATE document_versions v SET superseded_at = now() FROM documents d"
        " WHERE d.id = ANY($1::uuid[]) AND v.document_id = d.id AND v.version <> d.active_version"
        " AND v.status = 'indexed' AND v.superseded_at IS NULL AND EXISTS (SELECT FROM document_batches b"
        "  WHERE (b.document_id, b.version) = (v.document_id, v.version) AND b.indexed_at IS NOT NULL)",
        columns[0],
    )
    return {(row["id"], row["active_version"]) for row in rows}


async def mark_failed(work: UnitOfWork, key: VersionKey, message: str) -> None:
    """The version ends here; its job, if one still runs, misses its fence and stops."""
    await work.execute(
        "UPDATE document_versions SET status = 'failed', error_code = $3, error_message = $4, updated_at = now()"
        " WHERE document_id = $1 AND version = $2",
        *key,
        INDEX_FAILED,
        message,
    )


def _columns(keys: Sequence[BatchKey]) -> tuple[list[UUID], list[int], list[int]]:
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]

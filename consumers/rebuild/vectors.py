"""A tenant's vector table, rebuilt from its passages, compared row by row, and mended where it differs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import numpy.typing as npt

from consumers.documents.vectors import PassageText, PassageVectors
from consumers.index.store import BatchKey, batch_id, load_rows
from consumers.index.table_locks import lock_tables
from providers.ports import Embedder, ProviderError
from storage.ports import VectorDifference, VectorIndex, VectorRow
from storage.postgres.unit_of_work import Database, UnitOfWork
from storage.vectors.names import table_name

Batch = tuple[Sequence[VectorRow], npt.NDArray[np.float32]]

SHOWN = 20
_BATCHES = 16
"""So many are in memory at once, of at most 128 passages."""
_STALE_AT_ONCE = 500
_PAUSES_S = (0.5, 2.0, 10.0, 30.0)
"""Between repetitions of a batch whose provider is away and does not say for how long."""

_INDEXED = """
FROM document_batches b JOIN document_versions v USING (document_id, version)
WHERE v.tenant_id = $1 AND v.status <> 'deleted' AND b.indexed_at IS NOT NULL
"""
_LIVING = f"""
SELECT b.document_id, b.version, b.batch {_INDEXED} AND ($2::uuid[] IS NULL OR b.document_id = ANY($2))
"""
_PAGE = f"""
SELECT b.document_id, b.version, b.batch {_INDEXED}
  AND (v.embedding_model = $2 OR ($7 AND v.status = 'indexed'))
  AND ($3::uuid IS NULL OR (b.document_id, b.version, b.batch) > ($3, $4::int, $5::int))
ORDER BY 1, 2, 3 LIMIT $6
"""
_OF_OTHER_MODELS = f"""
SELECT v.embedding_model AS model, sum(b.n_rows) AS n_rows {_INDEXED}
  AND v.embedding_model <> $2 AND v.status = 'indexed' GROUP BY 1
"""
_ADOPT = """
UPDATE document_versions v SET embedding_model = $3, updated_at = now()
FROM unnest($1::uuid[], $2::int[]) AS t(document_id, version)
WHERE (v.document_id, v.version) = (t.document_id, t.version)
  AND v.embedding_model <> $3 AND v.embedding_model = ANY($4::text[]) AND v.status = 'indexed'
RETURNING v.document_id, v.version, v.n_passages
"""


@dataclass(slots=True)
class VectorsReport:
    """What was found. `differences` holds the first `SHOWN`; `n_stale` rows are of batches that nobody knows.

    `n_other_models` passages were indexed under another embedding model, so that no search finds them; `n_adopted` of
    them have their rows under this one now.
    """

    n_passages: int = 0
    n_different: int = 0
    n_stale: int = 0
    n_mended: int = 0
    n_other_models: int = 0
    n_adopted: int = 0
    differences: list[VectorDifference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VectorTables:
    """Compares and mends the tables of the embedder's model; the index's writer waits for as long as that takes.

    With `caches` the vectors come from the embedding cache where it has them.
    """

    database: Database
    vectors: VectorIndex
    embedder: Embedder
    caches: bool = False

    async def rebuild(
        self, tenant_id: UUID, report: VectorsReport, *, execute: bool, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Embeds every indexed passage of the tenant's living documents anew, and adds what differs to `report`.

        With `execute` those of other embedding models are written under this one, and then leave the other's table.

        Raises: Retry; ProviderError if the embedder refuses or stays away. What was mended until then stays so, and
        a repetition goes on.
        """
        table, n_mended = table_name(tenant_id, self.embedder.model), report.n_mended
        others = await self._of_other_models(tenant_id)
        report.n_other_models += sum(others.values())
        await self._remove_stale(tenant_id, table, report, execute=execute)
        written: list[BatchKey] = []
        async for keys in self._pages(tenant_id, of_all_models=execute):
            async with self.database.transaction() as work:
                rows = await load_rows(work, keys)
            embedded = {key: (rows[key], await self._embed(tenant_id, rows[key])) for key in keys if rows[key]}
            await self._compare(tenant_id, table, embedded, report, execute=execute)
            on_progress()
            if execute and others:
                last = keys[-1][:2]  # the next page may have more of it
                whole = [key for key in [*written, *keys] if key[:2] != last]
                report.n_adopted += await self._adopt(tenant_id, whole, list(others))
                written = [key for key in [*written, *keys] if key[:2] == last]
        report.n_adopted += await self._adopt(tenant_id, written, list(others))
        if report.n_mended > n_mended:
            async with self.database.transaction() as work:
                await lock_tables(work, [table])
                await self.vectors.optimize(table)

    async def _adopt(self, tenant_id: UUID, written: Sequence[BatchKey], models: Sequence[str]) -> int:
        """Versions all of whose batches were written are of this model now; so many passages."""
        if not written:
            return 0
        versions = sorted({(document_id, version) for document_id, version, _ in written})
        tables = [table_name(tenant_id, model) for model in models]
        async with self.database.transaction() as work:
            await lock_tables(work, tables)
            ids, numbers = [id_ for id_, _ in versions], [number for _, number in versions]
            rows = await work.fetch(_ADOPT, ids, numbers, self.embedder.model, models)
            adopted = {(row["document_id"], row["version"]) for row in rows}
            batches = sorted(batch_id(key) for key in written if key[:2] in adopted)
            for table in tables:
                for start in range(0, len(batches), _STALE_AT_ONCE):
                    await self.vectors.delete_batches(table, batches[start : start + _STALE_AT_ONCE])
        return sum(row["n_passages"] for row in rows)

    async def _pages(self, tenant_id: UUID, *, of_all_models: bool) -> AsyncIterator[list[BatchKey]]:
        after: BatchKey | tuple[None, None, None] = (None, None, None)
        while True:
            async with self.database.transaction() as work:
                rows = await work.fetch(_PAGE, tenant_id, self.embedder.model, *after, _BATCHES, of_all_models)
            if not rows:
                return
            keys: list[BatchKey] = [(row["document_id"], row["version"], row["batch"]) for row in rows]
            yield keys
            after = keys[-1]

    async def _embed(self, tenant_id: UUID, rows: Sequence[VectorRow]) -> npt.NDArray[np.float32]:
        vectors = PassageVectors(self.database, self.embedder, caches=self.caches)
        passages = [PassageText(row.text, hashlib.sha256(row.text.encode()).hexdigest()) for row in rows]
        pauses_s = iter(_PAUSES_S)
        while True:
            try:
                return await vectors.of(tenant_id, passages)
            except ProviderError as error:
                pause_s = next(pauses_s, None)
                if not error.retryable or pause_s is None:
                    raise
                await asyncio.sleep(pause_s if error.retry_after_s is None else error.retry_after_s)

    async def _compare(
        self, tenant_id: UUID, table: str, embedded: Mapping[BatchKey, Batch], report: VectorsReport, *, execute: bool
    ) -> None:
        """Nobody writes the table meanwhile; what was deleted since it was embedded is left out."""
        async with self.database.transaction() as work:
            await lock_tables(work, [table])
            living = await self._living(work, tenant_id, [document_id for document_id, _, _ in embedded])
            batches = {batch_id(key): batch for key, batch in embedded.items() if batch_id(key) in living}
            found = await self.vectors.differences(table, list(batches.values()))
            if execute and found:
                # A doubled row would be matched twice: its batch goes before it comes anew.
                await self.vectors.delete_batches(table, sorted({one.batch_id for one in found if one.kind == "extra"}))
                differing = [batches[id_] for id_ in sorted({one.batch_id for one in found})]
                await self.vectors.replace_batches(table, differing, dimensions=self.embedder.dimensions)
                report.n_mended += len(found)
        report.n_passages += sum(len(rows) for rows, _ in batches.values())
        report.n_different += len(found)
        report.differences = [*report.differences, *found][:SHOWN]

    async def _remove_stale(self, tenant_id: UUID, table: str, report: VectorsReport, *, execute: bool) -> None:
        """Rows of batches that are not indexed by what PostgreSQL says: of documents deleted, or written and lost."""
        async with self.database.transaction() as work:
            await lock_tables(work, [table])
            living = await self._living(work, tenant_id)
            sizes = await self.vectors.batch_sizes(table)
            stale = sorted(sizes.keys() - living)
            n_rows = sum(sizes[id_] for id_ in stale)
            for start in range(0, len(stale) if execute else 0, _STALE_AT_ONCE):
                await self.vectors.delete_batches(table, stale[start : start + _STALE_AT_ONCE])
        report.n_stale += n_rows
        report.n_different += n_rows
        report.n_mended += n_rows if execute else 0

    async def _living(self, work: UnitOfWork, tenant_id: UUID, document_ids: Sequence[UUID] | None = None) -> set[str]:
        """The names of the batches that are indexed, of some documents or of all."""
        rows = await work.fetch(_LIVING, tenant_id, document_ids)
        return {batch_id((row["document_id"], row["version"], row["batch"])) for row in rows}

    async def _of_other_models(self, tenant_id: UUID) -> dict[str, int]:
        """Passages by the model under which they were indexed."""
        async with self.database.transaction() as work:
            rows = await work.fetch(_OF_OTHER_MODELS, tenant_id, self.embedder.model)
        return {row["model"]: int(row["n_rows"]) for row in rows}

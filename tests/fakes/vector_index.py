"""`VectorIndex` in memory: exact vectors by numpy, BM25 by its textbook formula."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from storage.ports import VectorDifference, VectorHit, VectorRow
from storage.vectors.comparing import Stored, compared
from storage.vectors.segment import index_terms, query_terms

_K1, _B = 1.2, 0.75


class MemoryVectorIndex:
    """Every contract of the port, without a disk; for tests."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, tuple[VectorRow, npt.NDArray[np.float32]]]] = {}

    async def replace_batches(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], npt.NDArray[np.float32]]], *, dimensions: int
    ) -> None:
        batches = [(rows, vectors) for rows, vectors in batches if rows]
        for rows, vectors in batches:
            if vectors.shape != (len(rows), dimensions):
                raise ValueError(f"{len(rows)} rows of {dimensions} dimensions have vectors of shape {vectors.shape}")
        written = {row.batch_id for rows, _ in batches for row in rows}
        if written:
            kept = {i: item for i, item in self._tables.get(table, {}).items() if item[0].batch_id not in written}
            new = {
                row.passage_id: (row, vector)
                for rows, vectors in batches
                for row, vector in zip(rows, vectors, strict=True)
            }
            self._tables[table] = kept | new

    async def search(
        self,
        table: str,
        *,
        vector: npt.NDArray[np.float32] | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[str] | None = None,
    ) -> dict[Literal["vector", "text"], list[VectorHit]]:
        items = list(self._tables.get(table, {}).values())
        hits: dict[Literal["vector", "text"], list[VectorHit]] = {}
        if vector is not None:
            hits["vector"] = _best([(row, float(found @ vector)) for row, found in items], limit, document_ids)
        if text is not None:
            scores = _bm25([row.text for row, _ in items], text)
            scored = [(row, score) for (row, _), score in zip(items, scores, strict=True) if score > 0]
            hits["text"] = _best(scored, limit, document_ids)
        return hits

    async def delete_documents(self, table: str, document_ids: Sequence[str]) -> None:
        rows = self._tables.get(table, {})
        for passage_id in [i for i, (row, _) in rows.items() if row.document_id in document_ids]:
            del rows[passage_id]

    async def delete_batches(self, table: str, batch_ids: Sequence[str]) -> None:
        rows = self._tables.get(table, {})
        for passage_id in [i for i, (row, _) in rows.items() if row.batch_id in batch_ids]:
            del rows[passage_id]

    async def batch_sizes(self, table: str) -> dict[str, int]:
        return dict(Counter(row.batch_id for row, _ in self._tables.get(table, {}).values()))

    async def differences(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], npt.NDArray[np.float32]]]
    ) -> list[VectorDifference]:
        wanted = [(row, vector) for rows, vectors in batches for row, vector in zip(rows, vectors, strict=True)]
        asked = {row.batch_id for row, _ in wanted}
        stored = [Stored.of(row, vector) for row, vector in self._tables.get(table, {}).values()]
        return compared(wanted, [one for one in stored if one.batch_id in asked])

    async def count(self, table: str) -> int:
        return len(self._tables.get(table, {}))

    async def optimize(self, table: str) -> None:
        pass

    async def drop(self, table: str) -> None:
        self._tables.pop(table, None)

    async def close(self) -> None:
        pass


def _best(scored: Sequence[tuple[VectorRow, float]], limit: int, document_ids: Sequence[str] | None) -> list[VectorHit]:
    hits = [
        VectorHit(row.passage_id, score)
        for row, score in scored
        if document_ids is None or row.document_id in document_ids
    ]
    return sorted(hits, key=lambda hit: -hit.score)[: max(0, limit)]


def _bm25(texts: Sequence[str], query: str) -> list[float]:
    documents = [Counter(index_terms(text).split()) for text in texts]
    n_containing = Counter(term for document in documents for term in document)
    average = sum(sum(document.values()) for document in documents) / max(1, len(documents))
    scores = []
    for document in documents:
        norm = _K1 * (1 - _B + _B * sum(document.values()) / (average or 1))
        score = 0.0
        for term in query_terms(query).split():
            idf = math.log(1 + (len(documents) - n_containing[term] + 0.5) / (n_containing[term] + 0.5))
            score += idf * document[term] * (_K1 + 1) / (document[term] + norm)
        scores.append(score)
    return scores

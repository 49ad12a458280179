"""Rows to index, and what is found of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from storage.ports import VectorIndex, VectorRow

DIMENSIONS = 16
TABLE = "tenant_model_16"
Batch = tuple[list[VectorRow], npt.NDArray[np.float32]]


def vector(seed: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def batch(name: str, texts: Sequence[str], *, document: str = "doc", first: int = 0, seed: int = 0) -> Batch:
    rows = [VectorRow(f"{document}-p{first + i}", document, 1, name, first + i, text) for i, text in enumerate(texts)]
    return rows, np.stack([vector(seed + first + i) for i in range(len(texts))])


async def by_text(index: VectorIndex, query: str, *, limit: int = 5, documents: list[str] | None = None) -> list[str]:
    legs = await index.search(TABLE, vector=None, text=query, limit=limit, document_ids=documents)
    assert set(legs) == {"text"}
    scores = [hit.score for hit in legs["text"]]
    assert scores == sorted(scores, reverse=True)
    return [hit.passage_id for hit in legs["text"]]


async def by_vector(
    index: VectorIndex, query: npt.NDArray[np.float32], *, limit: int = 5, documents: list[str] | None = None
) -> list[str]:
    legs = await index.search(TABLE, vector=query, text=None, limit=limit, document_ids=documents)
    assert set(legs) == {"vector"}
    scores = [hit.score for hit in legs["vector"]]
    assert scores == sorted(scores, reverse=True)
    return [hit.passage_id for hit in legs["vector"]]


async def write(index: VectorIndex, *batches: Batch) -> None:
    await index.replace_batches(TABLE, batches, dimensions=DIMENSIONS)

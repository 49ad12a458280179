"""*growth*: what a passage costs to index, to keep and to find, as a table grows from 10³ to 10⁶ passages.

Rows come as the index consumer writes them, in commits of 8,192, each followed by upkeep's own decision whether to
optimize. The first 100,000 are those of *search*, texts and vectors. One after them is made of two of these: half of
the words of each, and the mean of both vectors (the offline embedder's vector of a text is about the mean of its
words'), moved by a hundredth a component. A round of searches runs at each size, when the table has been optimized.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt

from bench.measure import Row, number, percentile
from bench.search import LIMIT, Corpus, make_corpus
from consumers.index.upkeep import is_due
from providers.embeddings import WordLlamaEmbedder
from storage.ports import VectorRow
from storage.vectors.lance import LanceVectorIndex

SIZES = (1_000, 10_000, 100_000, 1_000_000)
N_QUERIES, N_COMPARED, CANDIDATES = 200, 50, 60
"""A search for 10 passages asks each leg for 60."""
_A_COMMIT, _A_BATCH, _A_DOCUMENT = 8_192, 128, 200
_NOISE = 0.01
_TABLE = "growth"

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Passages and queries with their vectors; `pair` makes more of them."""

    corpus: Corpus
    vectors: Vectors
    queries: Vectors

    def rows(self, first: int, n: int) -> tuple[list[VectorRow], Vectors]:
        """The rows with these numbers, always the same."""
        n_real = len(self.corpus.texts)
        chance = np.random.default_rng(first)
        one = (first + np.arange(n)) % n_real
        if first + n <= n_real:
            texts, vectors = [self.corpus.texts[i] for i in one], self.vectors[one]
        else:
            other = chance.integers(0, n_real, n)
            texts = [_halves(self.corpus.texts[i], self.corpus.texts[j]) for i, j in zip(one, other, strict=True)]
            noise = chance.normal(scale=_NOISE, size=(n, self.vectors.shape[1])).astype(np.float32)
            vectors = self.vectors[one] + self.vectors[other] + noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = range(first, first + n)
        rows = [
            VectorRow(_id("p", i), _id("d", i // _A_DOCUMENT), 1, _id("b", i // _A_BATCH), i % _A_DOCUMENT, text)
            for i, text in zip(numbers, texts, strict=True)
        ]
        return rows, vectors


class Growing:
    """A table that grows, and what this has cost since the last size."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = folder
        self._source = source
        self.index = LanceVectorIndex(str(folder))
        self.n_rows = self._n_waiting = 0
        self.write_s = self.optimize_s = 0.0

    async def grow_to(self, size: int) -> int:
        """Writes and optimizes; how many rows were added."""
        before = self.n_rows
        self.write_s = self.optimize_s = 0.0
        while self.n_rows < size:
            n = min(_A_COMMIT, size - self.n_rows)
            batch = self._source.rows(self.n_rows, n)
            began = time.perf_counter()
            await self.index.replace_batches(_TABLE, [batch], dimensions=batch[1].shape[1])
            self.write_s += time.perf_counter() - began
            self.n_rows += n
            self._n_waiting += n
            if is_due(self._n_waiting, self.n_rows):
                await self._optimize()
        if self._n_waiting:
            await self._optimize()
        return self.n_rows - before

    async def _optimize(self) -> None:
        began = time.perf_counter()
        await self.index.optimize(_TABLE)
        self.optimize_s += time.perf_counter() - began
        self._n_waiting = 0

    async def bytes_a_row(self) -> float:
        """On disk, without older versions."""
        await (await self.opened()).optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file()) / self.n_rows

    async def opened(self) -> Any:
        """LanceDB's own view of the table."""
        return await (await lancedb.connect_async(self._folder)).open_table(_TABLE)


async def run(*, up_to: int) -> list[Row]:
    """The rows of *growth*; a baseline is the same at a tenth of the size."""
    corpus = make_corpus(random.Random(7))
    embedder = WordLlamaEmbedder()
    try:
        source = Source(corpus, await embedder.embed(corpus.texts), await embedder.embed(corpus.queries[:N_QUERIES]))
    finally:
        await embedder.close()
    rows, before = list[Row](), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="ragline-bench-", ignore_cleanup_errors=True) as folder:
        growing = Growing(Path(folder), source)
        try:
            for size in (size for size in SIZES if size <= up_to):
                found, notes = await _measured(growing, source, size)
                rows += [
                    _row(size, name, before.get(name), value, notes.get(name, "")) for name, value in found.items()
                ]
                before = found
        finally:
            await growing.index.close()
    return rows


async def _measured(growing: Growing, source: Source, size: int) -> tuple[dict[str, float], dict[str, str]]:
    n_added = await growing.grow_to(size)
    write_us, optimize_us = (1e6 * took_s / n_added for took_s in (growing.write_s, growing.optimize_s))
    cost, kept = "to index, µs/passage", "on disk, bytes/passage"
    found = {cost: write_us + optimize_us, kept: await growing.bytes_a_row()}
    notes = {cost: f"writing {number(write_us)}, optimizing {number(optimize_us)}; load {os.getloadavg()[0]:.1f}"}
    for mode in ("vector", "text", "hybrid"):
        took_ms = []
        for query, vector in zip(source.corpus.queries, source.queries, strict=False):
            began = time.perf_counter()
            await growing.index.search(
                _TABLE,
                vector=None if mode == "text" else vector,
                text=None if mode == "vector" else query,
                limit=CANDIDATES,
            )
            took_ms.append((time.perf_counter() - began) * 1000)
        found[f"{mode}, p50 ms"] = percentile(took_ms, 0.5)
        notes[f"{mode}, p50 ms"] = f"p99 {number(percentile(took_ms, 0.99))} ms"
    flat_ms, recall = await _flat(growing, source)
    notes["vector, p50 ms"] += f"; flat {number(flat_ms)} ms, recall@{LIMIT} {number(recall)}"
    return found, notes


async def _flat(growing: Growing, source: Source) -> tuple[float, float]:
    """p50 of the flat search in ms, and the share of its ten best that ours finds."""
    table, took_ms, shares = await growing.opened(), list[float](), list[float]()
    for vector in source.queries[:N_COMPARED]:
        query = table.query().nearest_to(vector).distance_type("dot").bypass_vector_index()
        began = time.perf_counter()
        wanted = await query.select(["passage_id", "_distance"]).limit(CANDIDATES).to_arrow()
        took_ms.append((time.perf_counter() - began) * 1000)
        legs = await growing.index.search(_TABLE, vector=vector, text=None, limit=LIMIT)
        best = set(wanted["passage_id"].to_pylist()[:LIMIT])
        shares.append(len(best & {hit.passage_id for hit in legs["vector"]}) / LIMIT)
    return percentile(took_ms, 0.5), float(np.mean(shares))


def _row(size: int, name: str, before: float | None, value: float, note: str) -> Row:
    baseline, ratio = ("–", "–") if before is None else (number(before), number(value / before))
    return Row("growth", f"{size:,} passages: {name}", "", baseline, number(value), ratio, None, note)


def _halves(one: str, other: str) -> str:
    words, more = one.split(), other.split()
    return " ".join([*words[: len(words) // 2], *more[len(more) // 2 :]])


def _id(kind: str, number_: int) -> str:
    return f"{kind}0000000-0000-7000-8000-{number_:012d}"

"""*search*: 100,000 passages of one tenant, against LanceDB alone over the same table.

Bare: the query embedded, then LanceDB's own hybrid query (vector and full text, reciprocal rank fusion), ids without
texts. Ours: what an edge and a worker call, with texts and PostgreSQL's word on what is visible. Flat: the vectors
compared one by one, which finds exactly the nearest.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import lancedb
import numpy as np
import numpy.typing as npt
from lancedb.rerankers import RRFReranker

from bench.measure import Row, alternate, at_least, at_most, number, percentile
from bench.servers import Servers
from bench.texts import english_words
from providers.embeddings import WordLlamaEmbedder
from retrieval.search import Searcher
from schemas.ids import new_id
from storage.ports import VectorRow
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from storage.vectors.lance import LanceVectorIndex
from storage.vectors.names import table_name
from storage.vectors.segment import query_terms

N_PASSAGES, N_DOCUMENTS, N_TOPICS, N_WORDS = 100_000, 500, 400, 60
N_QUERIES, LIMIT = 300, 10
_A_COMMIT = 10_000
_TENANT = new_id()

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages about topics, so that some are near each other; queries take their words."""

    texts: list[str]
    queries: list[str]


@dataclass(frozen=True, slots=True)
class Library:
    """The corpus, indexed: `table` is LanceDB's own view of it."""

    index: LanceVectorIndex
    table: Any
    embedder: WordLlamaEmbedder
    searcher: Searcher
    queries: list[str]
    vectors: Vectors


async def run(servers: Servers, *, n_rounds: int) -> list[Row]:
    """The rows of *search*."""
    corpus = make_corpus(random.Random(7))
    embedder = WordLlamaEmbedder()
    dsn = await servers.fresh_database("search")
    database = Database(dsn)
    with tempfile.TemporaryDirectory(prefix="ragline-bench-", ignore_cleanup_errors=True) as folder:
        index = LanceVectorIndex(folder)
        try:
            took_s = await _fill(index, embedder, dsn, corpus)
            connection = await lancedb.connect_async(folder, read_consistency_interval=timedelta(0))
            table = await connection.open_table(table_name(_TENANT, embedder.model))
            searcher = Searcher(index, embedder, PassageVisibility(database))
            vectors = await embedder.embed(corpus.queries)
            library = Library(index, table, embedder, searcher, corpus.queries, vectors)
            return [*await _hybrid(library, n_rounds), *await _vector(library, n_rounds, took_s)]
        finally:
            await index.close()
            await embedder.close()
            await database.close()


def make_corpus(chance: random.Random) -> Corpus:
    """Words that a passage's topic has, and as many that any has."""
    words = english_words()
    topics = [chance.sample(words, 60) for _ in range(N_TOPICS)]
    texts = []
    for _ in range(N_PASSAGES):
        topic = chance.choice(topics)
        texts.append(" ".join(chance.choice(topic if chance.random() < 0.6 else words) for _ in range(N_WORDS)))
    queries = [" ".join(chance.sample(chance.choice(texts).split(), 8)) for _ in range(N_QUERIES)]
    return Corpus(texts, queries)


async def _fill(index: LanceVectorIndex, embedder: WordLlamaEmbedder, dsn: str, corpus: Corpus) -> float:
    """Rows in PostgreSQL and the table, indexed; the seconds that LanceDB took."""
    documents = [new_id() for _ in range(N_DOCUMENTS)]
    passages = [new_id() for _ in corpus.texts]
    await _store(dsn, documents, passages, corpus.texts)
    name, took_s = table_name(_TENANT, embedder.model), 0.0
    for start in range(0, N_PASSAGES, _A_COMMIT):
        numbers = range(start, min(start + _A_COMMIT, N_PASSAGES))
        vectors = await embedder.embed([corpus.texts[n] for n in numbers])
        rows = [
            VectorRow(
                str(passages[n]), str(documents[n % N_DOCUMENTS]), 1, f"b{start}", n // N_DOCUMENTS, corpus.texts[n]
            )
            for n in numbers
        ]
        began = time.perf_counter()
        await index.replace_batches(name, [(rows, vectors)], dimensions=embedder.dimensions)
        took_s += time.perf_counter() - began
    began = time.perf_counter()
    await index.optimize(name)
    return took_s + time.perf_counter() - began


async def _store(dsn: str, documents: Sequence[UUID], passages: Sequence[UUID], texts: Sequence[str]) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO documents (id, tenant_id, user_id, name, active_version) VALUES ($1, $2, $2, 'bench', 1)",
            [(id_, _TENANT) for id_ in documents],
        )
        await connection.copy_records_to_table(
            "passages",
            columns=("id", "tenant_id", "document_id", "version", "batch", "ordinal", "text", "span_start", "span_end",
                     "heading_path", "n_tokens", "content_hash"),
            records=(
                (id_, _TENANT, documents[n % N_DOCUMENTS], 1, 0, n // N_DOCUMENTS, text, 0, len(text), [], N_WORDS, "")
                for n, (id_, text) in enumerate(zip(passages, texts, strict=True))
            ),
        )  # fmt: skip
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def _hybrid(library: Library, n_rounds: int) -> list[Row]:
    tails: dict[str, list[float]] = {"bare": [], "ours": []}

    async def bare(query: str) -> None:
        (vector,) = await library.embedder.embed([query])
        hybrid = library.table.query().nearest_to(vector).distance_type("dot")
        hybrid = hybrid.nearest_to_text(query_terms(query), columns=["terms"]).rerank(RRFReranker())
        await hybrid.select(["passage_id"]).limit(LIMIT).to_arrow()

    async def ours(query: str) -> None:
        assert len((await library.searcher.find(_TENANT, query, limit=LIMIT)).items) == LIMIT

    async def p50(side: str, search: Callable[[str], Awaitable[None]]) -> float:
        took_ms = await _timed(library.queries, search)
        tails[side].append(percentile(took_ms, 0.99))
        return percentile(took_ms, 0.5)

    found = await alternate(n_rounds, {"bare": lambda: p50("bare", bare), "ours": lambda: p50("ours", ours)})
    p99 = {side: sorted(of_side)[len(of_side) // 2] for side, of_side in tails.items()}
    what = "hybrid, 100,000 passages, vs bare LanceDB"
    return [
        at_most("search", f"p50, {what}", ours=found["ours"], baseline=found["bare"], factor=1.5, unit="ms"),
        at_most("search", f"p99, {what}", ours=p99["ours"], baseline=p99["bare"], factor=1.5, unit="ms"),
    ]


async def _vector(library: Library, n_rounds: int, took_s: float) -> list[Row]:
    name = table_name(_TENANT, library.embedder.model)
    found: dict[str, dict[int, set[str]]] = {"flat": {}, "ours": {}}

    async def flat(n: int) -> None:
        query = library.table.query().nearest_to(library.vectors[n]).distance_type("dot").bypass_vector_index()
        hits = await query.select(["passage_id"]).limit(LIMIT).to_arrow()
        found["flat"][n] = set(hits["passage_id"].to_pylist())

    async def ours(n: int) -> None:
        hits = await library.index.search(name, vector=library.vectors[n], text=None, limit=LIMIT)
        found["ours"][n] = {hit.passage_id for hit in hits["vector"]}

    async def p50(search: Callable[[int], Awaitable[None]]) -> float:
        return percentile(await _timed(range(N_QUERIES), search), 0.5)

    took = await alternate(n_rounds, {"flat": lambda: p50(flat), "ours": lambda: p50(ours)})
    shares = [len(found["flat"][n] & found["ours"][n]) / len(found["flat"][n]) for n in range(N_QUERIES)]
    recall, note = float(np.mean(shares)), f"indexed at {number(N_PASSAGES / took_s)} passages/s"
    recall_row = at_least(
        "search", "recall@10 of the vectors, vs flat", ours=recall, baseline=1.0, factor=0.95, unit=""
    )
    measure, ours_ms = "p50 of the vectors, vs flat", took["ours"]
    return [
        recall_row,
        at_most("search", measure, ours=ours_ms, baseline=took["flat"], factor=0.1, unit="ms", note=note),
    ]


async def _timed(queries: Sequence[Any], search: Callable[[Any], Awaitable[None]]) -> list[float]:
    """How long each search takes, in ms, one after another."""
    took_ms = []
    for query in queries:
        began = time.perf_counter()
        await search(query)
        took_ms.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0)
    return took_ms

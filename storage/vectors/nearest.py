"""The nearest vectors of a LanceDB table: the index, and how much of what is there it finds."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from lancedb.index import IvfFlat, IvfRq

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

MIN_RECALL = 0.95
RECALL_AT, N_QUERIES = 10, 50
_EQUALLY_NEAR = 1e-5
_APPROXIMATE = IvfRq(distance_type="dot", num_bits=7)
_EXACT = IvfFlat(distance_type="dot")
_CODED_TOGETHER = 8
"""The approximate index wants a multiple of so many dimensions."""
_EVERY_PARTITION = 1 << 16
"""A question's neighbours lie in many partitions; to look at the codes of all costs less than what would be missed."""


async def index_vectors(table: str, opened: Any, n_rows: int) -> None:
    """Builds the vector index of a table of `n_rows`; one that finds too little gives way to one that misses nothing.

    One that is there is measured alone: whoever built it may not have come so far. The log tells the recall.
    """
    kind = next((index.index_type for index in await opened.list_indices() if index.columns == ["vector"]), None)
    if (await opened.schema()).field("vector").type.list_size % _CODED_TOGETHER or kind not in {None, "IvfRq"}:
        if kind is None:
            await opened.create_index("vector", config=_EXACT)
        return
    began = time.perf_counter()
    if kind is None:
        await opened.create_index("vector", config=_APPROXIMATE)
    took_s = time.perf_counter() - began
    found = await recall(opened, n_rows)
    told = (RECALL_AT, found, table, n_rows, took_s)
    if found >= MIN_RECALL:
        logger.info("recall@%d %.3f against flat search: vector index of %s, %d rows in %.1f s", *told)
        return
    logger.warning("recall@%d only %.3f against flat search: vector index of %s, %d rows; now an exact one", *told[:4])
    await opened.create_index("vector", config=_EXACT)


async def recall(opened: Any, n_rows: int) -> float:
    """The share of the ten nearest that the index finds, for the vectors of fifty rows; 1 where there are no rows.

    Of rows that are equally near, as those with the same text are, any will do.
    """
    offsets = random.Random(n_rows).sample(range(n_rows), min(n_rows, N_QUERIES))  # noqa: S311 - not a secret
    rows = await opened.take_offsets(offsets).select(["vector"]).to_arrow()
    n_wanted = n_found = 0
    for vector in np.asarray(rows["vector"].to_pylist(), np.float32):
        wanted = await _similarities(nearest(opened, vector).bypass_vector_index(), vector)
        found = await _similarities(nearest(opened, vector), vector)
        n_wanted += len(wanted)
        n_found += min(len(wanted), int(np.count_nonzero(found >= wanted.min(initial=1.0) - _EQUALLY_NEAR)))
    return n_found / n_wanted if n_wanted else 1.0


def nearest(opened: Any, vector: Vectors) -> Any:
    """A query for what is nearest to a `(dim,)` vector of length 1; rows behind the index are compared one by one."""
    return opened.query().nearest_to(vector).distance_type("dot").nprobes(_EVERY_PARTITION)


async def _similarities(query: Any, vector: Vectors) -> Vectors:
    """`(n,)`, exact, of what the query finds: the index's own are those of codes."""
    found = await query.select(["vector", "_distance"]).limit(RECALL_AT).to_arrow()
    vectors: Vectors = np.asarray(found["vector"].to_pylist(), np.float32).reshape(-1, len(vector))
    return np.asarray(vectors @ vector, np.float32)

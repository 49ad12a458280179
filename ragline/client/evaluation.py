"""How well search finds what a labelled set says it should, measured through the API."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any
from uuid import UUID

from ragline.client.beir import LabelledSet
from ragline.client.connection import Connection
from ragline.client.uploads import Uploaded, upload_text
from retrieval.metrics import ndcg, recall, reciprocal_rank
from schemas.http import SearchResults

MODES: Mapping[str, Mapping[str, Any]] = {
    "hybrid": {"mode": "hybrid"},
    "vector": {"mode": "vector"},
    "text": {"mode": "text"},
    "reranked": {"mode": "hybrid", "rerank": True},
}
"""What each mode adds to a search."""
MAX_PASSAGES = 100
_UPLOADS_AT_ONCE = 16
_PASSAGES_A_DOCUMENT = 5
"""Documents are judged, passages are found: so many are asked for as `k` documents may take."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """The corpus in the library: document id → the corpus ids that have these bytes; what could not be learnt."""

    ids: dict[UUID, list[str]]
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One query in one mode: the corpus ids found, best first, and how long the answer took."""

    mode: str
    query_id: str
    ranked: list[str]
    took_ms: float


@dataclass(slots=True)
class Scores:
    """Means over the queries of one mode; `took_ms` is each query's, sorted."""

    recall: float
    ndcg: float
    reciprocal_rank: float
    took_ms: list[float] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        """The least time that at least `share` of the queries did not exceed."""
        return self.took_ms[max(0, -(-int(share * 100) * len(self.took_ms) // 100) - 1)]


async def learn(connection: Connection, labelled: LabelledSet, *, done: Callable[[], None]) -> Learnt:
    """Uploads the corpus and waits until it can be searched; what is there already stays. Raises: UnreachableError."""
    free = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def one(id_: str, text: str) -> tuple[str, Uploaded]:
        async with free:
            uploaded = await upload_text(connection, text, name=id_[:500], tags=[f"eval:{labelled.name}"[:100]])
            done()
            return id_, uploaded

    learnt = Learnt({}, {})
    for id_, uploaded in await asyncio.gather(*(one(id_, text) for id_, text in labelled.corpus.items())):
        if uploaded.status == "indexed" and uploaded.document_id is not None:
            learnt.ids.setdefault(uploaded.document_id, []).append(id_)
        else:
            learnt.failed[id_] = uploaded.error or uploaded.status
    return learnt


async def ask(
    connection: Connection,
    labelled: LabelledSet,
    learnt: Learnt,
    modes: Sequence[str],
    *,
    k: int,
    done: Callable[[], None],
) -> list[Asked]:
    """Every query in every mode, one after another, so that the times are those of a quiet server."""
    asked = []
    for query_id, text in labelled.queries.items():
        for mode in modes:
            body = {"query": text, "limit": min(MAX_PASSAGES, _PASSAGES_A_DOCUMENT * k), **MODES[mode]}
            started = time.perf_counter()
            results = await _search(connection, body)
            took_ms = (time.perf_counter() - started) * 1000
            found = [id_ for item in results.items for id_ in learnt.ids.get(item.document_id, ())]
            ranked = [id_ for id_ in dict.fromkeys(found) if id_ != query_id]  # as BEIR: a query does not find itself
            asked.append(Asked(mode, query_id, ranked, took_ms))
        done()
    return asked


async def _search(connection: Connection, body: Mapping[str, Any]) -> SearchResults:
    return await connection.post("/api/v1/search", SearchResults, key=str(uuid.uuid4()), body=lambda: {"json": body})


def score(labelled: LabelledSet, asked: Sequence[Asked], mode: str, *, k: int) -> Scores:
    """The means of one mode over all queries."""
    of_mode = [one for one in asked if one.mode == mode]
    pairs = [(one.ranked, labelled.relevant[one.query_id]) for one in of_mode]
    return Scores(
        recall=fmean(recall(ranked, relevant, k) for ranked, relevant in pairs),
        ndcg=fmean(ndcg(ranked, relevant, k) for ranked, relevant in pairs),
        reciprocal_rank=fmean(reciprocal_rank(ranked, relevant, k) for ranked, relevant in pairs),
        took_ms=sorted(one.took_ms for one in of_mode),
    )

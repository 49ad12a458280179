"""A query into the passages that answer it: candidates from the index, visibility from PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from providers.ports import HIGHEST_SCORE, Candidate, Embedder, ProviderError, Reranker
from retrieval.diversity import distinct
from retrieval.fusion import reciprocal_rank_fusion
from retrieval.steps import Steps
from schemas.errors import Retry
from storage.ports import DocumentFilter, PassageView, VectorIndex
from storage.vectors.names import table_name

__all__ = ["Found", "PassageView", "ScoredPassage", "SearchMode", "Searcher", "Visibility"]

logger = logging.getLogger(__name__)

SearchMode = Literal["hybrid", "vector", "text"]
Leg = Literal["vector", "text"]

MAX_TEXT_QUERY = 2_000
"""Code points of the query that the text leg looks at."""
RERANKED = 50
"""So many passages are looked at closely."""
PREFILTERED = 1_000
"""Up to so many documents a filter goes into the index; one that meets more is applied to what the index finds."""
_WIDEN = 5
_LOOKS, _FILTERED_LOOKS = 2, 4
"""How often the index is asked, each time for five times as many, until enough of what it finds may be shown."""
_AT_ONCE = 20
"""So few passages are compared in a millisecond; on a busy machine a thread has to be waited for longer."""
EVERY = DocumentFilter()
_MAX_SWITCHES = 3
"""So often is a search repeated because a document switched to another version under it."""


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A visible passage and its score: higher is better, comparable only within one search.

    `ranks` (from 1) are those in the legs that found it, `fused` what they sum up to, `rerank` the reranker's score.
    """

    passage: PassageView
    score: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    fused: float = 0.0
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`items` best first; `copies` say the same as an item before them (id of the passage that stands for each).

    `reranker` is who put the items into their order, None if nobody did; `failure` why nobody could.
    """

    items: tuple[ScoredPassage, ...] = ()
    copies: tuple[tuple[ScoredPassage, UUID], ...] = ()
    reranker: str | None = None
    failure: str | None = None


class Visibility(Protocol):
    """Which candidates a reader may see now."""

    async def visible(
        self, tenant_id: UUID, passage_ids: Sequence[UUID], documents: DocumentFilter = EVERY
    ) -> dict[UUID, PassageView]:
        """Those of the tenant's passages whose version is the active one of a living document that is asked for.

        Raises: Retry.
        """
        ...

    async def matching(self, tenant_id: UUID, documents: DocumentFilter, *, at_most: int) -> list[UUID] | None:
        """The tenant's visible documents that are asked for; None if more than `at_most`. Raises: Retry."""
        ...

    async def superseded(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        """Indexed versions among the passages' that another of their document has replaced. Raises: Retry."""
        ...


class Searcher:
    """Hybrid search over one tenant's passages.

    `vector_weight` is what the vector leg counts beside the text leg's 1 in a hybrid search.
    """

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        visibility: Visibility,
        *,
        reranker: Reranker | None = None,
        vector_weight: float = 1.0,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._visibility = visibility
        self._reranker = reranker
        self._weights: dict[str, float] = {"vector": vector_weight, "text": 1.0}

    async def find(
        self,
        tenant_id: UUID,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        documents: DocumentFilter = EVERY,
        rerank: bool = False,
        steps: Steps | None = None,
    ) -> Found:
        """The best visible passages, best first, each once and no two that say the same, at most `limit`.

        Only of `documents`; a blank query finds nothing. With `rerank` the best 50 are put into a better order; if
        that fails they stay in theirs, and `failure` says why. Fewer than `limit` come back only where the index has
        no more, or where even 5 times as many candidates as usual (125 times with a filter) were mostly invisible
        or copies. Raises: Retry; ProviderError if the embedder refuses.
        """
        steps = steps or Steps()
        if not query.strip() or limit < 1:
            return Found()
        with steps.step("filter"):
            ids, later = await self._scope(tenant_id, documents)
        if ids is not None and not ids:
            return Found()
        with steps.step("embed"):
            vector = None if mode == "text" else await self._embed(query)
        ask = _Ask(tenant_id, table_name(tenant_id, self._embedder.model), vector, query, mode, ids, later)
        pool = await self._current(ask, limit, max(limit, RERANKED) if rerank and self._reranker else limit, steps)
        if rerank and self._reranker is not None and pool.items:
            with steps.step("rerank"):
                pool = await self._reranked(self._reranker, query, pool)
        return replace(pool, items=pool.items[:limit])

    async def _scope(
        self, tenant_id: UUID, documents: DocumentFilter
    ) -> tuple[Sequence[UUID] | None, DocumentFilter | None]:
        """Which documents the index is asked for (None: all), and what is left to ask of those that it finds."""
        if documents.names_documents:
            return documents.document_ids, None
        matching = await self._visibility.matching(tenant_id, documents, at_most=PREFILTERED)
        return (matching, None) if matching is not None else (documents.document_ids, documents)

    async def _current(self, ask: _Ask, limit: int, size: int, steps: Steps) -> Found:
        """The pool; again where a document switched to another version meanwhile."""
        known: set[tuple[UUID, int]] = set()
        for _ in range(1 + _MAX_SWITCHES):
            pool, hidden = await self._pool(ask, limit, size, steps)
            superseded = await self._visibility.superseded(ask.tenant_id, hidden) if hidden else set()
            if superseded <= known:
                break
            known |= superseded  # the candidates may be older than the switch: those asked for now are not
        return pool

    async def _pool(self, ask: _Ask, limit: int, size: int, steps: Steps) -> tuple[Found, list[UUID]]:
        """At most `size` distinct visible passages by fused rank, `limit` if they can be had; and the hidden."""
        n = max(2 * limit + 10, size)
        seen: dict[UUID, PassageView] = {}
        asked: set[UUID] = set()
        for _ in range(_LOOKS if ask.later is None else _FILTERED_LOOKS):
            with steps.step("index"):
                ranks, has_more = await self._candidates(ask, n)
            weights = [self._weights[leg] for leg in ranks] if len(ranks) > 1 else None
            fused = reciprocal_rank_fusion([list(leg) for leg in ranks.values()], weights=weights)
            kept: list[int] = []
            for share in (2 * size, len(fused)):  # the texts of the best are mostly enough
                new = [passage_id for passage_id, _ in fused[:share] if passage_id not in asked]
                asked.update(new)
                if new:
                    with steps.step("visibility"):
                        seen |= await self._visibility.visible(ask.tenant_id, new, ask.later or EVERY)
                shown = [(passage_id, score) for passage_id, score in fused[:share] if passage_id in seen]
                with steps.step("distinct"):
                    kept, copies = await _distinct([seen[passage_id].text for passage_id, _ in shown], size)
                if len(kept) >= size:
                    break
            if len(kept) >= limit or not has_more:
                break
            n *= _WIDEN
        items = [
            ScoredPassage(seen[id_], score, {leg: rank[id_] for leg, rank in ranks.items() if id_ in rank}, score)
            for id_, score in shown
        ]
        same = tuple((items[i], items[of].passage.id) for i, of in copies.items())
        return Found(tuple(items[i] for i in kept), same), [id_ for id_ in asked if id_ not in seen]

    async def _reranked(self, reranker: Reranker, query: str, pool: Found) -> Found:
        """The best 50 by the reranker; what follows them cannot be compared with them and keeps its order."""
        top, rest = pool.items[:RERANKED], pool.items[RERANKED:]
        candidates = [Candidate(item.passage.text, item.passage.heading_path, item.ranks) for item in top]
        try:
            scores = await reranker.rerank(query, candidates)
            is_order = len(scores) == len(top) and all(abs(score) <= HIGHEST_SCORE for score in scores)
        except ProviderError as error:
            logger.warning("reranking by %s failed, the fused order stays: %s", reranker.name, error)
            return replace(pool, failure=f"{error.code}: {error.detail}")
        except Exception as error:
            logger.exception("the adapter of %s failed, the fused order stays", reranker.name)
            return replace(pool, failure=repr(error))
        if not is_order:
            logger.warning("%s gave no score to each passage, the fused order stays", reranker.name)
            return replace(pool, failure=f"protocol: no score for each of {len(top)} passages")
        scored = [replace(item, score=score, rerank=score) for item, score in zip(top, scores, strict=True)]
        best = sorted(scored, key=lambda item: -item.score)
        lowest = best[-1].score
        below = [replace(item, score=lowest - n) for n, item in enumerate(rest, start=1)]
        return replace(pool, items=(*best, *below), reranker=reranker.name)

    async def _embed(self, query: str) -> npt.NDArray[np.float32]:
        try:
            vectors = await self._embedder.embed([query])
        except ProviderError as error:
            if error.retryable:
                raise Retry(f"the query could not be embedded: {error.code}", after_s=error.retry_after_s) from error
            raise ProviderError(error.code, f"the query could not be embedded: {error}", retryable=False) from error
        vector: npt.NDArray[np.float32] = vectors[0]
        return vector

    async def _candidates(self, ask: _Ask, limit: int) -> tuple[dict[Leg, dict[UUID, int]], bool]:
        """The rank of each passage in each leg, best first, and whether a leg may have more than it was asked for."""
        legs = await self._index.search(
            ask.table,
            vector=ask.vector,
            text=None if ask.mode == "vector" else ask.query[:MAX_TEXT_QUERY],
            limit=limit,
            document_ids=None if ask.document_ids is None else [str(document_id) for document_id in ask.document_ids],
        )
        ranks = {leg: {UUID(hit.passage_id): n for n, hit in enumerate(hits, start=1)} for leg, hits in legs.items()}
        return ranks, any(len(hits) >= limit for hits in legs.values())


async def _distinct(texts: Sequence[str], limit: int) -> tuple[list[int], dict[int, int]]:
    if limit <= _AT_ONCE:
        return distinct(texts, limit=limit)
    return await asyncio.to_thread(distinct, texts, limit=limit)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One search: `later` is what the visible passages must still meet."""

    tenant_id: UUID
    table: str
    vector: npt.NDArray[np.float32] | None
    query: str
    mode: SearchMode
    document_ids: Sequence[UUID] | None
    later: DocumentFilter | None

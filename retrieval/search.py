"""A query into the passages that answer it: candidates from the index, visibility from PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from providers.ports import Embedder, ProviderError
from retrieval.fusion import reciprocal_rank_fusion
from schemas.errors import Retry
from storage.ports import PassageView, VectorIndex
from storage.vectors.names import table_name

__all__ = ["PassageView", "ScoredPassage", "SearchMode", "Searcher", "Visibility"]

SearchMode = Literal["hybrid", "vector", "text"]

MAX_TEXT_QUERY = 2_000
"""Code points of the query that the text leg looks at."""
_WIDEN = 5
_MAX_SWITCHES = 3
"""So often is a search repeated because a document switched to another version under it."""


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A visible passage and its score: higher is better, comparable only within one search."""

    passage: PassageView
    score: float


class Visibility(Protocol):
    """Which candidates a reader may see now."""

    async def visible(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> dict[UUID, PassageView]:
        """Those of the tenant's passages whose version is the active one of a living document. Raises: Retry."""
        ...

    async def superseded(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        """Indexed versions among the passages' that another of their document has replaced. Raises: Retry."""
        ...


class Searcher:
    """Hybrid search over one tenant's passages."""

    def __init__(self, index: VectorIndex, embedder: Embedder, visibility: Visibility) -> None:
        self._index = index
        self._embedder = embedder
        self._visibility = visibility

    async def search(
        self,
        tenant_id: UUID,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        document_ids: Sequence[UUID] | None = None,
    ) -> list[ScoredPassage]:
        """The best visible passages, best first, each once, at most `limit`.

        `document_ids` keeps the search within these documents (none of them: nothing is found). A blank query
        finds nothing. Fewer than `limit` come back only where the index has no more, or where five times as
        many candidates as usual were mostly invisible. Raises: Retry; ProviderError if the embedder refuses.
        """
        if not query.strip() or limit < 1 or (document_ids is not None and not document_ids):
            return []
        vector = None if mode == "text" else await self._embed(query)
        text = None if mode == "vector" else query[:MAX_TEXT_QUERY]
        known: set[tuple[UUID, int]] = set()
        for _ in range(1 + _MAX_SWITCHES):
            ranked, seen = await self._round(tenant_id, vector, text, limit, document_ids)
            hidden = [passage_id for passage_id, _ in ranked if passage_id not in seen]
            superseded = await self._visibility.superseded(tenant_id, hidden) if hidden else set()
            if superseded <= known:
                break
            known |= superseded  # the candidates may be older than the switch: those asked for now are not
        return [ScoredPassage(seen[passage_id], score) for passage_id, score in ranked if passage_id in seen][:limit]

    async def _round(
        self,
        tenant_id: UUID,
        vector: npt.NDArray[np.float32] | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[UUID] | None,
    ) -> tuple[list[tuple[UUID, float]], dict[UUID, PassageView]]:
        """Candidates by fused rank, of the last widening, and those of all that are visible."""
        table, n_candidates = table_name(tenant_id, self._embedder.model), 4 * limit + 20
        seen: dict[UUID, PassageView] = {}
        asked: set[UUID] = set()
        for n in (n_candidates, n_candidates * _WIDEN):
            ranked, has_more = await self._candidates(table, vector, text, n, document_ids)
            new = [passage_id for passage_id, _ in ranked if passage_id not in asked]
            asked.update(new)
            if new:
                seen |= await self._visibility.visible(tenant_id, new)
            if len(seen) >= limit or not has_more:
                break
        return ranked, seen

    async def _embed(self, query: str) -> npt.NDArray[np.float32]:
        try:
            vectors = await self._embedder.embed([query])
        except ProviderError as error:
            if error.retryable:
                raise Retry(f"the query could not be embedded: {error}", after_s=error.retry_after_s) from error
            raise ProviderError(error.code, f"the query could not be embedded: {error}", retryable=False) from error
        vector: npt.NDArray[np.float32] = vectors[0]
        return vector

    async def _candidates(
        self,
        table: str,
        vector: npt.NDArray[np.float32] | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[UUID] | None,
    ) -> tuple[list[tuple[UUID, float]], bool]:
        """Passage ids by fused rank, and whether a leg may have more than it was asked for."""
        legs = await self._index.search(
            table,
            vector=vector,
            text=text,
            limit=limit,
            document_ids=None if document_ids is None else [str(document_id) for document_id in document_ids],
        )
        rankings = [[UUID(hit.passage_id) for hit in hits] for hits in legs.values()]
        return reciprocal_rank_fusion(rankings), any(len(ranking) >= limit for ranking in rankings)
